"""The way in: envelopes from a relay become runs, operations, changes and views, in one transaction with the cursor.

    open → link → verify → (park) → roster → admit → merge → view

Nothing unverified reaches the roster, a document or a view. What cannot be placed yet is parked, within bounds; what is
refused is recorded and everything else goes on. The same envelopes again change nothing. Implements specs/envelope.md
§6 and §7.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cocoon_core.errors import (
    ChainAheadError,
    DecryptionError,
    DocumentUnavailableError,
    MalformedError,
    NotPermittedError,
    NotYetError,
    SignatureError,
    UntrustedInputError,
    UpdateNeededError,
)
from cocoon_core.protocol.constants import PARK_DEVICE_BYTES, PARK_TOTAL_BYTES
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.heads import advance_heads
from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, MemberId
from cocoon_core.protocol.repair import Complaint, Repair, RepairKeys, read_repair_value
from cocoon_core.protocol.repair import Fork as ToldFork
from cocoon_core.protocol.rotation_value import split_wraps
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, verify_run
from cocoon_core.storage.log import ChainEnd, ParkedRun, StoredRun
from cocoon_core.sync.beacons import is_beacon
from cocoon_core.sync.events import DocumentChanged, RosterChanged
from cocoon_core.sync.linking import Fork, link_runs
from cocoon_core.sync.members import Standing
from cocoon_core.sync.repairing import note_repair_value
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Deliver
from cocoon_core.sync.shelf import Arrival


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Thousands of small tuples come to stay here and none of them in a cycle: looking for some costs a third of the
    time. A delivery is bounded by a frame, so what is not collected is too.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class Received:
    """What one delivery brought.

    Attributes:
        entries: of others, that were taken into the log.
        shown: runs that the relay was waited for to show.
        is_plain: it holds nothing but changes of documents, by others: neither roster nor epoch goes by it.
    """

    entries: int = 0
    shown: int = 0
    is_plain: bool = False
    refused: Counter[str] = field(default_factory=Counter)


def receive(replica: Replica, relay: str, delivery: Deliver) -> Received:
    """Take envelopes of one of the group's epochs in, durably, with the cursor behind them.

    Raises:
        UpdateNeededError: something of a later version came; the group is stopped on this device.
        LocalStateError: it could not be stored; nothing was changed.
    """
    with _collector_paused():
        return _Reception(replica, relay, delivery).run()


def retake_parked(replica: Replica, relay: str) -> None:
    """Try what is parked again, since a manifest brought the chains on which it waits. In the manifest's transaction:
    once that is committed, nothing else would come to try it.
    """
    topic = replica.epoch.topic
    cursor = replica.groups.cursor(replica.record.number, relay, topic)
    if cursor is not None and replica.log.parked_bytes():
        _Reception(replica, relay, Deliver(topic, cursor.after + 1, (), cursor)).take_in([])


class _Reception:
    """One delivery on its way in."""

    def __init__(self, replica: Replica, relay: str, delivery: Deliver) -> None:
        self._replica, self._relay, self._delivery = replica, relay, delivery
        self._received = Received()
        self._operations: list[EntryId] = []
        self._changes: dict[DocumentId, tuple[Descriptor, list[Arrival]]] = {}
        self._touched: dict[DeviceId, set[DocumentId]] = {}  # devices whose chains grew, and what they changed in it
        self._news: set[DeviceId] = set()
        self._beacons: list[Entry] = []
        self._first_seen: set[DeviceId] = set()
        self._before: tuple[frozenset[MemberId], Mapping[DeviceId, Standing]] | None = None
        self._places: dict[EntryId, int] = {}
        self._forks = 0
        self._size = 0
        self._moves = False  # something came that others wait for, or that this device must do something about
        self._repairs: list[Complaint | Repair] = []
        self._wraps: dict[EntryId, bytes] = {}  # that came beside rotations

    def run(self) -> Received:
        replica = self._replica
        try:
            runs = self._open()
            with replica.transaction():
                self.take_in(runs)
            self._received.is_plain = not (
                self._moves or self._operations or self._forks or self._repairs or self._wraps
            ) and all(not run.has_statement and run.device != replica.keys.id for run in runs)
        except UpdateNeededError as error:
            with replica.transaction():
                replica.stop(error)
            raise
        return self._received

    def take_in(self, runs: Sequence[UnverifiedRun]) -> None:
        """What was opened, and all that is parked and fits now. Inside a transaction."""
        replica = self._replica
        is_anew = self._delivery.first == 1
        replica.epochs.note_received(
            self._relay, self._delivery.topic, runs, self._size, is_anew=is_anew, wraps=self._wraps
        )
        for value in self._repairs:
            note_repair_value(replica, self._delivery.topic, value, self._relay)
        self._take(runs)
        self._take_parked()
        replica.epochs.note_wraps(self._wraps)
        everything = bool(self._operations) and replica.epochs.follow_choice()
        self._follow_roster()
        self._merge()
        replica.promised.settle(self._changes)
        for device, documents in self._touched.items():
            replica.log.set_heads(device, replica.heads_of(device).items_of(documents))
            replica.set_chain(device, replica.chains[device])
        replica.forks.settle(everything=everything)
        replica.beacons.note_news(self._news)
        for beacon in self._beacons:
            replica.beacons.note(beacon)
        replica.groups.set_cursor(replica.record.number, self._relay, self._delivery.topic, self._delivery.cursor)

    # --- open

    def _open(self) -> list[UnverifiedRun]:
        epoch = self._replica.epochs.keys(self._delivery.topic)
        assert epoch is not None, "what is opened is held"
        runs = []
        for place, envelope in enumerate(self._delivery.envelopes, self._delivery.first):
            try:
                run = self._parse(open_envelope(envelope, epoch), epoch)
            except (DecryptionError, MalformedError) as error:
                self._received.refused[error.code] += 1
                continue
            if run is None:
                continue
            self._places[run.last_id] = place
            self._size += 0 if is_beacon(run) else len(envelope)
            runs.append(run)
        return runs

    def _parse(self, opened: bytes, epoch: TopicKeys) -> UnverifiedRun | None:
        """The run in an envelope; None where it was a complaint or repair, which only a repair topic holds."""
        rotation = split_wraps(opened, self._replica.group)
        if rotation is not None:
            run, self._wraps[rotation[0].last_id] = rotation
            return run
        if not isinstance(epoch, RepairKeys):
            return parse_run(opened, self._replica.group)
        value = read_repair_value(opened, self._replica.group)
        if isinstance(value, UnverifiedRun):
            return value
        if isinstance(value, ToldFork):
            return parse_run(value.run.wire, self._replica.group)
        self._repairs.append(value)
        return None

    # --- link and verify

    def _take(self, runs: Sequence[UnverifiedRun]) -> None:
        """Take in what continues the chains; park what is early; keep the proof of what contradicts them."""
        replica = self._replica
        known = [(run.device, replica.chains.get(run.device)) for run in runs]
        ends = {device: (end.last_seq, end.last_id) for device, end in known if end is not None}
        linked = link_runs(ends, replica.known_id, runs)
        for run, error in linked.refused:
            self._refuse(run.device, error)
        shown = [run for run in linked.known if self._is_stored(run)]
        if self._delivery.topic == replica.epoch.topic:  # in another it is of no use to who reads this
            self._received.shown += replica.log.note_shown(self._relay, [run.last_id for run in shown])
            accepted = [run for run in linked.accepted if run.last_id in self._places]
            replica.beacons.note_shown(self._relay, [*shown, *accepted])
        for run in linked.early:
            self._park(run)
        for verified in linked.accepted:
            self._admit(verified)
        for fork in linked.forks:
            self._keep_fork(fork)

    def _is_stored(self, run: UnverifiedRun) -> bool:
        """True where the relay showed the very run that is in the log, not a damaged copy with the same entries."""
        log = self._replica.log
        stored = log.run_covering(run.device, run.last_seq)
        if stored is not None and (stored.last_seq == run.last_seq or self._holds(stored, run.last_seq)):
            return stored.wire == run.wire or self._mend(stored, run)
        if run.device == self._replica.keys.id and self._replica.log.pending_count():
            self._adopt(run)
        else:  # of the own chain too, a run that was damaged here is missing
            self._fill_gap(run)
        return False

    def _mend(self, stored: StoredRun, run: UnverifiedRun) -> bool:
        """Where the run in the log was damaged on this disk, and this is the one that it was: put it back."""
        if (stored.last_seq, stored.last_id) != (run.last_seq, run.last_id) or self._is_sound(stored):
            return False
        try:
            verify_run(run)
        except SignatureError:
            return False
        end = self._replica.epochs.frontier().get(run.device)
        if run.first_seq > (end.seq + 1 if end is not None else 0):
            before = self._replica.log.run_end_covering(run.device, run.first_seq - 1)
            if before is None or before[0] == stored.number:
                return False  # a part of it, which its device signed as well
        self._replica.log.mend_run(stored.number, run.wire)
        return True

    def _is_sound(self, stored: StoredRun) -> bool:
        try:
            return verify_run(parse_run(stored.wire, self._replica.group)).last_id == stored.last_id
        except UntrustedInputError:
            return False

    def _holds(self, stored: StoredRun, seq: int) -> bool:
        return parse_run(stored.wire, self._replica.group).first_seq <= seq

    def _fill_gap(self, run: UnverifiedRun) -> None:
        """Take in a run for which a manifest stood that the chosen one does not follow: it is above the frontier now,
        so what that manifest said of it is final no more, and whoever comes anew must get it from the log.
        """
        replica = self._replica
        end = replica.epochs.frontier().get(run.device)
        if end is not None and run.last_seq <= end.seq:
            return
        try:
            verified = verify_run(run)
        except SignatureError:
            return
        before = replica.known_id(run.device, run.first_seq - 1)
        if before is not None and before != run.prev:
            return
        if not replica.members.knows(verified.entries[0].roster_heads):
            self._keep_parked(verified)
            return
        last = verified.entries[-1]
        if (
            last.kind is EntryKind.ROSTER
            and not replica.members.knows((last.id,))
            and not self._add_operation(verified, last)
        ):
            return
        if last.kind is EntryKind.REKEY:
            replica.epochs.table.add_rekey(run.device, last.seq, run.wire)
        number = replica.store_run(verified)
        if self._is_guest:
            self._queue(verified, number)
        self._received.entries += len(verified.entries)
        self._note_changes(verified, list(verified.entries), number)

    def _adopt(self, run: UnverifiedRun) -> None:
        """An own run of entries that are pending here: another copy of this profile sent it, so it is the one to keep.

        The relay that showed it has it; the others are given it.
        """
        replica = self._replica
        pending = replica.log.pending()
        if not pending or not run.first_seq <= pending[0].seq <= run.last_seq:
            return
        try:
            verified = verify_run(run)
        except SignatureError:
            return
        number = replica.store_run(verified)
        for relay in replica.groups.carriers(replica.record.number):
            if relay != self._relay:
                replica.log.enqueue(relay, number, run.last_id)
        self._drop_pending(verified, number)
        self._note_touched(verified)

    def _drop_pending(self, run: Run, number: int) -> None:
        """Own entries that were pending are in this stored run now, and their documents' gates find them there."""
        replica = self._replica
        pending = replica.log.pending()
        if not pending or run.first_seq > pending[0].seq:
            return
        heads = replica.heads_of(run.device)
        for entry in run.entries:
            if pending[0].seq <= entry.seq <= pending[-1].seq:
                advance_heads(heads, entry.changes)
        replica.log.drop_pending(run.last_seq)
        for document, descriptor in run.descriptors.items():
            replica.documents.add_runs({(replica.documents.ensure(document, descriptor).number, number)})
            replica.shelf.discard(document)

    def _admit(self, run: Run) -> None:
        """Take one verified run into the log, unless it names operations that are not known yet."""
        replica = self._replica
        end = replica.chains.get(run.device)
        next_seq = end.last_seq + 1 if end else 0
        if run.first_seq > next_seq or not replica.members.knows(run.entries[0].roster_heads):
            self._keep_parked(run)
            return
        fresh = [entry for entry in run.entries if entry.seq >= next_seq]
        if next_seq == 0 and not self._introduces(run):
            return
        last = fresh[-1]
        if last.kind is EntryKind.ROSTER and not self._add_operation(run, last):
            return
        if last.kind is EntryKind.REKEY:
            replica.epochs.table.add_rekey(run.device, last.seq, run.wire)
        if next_seq == 0:
            self._first_seen.add(run.device)
        number = replica.store_run(run)
        self._queue(run, number)
        replica.chains[run.device] = ChainEnd(last.seq, last.id, max(end.last_time_ms if end else 0, last.time_ms))
        self._note_touched(run)
        if last.kind is EntryKind.BEACON:
            self._beacons.append(last)
        else:
            self._news.add(run.device)
        self._received.entries += len(fresh)
        self._note_changes(run, fresh, number)
        if run.device == replica.keys.id:
            self._drop_pending(run, number)
        self._check_heads(run, fresh)
        if run.device == replica.keys.id:
            replica.stop(ChainAheadError())

    def _queue(self, run: Run, number: int) -> None:
        """What stands in the topic that is written to at a relay, stands there; what came otherwise is to be put."""
        replica = self._replica
        is_current = self._delivery.topic == replica.epoch.topic
        if is_current and not self._is_guest:
            return
        self._moves = True
        for carrier in replica.groups.carriers(replica.record.number):
            if not is_current or carrier != self._relay:
                replica.log.enqueue(carrier, number, run.last_id)

    @property
    def _is_guest(self) -> bool:
        return self._relay in self._replica.guests

    def _introduces(self, run: Run) -> bool:
        """A chain begins with the operation that lets its device in; anything else is nobody's."""
        if self._replica.members.introduces(run.entries[0]):
            return True
        self._refuse(run.device, NotPermittedError(f"the chain of device {run.device} does not begin with a join"))
        return False

    def _add_operation(self, run: Run, entry: Entry) -> bool:
        """Take an operation into the roster. A body that is none is still a link of the chain."""
        members = self._replica.members
        if self._before is None:
            self._before = members.ids(), members.standings()
        try:
            members.add_entry(entry)
        except NotYetError:
            self._keep_parked(run)
            return False
        except UntrustedInputError as error:
            self._refuse(run.device, error)
            return entry.seq != 0
        self._operations.append(entry.id)
        return True

    def _note_touched(self, run: Run) -> None:
        self._touched.setdefault(run.device, set()).update(run.descriptors)

    def _note_changes(self, run: Run, fresh: list[Entry], number: int) -> None:
        for entry in fresh:
            for change in entry.changes:
                queued = self._changes.get(change.document)
                if queued is None:
                    queued = self._changes[change.document] = (run.descriptors[change.document], [])
                queued[1].append(Arrival(change, run.device, entry.seq, number))

    def _check_heads(self, run: Run, fresh: list[Entry]) -> None:
        """Compare the heads that were signed with those computed. A difference takes nothing away; it is told."""
        heads = self._replica.heads_of(run.device)
        for entry in fresh:
            advance_heads(heads, entry.changes)
        if heads.digest() != run.heads_digest and self._is_signed(run):
            self._replica.alarm(
                "heads", run.device.hex(), f"device {run.device} signed heads that are not those of its entries"
            )

    def _is_signed(self, run: Run) -> bool:
        """Links prove entries and not the heads digest: whoever sealed a run again may have put another one in."""
        try:
            verify_run(parse_run(run.wire, self._replica.group))
        except SignatureError:
            return False
        return True

    def _keep_fork(self, fork: Fork) -> None:
        self._moves = True
        replica, device = self._replica, fork.run.device
        known = replica.log.run_covering(device, fork.seq)
        is_own = device == replica.keys.id and known is None  # what was never in a run, nobody else has seen
        if not is_own and replica.log.add_fork(device, known.wire if known else b"", fork.run.wire):
            self._received.refused["equivocation"] += 1
            replica.alarm("fork", device.hex(), f"device {device} signed two histories from entry {fork.seq} on")
            self._forks += 1
        self._add_side_operation(fork.run)
        replica.forks.note(fork.run)
        if device == replica.keys.id:
            replica.stop(ChainAheadError())

    def _add_side_operation(self, run: Run) -> None:
        """Take an operation into the roster, whether or not what its device wrote before it is here.

        A removal must not be held back by withholding an earlier entry; and of a device with two histories others may
        have seen the other one first and build on it: the roster says which counts, alike for all (roster.md §4). Its
        changes stay out.
        """
        replica, last = self._replica, run.entries[-1]
        if last.kind is not EntryKind.ROSTER or replica.members.knows((last.id,)):
            return
        if not replica.members.knows(last.roster_heads):
            self._keep_parked(run)
            return
        self._add_operation(run, last)
        if replica.members.knows((last.id,)):
            replica.log.add_side_run(last.id, run.wire)
            if self._delivery.topic != replica.epoch.topic or self._is_guest:
                replica.epochs.table.tell(replica.groups.carriers(replica.record.number), last.id)

    def _refuse(self, device: DeviceId, error: UntrustedInputError) -> None:
        self._received.refused[error.code] += 1
        self._replica.alarm(
            f"refused-{error.code}", device.hex(), f"something said to be of device {device} was refused: {error}"
        )

    # --- park

    def _park(self, run: UnverifiedRun) -> None:
        """Keep an early run, if its device signed it: nobody else may fill its room, or stand in for it."""
        try:
            verified = verify_run(run)
        except SignatureError as error:
            self._refuse(run.device, error)
            return
        self._add_side_operation(verified)
        self._keep_parked(verified)

    def _keep_parked(self, run: Run) -> None:
        """Keep a run until it fits; beyond the bounds keep only the place where it can be fetched again."""
        log = self._replica.log
        sizes = log.parked_bytes()
        size = len(run.wire)
        if sizes.get(run.device, 0) + size > PARK_DEVICE_BYTES or sum(sizes.values()) + size > PARK_TOTAL_BYTES:
            place = self._places.get(run.last_id)
            if place is not None:
                log.note_missed(self._relay, self._delivery.topic, place)
            return
        log.park(run)

    def _take_parked(self) -> None:
        """Try what is parked again, as long as anything moves."""
        replica = self._replica
        moved = -1
        while moved != (moved := len(self._operations) + self._received.entries + self._forks):
            if moved == 0 and self._delivery.envelopes:
                return
            ready = [p for p in replica.log.parked() if self._is_ready(p)]
            if not ready:
                return
            self._moves = True
            replica.log.unpark([item.number for item in ready])
            self._take([parse_run(item.wire, replica.group) for item in ready])

    def _is_ready(self, parked: ParkedRun) -> bool:
        replica = self._replica
        end = replica.chains.get(parked.device)
        early = parked.first_seq > (end.last_seq + 1 if end else 0)
        if early and (parked.statement is None or replica.members.knows((parked.statement,))):
            return False
        return replica.members.knows(parked.heads)

    # --- roster, merge, view

    def _follow_roster(self) -> None:
        """Where the roster says something else now, build anew what it concerns, and tell."""
        if self._before is None or not self._operations:
            return
        replica = self._replica
        roster = replica.members.roster
        members, before = self._before
        joined = tuple(member for member in roster.members if member not in members)
        replica.tell(RosterChanged(tuple(self._operations), joined))
        for operation in self._operations:
            refusal = roster.refused.get(operation)
            if refusal is not None:
                self._received.refused[refusal.error] += 1
        replica.follow_standings(before, new=self._first_seen)

    def _merge(self) -> None:
        for document, (descriptor, arrivals) in self._changes.items():
            try:
                touched = self._replica.shelf.merge(descriptor, arrivals)
            except DocumentUnavailableError as error:
                self._replica.note_unavailable(document, descriptor, error)
                continue
            if touched:
                self._replica.tell(DocumentChanged(document, descriptor.name, frozenset(touched), own=False))
