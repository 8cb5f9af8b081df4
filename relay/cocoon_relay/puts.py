"""What a log store with one writer does with puts: it queues them, and decides each against the topic as the puts
before it in the same transaction leave it.

Deciding is pure: what is stored comes in as a TopicLog, what is to be stored is read from it afterwards. The order of
the checks is that of specs/relay.md §5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.limits import Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import Answer, Batch, Committed, TopicInfo, hash_envelope

SEQ_BITS: Final = 32
SEQ_MASK: Final = (1 << SEQ_BITS) - 1


@dataclass(slots=True, eq=False)
class PutJob:
    """A put that waits for its transaction, or several that came together (`apart`): then each envelope is one."""

    info: TopicInfo
    envelopes: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    seal: bool
    expect: int | None
    size: int  # bytes of envelopes
    future: Answer  # of who waits for it
    limits: Limits  # of who puts
    apart: bool = False

    @property
    def number(self) -> int:
        """How many envelopes; one that only seals counts as one."""
        return len(self.envelopes) or 1


class PutWriter(Protocol):
    """What commits puts, one transaction after the other. Both numbers only tell."""

    backlog_bytes: int  # bytes of puts that wait for the disk
    commits: int  # transactions since the start

    def submit(self, job: PutJob) -> None:
        """Queue a put; who waits for it is told once it is durable."""


class TakesPuts:
    """The part of a log store with one writer that is about puts. Implements what `store.LogStore` says of them."""

    _limits: Limits
    _writer: PutWriter

    @property
    def backlog_bytes(self) -> int:
        return self._writer.backlog_bytes

    @property
    def commits(self) -> int:
        return self._writer.commits

    def submit(
        self,
        info: TopicInfo,
        envelopes: tuple[bytes, ...],
        limits: Limits,
        answer: Answer,
        *,
        seal: bool = False,
        expect: int | None = None,
        apart: bool = False,
    ) -> None:
        size = sum(map(len, envelopes))
        if self._writer.backlog_bytes + size > self._limits.backlog_bytes:
            raise Refusal(ErrorCode.BUSY, "the relay is busy", retry_after_ms=1_000)
        hashes = tuple(map(hash_envelope, envelopes))
        self._writer.submit(PutJob(info, envelopes, hashes, seal, expect, size, answer, limits, apart))


@dataclass(slots=True)
class TopicLog:
    """One topic within a transaction: as stored, then as each put leaves it."""

    info: TopicInfo
    first: int
    last: int
    size: int  # bytes of envelopes
    sealed: bool
    known: dict[bytes, int] = field(default_factory=dict)  # of those that are put, the ones that are stored
    added: list[bytes] = field(default_factory=list)
    added_hashes: list[bytes] = field(default_factory=list)
    added_size: int = 0  # bytes of these envelopes
    changed: bool = False

    @property
    def first_added(self) -> int:
        """The number of the first that is added."""
        return self.last - len(self.added) + 1


IsFull = Callable[[Limits], bool]


def list_commits(logs: Iterable[TopicLog]) -> list[Committed]:
    """What to tell of these once the transaction is through."""
    return [
        Committed(log.info.handle, log.info.topic, Batch(log.first_added, tuple(log.added)), log.sealed) for log in logs
    ]


def plan_job(log: TopicLog | None, job: PutJob, is_full: IsFull) -> tuple[int, ...] | list[int | Refusal]:
    """Decide what a job puts and note what it adds; the sequence numbers of its envelopes.

    Of puts that are apart each has its number or its refusal; a tuple has no refusals.

    Raises:
        Refusal: all of it is refused, and leaves nothing.
    """
    if log is None:
        raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
    if not job.apart:
        return _plan_put(log, job.envelopes, job.hashes, job, is_full)
    try:
        return _plan_put(log, job.envelopes, job.hashes, job, is_full)
    except Refusal:
        pass  # not all of them fit: each is decided alone
    outcomes: list[int | Refusal] = []
    for envelope, name in zip(job.envelopes, job.hashes, strict=True):
        try:
            outcomes += _plan_put(log, (envelope,), (name,), job, is_full)
        except Refusal as refusal:
            outcomes.append(refusal)
    return outcomes


def _plan_put(
    log: TopicLog, envelopes: Sequence[bytes], hashes: Sequence[bytes], job: PutJob, is_full: IsFull
) -> tuple[int, ...]:
    known = log.known
    fresh = {name: item for name, item in zip(hashes, envelopes, strict=True) if name not in known}
    if fresh or (job.seal and not log.sealed):
        if log.sealed:
            raise Refusal(ErrorCode.SEALED, "the topic is sealed", last=log.last)
        if job.expect is not None and job.expect != log.last:
            raise Refusal(ErrorCode.EXPECT, "the topic has gone on", last=log.last)
        size = sum(map(len, fresh.values()))
        _require_room(log, len(fresh), size, job, is_full)
        known.update(zip(fresh, range(log.last + 1, log.last + 1 + len(fresh)), strict=True))
        log.last += len(fresh)
        log.size += size
        log.added += fresh.values()
        log.added_hashes += fresh
        log.added_size += size
        log.sealed = job.seal
        log.changed = True
    return tuple([known[name] for name in hashes])


def _require_room(log: TopicLog, number: int, size: int, job: PutJob, is_full: IsFull) -> None:
    """The put that seals may go beyond the topic's quota: it is the last, and a full topic must be left by it."""
    limits = job.limits
    over = log.last + number > limits.topic_entries or log.size + size > limits.topic_bytes
    if (over and not job.seal) or log.last + number > SEQ_MASK:
        raise Refusal(ErrorCode.QUOTA, "the topic is as large as this relay allows")
    if number and is_full(limits):
        raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
