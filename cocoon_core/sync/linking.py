"""Which of the runs that arrived continue a device's chain, and which of their signatures need a check. Pure.

One signature a device and batch suffices: the last run's, because every earlier entry is linked from it by `prev`. A
run that carries a roster operation is always checked by itself, since it stays individually signed for ever. What is
placed before its signature was checked keeps nobody out: as soon as another run contradicts it, it must prove itself,
and gives way if it cannot. So whoever can seal, but not sign, delays nothing and accuses nobody.
Implements specs/envelope.md §6.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cocoon_core.errors import SignatureError, UntrustedInputError
from cocoon_core.protocol.ids import DeviceId, EntryId
from cocoon_core.protocol.run import Run, UnverifiedRun, accept_linked, verify_run


class KnownId(Protocol):
    """The entry id that is known at a device's seq, if it is at or before the end.

    To read a stored run for it is dear: `may_read` is asked before, and where it says no, the answer is None.
    """

    def __call__(
        self, device: DeviceId, seq: int, may_read: Callable[[], bool] = lambda: True, /
    ) -> EntryId | None: ...


@dataclass(frozen=True, slots=True)
class Fork:
    """A verified run that contradicts what is known of its device's chain: `seq` is the place that is filled twice."""

    run: Run
    seq: int


@dataclass(slots=True)
class Linked:
    """What became of a batch. `accepted` is in the order of arrival, each with a verified author."""

    accepted: list[Run] = field(default_factory=list)
    known: list[UnverifiedRun] = field(default_factory=list)
    early: list[UnverifiedRun] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)
    refused: list[tuple[UnverifiedRun, UntrustedInputError]] = field(default_factory=list)


def link_runs(
    ends: Mapping[DeviceId, tuple[int, EntryId]], known_id: KnownId, batch: Sequence[UnverifiedRun]
) -> Linked:
    """Sort a batch of runs by what they are to the chains.

    Args:
        ends: (last seq, last entry id) of every device's chain.
        batch: in the order of arrival.
    """
    linked = Linked()
    per_device: dict[DeviceId, _DeviceBatch] = {}
    for run in batch:
        device = per_device.get(run.device)
        if device is None:
            device = per_device[run.device] = _DeviceBatch(run.device, ends.get(run.device), known_id, linked)
        device.place(run)
    accepted: dict[int, Run] = {}
    for device in per_device.values():
        accepted.update(device.finish())
    linked.accepted = [accepted[id(run)] for run in batch if id(run) in accepted]
    return linked


class _DeviceBatch:
    """The part of a batch that one device is said to have signed.

    `_next` continues the chain, link by link; nothing in it is proved until its last run is. `_copies` are runs whose
    entries stand in the chain or in `_next` already.
    """

    def __init__(self, device: DeviceId, end: tuple[int, EntryId] | None, known_id: KnownId, linked: Linked) -> None:
        self._device, self._known_id, self._linked = device, known_id, linked
        self._end: tuple[int, EntryId | None] = end if end is not None else (-1, None)
        self._next: list[UnverifiedRun] = []
        self._last_seqs: list[int] = []
        self._copies: dict[int, list[UnverifiedRun]] = {}  # by last seq
        self._verified: dict[int, Run | None] = {}  # by id of the run; None where the signature does not hold

    def place(self, run: UnverifiedRun) -> None:
        """Find the run's place; where it contradicts what only claims to be the device's, that must prove itself."""
        if self._fits(run) or (self._drop_unsound_end() and self._fits(run)):
            return
        self._fork(run)

    def finish(self) -> dict[int, Run]:
        """Verify what was placed: the last run's signature, the links to it, and every operation's own signature.

        Returns:
            The verified runs, by `id` of the one that was placed.
        """
        self._drop_unsound_end()
        for copies in self._copies.values():
            self._linked.known += copies
        accepted: dict[int, Run] = {}
        later: Run | None = None
        for run in reversed(self._next):
            later = self._proved(run) if later is None else accept_linked(run, later)
            own = self._choose_copy(run, later)
            if own is not None:
                accepted[id(run)] = own
            else:  # an operation without its own signature: what follows waits for a sound copy
                self._linked.early.extend(after for after in self._next if id(after) in accepted)
                accepted.clear()
        return accepted

    # --- inside

    @property
    def _last(self) -> tuple[int, EntryId | None]:
        return (self._next[-1].last_seq, self._next[-1].last_id) if self._next else self._end

    def _fits(self, run: UnverifiedRun) -> bool:
        """Put the run where it belongs. False where it contradicts the chain."""
        last_seq, last_id = self._last
        if run.first_seq > last_seq + 1:
            self._linked.early.append(run)
        elif run.last_seq <= last_seq:
            there = self._id_at(run.last_seq, lambda: self._is_sound(run))
            if there is None and self._is_sound(run):
                self._linked.known.append(run)  # a manifest stands for what was there: nothing contradicts it
                return True
            if there != run.last_id:
                return False
            self._copies.setdefault(run.last_seq, []).append(run)
        else:
            before = run.prev if run.first_seq == last_seq + 1 else run.id_at(last_seq)
            if before != last_id:
                return False
            self._next.append(run)
            self._last_seqs.append(run.last_seq)
        return True

    def _id_at(self, seq: int, may_read: Callable[[], bool] = lambda: True) -> EntryId | None:
        place = bisect_left(self._last_seqs, seq)
        if place < len(self._next) and self._next[place].first_seq <= seq:
            return self._next[place].id_at(seq)
        return self._known_id(self._device, seq, may_read)

    def _drop_unsound_end(self) -> bool:
        """Take back, from the end, what the device did not sign. True where that changed anything."""
        changed = False
        while self._next and not self._is_sound(self._next[-1]):
            dropped = self._next.pop()
            self._last_seqs.pop()
            changed = True
            last_seq, _ = self._last
            for seq in range(last_seq + 1, dropped.last_seq + 1):
                for copy in self._copies.pop(seq, ()):
                    if self._is_sound(copy) and not self._fits(copy):
                        self._fork(copy)
        return changed

    def _is_sound(self, run: UnverifiedRun) -> bool:
        """True where its own signature holds. It is checked once, and recorded where it does not."""
        if id(run) not in self._verified:
            try:
                self._verified[id(run)] = verify_run(run)
            except SignatureError as error:
                self._verified[id(run)] = None
                self._linked.refused.append((run, error))
        return self._verified[id(run)] is not None

    def _proved(self, run: UnverifiedRun) -> Run:
        verified = self._verified[id(run)]
        assert verified is not None, "what stands at the end is sound"
        return verified

    def _choose_copy(self, run: UnverifiedRun, linked: Run) -> Run | None:
        """Of the copies of a linked run, which differ in heads digest and signature alone, the one to keep.

        Links prove the entries, not these two. An operation needs its own signature; elsewhere it is looked at only
        where copies differ.
        """
        same_end = self._copies.get(run.last_seq, ())
        copies = [copy for copy in same_end if copy.last_id == run.last_id and copy.first_seq == run.first_seq]
        differ = any(copy.wire != run.wire for copy in copies)
        if not differ and not run.has_statement:
            return linked
        for copy in (run, *copies):
            if self._is_sound(copy):
                return self._proved(copy)
        return None if run.has_statement else linked

    def _fork(self, run: UnverifiedRun) -> None:
        """A contradiction counts only with the device's own signature."""
        if not self._is_sound(run):
            return
        verified = self._proved(run)
        last_seq, _ = self._last
        known = [entry for entry in verified.entries if entry.seq <= last_seq]
        # Each entry names the one before it: from the first that differs on, all do.
        place = bisect_left(known, True, key=lambda entry: self._id_at(entry.seq) not in (None, entry.id))
        # Where none does, it names another entry before it than the one that is there.
        self._linked.forks.append(Fork(verified, known[place].seq if place < len(known) else verified.first_seq - 1))
