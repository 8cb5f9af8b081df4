"""Which operations of a set count: rights, and the order in which operations that take rights away are decided.

A *pass* judges every operation in its causal past, with what is decided so far. Then the most senior undecided reducing
operation that a pass found permitted comes to count for good, and the pass is repeated where that can matter to
another. What is left when no undecided one is permitted is void. So the outcome depends on the set alone.
Spec: specs/roster.md §5.

A kind of reducing operation that a later version adds states its cut in `_is_cut` and its reach in `_disturbs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.operations import Create, Invite, Join, Policy, RevokeInvite, Role, SetRole
from cocoon_core.protocol.roster_chains import find_rivals
from cocoon_core.protocol.roster_joins import InviteUses
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_values import Refusal, Seniority

_NO_INVITE: Final = Refusal("NotPermittedError", "its invite does not count")
_NOT_ENROLLED: Final = Refusal("NotPermittedError", "its device belonged to no member that its author could know")
_NOT_ADMIN: Final = Refusal("NotPermittedError", "its author was no admin")
_NO_TARGET: Final = Refusal("NotPermittedError", "it sets the role of who was no member")
_TOO_MANY: Final = Refusal("NotPermittedError", "members and open uses would be more than the policy allows")
_CUT: Final = Refusal("NotPermittedError", "its author lost the right by an operation that did not know it")


class Grant(NamedTuple):
    """The right that an author used: the operation that gave it, and how senior that makes the author."""

    place: int
    seniority: Seniority


class Evaluation:
    """One evaluation of the operations of a mask. After `run`, `counted` and `refusals` hold the outcome."""

    def __init__(self, log: OperationLog, mask: int, policy: Policy) -> None:
        self.log = log
        self.mask = mask
        self.policy = policy
        self.places = within(range(len(log.operations)), mask)
        self.rivals = find_rivals(log, mask)
        self.uses = InviteUses(log, mask)
        self.refusals: dict[int, Refusal] = {}
        self._valid = 0  # bits: permitted in this pass, contested or not
        self._joined = 0  # bits: joins among them
        self._single = 0  # bits: invites of one use among them
        self._many = 0  # bits: invites of several uses among them
        self._idle = 0  # bits: promotions among them of who was an admin already
        self._stale = 0  # bits: the author's right came after an undecided revocation
        self._grants: dict[int, Grant] = {}
        self._decided: set[int] = set()  # reducing operations that count for good
        self._role_masks = {member: _bits(places) & mask for member, places in log.role_changes.items()}
        self._could_be_admin = [member for member in log.admissions if self._has_admin_source(member)]
        self._cuts: dict[MemberId, list[int]] = {}  # member -> demotions that are decided to count
        reducing = (place for place in self.places if is_reducing(log, place))
        self._undecided = {place for place in reducing if log.flaws[place] is None and place not in self.rivals}

    def run(self) -> None:
        self._pass()
        while self._undecided:
            ready = [place for place in self._undecided if self._valid & ~self._stale & 1 << place]
            ready.sort(key=lambda place: (self._grants[place].seniority, self.log.operations[place].id))
            if not ready:
                return  # none of what is left is permitted, so all of it is void
            disturbed = self._decide_all(ready)
            if disturbed or self._undecided:
                self._pass()

    def _decide_all(self, ready: list[int]) -> bool:
        """Let them count in their order, up to the first that may change the verdict on another."""
        for place in ready:
            disturbs = self._disturbs(place)
            self._decide(place)
            if disturbs:
                return True
        return False

    def is_counted(self, place: int) -> bool:
        return bool(self._valid >> place & 1) and place not in self.rivals

    def is_admin(self, member: MemberId) -> bool:
        """Whether the member is an admin once all is decided."""
        return self.admin_grant(member, self.mask) is not None

    # --- one pass

    def _pass(self) -> None:
        self._valid = self._joined = self._single = self._many = self._idle = self._stale = 0
        self.refusals.clear()
        self._grants.clear()
        for place in self.places:
            refusal = None if place in self._decided else self._judge(place)
            if refusal is None:
                self._allow(place)
            else:
                self.refusals[place] = refusal

    def _allow(self, place: int) -> None:
        bit = 1 << place
        self._valid |= bit
        match self.log.operations[place].body:
            case Join():
                self._joined |= bit
            case Invite(uses=1):
                self._single |= bit
            case Invite():
                self._many |= bit
            case SetRole(member=member, role=Role.ADMIN):
                # a promotion of an admin changes nothing: it would only make them less senior
                if self._own_admin_grant(member, self.log.ancestors[place]) is not None:
                    self._idle |= bit

    def _judge(self, place: int) -> Refusal | None:
        """Whether an operation is permitted by its causal past and not taken back by what is decided."""
        log = self.log
        if log.flaws[place] is not None:
            return log.flaws[place]
        operation, past = log.operations[place], log.ancestors[place]
        if isinstance(operation.body, Create):
            return None
        if isinstance(operation.body, Join):
            return self._judge_join(place)
        grant = self.member_grant(operation.device, past)
        if grant is None:
            return _NOT_ENROLLED
        needs_admin = self._needs_admin(place)
        if needs_admin:
            self._inherit_stale(place, grant.place)
            grant = self.admin_grant(log.member_of[operation.device], past)
            if grant is None:
                return _NOT_ADMIN
        self._grants[place] = grant
        self._inherit_stale(place, grant.place)
        if needs_admin and self._is_cut(place):
            return _CUT
        if isinstance(operation.body, SetRole) and not self._is_member(operation.body.member, past):
            return _NO_TARGET
        if isinstance(operation.body, Invite) and self._promised(place) + operation.body.uses > self.policy.max_members:
            return _TOO_MANY
        return None

    def _judge_join(self, place: int) -> Refusal | None:
        invite = self.log.invite_of[place]
        if not self.supports(invite, self.log.ancestors[place]):
            return _NO_INVITE
        self._inherit_stale(place, invite)
        body = self.log.operations[place].body
        assert isinstance(body, Join)
        revokes = within(self.log.revokes_of.get(body.invite, ()), self.log.ancestors[place] & self._valid)
        if any(revoke in self._undecided for revoke in revokes):
            self._stale |= 1 << place
        return self.uses.loses(place)

    def _inherit_stale(self, place: int, source: int) -> None:
        if self._stale >> source & 1:
            self._stale |= 1 << place

    def _needs_admin(self, place: int) -> bool:
        match self.log.operations[place].body:
            case SetRole():
                return True
            case Invite(role=role):
                return Role.ADMIN in (role, self.policy.inviters)
        return False

    def _promised(self, invite: int) -> int:
        """Members and open uses before an invite. Revocations in its past free uses even if they came to nothing."""
        log = self.log
        past, shut = log.ancestors[invite], log.shut[invite]
        total = 1 + (self._joined & past).bit_count() + (self._single & past & ~shut).bit_count()
        several = self._many & past & ~shut
        while several:
            lowest = several & -several
            place = lowest.bit_length() - 1
            total += max(0, log.uses(place) - len(within(log.joins_of.get(place, ()), past & self._joined)))
            several ^= lowest
        return total

    # --- rights

    def supports(self, place: int, past: int) -> bool:
        """Whether an operation of that past gives what it gives there: permitted, and no rival known."""
        return bool(self._valid & past & 1 << place) and not self.rivals.get(place, 0) & past

    def member_grant(self, device: DeviceId, past: int) -> Grant | None:
        """The enrolment that makes the device a member's in that past."""
        enrolments = self.log.enrolments.get(device, ())
        found = [self._admission(place) for place in enrolments if self.supports(place, past)]
        return min(found, key=lambda grant: grant.seniority, default=None)

    def admin_grant(self, member: MemberId, past: int) -> Grant | None:
        """What makes the member an admin in that past: promotions, its admission, or that no admin is left."""
        return self._own_admin_grant(member, past) or self._succession(member, past)

    def _is_member(self, member: MemberId, past: int) -> bool:
        return any(self.supports(place, past) for place in self.log.admissions.get(member, ()))

    def _own_admin_grant(self, member: MemberId, past: int) -> Grant | None:
        if not self._is_member(member, past):
            return None
        newest = self.newest_roles(member, past)
        if not newest:
            found = [self._admission(place) for place in self._admin_admissions(member, past)]
            return min(found, key=lambda grant: grant.seniority, default=None)
        if any(is_reducing(self.log, place) for place in newest):
            return None
        place = min(newest, key=self.log.rank)
        return Grant(place, Seniority(self.log.depth[place], 0, self.log.operations[place].id))

    def newest_roles(self, member: MemberId, past: int) -> list[int]:
        """The role changes of a member that hold in that past and that no other of them knew."""
        left = self._role_masks.get(member, 0) & past & self._valid & ~self._idle
        newest = []
        while left:
            place = left.bit_length() - 1  # no other that is left can have it in its past
            left ^= 1 << place
            if self.supports(place, past):
                newest.append(place)
                left &= ~self.log.ancestors[place]
        return newest

    def _admin_admissions(self, member: MemberId, past: int) -> list[int]:
        return [
            place
            for place in self.log.admissions.get(member, ())
            if self._admits_admin(place) and self.supports(place, past)
        ]

    def _admits_admin(self, place: int) -> bool:
        source = self.log.operations[self.log.invite_of.get(place, place)].body
        return isinstance(source, Create) or (isinstance(source, Invite) and source.role is Role.ADMIN)

    def _has_admin_source(self, member: MemberId) -> bool:
        return member in self.log.role_changes or any(map(self._admits_admin, self.log.admissions[member]))

    def _admission(self, place: int) -> Grant:
        """A join ranks by the depth of its invite, which the joiner did not choose."""
        depth = self.log.depth[self.log.invite_of.get(place, place)]
        return Grant(place, Seniority(depth, 0, self.log.operations[place].id))

    def _succession(self, member: MemberId, past: int) -> Grant | None:
        """The senior member is an admin where nobody else is. The right is as old as the operation that left none."""
        if any(self._own_admin_grant(other, past) for other in self._could_be_admin):
            return None
        senior = self.senior_member(past)
        if senior is None or self.log.member_of[self.log.operations[senior.place].device] != member:
            return None
        lost = [self.log.depth[place] for other in self._could_be_admin for place in self.newest_roles(other, past)]
        return Grant(senior.place, Seniority(max(lost, default=0), 0, senior.seniority.id))

    def senior_member(self, past: int) -> Grant | None:
        found = [self.member_grant(device, past) for device in self.log.enrolments]
        return min((grant for grant in found if grant is not None), key=lambda grant: grant.seniority, default=None)

    # --- deciding

    def _is_cut(self, place: int) -> bool:
        """Whether a counted demotion did not know this use of the right, and no concurrent one did."""
        log = self.log
        cuts = self._cuts.get(log.member_of[log.operations[place].device], ())
        blind = [cut for cut in cuts if log.concurrent(cut, place)]
        if not blind:
            return False
        knowing = [cut for cut in cuts if log.ancestors[cut] >> place & 1]
        return any(all(not log.concurrent(cut, other) for other in knowing) for cut in blind)

    def _decide(self, place: int) -> None:
        self._undecided.discard(place)
        self._decided.add(place)
        match self.log.operations[place].body:
            case SetRole(member=member):
                self._cuts.setdefault(member, []).append(place)
            case RevokeInvite(invite=named):
                for invite in within(self.log.invites_named[named], self.log.ancestors[place]):
                    self.uses.settled.update(self._confirmed_joins(invite, place))
                    self.uses.revoke(invite, place)

    def _disturbs(self, place: int) -> bool:
        """Whether deciding this one can change the verdict on another. A needless yes costs a pass and no more."""
        log = self.log
        match log.operations[place].body:
            case SetRole(member=member):
                devices = {log.operations[admission].device for admission in log.admissions[member]}
                acts = [act for device in devices for act in within(log.by_device[device], self.mask)]
                return any(log.concurrent(place, act) or self.refusals.get(act) is _CUT for act in acts)
            case RevokeInvite(invite=named):
                for invite in within(log.invites_named[named], log.ancestors[place]):
                    if any(log.concurrent(place, other) for other in self.uses.revokes.get(invite, ())):
                        return True
                    if any(not log.ancestors[place] >> join & 1 for join in self.uses.joins_of(invite)):
                        return True
        return False

    def _confirmed_joins(self, invite: int, revoke: int) -> list[int]:
        """Joins unknown to the revocation but known to an admin's counted operation: closing an invite removes nobody.

        The admin must owe the right to nothing that knew the join, and have known no revocation of the invite.
        """
        log = self.log
        unknown = [join for join in self.uses.joins_of(invite) if log.concurrent(join, revoke)]
        unknown = [join for join in unknown if self._valid >> join & 1]
        if not unknown:
            return []
        closed = [*self.uses.revokes.get(invite, ()), revoke]
        confirmed: set[int] = set()
        for place in self.places:
            past = log.ancestors[place]
            known = [join for join in unknown if past >> join & 1]
            if not known or place in self._undecided or not self.is_counted(place) or within(closed, past):
                continue
            grant = self.admin_grant(log.member_of[log.operations[place].device], past)
            if grant is not None:
                confirmed.update(
                    join for join in known if join != grant.place and not log.ancestors[grant.place] >> join & 1
                )
        return sorted(confirmed)


def is_reducing(log: OperationLog, place: int) -> bool:
    """Whether the operation takes something away, so that its place in the order of decisions matters."""
    body = log.operations[place].body
    return isinstance(body, RevokeInvite) or (isinstance(body, SetRole) and body.role is Role.MEMBER)


def _bits(places: Iterable[int]) -> int:
    return sum(1 << place for place in places)
