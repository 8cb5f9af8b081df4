"""One device's copy of one group: everything that arrives or is written passes through here, and becomes durable here.

    written:   edit → change → entry → (pending) → run → seal → envelope
    received:  envelope → open → link → verify → roster → gate → merge → view, all in one transaction with the cursor

Where a transaction fails, what is in memory is thrown away and loaded again. Not for two threads at once. The parts:
linking.py says what continues a chain, members.py holds roster and rights, shelf.py the documents, receiving.py the
way in. Spec: specs/envelope.md §6 and §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from typing import Any

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import (
    ChainAheadError,
    CocoonError,
    DocumentUnavailableError,
    LocalStateError,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.protocol.constants import ENVELOPE_OVERHEAD, MAX_ENVELOPE_BYTES, MAX_RUN_BYTES, MAX_RUN_ENTRIES
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.entry import Entry, EntryKind, EntryMaker, document_change
from cocoon_core.protocol.envelope import padded_size, seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, GroupId, InviteId, TopicId
from cocoon_core.protocol.operations import OperationBody
from cocoon_core.protocol.run import Run, parse_run, sign_run
from cocoon_core.storage.database import Database
from cocoon_core.storage.documents import DocumentTable
from cocoon_core.storage.groups import STOPPED, GroupRecord, GroupTable
from cocoon_core.storage.log import ChainEnd, Log, StoredRun
from cocoon_core.sync.events import AlarmRaised, DocumentChanged, GroupEvent, RosterChanged
from cocoon_core.sync.members import Members, Standing
from cocoon_core.sync.shelf import Shelf, View

Clock = Callable[[], int]


BURST_MS = 200  # own entries that follow each other faster wait for one another
RUNS_OF_KNOWN_IDS = 32  # stored runs whose entries' ids are kept at hand


class Replica:
    """A group on this device.

    Args:
        clock: the time in ms since 1970; for display and for closing invites, never for a verdict.
    """

    def __init__(self, database: Database, record: GroupRecord, clock: Clock) -> None:
        self.database, self.record, self.clock = database, record, clock
        self.group: GroupId = record.group
        self.keys = record.keys
        self.groups = GroupTable(database)
        self.log = Log(database, record.number)
        self.documents = DocumentTable(database, record.number)
        self.members = Members(record.group)
        self.shelf = Shelf(record.group, record.keys.id, self.documents, self.members, self._own_pending_changes)
        self.epochs: dict[TopicId, Epoch] = {}
        self.chains: dict[DeviceId, ChainEnd] = {}
        self._heads: dict[DeviceId, DeviceHeads] = {}
        self._run_ids: dict[EntryId, tuple[EntryId, ...]] = {}
        self._stopped_by: str | None = record.stopped_by
        self._listeners: list[Callable[[GroupEvent], None]] = []
        self._events: list[GroupEvent] = []
        self._editing: dict[DocumentId, asyncio.Task[Any] | None] = {}
        self._no_edits = asyncio.Event()
        self.shelf.pinned = self._editing.keys()
        self.level_relays: set[str] = set()  # kept by their drivers
        self._last_formed_ms = 0
        self.first_seen_spent: dict[InviteId, int] = {}
        self._incomplete: str | None = None
        self.load()
        self._tell_incomplete()

    def load(self) -> None:
        """Take everything from the database again."""
        self._events.clear()
        self._heads.clear()
        self.shelf.discard_all()
        self.epochs = {epoch.topic: epoch for epoch in self.groups.epochs(self.record.number)}
        self.chains = self.log.chains()
        self._incomplete = None
        pending: list[Entry] = []
        try:
            pending = [entry for entry in self._pending_entries() if entry.kind is EntryKind.ROSTER]
        except LocalStateError as error:
            self._incomplete = str(error)
        wires = [stored.wire for stored in self.log.runs_with_operation()] + self.log.side_runs()
        lacking = self.members.load(wires, pending)
        if lacking:
            self._incomplete = f"{lacking} stored operations need others that are not here"

    def _tell_incomplete(self) -> None:
        """A log that does not hold together can be read as far as it goes, and is not written to."""
        if self._incomplete is None:
            return
        message = f"what is stored of this group is not whole, so nothing is written: {self._incomplete}"
        with suppress(LocalStateError), self.database.transaction():
            self.alarm("incomplete", self.group.hex(), message)

    @property
    def epoch(self) -> Epoch:
        """The epoch that is written to."""
        return next(reversed(self.epochs.values()))

    # --- watching

    def listen(self, listener: Callable[[GroupEvent], None]) -> Callable[[], None]:
        """Call `listener` with every event, after its commit; the return value ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add_view(self, view: View) -> None:
        self.shelf.views.append(view)

    def tell(self, event: GroupEvent) -> None:
        """Have an event sent after the transaction."""
        self._events.append(event)

    def alarm(self, kind: str, subject: str, message: str) -> bool:
        """Tell the member, once for each kind and subject; true if it is new. Inside a transaction."""
        is_new = self.groups.raise_alarm(self.record.number, kind, subject, message, self.clock())
        if is_new:
            self.tell(AlarmRaised(kind, subject, message))
        return is_new

    # --- transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, in the database and in memory; events go out after the commit."""
        try:
            with self.database.transaction():
                yield
        except BaseException:
            self.load()
            raise
        events, self._events = self._events, []
        for event in events:
            for listener in list(self._listeners):
                listener(event)

    def stop(self, error: CocoonError) -> None:
        """Write nothing more here: the group needs a newer version, or this device is a copy. Inside a transaction."""
        self._stopped_by = error.code
        self.groups.set_state(self.record.number, STOPPED, error.code)
        self.alarm("stopped", error.code, str(error))

    @property
    def is_writable(self) -> bool:
        return self._stopped_by is None and self._incomplete is None

    def require_writable(self) -> None:
        """Raises:
        ChainAheadError, UpdateNeededError: the group was stopped for good on this device.
        """
        for kind in (ChainAheadError, UpdateNeededError):
            if self._stopped_by == kind.code:
                raise kind
        if self._stopped_by is not None:
            raise LocalStateError(f"this group was stopped on this device ({self._stopped_by})")
        if self._incomplete is not None:
            raise LocalStateError(f"what is stored of this group is not whole: {self._incomplete}")

    def report_withheld(self) -> None:
        """Once level with every relay: what still waits needs entries that no relay showed, or showed whole.

        Tells of it, and for each member's device has every relay read anew from its start, once: what was withheld or
        damaged on the way may be there now.
        """
        devices = self.log.parked_bytes()
        if not devices:
            return
        with self.transaction():
            for device in sorted(devices):
                message = f"entries before those of device {device.hex()} are missing: withheld, damaged or never sent"
                if self.alarm("withheld", device.hex(), message) and self.members.member_of(device) is not None:
                    for relay in self.groups.relays(self.record.number):
                        self.log.note_missed(relay, self.epoch.topic, 1)

    # --- writing

    @contextmanager
    def change(self, descriptor: Descriptor) -> Iterator[MapEdit]:
        """Edit a document: what the block does becomes one change in one entry, durable when the block ends.

        If the block raises, or nothing was changed, nothing is written.

        Raises:
            UsageError: this member may not change that document.
            StorageFullError: it could not be made durable; the document is as before.
            LocalStateError: the document was loaded anew under the edit, since something else failed; nothing is
                written.
        """
        self.require_writable()
        self.members.require_right(self.keys.id, descriptor)
        document = descriptor.document_id(self.group)
        with self._only_edit(document):
            edited = self.shelf.get(descriptor)
            edit = edited.change()
            try:
                with edit as root:
                    yield root
            except BaseException:
                self.shelf.discard(document)
                raise
        if edit.change is None:
            return
        if not self.shelf.holds(document, edited):
            raise LocalStateError("the document was loaded anew during this edit, which is not written; make it again")
        change = document_change(document, edit.change.raw)
        with self.transaction():
            body = [[document, edit.change.raw]]
            self._append(EntryKind.CHANGE, body, lambda maker, *at: maker.change(*at, (change,)))
            self.documents.ensure(document, descriptor)
            self.shelf.edited(descriptor, set(edit.change.touched))
            self._form_at_once()
            self.tell(DocumentChanged(document, descriptor.name, frozenset(edit.change.touched), own=True))

    @contextmanager
    def _only_edit(self, document: DocumentId) -> Iterator[None]:
        """Two edits of one document at once would be two changes with one number."""
        if document in self._editing:
            raise UsageError("an edit of this document is open; end it first")
        self._editing[document] = _current_task()
        try:
            yield
        finally:
            del self._editing[document]
            if not self._editing:
                self._no_edits.set()

    async def edits_ended(self) -> None:
        """Wait until no edit is open: nothing that arrives may change a document under one.

        Raises:
            UsageError: the caller itself is in an edit.
        """
        while self._editing:
            if _current_task() in self._editing.values():
                raise UsageError("an edit of a document is open; end it before a sync")
            self._no_edits.clear()
            await self._no_edits.wait()

    def write_operation(self, operation: OperationBody, *, inside: bool = False) -> EntryId:
        """Write a roster operation. It must count in the state that this device knows.

        Args:
            inside: the caller holds a transaction.

        Raises:
            UsageError: it would not count, or an edit is open: a roster that changes may build its document anew.
        """
        self.require_writable()
        if self._editing:
            raise UsageError("an edit of a document is open; end it first")
        if not inside:
            with self.transaction():
                return self.write_operation(operation, inside=True)
        body = operation.encode_body()
        standings = self.members.standings()
        entry = self._append(EntryKind.ROSTER, body, lambda maker, *at: maker.operation(*at, body))
        before = self.members.ids()
        self.members.add_entry(entry)
        refusal = self.members.roster.refused.get(entry.id)
        if refusal is not None:
            raise UsageError(refusal.reason)
        joined = tuple(self.members.ids() - before)
        self.tell(RosterChanged((entry.id,), joined))
        self.follow_standings(standings)
        return entry.id

    def _append(self, kind: EntryKind, body: list[Any], make: Callable[..., Entry]) -> Entry:
        """Make the next entry of this device's chain and keep it, not yet in a run."""
        end = self.chains.get(self.keys.id)
        seq, prev = (end.last_seq + 1, end.last_id) if end else (0, None)
        heads = self.members.heads_to_name(self.keys.id)
        time_ms = self.clock()
        entry = make(EntryMaker(self.group, self.keys.id, heads), seq, prev, time_ms)
        self.log.add_pending(seq, entry.id, [time_ms, int(kind), list(heads), body])
        self.set_chain(self.keys.id, ChainEnd(seq, entry.id, time_ms))
        return entry

    # --- following the roster

    def follow_standings(self, before: Mapping[DeviceId, Standing], new: Set[DeviceId] = frozenset()) -> None:
        """Where a device's entries count otherwise than before, build the documents that it has changed anew.

        Args:
            new: devices of which no document shows anything yet.
        """
        after = self.members.standings()
        for device in self.chains:
            if after.get(device) == before.get(device) or device in new:
                continue
            changed = {document for document, _, _ in self.log.heads(device).items()}
            if device == self.keys.id:
                changed |= {document for document, _, _ in self._own_pending_changes()}
            for record in filter(None, map(self.documents.find, sorted(changed))):
                try:
                    self.shelf.rebuild(record)
                except DocumentUnavailableError as error:
                    self.note_unavailable(record.document, record.descriptor, error)
                    continue
                self.tell(DocumentChanged(record.document, record.descriptor.name, frozenset(), own=False))

    def note_unavailable(self, document: DocumentId, descriptor: Descriptor, error: DocumentUnavailableError) -> None:
        """What fails on this device alone takes nothing from the log, and stops no other document."""
        self.alarm("document", document.hex(), f"{descriptor.name!r} cannot be shown on this device: {error}")

    # --- forming runs

    def form_runs(self) -> int:
        """Form, sign and store runs of all pending entries, and queue them for every relay.

        Returns:
            How many runs were formed. Their bounds never change afterwards.
        """
        if not self.is_writable or not self.log.pending_count():
            return 0
        with self.transaction():
            return self._form_runs()

    def _form_runs(self) -> int:
        entries = list(self._pending_entries())
        relays = self.groups.relays(self.record.number)
        heads = self.heads_of(self.keys.id)
        batches = list(_cut_runs(entries, self._descriptor_of))
        for batch in batches:
            run = self._sign(batch, heads)
            number = self.store_run(run)
            touched = {(self.documents.ensure(d, run.descriptors[d]).number, number) for d in run.descriptors}
            self.documents.add_runs(touched)
            for relay in relays:
                self.log.enqueue(relay, number, run.last_id)
        self.log.set_heads(self.keys.id, heads.items())
        self.log.drop_pending(entries[-1].seq)
        self._last_formed_ms = self.clock()
        return len(batches)

    def _form_at_once(self) -> None:
        """Where a relay is level and nothing was formed just now, spare the run a commit of its own. Inside one.

        Entries that are written in quick succession still share a run.
        """
        if self.level_relays and abs(self.clock() - self._last_formed_ms) >= BURST_MS:
            self._form_runs()

    def _sign(self, batch: list[Entry], heads: DeviceHeads) -> Run:
        for entry in batch:
            advance_heads(heads, entry.changes)
        run = sign_run(batch, self._descriptor_of, self.keys.signing, heads.digest())
        if padded_size(len(run.wire)) + ENVELOPE_OVERHEAD > MAX_ENVELOPE_BYTES:
            raise LocalStateError(f"a run of {len(run.wire)} bytes was formed, which no envelope can hold")
        return run

    def seal(self, run: StoredRun) -> bytes:
        """The envelope of a stored run in the current epoch: the same bytes each time."""
        return seal_envelope(run.wire, self.epoch)

    def _descriptor_of(self, document: DocumentId) -> Descriptor:
        record = self.documents.find(document)
        if record is None:
            raise LocalStateError(f"no descriptor is stored for document {document}")
        return record.descriptor

    def _pending_entries(self) -> Iterator[Entry]:
        pending = self.log.pending()
        if not pending:
            return
        prev = self._id_before(pending[0].seq)
        for item in pending:
            time_ms, kind, heads, body = item.value
            maker = EntryMaker(self.group, self.keys.id, tuple(EntryId(head) for head in heads))
            if kind == EntryKind.ROSTER:
                entry = maker.operation(item.seq, prev, time_ms, body)
            else:
                changes = tuple(document_change(DocumentId(d), raw) for d, raw in body)
                entry = maker.change(item.seq, prev, time_ms, changes)
            if entry.id != item.entry_id:
                raise LocalStateError(f"the own entry at seq {item.seq} is not the one that was written")
            prev = entry.id
            yield entry

    def _id_before(self, seq: int) -> EntryId | None:
        if seq == 0:
            return None
        stored = self.log.run_covering(self.keys.id, seq - 1)
        if stored is None or stored.last_seq != seq - 1:
            raise LocalStateError(f"the own entry before seq {seq} is not in the log")
        return stored.last_id

    def _own_pending_changes(self) -> Iterator[tuple[DocumentId, int, bytes]]:
        """(document, seq of the entry, raw change) of own changes that are in no run yet."""
        for item in self.log.pending():
            _, kind, _, body = item.value
            if kind == EntryKind.CHANGE:
                yield from ((DocumentId(document), item.seq, bytes(raw)) for document, raw in body)

    # --- what the way in needs (receiving.py)

    def known_id(self, device: DeviceId, seq: int, may_read: Callable[[], bool] = lambda: True) -> EntryId | None:
        """The id of a device's entry at that seq, if it is in the log or is an own one that is pending.

        Args:
            may_read: asked before a stored run is read for it, which is dear; where it says no, nothing is known.
        """
        end = self.chains.get(device)
        if end is None or seq > end.last_seq:
            return None
        if seq == end.last_seq:
            return end.last_id
        found = self.log.run_end_covering(device, seq)
        if found is None:
            return next((item.entry_id for item in self.log.pending() if item.seq == seq), None)
        number, last_seq, last_id = found
        if last_seq == seq:
            return last_id
        if last_id not in self._run_ids and not may_read():
            return None
        ids = self._ids_of_run(number, last_id)
        place = seq - last_seq - 1
        return ids[place] if -place <= len(ids) else None

    def _ids_of_run(self, number: int, last_id: EntryId) -> tuple[EntryId, ...]:
        """The ids of a stored run's entries. The last one commits to all before it, so none can go stale."""
        ids = self._run_ids.pop(last_id, None)
        if ids is None:
            ids = parse_run(self.log.run(number).wire, self.group).ids()
        self._run_ids[last_id] = ids
        while len(self._run_ids) > RUNS_OF_KNOWN_IDS:
            del self._run_ids[next(iter(self._run_ids))]
        return ids

    def heads_of(self, device: DeviceId) -> DeviceHeads:
        """The heads of a device after its last entry in a run."""
        heads = self._heads.get(device)
        if heads is None:
            heads = self._heads[device] = self.log.heads(device)
        return heads

    def store_run(self, run: Run) -> int:
        return self.log.add_run(run, run.entries[-1].kind is EntryKind.ROSTER)

    def set_chain(self, device: DeviceId, end: ChainEnd) -> None:
        self.chains[device] = end
        self.log.set_chain(device, end)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _cut_runs(entries: list[Entry], descriptor_of: Callable[[DocumentId], Descriptor]) -> Iterator[list[Entry]]:
    """Cut pending entries into runs: equal roster heads, an operation last, bounded length and size.

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
        if batch and (full or entry.roster_heads != batch[0].roster_heads or batch[-1].kind is EntryKind.ROSTER):
            yield batch
            batch, size, described = [], 0, set()
            length = body + sum(map(lengths.__getitem__, documents))
        batch.append(entry)
        described |= documents
        size += length
    if batch:
        yield batch
