"""The operations of a group in an order of arrival, and all that one operation and its causal past alone decide.

For each operation: its ancestors (bits of an integer, by place), its depth, its flaw if its form, keys, proofs or
references are wrong, and for a join the invite that it uses. None of this changes when more operations arrive, so it is
worked out once.
Rights and competition need the whole set: roster_rules and roster_joins. Spec: specs/roster.md §3.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_core.errors import MalformedError, NotPermittedError, NotYetError, UntrustedInputError
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, InviteId, MemberId
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, SetRole, member_id_of
from cocoon_core.protocol.primitives import require_good_hpke_key, require_good_signing_key
from cocoon_core.protocol.roster_values import Operation, Refusal


def within(places: Iterable[int], mask: int) -> list[int]:
    """Those of the places whose bit is set."""
    return [place for place in places if mask >> place & 1]


class OperationLog:
    """Operations of one group, each after its parents, with what is fixed about each. Only ever grows."""

    def __init__(self, group_id: GroupId) -> None:
        self.group_id = group_id
        self.operations: list[Operation] = []
        self.place: dict[EntryId, int] = {}
        self.ancestors: list[int] = []  # bit p of ancestors[q]: the operation at p is in the causal past of that at q
        self.depth: list[int] = []  # longest path from a root
        self.flaws: list[Refusal | None] = []
        self.shut: list[int] = []  # bit p of shut[q]: q and its past revoke the invite at p, or use up its only use
        self.invite_of: dict[int, int] = {}  # join -> the invite that it uses
        self.joins_of: dict[int, list[int]] = {}  # invite -> the joins that use it
        self.invites_named: dict[InviteId, list[int]] = {}
        self.revokes_of: dict[InviteId, list[int]] = {}
        self.role_changes: dict[MemberId, list[int]] = {}
        self.enrolments: dict[DeviceId, list[int]] = {}
        self.by_device: dict[DeviceId, list[int]] = {}
        self.admissions: dict[MemberId, list[int]] = {}
        self.member_of: dict[DeviceId, MemberId] = {}

    def append(self, operation: Operation) -> bool:
        """Take an operation in; False if it is here already.

        Raises:
            NotYetError: a parent is not here.
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
        place = len(self.operations)
        self.operations.append(operation)
        self.place[operation.id] = place
        self.ancestors.append(past)
        self.depth.append(1 + max((self.depth[parent] for parent in parents), default=-1))
        self.shut.append(shut)
        self.by_device.setdefault(operation.device, []).append(place)
        self.flaws.append(self._find_flaw(place))
        if self.flaws[place] is None:
            self._index(place)
        return True

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

    def _find_flaw(self, place: int) -> Refusal | None:
        try:
            self._require_sound(place)
        except UntrustedInputError as error:
            return Refusal(type(error).__name__, str(error))
        return None

    def _require_sound(self, place: int) -> None:
        operation = self.operations[place]
        body = operation.body
        if isinstance(body, Create) == bool(operation.parents):
            raise MalformedError("create has no parents, and every other operation has")
        if isinstance(body, Create | Join) != (operation.seq == 0):
            raise MalformedError("a device's chain starts with create or join, and has no other")
        match body:
            case Create():
                if body.group_id() != self.group_id or body.device != operation.device:
                    raise MalformedError("create is of another group or device")
                require_good_signing_key(operation.device)
                require_good_signing_key(body.topic)
                require_good_hpke_key(body.hpke)
            case Invite():
                self._require_sound_invite(operation, body, self.ancestors[place])
            case RevokeInvite():
                self._require_sound_revoke(body, self.ancestors[place])
            case Join():
                self._require_sound_join(place, operation, body)
            case SetRole():
                if not within(self.admissions.get(body.member, ()), self.ancestors[place]):
                    raise NotPermittedError("it sets the role of who was no member")

    def _require_sound_invite(self, operation: Operation, body: Invite, past: int) -> None:
        if within(self.invites_named.get(body.invite, ()), past):
            raise NotPermittedError("its invite id was in use before")
        require_good_signing_key(body.invite)
        require_good_hpke_key(body.hpke)
        body.verify_proof(self.group_id, operation.device)

    def _require_sound_revoke(self, body: RevokeInvite, past: int) -> None:
        if not within(self.invites_named.get(body.invite, ()), past):
            raise NotPermittedError("it revokes an invite that its author did not know")

    def _require_sound_join(self, place: int, operation: Operation, body: Join) -> None:
        known = within(self.invites_named.get(body.invite, ()), self.ancestors[place])
        if within(self.enrolments.get(operation.device, ()), self.ancestors[place]):
            raise NotPermittedError("its device is enrolled already")
        if not known:
            raise NotPermittedError("it uses an invite that it did not know")
        require_good_signing_key(operation.device)
        require_good_hpke_key(body.hpke)
        body.verify_proof(self.group_id, operation.device)
        self.invite_of[place] = min(known, key=self.rank)

    def _index(self, place: int) -> None:
        operation = self.operations[place]
        match operation.body:
            case Create():
                self._enrol(place, operation.device)
            case Invite(invite=invite):
                self.invites_named.setdefault(invite, []).append(place)
            case RevokeInvite(invite=invite):
                self.revokes_of.setdefault(invite, []).append(place)
                for named in within(self.invites_named[invite], self.ancestors[place]):
                    self.shut[place] |= 1 << named
            case Join():
                invite_place = self.invite_of[place]
                self.joins_of.setdefault(invite_place, []).append(place)
                self._enrol(place, operation.device)
                if self.uses(invite_place) == 1:
                    self.shut[place] |= 1 << invite_place
            case SetRole(member=member):
                self.role_changes.setdefault(member, []).append(place)

    def _enrol(self, place: int, device: DeviceId) -> None:
        self.enrolments.setdefault(device, []).append(place)
        self.member_of[device] = member = member_id_of(self.group_id, device)
        self.admissions.setdefault(member, []).append(place)

    def uses(self, invite: int) -> int:
        body = self.operations[invite].body
        assert isinstance(body, Invite)
        return body.uses
