"""Packs a manifest out of what this device holds: frontier, operations, and a snapshot of every document.

Inside the transaction that writes the rotation; nothing of this device is pending then but the rotation itself.
Spec: specs/manifest.md §4.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cocoon_core.errors import SignatureError
from cocoon_core.protocol.frontier import Frontier, RunEnd, frontier_of, run_end_of
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId, TopicId
from cocoon_core.protocol.manifest import (
    DocumentState,
    Manifest,
    ManifestBody,
    decode_manifest,
    encode_manifest,
    seal_manifest,
)
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run
from cocoon_core.protocol.snapshot import seal_snapshot
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import Arrival, in_causal_order

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

Heads = dict[DeviceId, tuple[int, ChangeHash]]
MappedHeads = Mapping[DeviceId, tuple[int, ChangeHash]]


@dataclass(frozen=True, slots=True)
class Packed:
    """A manifest, ready to be written: the body of its entry, and the blobs that must be at the relay before it."""

    body: ManifestBody
    blobs: list[bytes]
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
        self._before_heads = _heads_in(replica)
        self._runs: dict[tuple[DeviceId, int], Run] = {}
        self._heads: dict[DeviceId, DeviceHeads] = {}

    def pack(self) -> Packed:
        replica = self._replica
        frontier = frontier_of(filter(None, map(self._end_of, replica.chains)))
        by_document: dict[DocumentId, Heads] = {}
        for device in frontier:
            for document, seq, change in self._heads[device].items():
                by_document.setdefault(document, {})[device] = seq, change
        blobs: list[bytes] = []
        states = []
        for record in replica.documents.all():
            heads = by_document.get(record.document)
            if heads:
                state, pages = self._pack_document(record, heads)
                states.append(state)
                blobs += pages
        operations = self._operations()
        manifest = Manifest(
            frontier,
            tuple(operations.values()),
            replica.members.final_operations & operations.keys(),
            self._rekeys(frontier),
            tuple(run for _, run in sorted(self._runs.items())),
            tuple(states),
        )
        body, pages = seal_manifest(manifest, replica.group, self._topic, Secret(secrets.token_bytes(32)))
        content = encode_manifest(manifest, replica.group)
        return Packed(body, blobs + pages, frontier, self._final(frontier, operations), content)

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
        self._heads[device] = self._heads_at(device, end.seq)
        return self._heads[device].digest() == end.digest

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

    def _pack_document(self, record: DocumentRecord, heads: Heads) -> tuple[DocumentState, list[bytes]]:
        replica = self._replica
        counting = replica.shelf.counting_changes(record)
        changes = select_changes(counting, heads)
        last: Heads = {}
        for arrival in changes:
            device, seq = arrival.device, arrival.change.seq or 0
            last[device] = max(last.get(device, (0, heads[device][1])), (seq, heads[device][1]))
        ended = sorted(device for device, (seq, _) in heads.items() if last.get(device, (0,))[0] != seq)
        if ended or len(changes) != len(counting):
            self._keep_reasons(record, set(ended), heads)
        if not changes:
            return DocumentState(record.descriptor, heads, None, (), tuple(ended)), []
        raws = [(arrival.device, arrival.change.raw) for arrival in changes]
        ref, blobs = seal_snapshot(record.document, raws, Secret(secrets.token_bytes(32)))
        seqs = tuple(arrival.seq for arrival in changes)
        return DocumentState(record.descriptor, heads, ref, seqs, tuple(ended)), blobs

    def _keep_reasons(self, record: DocumentRecord, ended: set[DeviceId], heads: Heads) -> None:
        """Runs with changes that the snapshot leaves out: refused by the gate, uncounted, or beyond a cut."""
        replica = self._replica
        for stored in replica.documents.wires(record.number):
            run = parse_run(stored.wire, replica.group).stored()
            if run.device in ended or run.device not in heads:
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


def select_changes(counting: Iterable[Arrival], heads: MappedHeads) -> list[Arrival]:
    """The changes that a snapshot with these heads holds, in the order in which every device packs them: so whoever has
    them can make the very same pages again.
    """
    chosen: dict[bytes, Arrival] = {}
    for arrival in sorted(counting, key=lambda one: (one.device, one.change.seq or 0)):
        device, seq = arrival.device, arrival.change.seq
        if seq is not None and device in heads and seq <= heads[device][0]:
            chosen[arrival.change.raw] = arrival
    return [chosen[raw] for raw in in_causal_order(chosen)]


def _heads_in(replica: Replica) -> Mapping[DeviceId, dict[DocumentId, tuple[int, ChangeHash]]]:
    """The heads that the manifest before this one names."""
    before = replica.epochs.last_followed()
    content = replica.epochs.table.content(before.topic) if before is not None else None
    found: dict[DeviceId, dict[DocumentId, tuple[int, ChangeHash]]] = {}
    if content is not None:
        for state in decode_manifest(content, replica.group).stored_documents():
            document = state.descriptor.document_id(replica.group)
            for device, head in state.heads.items():
                found.setdefault(device, {})[document] = head
    return found
