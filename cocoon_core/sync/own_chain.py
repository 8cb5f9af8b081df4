"""The own device's chain: entries as they are written, and the runs that are formed of them when they are first sent.

    written:   edit → change → entry → (pending) → run

An entry is durable when it is written. Runs are formed, signed and stored later; their bounds never change afterwards.
Every statement (an entry that carries no change) stands in a run of its own: a run is sealed whole, and what says that
somebody is out must be sealed without what was written before it. Spec: specs/envelope.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from cocoon_core.errors import LocalStateError
from cocoon_core.protocol.constants import ENVELOPE_OVERHEAD, MAX_ENVELOPE_BYTES, MAX_RUN_BYTES, MAX_RUN_ENTRIES
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.entry import DocumentChange, Entry, EntryKind, EntryMaker, document_change
from cocoon_core.protocol.envelope import padded_size
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import DocumentId, EntryId
from cocoon_core.protocol.run import Run, sign_run
from cocoon_core.storage.log import ChainEnd

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

BURST_MS = 200  # own entries that follow each other faster wait for one another


class OwnChain:
    """Writes the chain of this device in one group. Every method runs inside the caller's transaction."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._last_formed_ms = 0

    # --- entries

    def append_changes(self, changes: tuple[DocumentChange, ...]) -> Entry:
        """The next entry, of automerge changes."""
        body = [[change.document, change.raw] for change in changes]
        return self._append(EntryKind.CHANGE, body, lambda maker, *at: maker.change(*at, changes))

    def append_statement(self, kind: EntryKind, body: list[Any]) -> Entry:
        """The next entry, of any other kind."""
        return self._append(kind, body, lambda maker, *at: maker.statement(kind, *at, body))

    def _append(self, kind: EntryKind, body: list[Any], make: Callable[..., Entry]) -> Entry:
        replica = self._replica
        end = replica.chains.get(replica.keys.id)
        seq, prev = (end.last_seq + 1, end.last_id) if end else (0, None)
        heads = replica.members.heads_to_name(replica.keys.id)
        time_ms = replica.clock()
        entry = make(EntryMaker(replica.group, replica.keys.id, heads), seq, prev, time_ms)
        replica.log.add_pending(seq, entry.id, [time_ms, int(kind), list(heads), body])
        replica.set_chain(replica.keys.id, ChainEnd(seq, entry.id, time_ms))
        if kind not in (EntryKind.BEACON, EntryKind.MANIFEST):
            replica.beacons.note_news([replica.keys.id])
        return entry

    def pending_entries(self) -> Iterator[Entry]:
        """Own entries that are in no run yet.

        Raises:
            LocalStateError: what is stored is not what was written.
        """
        replica = self._replica
        pending = replica.log.pending()
        if not pending:
            return
        prev = self._id_before(pending[0].seq)
        for item in pending:
            time_ms, number, heads, body = item.value
            kind = EntryKind(number)
            maker = EntryMaker(replica.group, replica.keys.id, tuple(EntryId(head) for head in heads))
            if kind is EntryKind.CHANGE:
                changes = tuple(document_change(DocumentId(d), raw) for d, raw in body)
                entry = maker.change(item.seq, prev, time_ms, changes)
            else:
                entry = maker.statement(kind, item.seq, prev, time_ms, body)
            if entry.id != item.entry_id:
                raise LocalStateError(f"the own entry at seq {item.seq} is not the one that was written")
            prev = entry.id
            yield entry

    def pending_changes(self) -> Iterator[tuple[DocumentId, int, bytes]]:
        """(document, seq of the entry, raw change) of own changes that are in no run yet."""
        for item in self._replica.log.pending():
            _, kind, _, body = item.value
            if kind == EntryKind.CHANGE:
                yield from ((DocumentId(document), item.seq, bytes(raw)) for document, raw in body)

    def _id_before(self, seq: int) -> EntryId | None:
        if seq == 0:
            return None
        replica = self._replica
        stored = replica.log.run_covering(replica.keys.id, seq - 1)
        if stored is None or stored.last_seq != seq - 1:
            swept = replica.retires.swept_id(replica.keys.id, seq - 1)
            if swept is not None:
                return swept
            raise LocalStateError(f"the own entry before seq {seq} is not in the log")
        return stored.last_id

    # --- runs

    def form_runs(self) -> list[Run]:
        """Form, sign and store runs of all pending entries, and queue them for every relay.

        A manifest is queued nowhere: it opens its own topic (sync/handover.py).
        """
        replica = self._replica
        if not replica.is_writable or not replica.log.pending_count():
            return []
        return self._form(list(self.pending_entries()))

    def form_beginning(self) -> None:
        """Form the statements that this chain begins with, where none of it is in a run yet: a group that was made, or
        a join, and nobody knows of it. Each stands in a run of its own, and signatures are deterministic, so any copy
        of this device forms the very same bytes.
        """
        pending = self._replica.log.pending()
        if not pending or pending[0].seq != 0:
            return
        entries = list(takewhile(lambda entry: entry.kind is not EntryKind.CHANGE, self.pending_entries()))
        if entries:
            self._form(entries)

    def _form(self, entries: list[Entry]) -> list[Run]:
        replica = self._replica
        relays = replica.groups.carriers(replica.record.number)
        heads = replica.heads_of(replica.keys.id)
        changed: set[DocumentId] = set()
        runs = []
        for batch in _cut_runs(entries, self._descriptor_of):
            run = self._sign(batch, heads)
            number = replica.store_run(run)
            touched = {(replica.documents.ensure(d, run.descriptors[d]).number, number) for d in run.descriptors}
            replica.documents.add_runs(touched)
            changed.update(run.descriptors)
            if run.entries[-1].kind is EntryKind.REKEY:
                replica.epochs.table.add_rekey(run.device, run.last_seq, run.wire)
            if run.entries[-1].kind is not EntryKind.MANIFEST:
                for relay in relays:
                    replica.log.enqueue(relay, number, run.last_id)
            runs.append(run)
        replica.log.set_heads(replica.keys.id, heads.items_of(changed))
        replica.log.drop_pending(entries[-1].seq)
        self._last_formed_ms = replica.clock()
        return runs

    def form_at_once(self) -> None:
        """Where a relay is level and nothing was formed just now, spare the run a commit of its own.

        Entries that are written in quick succession still share a run.
        """
        replica = self._replica
        if replica.level_relays and abs(replica.clock() - self._last_formed_ms) >= BURST_MS:
            self.form_runs()

    def _sign(self, batch: list[Entry], heads: DeviceHeads) -> Run:
        for entry in batch:
            advance_heads(heads, entry.changes)
        run = sign_run(batch, self._descriptor_of, self._replica.keys.signing, heads.digest())
        if padded_size(len(run.wire)) + ENVELOPE_OVERHEAD > MAX_ENVELOPE_BYTES:
            raise LocalStateError(f"a run of {len(run.wire)} bytes was formed, which no envelope can hold")
        return run

    def _descriptor_of(self, document: DocumentId) -> Descriptor:
        record = self._replica.documents.find(document)
        if record is None:
            raise LocalStateError(f"no descriptor is stored for document {document}")
        return record.descriptor


def _cut_runs(entries: list[Entry], descriptor_of: Callable[[DocumentId], Descriptor]) -> Iterator[list[Entry]]:
    """Cut pending entries into runs: equal roster heads, each statement alone, bounded length and size.

    A run carries the descriptor of each document that it changes, once; it counts where it is first used.
    """
    lengths: dict[DocumentId, int] = {}
    described: set[DocumentId] = set()
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        documents = {change.document for change in entry.changes}
        for document in documents - lengths.keys():
            lengths[document] = len(encode(descriptor_of(document).to_value()))
        body = sum(len(change.raw) for change in entry.changes) + 64
        length = body + sum(lengths[document] for document in documents - described)
        full = len(batch) >= MAX_RUN_ENTRIES or size + length > MAX_RUN_BYTES
        if batch and (full or entry.roster_heads != batch[0].roster_heads or _stands_alone(entry, batch[-1])):
            yield batch
            batch, size, described = [], 0, set()
            length = body + sum(map(lengths.__getitem__, documents))
        batch.append(entry)
        described |= documents
        size += length
    if batch:
        yield batch


def _stands_alone(entry: Entry, before: Entry) -> bool:
    return entry.kind is not EntryKind.CHANGE or before.kind is not EntryKind.CHANGE
