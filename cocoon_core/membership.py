"""People in a group: who they are, their roles, removing one, leaving, a fresh epoch. A part of `Group`.

Rights are the roster's (specs/roster.md); this asks first, so that a person reads why not, and writes one operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cocoon_core.errors import UnknownMemberError, UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.ids import EntryId, MemberId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import SetRole
from cocoon_core.protocol.operations_devices import Leave, RemoveMember
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.roster import Member
from cocoon_core.sync.pins import pin_devices


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member. `last_seen` is the hour of their newest entry that is here, in UTC; None where they are `quiet`: they
    want nobody to be told.

    `confirmed` is False from a join until a manifest holds it: until then a concurrent operation may still undo it.
    `verified` is True where this profile's owner compared safety numbers with them, `keys_changed` where they did and
    the devices are others since.
    """

    id: MemberId
    name: str
    role: str
    devices: int
    last_seen: datetime | None
    me: bool
    confirmed: bool = True
    verified: bool = False
    keys_changed: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class FormerMemberInfo:
    """Somebody who was a member and was removed, or left."""

    id: MemberId
    name: str
    left: bool


class Membership(GroupPart):
    """The part of a group that is about its members."""

    def members(self) -> list[MemberInfo]:
        """All members, the senior first."""
        me, roster, quiet = self.me, self._roster, self._quiet()
        ordered = sorted(roster.members.values(), key=lambda member: member.seniority)
        return [self._member_info(member, me, member.id in quiet) for member in ordered]

    def _member_info(self, member: Member, me: MemberId | None, quiet: bool) -> MemberInfo:
        return MemberInfo(
            member.id,
            member.shown_name,
            str(member.role),
            len(member.devices),
            None if quiet else self._last_seen(member.devices),
            member.id == me,
            self._is_confirmed(member.joined_by),
            self._is_verified(member.id),
            self._has_other_keys(member.id),
            quiet,
        )

    def _is_confirmed(self, operation: EntryId) -> bool:
        """True where a manifest that was followed holds this operation."""
        return self._replica.is_confirmed(operation)

    def _is_verified(self, member: MemberId) -> bool:
        """Whether safety numbers were compared with them. `Group` says, which knows of verification."""
        return False

    def _has_other_keys(self, member: MemberId) -> bool:
        """Whether they were, and the devices changed since. `Group` says."""
        return False

    def former_members(self) -> list[FormerMemberInfo]:
        """Those who were removed or left, by name."""
        found = [
            FormerMemberInfo(former.id, former.shown_name, self._has_left(former.out_by))
            for former in self._roster.former_members.values()
        ]
        return sorted(found, key=lambda former: (former.name.casefold(), former.id))

    def _has_left(self, operation: EntryId) -> bool:
        return isinstance(self._replica.members.operation(operation).body, Leave)

    def find_member(self, reference: str) -> MemberId:
        """The member that an id, a unique beginning of one (4 characters at least) or a unique name means.

        Raises:
            UnknownMemberError: nobody, or more than one.
        """
        members = self.members()
        wanted = reference.strip()
        named = [m for m in members if m.name.casefold() == wanted.casefold()]
        by_id = [m for m in members if len(wanted) >= 4 and m.id.hex().startswith(wanted.lower())]
        found = named or by_id
        if len(found) == 1:
            return found[0].id
        names = ", ".join(member.name for member in members)
        if not found:
            raise UnknownMemberError(f"no member is called {reference!r}; there are: {names}")
        raise UnknownMemberError(f"{reference!r} means more than one member; give the beginning of an id")

    def _find(self, member: str | MemberId) -> Member:
        target = member if isinstance(member, MemberId) else self.find_member(member)
        found = self._roster.members.get(target)
        if found is None:
            raise UnknownMemberError
        return found

    def _member(self, member: MemberId) -> MemberInfo:
        return next(info for info in self.members() if info.id == member)

    # --- roles

    async def set_role(self, member: str | MemberId, role: str) -> MemberInfo:
        """Make a member an admin or a plain member again. Only admins can. Gives the member as it is then.

        Raises:
            UnknownMemberError: there is no such member.
            UsageError: not a role, this member may not, or it would leave the group without an admin.
        """
        if role not in (Role.ADMIN, Role.MEMBER):
            raise UsageError(f"a role is admin or member, not {role!r}")
        current = self._find(member)
        self._require_admin("change roles")
        if current.role == role:
            return self._member(current.id)
        admins = sum(other.role == Role.ADMIN for other in self._roster.members.values())
        if role == Role.MEMBER and admins == 1:
            raise UsageError(f"{current.shown_name} is the only admin; make somebody else an admin first")
        pins = pin_devices(self._replica, current.devices) if role == Role.MEMBER else ()
        self._replica.write_operation(SetRole(current.id, Role(role), pins))
        changed = self._member(current.id)
        if changed.role != role:
            raise UsageError(f"the rules of the group leave {changed.name} as {changed.role}")
        return changed

    # --- going

    async def remove_member(self, member: str | MemberId) -> FormerMemberInfo:
        """Put a member out for good, with all devices. Only admins can.

        The epoch ends with it: nothing that is written afterwards, by anyone who knows of the removal, can be read with
        the keys that the removed member has. What they hold already stays theirs. Of what they wrote, what this device
        knows goes on counting; what they write later, or wrote and did not send, counts nowhere. Invites that they made
        are closed. The same person can come back by a new invite, as a new member.

        Raises:
            UnknownMemberError: there is no such member.
            UsageError: this member may not, or it is oneself.
        """
        target = self._find(member)
        if target.id == self.me:
            raise UsageError("that is you; to go yourself, leave the group")
        self._require_admin("remove a member")
        self._replica.write_operation(RemoveMember(target.id, pin_devices(self._replica, target.devices)))
        return self._former(target.id)

    async def leave(self) -> FormerMemberInfo:
        """Go, with all own devices. What was written stays; this device can write nothing more.

        The others' devices end the epoch when they hear of it, which needs this device to sync once more. If no admin
        is left, the senior member becomes one.

        Raises:
            UsageError: this device is not a member.
        """
        me = self._require_me()
        others = [device for device in self._roster.members[me].devices if device != self._replica.keys.id]
        self._replica.write_operation(Leave(pin_devices(self._replica, others)))
        return self._former(me)

    def _former(self, member: MemberId) -> FormerMemberInfo:
        found = [former for former in self.former_members() if former.id == member]
        if not found:
            raise UsageError("the rules of the group leave them a member")
        return found[0]

    async def rotate(self) -> None:
        """End the epoch and begin another, whose secret only the present members' devices get.

        Nobody has to: it happens by itself when somebody goes, when an invite closes, and with time. It heals a secret
        that was stolen, once the thief is out.

        Raises:
            UsageError: this device is not a member.
        """
        self._require_me()
        self._replica.rotate(Reason.REQUEST)
