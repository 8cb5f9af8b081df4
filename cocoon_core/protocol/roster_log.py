"""The operations of a group in an order of arrival, and all that one operation and its causal past alone decide.

For each operation: its ancestors (bits of an integer, by place), its depth, its flaw (roster_flaws), whom it enrols,
which invite it uses, what it puts out or closes. None of this changes when more operations arrive, so it is worked out
once. Rights and competition need the whole set: roster_rules. Spec: specs/roster.md §1 and §3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cocoon_core.errors import NotYetError
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, HpkePublicKey, InviteId, MemberId, RequestId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, SetPolicy, SetRole, member_id_of
from cocoon_core.protocol.operations_admission import (
    Admit,
    LostMember,
    Newcomer,
    Recover,
    SetRecovery,
    Vouch,
    request_id,
)
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.roster_flaws import find_flaw
from cocoon_core.protocol.roster_proofs import Contradiction, read_contradiction
from cocoon_core.protocol.roster_values import Operation, Refusal


def within(places: Iterable[int], mask: int) -> list[int]:
    """Those of the places whose bit is set."""
    return [place for place in places if mask >> place & 1]


class Enrolment(NamedTuple):
    """What an operation enrols: a device, for a member, with the key that secrets are wrapped to."""

    device: DeviceId
    member: MemberId
    hpke: HpkePublicKey


class OperationLog:
    """Operations of one group, each after its parents, with what is fixed about each. Only ever grows.

    Every index but `by_device` holds operations without a flaw alone, by place.
    """

    def __init__(self, group_id: GroupId) -> None:
        self.group_id = group_id
        self.operations: list[Operation] = []
        self.place: dict[EntryId, int] = {}
        self.ancestors: list[int] = []  # bit p of ancestors[q]: the operation at p is in the causal past of that at q
        self.depth: list[int] = []  # longest path from a root
        self.flaws: list[Refusal | None] = []
        self.by_device: dict[DeviceId, list[int]] = {}
        self.follows: list[bool] = []  # whether its seq is above those of all that came before it of its device
        self._last_seq: dict[DeviceId, int] = {}
        self.author_of: dict[int, MemberId] = {}  # of operations that speak for their author's member: which member

        self.enrolled: dict[int, Enrolment] = {}
        self.enrolments: dict[DeviceId, list[int]] = {}
        self.enrolments_of: dict[MemberId, list[int]] = {}
        self.admissions: dict[MemberId, list[int]] = {}  # the enrolments that make a member
        self.admin_sources: dict[MemberId, None] = {}  # members whom some operation could have made an admin
        self.role_bits: dict[MemberId, int] = {}
        self.demotions: dict[MemberId, list[int]] = {}

        self.invites_named: dict[InviteId, list[int]] = {}
        self.invite_bits = 0
        self.invite_of: dict[int, int] = {}  # a join or admission -> the invite that it uses
        self.entries_of: dict[int, list[int]] = {}  # invite -> joins and admissions that use it
        self.closes: dict[int, list[int]] = {}  # a revocation or removal -> the invites that it closes
        self.closers_of: dict[int, list[int]] = {}
        self.shut: list[int] = []  # bit p of shut[q]: q or its past closes the invite at p, or uses up its only use

        self.removals: dict[MemberId, list[int]] = {}  # remove_member and leave
        self.takeovers: dict[MemberId, list[int]] = {}  # admissions in the place of a lost member's devices
        self.device_outs: dict[DeviceId, list[int]] = {}  # remove_device, replace_device, suspend
        self.replacements: dict[DeviceId, list[int]] = {}
        self.contradictions: dict[int, Contradiction] = {}

        self.policy_bits = 0
        self.recoveries: dict[MemberId, list[int]] = {}
        self.request_of: dict[int, RequestId] = {}
        self.vouches: dict[RequestId, list[int]] = {}
        self.admits: dict[RequestId, list[int]] = {}

    def append(self, operation: Operation) -> bool:
        """Take an operation in; False if it is here already.

        Raises:
            NotYetError: a parent is not here.
            UpdateNeededError: it carries a run of a later version.
        """
        if operation.id in self.place:
            return False
        missing = sorted(parent.hex()[:12] for parent in operation.parents if parent not in self.place)
        if missing:
            raise NotYetError(f"operation {operation.id.hex()[:12]} needs {', '.join(missing)}")
        parents = [self.place[parent] for parent in operation.parents]
        past = shut = 0
        for parent in parents:
            past |= self.ancestors[parent] | 1 << parent
            shut |= self.shut[parent]
        flaw = find_flaw(self, operation, past)
        place = len(self.operations)
        self.operations.append(operation)
        self.place[operation.id] = place
        self.ancestors.append(past)
        self.depth.append(1 + max((self.depth[parent] for parent in parents), default=-1))
        self.shut.append(shut)
        self.by_device.setdefault(operation.device, []).append(place)
        self.flaws.append(flaw)
        self.follows.append(operation.seq > self._last_seq.get(operation.device, -1))
        if flaw is None:
            self._index(place, operation, past)
            if not isinstance(operation.body, Create | Suspend):
                self._last_seq[operation.device] = max(operation.seq, self._last_seq.get(operation.device, -1))
        return True

    # --- questions

    def rank(self, place: int) -> tuple[int, EntryId]:
        """An order of operations that does not depend on arrival and never puts one before its past."""
        return self.depth[place], self.operations[place].id

    def concurrent(self, left: int, right: int) -> bool:
        """Whether neither knew the other."""
        return left != right and not (self.ancestors[left] >> right | self.ancestors[right] >> left) & 1

    def past_of(self, heads: Iterable[EntryId]) -> int:
        """The bits of these operations and all before them.

        Raises:
            NotYetError: one of them is not here.
        """
        mask = 0
        for head in heads:
            place = self.place.get(head)
            if place is None:
                raise NotYetError(f"operation {head.hex()[:12]} has not arrived")
            mask |= self.ancestors[place] | 1 << place
        return mask

    def member_at(self, device: DeviceId, past: int) -> MemberId | None:
        """The member for whom that past enrols the device, whether or not that counts."""
        found = within(self.enrolments.get(device, ()), past)
        return self.enrolled[min(found, key=self.rank)].member if found else None

    def invite_at(self, invite: InviteId, past: int) -> int | None:
        """The invite of that id which a join or request in that past would use."""
        return min(within(self.invites_named.get(invite, ()), past), key=self.rank, default=None)

    def uses(self, invite: int) -> int:
        body = self.operations[invite].body
        assert isinstance(body, Invite)
        return body.uses

    def acting_device(self, place: int) -> DeviceId:
        """The device by whose right an operation acts: the old one where a fresh one takes its place."""
        operation = self.operations[place]
        return operation.body.old if isinstance(operation.body, ReplaceDevice) else operation.device

    def acts_of(self, member: MemberId) -> list[int]:
        """All that devices of a member wrote, and the enrolments of its devices."""
        enrolments = self.enrolments_of[member]
        devices = {self.enrolled[place].device for place in enrolments}
        return [*enrolments, *(act for device in devices for act in self.by_device.get(device, ()))]

    # --- indexes

    def _index(self, place: int, operation: Operation, past: int) -> None:
        body = operation.body
        match body:
            case Create():
                self._admit(place, operation.device, body.hpke)
                self._note_admin_source(self.enrolled[place].member)
            case Join():
                self._use_invite(place, body.invite, past)
                self._admit(place, operation.device, body.hpke)
                self._note_admin_invite(place)
            case Invite():
                self.invites_named.setdefault(body.invite, []).append(place)
                self.invite_bits |= 1 << place
            case RevokeInvite():
                self._close(place, within(self.invites_named[body.invite], past))
            case SetRole():
                self.role_bits[body.member] = self.role_bits.get(body.member, 0) | 1 << place
                if body.role is Role.ADMIN:
                    self._note_admin_source(body.member)
                else:
                    self.demotions.setdefault(body.member, []).append(place)
            case SetPolicy():
                self.policy_bits |= 1 << place
            case Rotation():
                pass
            case _:
                self._index_more(place, operation, past)

    def _index_more(self, place: int, operation: Operation, past: int) -> None:
        body = operation.body
        match body:
            case RemoveMember():
                self._remove(place, body.member, past)
            case Leave():
                self._remove(place, self._note_author(place, operation, past), past)
            case RemoveDevice():
                self._put_out(place, body.device, past)
            case Suspend():
                self._put_out(place, body.device, past)
                self.contradictions[place] = read_contradiction(body, self.group_id)
            case AddDevice():
                self._enrol(place, body.device, self._note_author(place, operation, past), body.hpke)
            case ReplaceDevice():
                member = self.member_at(body.old, past)
                assert member is not None, "a flaw otherwise"
                self._enrol(place, operation.device, member, body.hpke)
                self._put_out(place, body.old, past)
                self.replacements.setdefault(body.old, []).append(place)
            case Recover():
                self._enrol(place, operation.device, body.member, body.hpke)
            case SetRecovery():
                member = self._note_author(place, operation, past)
                self.recoveries.setdefault(member, []).append(place)
            case Vouch():
                self._note_author(place, operation, past)
                self.request_of[place] = request = request_id(body.request, self.group_id)
                self.vouches.setdefault(request, []).append(place)
            case Admit():
                self._note_author(place, operation, past)
                self._index_admission(place, body, past)

    def _index_admission(self, place: int, body: Admit, past: int) -> None:
        self.request_of[place] = request = request_id(body.request, self.group_id)
        self.admits.setdefault(request, []).append(place)
        match body.request:
            case Newcomer(device=device, hpke=hpke, invite=invite):
                self._use_invite(place, invite, past)
                self._admit(place, device, hpke)
                self._note_admin_invite(place)
            case LostMember(device=device, hpke=hpke, member=member):
                taken = {self.enrolled[it].device for it in within(self.enrolments_of[member], past)}
                self._enrol(place, device, member, hpke)
                self.takeovers.setdefault(member, []).append(place)
                self._close(place, self._invites_by(taken, past))

    def _note_author(self, place: int, operation: Operation, past: int) -> MemberId:
        member = self.member_at(operation.device, past)
        assert member is not None, "a flaw otherwise"
        self.author_of[place] = member
        return member

    def _admit(self, place: int, device: DeviceId, hpke: HpkePublicKey) -> None:
        member = member_id_of(self.group_id, device)
        self._enrol(place, device, member, hpke)
        self.admissions.setdefault(member, []).append(place)

    def _enrol(self, place: int, device: DeviceId, member: MemberId, hpke: HpkePublicKey) -> None:
        self.enrolled[place] = Enrolment(device, member, hpke)
        self.enrolments.setdefault(device, []).append(place)
        self.enrolments_of.setdefault(member, []).append(place)

    def _note_admin_source(self, member: MemberId) -> None:
        self.admin_sources.setdefault(member)

    def _note_admin_invite(self, place: int) -> None:
        invite = self.operations[self.invite_of[place]].body
        if isinstance(invite, Invite) and invite.role is Role.ADMIN:
            self._note_admin_source(self.enrolled[place].member)

    def _use_invite(self, place: int, named: InviteId, past: int) -> None:
        invite = self.invite_at(named, past)
        assert invite is not None, "a flaw otherwise"
        self.invite_of[place] = invite
        self.entries_of.setdefault(invite, []).append(place)
        if self.uses(invite) == 1:
            self.shut[place] |= 1 << invite

    def _remove(self, place: int, member: MemberId, past: int) -> None:
        self.removals.setdefault(member, []).append(place)
        devices = {self.enrolled[it].device for it in within(self.enrolments_of[member], past)}
        self._close(place, self._invites_by(devices, past))

    def _put_out(self, place: int, device: DeviceId, past: int) -> None:
        self.device_outs.setdefault(device, []).append(place)
        self._close(place, self._invites_by({device}, past))

    def _invites_by(self, devices: Iterable[DeviceId], past: int) -> list[int]:
        """The invites of that past whose links these devices know: they wrote them, or came in by them."""
        known = {place for device in devices for place in self.by_device.get(device, ())}
        entries = within([place for device in devices for place in self.enrolments.get(device, ())], past)
        known.update(self.invite_of[place] for place in entries if place in self.invite_of)
        return within(sorted(known), past & self.invite_bits)

    def _close(self, place: int, invites: list[int]) -> None:
        self.closes[place] = invites
        for invite in invites:
            self.closers_of.setdefault(invite, []).append(place)
            self.shut[place] |= 1 << invite
