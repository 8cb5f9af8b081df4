"""The roster of one replica: built from stored operations, asked by everything that needs a right. Spec:
specs/roster.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from cocoon_core.errors import NotYetError, UntrustedInputError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, MemberId
from cocoon_core.protocol.operations import Create, Join, Pin, decode_operation
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph
from cocoon_core.protocol.run import parse_run


class Standing(NamedTuple):
    """What a device may change, and of what it may no longer, how far its entries count."""

    member: MemberId | None
    is_admin: bool
    admin_pin: Pin | None


class Members:
    """Holds the graph of operations and, computed when asked for, the state it evaluates to."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._graph = RosterGraph(group)
        self._roster: Roster | None = None

    def load(self, wires: Iterable[bytes], pending: Iterable[Entry]) -> int:
        """Build it anew from stored runs with operations and own operations that are in no run yet, in any order.

        Returns:
            How many operations lack a parent. They are left out.
        """
        self._graph = RosterGraph(self._group)
        self._roster = None
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
        assert entry.operation is not None, "only entries of kind ROSTER"
        body = decode_operation(entry.operation)
        if not self.has_begun and not isinstance(body, Create):
            raise NotYetError("an operation came before the group's create")
        self._graph.add(Operation(entry.id, entry.device, entry.seq, entry.roster_heads, body))
        self._roster = None

    @property
    def roster(self) -> Roster:
        if self._roster is None:
            self._roster = self._graph.evaluate()
        return self._roster

    # --- what is known

    def knows(self, operations: Iterable[EntryId]) -> bool:
        """True where every one of these operations is known here."""
        return all(operation in self._graph for operation in operations)

    def introduces(self, entry: Entry) -> bool:
        """True where this entry can be the first of its device's chain: a create or a join.

        Raises:
            UpdateNeededError: an operation of a later version, which may let a device in.
        """
        if entry.kind is not EntryKind.ROSTER or entry.operation is None:
            return False
        try:
            return isinstance(decode_operation(entry.operation), Create | Join)
        except UntrustedInputError:
            return False

    def heads_to_name(self, device: DeviceId) -> tuple[EntryId, ...]:
        """The roster heads that the next own entry names."""
        return self._graph.heads_to_name(device)

    @property
    def has_begun(self) -> bool:
        """False as long as not even the create is here."""
        return len(self._graph) > 0

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

    def counts(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool:
        """True where that entry of that device counts for a document of this kind."""
        return self.roster.counts(device, seq, descriptor.kind)

    def standings(self) -> Mapping[DeviceId, Standing]:
        """All that decides which entries of which device count for what; where it changes, documents are built anew."""
        if not self.has_begun:
            return {}
        roster = self.roster
        return {
            device: Standing(found.member, roster.is_admin(found.member), roster.admin_pins.get(device))
            for device, found in roster.devices.items()
        }

    def require_right(self, device: DeviceId, descriptor: Descriptor) -> None:
        """Check before writing that the own device may.

        Raises:
            UsageError: it may not.
        """
        member = self.member_of(device)
        if member is None:
            raise UsageError("this device is not a member of the group")
        if descriptor.kind is DocumentKind.OWNED and descriptor.member != member:
            raise UsageError("only its owner can change this document")
        if descriptor.kind is DocumentKind.ADMIN and not self.roster.is_admin(member):
            raise UsageError("only an admin can change this document")
