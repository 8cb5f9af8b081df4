"""The roster of one replica: built from stored operations, asked by everything that needs a right.

How far the entries of a device count by themselves is a `Standing`: by its right, by a pin, or because a manifest made
them final. What counts besides, since a change that counts depends on it, is for sync/judging.py.
Spec: specs/roster.md and specs/counting.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final, NamedTuple

from cocoon_core.errors import NotYetError, UntrustedInputError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, MemberId
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations import Create, Join, OperationBody, decode_operation
from cocoon_core.protocol.operations_admission import Admit, LostMember, Recover
from cocoon_core.protocol.operations_devices import (
    AddDevice,
    Leave,
    RemoveDevice,
    RemoveMember,
    ReplaceDevice,
    Suspend,
)
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph
from cocoon_core.protocol.run import parse_run

ALL: Final = 1 << 62  # in place of a seq: every entry counts
NONE: Final = -1  # in place of a seq: no entry counts

FindSeq = Callable[[Pin], int]


class Standing(NamedTuple):
    """Whose a device is or was, and the seq up to which its entries count by themselves: ALL, a seq or NONE.

    `limit` is for owned and shared documents, `admin_limit` for admin documents.
    """

    member: MemberId | None
    limit: int
    admin_limit: int


NOBODY: Final = Standing(None, NONE, NONE)


class _NamedPin(NamedTuple):
    """A pin in an operation, and whom that puts out: a member, the member of a device, or the pinned device itself."""

    operation: EntryId
    target: MemberId | DeviceId | None
    pin: Pin


class Members:
    """Holds the graph of operations and, computed when asked for, the state it evaluates to."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._final: Mapping[DeviceId, int] = {}
        self._branches: list[Mapping[DeviceId, EntryId]] = []
        self._final_ids: Mapping[DeviceId, EntryId] = {}
        self._final_ops: frozenset[EntryId] = frozenset()
        self._forked: Mapping[DeviceId, FindSeq] = {}
        self._retired: frozenset[Descriptor] = frozenset()
        self._begin()

    def _begin(self) -> None:
        self._graph = RosterGraph(self._group)
        self._enrolled: set[DeviceId] = set()
        self._pins: dict[DeviceId, list[_NamedPin]] = {}
        self._suspensions: list[Suspend] = []
        self._changed()

    def _changed(self) -> None:
        self._roster: Roster | None = None
        self._standings: dict[DeviceId, Standing] | None = None
        self._owners_cut: frozenset[MemberId] | None = None

    def load(self, wires: Iterable[bytes], pending: Iterable[Entry]) -> int:
        """Build it anew from stored runs with operations and own operations that are in no run yet, in any order.

        Returns:
            How many operations lack a parent. They are left out.
        """
        self._begin()
        waiting = [entry for wire in wires for entry in self._last_entry(wire)] + list(pending)
        while waiting:
            late = [entry for entry in waiting if not self._try_entry(entry)]
            if len(late) == len(waiting):
                break
            waiting = late
        return len(waiting)

    def _last_entry(self, wire: bytes) -> list[Entry]:
        try:
            return [parse_run(wire, self._group).stored().entries[-1]]
        except UntrustedInputError:
            return []

    def _try_entry(self, entry: Entry) -> bool:
        """Take a stored operation in; False where it lacks a parent."""
        try:
            with suppress(UntrustedInputError):  # a body that is no operation was refused, and is a link all the same
                self.add_entry(entry)
        except NotYetError:
            return False
        return True

    def add_entry(self, entry: Entry) -> None:
        """Take an operation in. Whether it counts is for the evaluation.

        Raises:
            MalformedError: the body is not an operation.
            UpdateNeededError: an operation of a later version.
            NotYetError: a parent is not known, or not even the create.
        """
        assert entry.body is not None, "only entries of kind ROSTER"
        body = decode_operation(entry.body)
        if not self.has_begun and not isinstance(body, Create):
            raise NotYetError("an operation came before the group's create")
        self._graph.add(Operation(entry.id, entry.device, entry.seq, entry.roster_heads, body))
        self._note(entry, body)
        self._changed()

    def _note(self, entry: Entry, body: OperationBody) -> None:
        """Remember which devices it lets in and which it pins, whether it counts or not."""
        match body:
            case AddDevice():
                self._enrolled.add(body.device)
            case Admit():
                self._enrolled.add(body.request.device)
                if isinstance(body.request, LostMember):
                    self._note_pins(entry.id, body.request.member, body.pins)
            case RemoveMember():
                self._note_pins(entry.id, body.member, body.pins)
            case Leave():
                self._note_pins(entry.id, entry.device, (*body.pins, Pin(entry.device, entry.seq, entry.id)))
            case RemoveDevice() | ReplaceDevice() | Suspend():
                self._note_pins(entry.id, None, body.pins)
                if isinstance(body, Suspend):
                    self._suspensions.append(body)

    def _note_pins(self, operation: EntryId, target: MemberId | DeviceId | None, pins: Iterable[Pin]) -> None:
        for pin in pins:
            self._pins.setdefault(pin.device, []).append(_NamedPin(operation, target, pin))

    # --- finality

    def set_final(
        self,
        frontier: Mapping[DeviceId, int],
        final_ops: frozenset[EntryId] = frozenset(),
        ids: Mapping[DeviceId, EntryId] = MappingProxyType({}),
        branches: Sequence[Mapping[DeviceId, EntryId]] = (),
    ) -> None:
        """What the manifests on the chosen epoch path made final. Follow the standings that change by it.

        Args:
            frontier: the seq of every device's last run in it.
            final_ops: the roster operations inside it.
            ids: the entry ids at those seqs.
            branches: the entry ids in the frontiers of single manifests, in the order in which they decide between two
                histories of a device: the oldest on the path first, then those beside it (specs/counting.md §4).
        """
        self._final, self._final_ops = dict(frontier), final_ops
        self._branches, self._final_ids = [*branches, ids], dict(ids)
        self._changed()

    @property
    def final_operations(self) -> frozenset[EntryId]:
        """The operations that manifests along the chosen path made final."""
        return self._final_ops

    def final_ids(self, device: DeviceId) -> tuple[EntryId, ...]:
        """Entries of a device that manifests name, in the order in which they decide between two histories of it."""
        return tuple(ids[device] for ids in self._branches if device in ids)

    def take_suspensions(self) -> list[Suspend]:
        """The suspensions that came since this was asked: what they carry are runs that may not be here."""
        taken, self._suspensions = self._suspensions, []
        return taken

    def set_forked(self, forked: Mapping[DeviceId, FindSeq]) -> None:
        """For each device with two histories, what finds the last seq of its chain here that a pin reaches."""
        self._forked = dict(forked)
        self._standings = None

    def set_retired(self, retired: frozenset[Descriptor]) -> None:
        """The documents that their owners retired: nothing in them counts (specs/retire.md §3)."""
        self._retired = retired

    @property
    def roster(self) -> Roster:
        if self._roster is None:
            self._roster = self._graph.evaluate(self._final_ops) if self._final_ops else self._graph.evaluate()
        return self._roster

    # --- what is known

    def knows(self, operations: Iterable[EntryId]) -> bool:
        """True where every one of these operations is known here."""
        return all(operation in self._graph for operation in operations)

    def introduces(self, entry: Entry) -> bool:
        """True where this entry can be the first of its device's chain: it lets the device in, or another's did.

        Raises:
            UpdateNeededError: an operation of a later version, which may let a device in.
        """
        if entry.device in self._enrolled:
            return True
        if entry.kind is not EntryKind.ROSTER or entry.body is None:
            return False
        try:
            return isinstance(decode_operation(entry.body), Create | Join | ReplaceDevice | Recover)
        except UntrustedInputError:
            return False

    def operation(self, operation: EntryId) -> Operation:
        """An operation that is known here."""
        return self._graph.operation(operation)

    def heads_to_name(self, device: DeviceId) -> tuple[EntryId, ...]:
        """The roster heads that the next own entry names."""
        return self._graph.heads_to_name(device)

    @property
    def has_begun(self) -> bool:
        """False as long as not even the create is here."""
        return len(self._graph) > 0

    @property
    def graph(self) -> RosterGraph:
        """For reading: operations, and who knows what. What is added goes through `add_entry`."""
        return self._graph

    def ids(self) -> frozenset[MemberId]:
        """All members, nobody before the create is here."""
        return frozenset(self.roster.members) if self.has_begun else frozenset()

    # --- rights

    def member_of(self, device: DeviceId) -> MemberId | None:
        """The member that a device belongs to, if it is in the roster."""
        if not self.has_begun:
            return None
        found = self.roster.devices.get(device)
        return found.member if found is not None else None

    def member_ever(self, device: DeviceId) -> MemberId | None:
        """The member that a device belongs to, or belonged to before it was put out."""
        return self.roster.member_ever(device) if self.has_begun else None

    def counts(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool:
        """True where that entry of that device's chain counts by itself for a document of this kind.

        Whose owned document it is, is for the gate.
        """
        return not self.is_retired(descriptor) and self.counts_ever(device, seq, descriptor)

    def is_retired(self, descriptor: Descriptor) -> bool:
        """Whether a retire of that document counts."""
        return bool(self._retired) and descriptor in self._retired

    def counts_ever(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool:
        """Whether it would count if the document were not retired."""
        standing = self.standing(device)
        return seq <= (standing.admin_limit if descriptor.kind is DocumentKind.ADMIN else standing.limit)

    def may_be_cut(self, descriptor: Descriptor) -> bool:
        """False where all entries of everybody whose changes the gate lets into this document count by themselves."""
        if descriptor.kind is not DocumentKind.OWNED or self.is_retired(descriptor):
            return True
        if self._owners_cut is None:
            cut = {standing.member for standing in self._all().values() if standing.limit != ALL}
            cut |= {self.member_ever(device) for device in self._forked}
            self._owners_cut = frozenset(member for member in cut if member is not None)
        return descriptor.member in self._owners_cut

    def standing(self, device: DeviceId) -> Standing:
        return self._all().get(device, NOBODY)

    def standings(self) -> Mapping[DeviceId, Standing]:
        """How far the entries of every device count by themselves; who is not in it was never let in."""
        return self._all()

    def _all(self) -> dict[DeviceId, Standing]:
        if self._standings is None:
            self._standings = self._find_standings() if self.has_begun else {}
        return self._standings

    def _find_standings(self) -> dict[DeviceId, Standing]:
        roster = self.roster
        admins = {member.id for member in roster.members.values() if roster.is_admin(member.id)}
        found: dict[DeviceId, Standing] = {}
        for device in roster.devices.values():
            limit = ALL if device.member in admins else self._admin_limit(roster, device.id)
            found[device.id] = Standing(device.member, ALL, limit)
        for former in roster.former_devices.values():
            limit = max(self._pinned_at(roster, former.id, former.pin), self._final_at(former.id))
            found[former.id] = Standing(former.member, limit, self._admin_limit(roster, former.id))
        return found

    def _final_at(self, device: DeviceId) -> int:
        """The seq of its chain up to which a manifest made a device's entries final."""
        seq, find, entry = self._final.get(device, NONE), self._forked.get(device), self._final_ids.get(device)
        return find(Pin(device, seq, entry)) if find is not None and entry is not None else seq

    def _admin_limit(self, roster: Roster, device: DeviceId) -> int:
        pin = roster.admin_pins.get(device)
        if pin is None:
            return NONE
        find = self._forked.get(device)
        return find(pin) if find is not None else pin.seq

    def _pinned_at(self, roster: Roster, device: DeviceId, pin: Pin | None) -> int:
        """The seq of its chain up to which a device counts that was put out.

        Of one that signed two histories, the pins may name entries of the one that does not decide: each reaches as far
        as that one has entries in common with the chain, and the farthest holds (specs/counting.md §4).
        """
        find = self._forked.get(device)
        if find is None:
            return pin.seq if pin is not None else NONE
        member = roster.member_ever(device)
        counted = [find(pin)] if pin is not None else []
        for operation, target, named in self._pins.get(device, ()):
            whose = roster.member_ever(target) if isinstance(target, DeviceId) else target
            if operation not in roster.refused and whose in (None, member):
                counted.append(find(named))
        return max(counted, default=NONE)

    def require_member(self, device: DeviceId) -> MemberId:
        """Whose the own device is.

        Raises:
            UsageError: nobody's, or nobody's any more.
        """
        member = self.member_of(device)
        if member is None:
            raise UsageError("this device is not a member of the group")
        return member

    def require_right(self, device: DeviceId, descriptor: Descriptor) -> None:
        """Check before writing that the own device may.

        Raises:
            UsageError: it may not.
        """
        member = self.require_member(device)
        if descriptor.kind is DocumentKind.OWNED and descriptor.member != member:
            raise UsageError("only its owner can change this document")
        if descriptor.kind is DocumentKind.ADMIN and not self.roster.is_admin(member):
            raise UsageError("only an admin can change this document")
        if self.is_retired(descriptor):
            raise UsageError("this document was retired; its next generation goes on in its place")
