"""What a log store with one writer does with puts: it queues them, and decides each against the topic as the puts
before it in the same transaction leave it.

Deciding is pure: what is stored comes in as a TopicLog, what is to be stored is read from it afterwards. The order of
the checks is that of specs/relay.md §5.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.limits import Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import Answer, TopicInfo, hash_envelope

SEQ_BITS: Final = 32
SEQ_MASK: Final = (1 << SEQ_BITS) - 1


@dataclass(slots=True, eq=False)
class PutJob:
    """One put that waits for its transaction."""

    info: TopicInfo
    envelopes: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    seal: bool
    expect: int | None
    size: int  # bytes of envelopes
    future: Answer  # of who waits for it
    limits: Limits  # of who puts


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

    def put(
        self,
        info: TopicInfo,
        envelopes: tuple[bytes, ...],
        seal: bool,
        expect: int | None,
        limits: Limits | None = None,
    ) -> Awaitable[tuple[int, ...]]:
        future: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        self.submit(info, envelopes, seal, expect, limits or self._limits, future)
        return future

    def submit(
        self,
        info: TopicInfo,
        envelopes: tuple[bytes, ...],
        seal: bool,
        expect: int | None,
        limits: Limits,
        answer: Answer,
    ) -> None:
        size = sum(map(len, envelopes))
        if self._writer.backlog_bytes + size > self._limits.backlog_bytes:
            raise Refusal(ErrorCode.BUSY, "the relay is busy", retry_after_ms=1_000)
        hashes = tuple(map(hash_envelope, envelopes))
        self._writer.submit(PutJob(info, envelopes, hashes, seal, expect, size, answer, limits))


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
    changed: bool = False


def plan_put(log: TopicLog | None, job: PutJob, is_full: Callable[[Limits], bool]) -> tuple[int, ...]:
    """Decide one put and note what it adds; the sequence numbers of its envelopes.

    Raises:
        Refusal: it is refused, and leaves nothing.
    """
    if log is None:
        raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
    fresh = {name: item for name, item in zip(job.hashes, job.envelopes, strict=True) if name not in log.known}
    if fresh or (job.seal and not log.sealed):
        if log.sealed:
            raise Refusal(ErrorCode.SEALED, "the topic is sealed", last=log.last)
        if job.expect is not None and job.expect != log.last:
            raise Refusal(ErrorCode.EXPECT, "the topic has gone on", last=log.last)
        _require_room(log, fresh, job, is_full)
        for name, item in fresh.items():
            log.last += 1
            log.size += len(item)
            log.known[name] = log.last
            log.added.append(item)
            log.added_hashes.append(name)
        log.sealed = job.seal
        log.changed = True
    return tuple(log.known[name] for name in job.hashes)


def _require_room(log: TopicLog, fresh: dict[bytes, bytes], job: PutJob, is_full: Callable[[Limits], bool]) -> None:
    """The put that seals may go beyond the topic's quota: it is the last, and a full topic must be left by it."""
    limits = job.limits
    size = sum(map(len, fresh.values()))
    over = log.last + len(fresh) > limits.topic_entries or log.size + size > limits.topic_bytes
    if (over and not job.seal) or log.last + len(fresh) > SEQ_MASK:
        raise Refusal(ErrorCode.QUOTA, "the topic is as large as this relay allows")
    if fresh and is_full(limits):
        raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
