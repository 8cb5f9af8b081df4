"""Devices that signed two histories: which one decides here, as everywhere.

All runs of such a device are kept. Its entries form a tree; the one history that decides goes from its root to its last
final entry and, above that, takes the smallest id wherever it branches. That history stands in the log, whichever came
first; where another one did, they are switched and the documents that either changes are built anew. So devices that
hold the same runs hold the same chain. Entries of the other histories count only where a change that counts depends on
them. Implements specs/counting.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from cocoon_core.errors import DocumentUnavailableError, UntrustedInputError
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.run import Run, parse_run, verify_run
from cocoon_core.storage.branches import BranchTable
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.log import ChainEnd
from cocoon_core.sync.arrivals import Arrival
from cocoon_core.sync.members import ALL, NONE, FindSeq
from cocoon_core.sync.withdrawals import rebuild_documents

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

MAX_APART_BYTES: Final = 4 * 1024 * 1024  # runs of one device that stand apart; what comes beyond is not kept


@dataclass(slots=True)
class _Tree:
    """All entries of one device that are here, from below the lowest place where a run stands apart.

    Attributes:
        start: the last entry below all of them; None where there is none.
        chain: the ids of the log's chain above `start`, by seq.
    """

    start: EntryId | None = None
    entries: dict[EntryId, Entry] = field(default_factory=dict)
    after: dict[EntryId | None, set[EntryId]] = field(default_factory=dict)
    chain: dict[int, EntryId] = field(default_factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries[entry.id] = entry
            self.after.setdefault(entry.prev, set()).add(entry.id)

    @property
    def branches(self) -> bool:
        return any(len(ids) > 1 for ids in self.after.values())

    def decide(self, final: Iterable[EntryId], without: frozenset[EntryId] = frozenset()) -> list[Entry]:
        """The history that decides: to the final entries, and the smallest id wherever it branches above those.

        Args:
            final: entries that manifests name; one that contradicts an earlier one of them says nothing.
            without: entries that take no part.
        """
        leading: set[EntryId] = set()
        for named in final:
            below = self._up_to(named)
            if leading.issubset(below):
                leading = below
        path: list[Entry] = []
        at: EntryId | None
        at = self.start
        while options := sorted(self.after.get(at, set()) - without):
            at = next((option for option in options if option in leading), options[0])
            path.append(self.entries[at])
        return path

    def _up_to(self, entry: EntryId) -> set[EntryId]:
        """An entry and those before it, as far as they are in the tree."""
        found: set[EntryId] = set()
        at: EntryId | None = entry
        while at is not None and at in self.entries:
            found.add(at)
            at = self.entries[at].prev
        return found


class Forks:
    """The devices of one group of which runs stand apart."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.table = BranchTable(replica.database, replica.record.number)
        self._touched: set[DeviceId] = set()
        self._ends: dict[DeviceId, EntryId] = {}  # of those devices, when they were last settled
        self._fresh: list[tuple[int, Run]] = []
        self._has_operations = False  # some came with a history that was put in

    def load(self) -> None:
        """After the log was read anew: what pins reach is worked out again."""
        self._touched, self._ends, self._fresh = set(), {}, []
        self._find_reach()

    def note(self, run: Run) -> bool:
        """Keep a verified run that contradicts the chain of its device. False where it is here, or there is no room.

        Inside a transaction that ends with `settle`.
        """
        if self.table.size(run.device) + len(run.wire) > MAX_APART_BYTES:
            return False
        number = self.table.add(run)
        if number is None:
            return False
        documents = self._replica.documents
        records = [documents.ensure(document, run.descriptors[document]) for document in run.descriptors]
        documents.add_runs({(record.number, -number) for record in records})
        self._touched.add(run.device)
        self._fresh.append((number, run))
        return True

    def settle(self, *, everything: bool = False) -> None:
        """Let the history stand that decides, of every device of which something came. Inside a transaction.

        Args:
            everything: ask of all devices; what is final has changed.
        """
        self._take_proofs()
        self._take_parked()
        chains = self._replica.chains
        apart = self.table.devices()
        grown = {device for device in apart if device in chains and chains[device].last_id != self._ends.get(device)}
        devices = set(apart) if everything else self._touched | grown
        fresh, self._fresh, self._touched = self._fresh, [], set()
        if not devices:
            return
        standings = self._replica.members.standings()
        changed: set[DocumentId] = set()
        for device in sorted(devices):
            if device != self._replica.keys.id:  # the own one is replaced: sync/replacing.py
                changed |= self.switch(device)
        if self._has_operations:
            self._has_operations = False
            self._replica.epochs.follow_choice()
        self._ends = {device: chains[device].last_id for device in apart if device in chains}
        self._find_reach()
        rebuild_documents(self._replica, changed)
        self._merge_apart(fresh, changed)
        self._replica.follow_standings(standings)

    def switch(self, device: DeviceId, without: frozenset[EntryId] = frozenset()) -> set[DocumentId]:
        """Let the history of a device stand that decides; the documents that have to be built anew by that."""
        tree = self._tree(device)
        path = tree.decide(self._replica.members.final_ids(device), without)
        if not without and self._is_in_gap(device, tree, path):
            tree.start = self._replica.chains[device].last_id
            path = tree.decide(self._replica.members.final_ids(device))
        for place, entry in enumerate(path):
            if tree.chain.get(entry.seq) != entry.id:
                return self._switch_from(device, path, place)
        if path and max(tree.chain, default=-1) > path[-1].seq:  # only where entries take no part
            return self._switch_from(device, path, len(path))
        return set()

    def _is_in_gap(self, device: DeviceId, tree: _Tree, path: Sequence[Entry]) -> bool:
        """True where the path contradicts nothing and ends before the chain: a manifest, which stands for what is
        between, led the chain on.
        """
        end = self._replica.chains.get(device)
        if end is None or not path or end.last_seq <= path[-1].seq:
            return False
        return all(tree.chain.get(entry.seq, entry.id) == entry.id for entry in path)

    def loses(self, device: DeviceId, without: frozenset[EntryId] = frozenset()) -> bool:
        """True where an entry that stands in the log here is not of the history that decides.

        Args:
            without: entries that take no part, and are not asked for.
        """
        tree = self._tree(device)
        decides = {entry.id for entry in tree.decide(self._replica.members.final_ids(device), without)}
        return not decides.issuperset({entry for entry in tree.chain.values() if entry not in without})

    # --- what comes from elsewhere

    def _take_proofs(self) -> None:
        """The runs in suspensions: others saw both histories, and this device perhaps one."""
        replica = self._replica
        for suspend in replica.members.take_suspensions():
            for wire in (suspend.first, suspend.second):
                try:
                    run = verify_run(parse_run(wire, replica.group))
                except UntrustedInputError:
                    continue
                stands = all(replica.known_id(run.device, entry.seq) == entry.id for entry in run.entries)
                if run.device == suspend.device and not stands:
                    self.note(run)

    def _take_parked(self) -> None:
        """What waits for entries of another history, or for ones beyond which nothing counts, waits in vain."""
        replica = self._replica
        apart = set(self.table.devices())
        for parked in replica.log.parked() if replica.log.parked_bytes() else ():
            end, limit = replica.chains.get(parked.device), replica.members.standing(parked.device).limit
            is_beyond = end is not None and end.last_seq >= limit and limit != ALL
            if (parked.device in apart or is_beyond) and replica.members.knows(parked.heads):
                replica.log.unpark([parked.number])
                self.note(parse_run(parked.wire, replica.group).stored())

    # --- the tree, and what a pin reaches

    def _tree(self, device: DeviceId) -> _Tree:
        replica, tree = self._replica, _Tree()
        apart = [parse_run(run.wire, replica.group).stored() for run in self.table.of(device)]
        known = [run for run in apart if replica.members.knows(run.entries[0].roster_heads)]
        if not known:
            return tree
        lowest = min(run.first_seq for run in known)
        for _, last_seq, _, wire in self.table.standing(device, max(lowest - 1, 0)):
            entries = parse_run(wire, replica.group).stored().entries
            tree.add(entries)
            tree.chain.update({entry.seq: entry.id for entry in entries if entry.seq <= last_seq})
        for run in known:
            tree.add(run.entries)
        first = min(tree.chain, default=lowest)
        below = tree.entries.get(tree.chain[first]) if first in tree.chain else None
        tree.start = below.prev if below is not None else replica.known_id(device, lowest - 1) if lowest else None
        return tree

    def _find_reach(self) -> None:
        """Tell the roster how far pins reach that name an entry of a history that does not decide."""
        reach: dict[DeviceId, FindSeq] = {}
        for device in self.table.devices():
            tree = self._tree(device)
            if tree.branches:
                reach[device] = self._reach_in(device, tree)
        self._replica.members.set_forked(reach)

    def _reach_in(self, device: DeviceId, tree: _Tree) -> FindSeq:
        replica = self._replica
        lowest = min((tree.entries[i].seq for ids in tree.after.values() if len(ids) > 1 for i in ids), default=0)

        def reach(pin: Pin) -> int:
            """The last seq of the chain here that is also in the history of the pinned entry."""
            here = replica.known_id(device, pin.seq)
            if here is None or here == pin.entry:
                return pin.seq
            at: EntryId | None = pin.entry
            while at is not None and at in tree.entries:
                entry = tree.entries[at]
                if tree.chain.get(entry.seq) == at:
                    return entry.seq
                at = entry.prev
            if at == tree.start and pin.entry in tree.entries:
                return min(tree.chain, default=0) - 1
            return max(lowest - 1, NONE)  # its history is not here: what is below every known branch is in it

        return reach

    # --- switching

    def _switch_from(self, device: DeviceId, path: Sequence[Entry], place: int) -> set[DocumentId]:
        """Take out of the log what is not on the path, and put in what is, from that place of the path on."""
        first = path[place].seq if place < len(path) else path[-1].seq + 1
        changed = self._take_out(device, first)
        changed |= self._put_in(device, path[place:])
        end = path[-1]
        self._replica.set_chain(device, ChainEnd(end.seq, end.id, end.time_ms))
        self._find_heads(device, changed)
        self._replica.beacons.note_news([device])
        return changed

    def _take_out(self, device: DeviceId, first: int) -> set[DocumentId]:
        """Let nothing of the chain stand from that seq on; the documents that it changes."""
        replica = self._replica
        changed: set[DocumentId] = set()
        for number, _, _, wire in self.table.standing(device, first):
            run = parse_run(wire, replica.group).stored()
            changed.update(change.document for entry in run.entries for change in entry.changes)
            self._keep_operation(run)
            if run.first_seq < first:
                self.table.cut(number, first - 1, run.entries[first - 1 - run.first_seq].id)
                continue
            self.table.take_out(number)
            apart = self.table.add(run)
            if apart is not None:
                self.table.renumber(number, -apart)
        return changed

    def _keep_operation(self, run: Run) -> None:
        last = run.entries[-1]
        if last.kind is EntryKind.ROSTER and self._replica.members.knows((last.id,)):
            self._replica.log.add_side_run(last.id, run.wire)

    def _take_operation(self, run: Run) -> None:
        """An operation that stands in the chain from now on, and may have waited in vain until then."""
        last, members = run.entries[-1], self._replica.members
        if last.kind is EntryKind.ROSTER and not members.knows((last.id,)):
            with suppress(UntrustedInputError):  # a body that is none is a link all the same
                members.add_entry(last)
                self._has_operations = True

    def _put_in(self, device: DeviceId, path: Sequence[Entry]) -> set[DocumentId]:
        """Put the runs that hold these entries into the log, in their order; the documents that they change."""
        replica = self._replica
        apart = [(run.number, parse_run(run.wire, replica.group).stored()) for run in self.table.of(device)]
        changed: set[DocumentId] = set()
        seqs = {entry.seq: entry.id for entry in path}
        at = 0
        while at < len(path):
            reaching = [(self._reach(run, path[at].seq, seqs), number, run) for number, run in apart]
            reach, number, run = max(reaching, key=lambda item: (item[0], -item[1]))
            assert reach >= path[at].seq, "every entry of the path is in the log or in a run apart"
            stored = replica.store_run(run)
            if reach < run.last_seq:
                self.table.cut(stored, reach, seqs[reach])
            else:
                self._take_operation(run)
            self.table.remove(number)
            self.table.renumber(-number, stored)
            changed.update(change.document for entry in run.entries for change in entry.changes)
            at += reach - path[at].seq + 1
        return changed

    def _reach(self, run: Run, seq: int, seqs: dict[int, EntryId]) -> int:
        """The last seq of the path that a run holds without a gap from `seq` on; -1 where it does not hold that."""
        reach = -1
        for entry in run.entries:
            if entry.seq >= seq:
                if seqs.get(entry.seq) != entry.id:
                    break
                reach = entry.seq
        return reach if run.first_seq <= seq else -1

    def _find_heads(self, device: DeviceId, changed: set[DocumentId]) -> None:
        """The device's newest change of each of these documents, in the chain that stands now."""
        replica = self._replica
        for record in filter(None, map(replica.documents.find, sorted(changed))):
            arrivals = replica.shelf.arrivals
            newest = max(
                (
                    (arrival.seq, arrival.place, arrival.change.seq, arrival.change.hash)
                    for arrival in arrivals.in_runs(record)
                    if arrival.stands and arrival.device == device and arrival.change.seq is not None
                ),
                default=None,
            )
            head = (newest[2], newest[3]) if newest is not None else self._head_in_snapshot(record, device)
            self.table.set_head(device, record.document, head)
        replica.forget_heads(device)

    def _head_in_snapshot(self, record: DocumentRecord, device: DeviceId) -> tuple[int, ChangeHash] | None:
        debt = self._replica.debts.find(record.document)
        if debt is not None and device in debt.state.heads:
            return debt.state.heads[device]
        found = [
            (arrival.change.seq, arrival.change.hash)
            for arrival in chain(*self._replica.shelf.arrivals.in_snapshots(record))
            if arrival.device == device and arrival.change.seq is not None
        ]
        return max(found, default=None)

    # --- documents

    def _merge_apart(self, fresh: Sequence[tuple[int, Run]], rebuilt: set[DocumentId]) -> None:
        """Changes of runs that stay apart: one that counts may have waited for them."""
        replica = self._replica
        for number, run in fresh:
            arrivals: dict[DocumentId, list[Arrival]] = {}
            for entry in run.entries:
                for place, change in enumerate(entry.changes):
                    if change.document not in rebuilt:
                        arrival = Arrival(change, run.device, entry.seq, -number, False, False, place)
                        arrivals.setdefault(change.document, []).append(arrival)
            for document, batch in arrivals.items():
                with suppress(DocumentUnavailableError):
                    replica.shelf.merge(run.descriptors[document], batch)
