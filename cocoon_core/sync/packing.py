"""Packs a manifest out of what this device holds: frontier, operations, and a snapshot of every document.

Inside the transaction that writes the rotation; nothing of this device is pending then but the rotation itself. What
did not change keeps its page: which documents go into which pages is paging.py's. Spec: specs/manifest.md §4.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cocoon_core.errors import SignatureError
from cocoon_core.protocol.frontier import Frontier, RunEnd, frontier_of, run_end_of
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, EntryId, TopicId
from cocoon_core.protocol.manifest import DocumentState, Manifest, ManifestBody, encode_manifest, seal_manifest
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.paging import Heads, LeftOut, Pager, manifest_before, states_in

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


@dataclass(frozen=True, slots=True)
class Packed:
    """A manifest, ready to be written: the body of its entry, and the blobs that must be at the relay before it.

    Attributes:
        kept: pages of an earlier manifest, which a relay should have.
    """

    body: ManifestBody
    blobs: list[bytes]
    kept: frozenset[BlobHash]
    frontier: Frontier
    operations: frozenset[EntryId]
    content: bytes


def pack_manifest(replica: Replica, topic: TopicId) -> Packed:
    """The manifest of a rotation that was just written and formed into a run."""
    return _Packer(replica, topic).pack()


class _Packer:
    def __init__(self, replica: Replica, topic: TopicId) -> None:
        self._replica, self._topic = replica, topic
        self._before_frontier = replica.epochs.frontier()
        before = manifest_before(replica)
        self._before = states_in(before, replica.group)
        self._before_heads = _heads_in(self._before)
        # whoever came by that manifest has what these runs say, and not the runs themselves
        self._before_runs = before.stored_runs() if before is not None else ()
        self._runs: dict[tuple[DeviceId, int], Run] = {}
        self._heads: dict[DeviceId, DeviceHeads] = {}

    def pack(self) -> Packed:
        replica = self._replica
        frontier = frontier_of(filter(None, map(self._end_of, replica.chains)))
        by_document: dict[DocumentId, Heads] = {}
        for device in frontier:
            for document, seq, change in self._heads[device].items():
                by_document.setdefault(document, {})[device] = seq, change
        pager = Pager(replica, self._before)
        left_out: list[DocumentState] = []
        for record in replica.documents.all():
            heads = by_document.get(record.document)
            if retired := replica.retires.proof_of(record.document):
                left_out.append(DocumentState(record.descriptor, heads or {}, None, (), retired))
            elif heads:
                left = pager.take(record, heads)
                if left.ended or left.beyond:
                    self._keep_reasons(record, left, heads)
        states, blobs = pager.finish()
        operations = self._operations()
        manifest = Manifest(
            frontier,
            tuple(operations.values()),
            replica.members.final_operations & operations.keys(),
            self._rekeys(frontier),
            tuple(run for _, run in sorted(self._runs.items())),
            (*states, *left_out),
        )
        body, pages = seal_manifest(manifest, replica.group, self._topic, Secret(secrets.token_bytes(32)))
        content = encode_manifest(manifest, replica.group)
        final = self._final(frontier, operations)
        return Packed(body, blobs + pages, pager.kept, frontier, final, content)

    def _final(self, frontier: Frontier, operations: Iterable[EntryId]) -> frozenset[EntryId]:
        """The operations that count, within the frontier."""
        members = self._replica.members
        refused = members.roster.refused
        found = set()
        for one in operations:
            operation = members.operation(one)
            end = frontier.get(operation.device)
            if one not in refused and end is not None and operation.seq <= end.seq:
                found.add(one)
        return frozenset(found)

    # --- run ends and heads

    def _end_of(self, device: DeviceId) -> RunEnd | None:
        """The newest run end of a device that counts, of which the heads are known; of one that was cut, the last at or
        before its pin.
        """
        replica = self._replica
        limit = min(replica.chains[device].last_seq, replica.members.standing(device).limit)
        if limit < 0:
            return None
        before = self._before_frontier.get(device)
        for stored in replica.log.runs_before(device, limit):
            if before is not None and stored.last_seq <= before.seq:
                break
            end = run_end_of(parse_run(stored.wire, replica.group).stored())
            if end.seq != stored.last_seq:  # only the beginning of it stands: its device signed two histories
                continue
            try:
                end.verify()  # a run in the middle of a delivery was taken in by its links alone
            except SignatureError:
                continue
            if self._take_heads(device, end):
                self._keep_runs(device, end.seq, limit)
                return end
        if before is not None and before.seq <= limit and self._take_heads(device, before):
            self._keep_runs(device, before.seq, limit)
            return before
        self._keep_runs(device, -1, limit)
        return None

    def _take_heads(self, device: DeviceId, end: RunEnd) -> bool:
        """Find the heads of a device at a run end. False where they are not those that it signed, or not here whole:
        whoever reads the manifest compares them.
        """
        heads = self._heads[device] = self._heads_at(device, end.seq)
        if heads.digest() != end.digest or not self._replica.promised.holds(device, heads):
            return False
        debts = self._replica.debts  # nothing newer of what was not read here can be packed: it is put again instead
        return all(heads.get(debt.record.document) == debt.state.heads.get(device) for debt in debts.all())

    def _keep_runs(self, device: DeviceId, after: int, limit: int) -> None:
        """Runs that go on from the run end up to the pin travel whole."""
        for stored in self._replica.log.runs_between(device, after, limit):
            run = parse_run(stored.wire, self._replica.group).stored()
            self._runs[device, run.first_seq] = run

    def _heads_at(self, device: DeviceId, seq: int) -> DeviceHeads:
        replica = self._replica
        if seq == replica.chains[device].last_seq:
            return replica.heads_of(device)
        before = self._before_frontier.get(device)
        heads, after = DeviceHeads(), -1
        if before is not None and before.seq <= seq:
            after = before.seq
            for document, (number, change) in self._before_heads.get(device, {}).items():
                heads.advance(document, number, change)
        for stored in replica.log.runs_between(device, after, seq):
            for entry in parse_run(stored.wire, replica.group).stored().entries:
                if after < entry.seq <= seq:
                    advance_heads(heads, entry.changes)
        return heads

    # --- documents

    def _keep_reasons(self, record: DocumentRecord, left: LeftOut, heads: Heads) -> None:
        """Runs with changes that the snapshot leaves out: refused by the gate, uncounted, or beyond a cut. Those that
        came by the manifest before stand in no log here.
        """
        replica = self._replica
        wires = replica.documents.wires(record.number)
        for run in (*self._before_runs, *(parse_run(stored.wire, replica.group).stored() for stored in wires)):
            changes = [one for entry in run.entries for one in entry.changes if one.document == record.document]
            is_reason = run.device in left.ended or run.device not in heads
            if changes and (is_reason or any(one.hash in left.beyond for one in changes)):
                self._runs[run.device, run.first_seq] = run

    # --- operations

    def _operations(self) -> dict[EntryId, Run]:
        """Every operation's run, pasts first."""
        replica = self._replica
        wires = [stored.wire for stored in replica.log.runs_with_operation()] + replica.log.side_runs()
        runs = {run.last_id: run for run in (parse_run(wire, replica.group).stored() for wire in wires)}
        order = [operation.id for operation in replica.members.graph.operations()]
        return {operation: runs[operation] for operation in order if operation in runs}

    def _rekeys(self, frontier: Frontier) -> tuple[Run, ...]:
        replica = self._replica
        newest: dict[DeviceId, Run] = {}
        for wire in replica.epochs.table.rekeys():
            run: UnverifiedRun = parse_run(wire, replica.group)
            end = frontier.get(run.device)
            if run.device in replica.members.roster.devices and end is not None and run.last_seq <= end.seq:
                newest[run.device] = run.stored()
        return tuple(newest[device] for device in sorted(newest))


def _heads_in(
    states: Mapping[DocumentId, DocumentState],
) -> Mapping[DeviceId, dict[DocumentId, tuple[int, ChangeHash]]]:
    """The heads that a manifest names, by device."""
    found: dict[DeviceId, dict[DocumentId, tuple[int, ChangeHash]]] = {}
    for document, state in states.items():
        for device, head in state.heads.items():
            found.setdefault(device, {})[document] = head
    return found
