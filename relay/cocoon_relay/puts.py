"""How a put is decided, for every log store: against the topic as the puts before it in the same transaction leave it.

Pure: what is stored comes in as a TopicLog, what is to be stored is read from it afterwards. The order of the checks is
that of specs/relay.md §5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.limits import Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import Answer, TopicInfo

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
