"""One device's copy of one group: everything that arrives or is written passes through here, and becomes durable here.

    written:   edit → change → entry → (pending) → run → seal → envelope
    received:  envelope → open → link → verify → roster → gate → merge → view, all in one transaction with the cursor

Where a transaction fails, what is in memory is thrown away and loaded again. Not for two threads at once. The parts:
linking.py says what continues a chain, members.py holds roster and rights, shelf.py the documents, receiving.py the
way in. Spec: specs/envelope.md §6 and §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from cocoon_core.documents import OwnChange
from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import (
    ChainAheadError,
    CocoonError,
    DocumentUnavailableError,
    LocalStateError,
    ProfileLockedError,
    RestoredError,
    StorageFullError,
    UpdateNeededError,
    UsageError,
)
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import Entry, EntryKind, document_change
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, GroupId, TopicId
from cocoon_core.protocol.operations import OperationBody
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.run import Run, parse_run
from cocoon_core.storage.database import Database
from cocoon_core.storage.documents import DocumentTable
from cocoon_core.storage.groups import ACTIVE, STOPPED, GroupRecord, GroupTable
from cocoon_core.storage.log import ChainEnd, Log
from cocoon_core.storage.relays import RelayTable
from cocoon_core.storage.restored import restored_since
from cocoon_core.storage.snapshots import SnapshotTable
from cocoon_core.sync.beacons import Beacons
from cocoon_core.sync.epochs import Epochs
from cocoon_core.sync.equivocation import Forks
from cocoon_core.sync.events import AlarmRaised, DocumentChanged, GroupEvent, RosterChanged
from cocoon_core.sync.members import Members, Standing
from cocoon_core.sync.owed import Debts
from cocoon_core.sync.own_chain import OwnChain
from cocoon_core.sync.presence import Presence
from cocoon_core.sync.promised import Promised
from cocoon_core.sync.readers import Readers
from cocoon_core.sync.retiring import Retires
from cocoon_core.sync.shelf import Shelf, View
from cocoon_core.sync.withdrawals import follow_standings, tell_late
from cocoon_core.sync.withheld import report_withheld

Clock = Callable[[], int]


SEEN_LATELY_MS = 86_400_000
RUNS_OF_KNOWN_IDS = 32  # stored runs whose entries' ids are kept at hand


class Follower(Protocol):
    """What is built on a replica and writes down, in each transaction, what follows from what was done in it."""

    def settle(self, events: Sequence[GroupEvent]) -> None:
        """Right before the commit, inside the transaction: what it will tell, as far as that is known."""
        ...

    def ended(self, *, committed: bool) -> None:
        """The transaction is over; where it did not hold, `load` was called before."""
        ...


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
        self.relays = RelayTable(database, record.number)
        self.log = Log(database, record.number)
        self.documents = DocumentTable(database, record.number)
        self.members = Members(record.group)
        self.own_chain = OwnChain(self)
        self.snapshots = SnapshotTable(database, record.number)
        self.shelf = Shelf(
            record.group,
            record.keys.id,
            self.documents,
            self.snapshots,
            self.members,
            self.own_chain.pending_changes,
        )
        self.forks = Forks(self)
        self.retires = Retires(self)
        self.shelf.judge.called_late = lambda record, arrival: tell_late(self, record, arrival)
        self.epochs = Epochs(self)
        self.debts = Debts(self)
        self.promised = Promised(self)
        self.beacons = Beacons(self)
        self.presence = Presence(self)
        self.chains: dict[DeviceId, ChainEnd] = {}
        self._heads: dict[DeviceId, DeviceHeads] = {}
        self._run_ids: dict[EntryId, tuple[EntryId, ...]] = {}
        self._stopped_by: str | None = record.stopped_by
        self.restored_ms = restored_since(database, record.number, record.keys.id)
        self._listeners: list[Callable[[GroupEvent], None]] = []
        self.chores: list[Callable[[], None]] = []  # what is built on the replica does this when it is level
        self.followers: list[Follower] = []
        self._events: list[GroupEvent] = []
        self._editing: dict[DocumentId, asyncio.Task[Any] | None] = {}
        self._no_edits = asyncio.Event()
        self.shelf.pinned = self._editing.keys()
        self.level_relays: set[str] = set()  # kept by their drivers
        self.readers = Readers()
        self.guests: set[str] = set()  # used like relays for now (guests.py)
        self._incomplete: str | None = None
        self._is_loaded = False
        self.load()
        self._tell_incomplete()

    def load(self) -> None:
        """Take everything from the database again. Where that fails, it is tried again before anything is written."""
        self._is_loaded = False
        self._events.clear()
        self._heads.clear()
        self.shelf.discard_all()
        self.chains = self.log.chains()
        self._incomplete = None
        pending: list[Entry] = []
        try:
            pending = [entry for entry in self.own_chain.pending_entries() if entry.kind is EntryKind.ROSTER]
        except (StorageFullError, ProfileLockedError):
            raise  # says nothing of what is stored
        except LocalStateError as error:
            self._incomplete = str(error)
        wires = [stored.wire for stored in self.log.runs_with_operation()] + self.log.side_runs()
        lacking = self.members.load(wires, pending)
        self.forks.load()
        self.epochs.load()
        self.debts.load()
        self.promised.load()
        self.beacons.load()
        self.retires.load()
        if lacking:
            self._incomplete = f"{lacking} stored operations need others that are not here"
        self._is_loaded = True

    def _load_if_due(self) -> None:
        if not self._is_loaded:
            self.load()

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
        return self.epochs.current.epoch

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

    def announce(self, event: GroupEvent) -> None:
        """Send an event now that no transaction makes true: somebody is here, something is to be sent."""
        for listener in list(self._listeners):
            listener(event)

    def drop_events(self) -> None:
        """Send nothing of what was told outside of a transaction of this replica: it was a trial."""
        self._events.clear()
        self._tell_followers(committed=False)

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
        self._load_if_due()
        try:
            with self.database.transaction():
                yield
                self.retires.settle()
                for follower in self.followers:
                    follower.settle(tuple(self._events))
        except BaseException:
            with suppress(StorageFullError, ProfileLockedError):  # a disk that fails may go on failing for a while
                self.load()
            self._tell_followers(committed=False)
            raise
        self._tell_followers(committed=True)
        events, self._events = self._events, []
        for event in events:
            for listener in list(self._listeners):
                listener(event)

    def _tell_followers(self, *, committed: bool) -> None:
        for follower in self.followers:
            follower.ended(committed=committed)

    def stop(self, error: CocoonError) -> None:
        """Write nothing more here: the group needs a newer version, or this device is a copy. Inside a transaction."""
        self._stopped_by = error.code
        self.groups.set_state(self.record.number, STOPPED, error.code)
        self.alarm("stopped", error.code, str(error))

    def is_stopped_by(self, kind: type[CocoonError]) -> bool:
        return self._stopped_by == kind.code

    def become(self, keys: DeviceKeys) -> None:
        """Go on as a fresh device, on a chain that begins anew. Inside a transaction (sync/replacing.py)."""
        self.groups.set_keys(self.record.number, keys)
        self.groups.set_state(self.record.number, ACTIVE)
        self.beacons.table.forget_own()
        self.keys, self._stopped_by, self.restored_ms = keys, None, None
        self.shelf.set_device(keys.id)

    def become_again(self, keys: DeviceKeys) -> None:
        """The transaction of `become` failed."""
        self.restored_ms = restored_since(self.database, self.record.number, keys.id)
        self.keys, self._stopped_by = keys, self.groups.stopped_by(self.record.number)
        self.shelf.set_device(keys.id)
        self.load()

    @property
    def is_writable(self) -> bool:
        stopped = self._stopped_by is not None or self.restored_ms is not None
        return not stopped and self._incomplete is None and self._is_loaded

    def require_writable(self) -> None:
        """Raises:
        ChainAheadError, UpdateNeededError: the group was stopped for good on this device.
        RestoredError: it came out of a backup, and this device has not entered it anew yet.
        StorageFullError, ProfileLockedError: it cannot be read now.
        """
        self._load_if_due()
        if self._stopped_by == UpdateNeededError.code:
            raise UpdateNeededError
        if self.restored_ms is not None:
            raise RestoredError
        if self._stopped_by == ChainAheadError.code:
            raise ChainAheadError
        if self._stopped_by is not None:
            raise LocalStateError(f"this group was stopped on this device ({self._stopped_by})")
        if self._incomplete is not None:
            raise LocalStateError(f"what is stored of this group is not whole: {self._incomplete}")

    def report_withheld(self, level: Sequence[str], *, complete: bool) -> bool:
        """After a sync: put and ask again where something is missing, and tell; whether there is more to do now."""
        return report_withheld(self, level, complete=complete)

    # --- writing

    @contextmanager
    def change(self, descriptor: Descriptor) -> Iterator[MapEdit]:
        """Edit a document: what the block does becomes one change in one entry, durable when the block ends.

        If the block raises, or nothing was changed, nothing is written.

        Raises:
            UsageError: this member may not change that document.
            DocumentUnavailableError: what others wrote into it was not read here yet.
            StorageFullError: it could not be made durable; the document is as before.
            LocalStateError: the document was loaded anew under the edit, since something else failed; nothing is
                written.
        """
        self.require_writable()
        self.members.require_right(self.keys.id, descriptor)
        self.debts.require_read(descriptor)
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
        with self.transaction():
            self._store_edit(descriptor, edit.change)
            self.own_chain.form_at_once()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction for edits of several documents: `change_inside` writes them, all of them or none.

        Raises:
            UsageError, StorageFullError, LocalStateError: as `change`.
        """
        self.require_writable()
        with self.transaction():
            yield
            self.own_chain.form_at_once()

    def change_inside(self, descriptor: Descriptor, write: Callable[[MapEdit], None]) -> None:
        """Edit a document inside the caller's transaction, which also stores what comes with it.

        Raises:
            UsageError: this member may not change that document.
        """
        self.members.require_right(self.keys.id, descriptor)
        with self._only_edit(descriptor.document_id(self.group)):
            edit = self.shelf.get(descriptor).change()
            with edit as root:
                write(root)
        if edit.change is not None:
            self._store_edit(descriptor, edit.change)

    def _store_edit(self, descriptor: Descriptor, made: OwnChange) -> None:
        document = descriptor.document_id(self.group)
        self.own_chain.append_changes((document_change(document, made.raw),))
        self.documents.ensure(document, descriptor)
        self.shelf.edited(descriptor, set(made.touched))
        self.tell(DocumentChanged(document, descriptor.name, frozenset(made.touched), own=True))

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

    def require_no_edit(self) -> None:
        """Raises:
        UsageError: an edit is open, and what is to be done may build its document anew.
        """
        if self._editing:
            raise UsageError("an edit of a document is open; end it first")

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
        self.require_no_edit()
        if not inside:
            with self.transaction():
                return self.write_operation(operation, inside=True)
        standings = self.members.standings()
        entry = self.own_chain.append_statement(EntryKind.ROSTER, operation.encode_body())
        before = self.members.ids()
        self.members.add_entry(entry)
        refusal = self.members.roster.refused.get(entry.id)
        if refusal is not None:
            raise UsageError(refusal.reason)
        joined = tuple(self.members.ids() - before)
        self.tell(RosterChanged((entry.id,), joined))
        self.epochs.follow_choice()
        self.follow_standings(standings)
        self.epochs.rotate_after(operation)
        return entry.id

    def rotate(self, reason: Reason = Reason.REQUEST) -> TopicId:
        """Begin a new epoch now: the rotation, its manifest and the new secret become durable together.

        Raises:
            UsageError: this device is not a member's, an edit is open, or the epoch to be ended cannot be opened here:
                nobody could be led on from its topic.
        """
        self.require_writable()
        self.require_no_edit()
        self.members.require_member(self.keys.id)
        if not self.epochs.is_level:
            raise UsageError("somebody else rotated, and this device cannot open that yet; sync, and try again")
        with self.transaction():
            return self.epochs.rotate(reason)

    @property
    def has_unsent(self) -> bool:
        """True where something was written here that some relay does not have."""
        relays = self.groups.relays(self.record.number)
        return self.log.pending_count() > 0 or any(self.log.unsent_count(relay) for relay in relays)

    def seen_lately(self) -> set[DeviceId]:
        """The devices, this one among them, that wrote something in the last day as far as is known here."""
        after = self.clock() - SEEN_LATELY_MS
        devices = self.members.roster.devices
        seen = {device for device, end in self.chains.items() if device in devices and end.last_time_ms >= after}
        return seen | {self.keys.id}

    def kept_from(self) -> str | None:
        """The first month, "YYYY-MM", of which this device keeps documents without being asked; None for all."""
        months = self.groups.kept_months(self.record.number)
        if months is None:
            return None
        now = datetime.fromtimestamp(self.clock() / 1000, UTC)
        first = now.year * 12 + now.month - min(months, now.year * 12)
        return f"{first // 12:04}-{first % 12 + 1:02}"

    def is_confirmed(self, operation: EntryId) -> bool:
        """True where a manifest of the epoch that is written to holds the operation: nothing can take its place."""
        return self.epochs.has_final(operation)

    # --- following the roster

    def follow_standings(self, before: Mapping[DeviceId, Standing], new: Set[DeviceId] = frozenset()) -> None:
        """Where a device's entries count otherwise than before, build the documents that it concerns anew, and tell.

        Args:
            new: devices of which no document shows anything yet.
        """
        follow_standings(self, before, new)

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
            return len(self.own_chain.form_runs())

    def seal(self, wire: bytes, last_id: EntryId) -> bytes:
        """The envelope of a stored run in the epoch that is written to: the same bytes each time.

        Raises:
            UsageError: somebody who holds the epoch's secret is known to be gone.
        """
        if not self.epochs.may_seal():
            raise UsageError("somebody who is gone can read this epoch; it must be rotated first")
        return seal_envelope(self.epochs.carry(wire, last_id), self.epoch)

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
            own = self.log.pending() if device == self.keys.id else []
            return next((item.entry_id for item in own if item.seq == seq), None)
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

    def forget_heads(self, device: DeviceId) -> None:
        """The heads of a device were changed in the database."""
        self._heads.pop(device, None)

    def store_run(self, run: Run) -> int:
        if run.entries[-1].kind is EntryKind.RETIRE:
            self.retires.note(run)
        return self.log.add_run(run, run.entries[-1].kind is EntryKind.ROSTER)

    def set_heads(self, device: DeviceId, heads: DeviceHeads) -> None:
        self._heads[device] = heads
        self.log.set_heads(device, heads.items())

    def set_chain(self, device: DeviceId, end: ChainEnd) -> None:
        self.chains[device] = end
        self.log.set_chain(device, end)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None
