"""How much one topic, connection or address may take: the numbers, and the buckets that hold them to it.

Buckets are pure: the time, in seconds of any steady clock, arrives as an argument. Implements specs/relay.md §8.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from math import ceil, inf
from typing import Final, TypeVar

from cocoon_core.protocol.constants import (
    MAX_BLOB_BYTES,
    MAX_CAST_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_FETCH_PLACES,
    MAX_FRAME_BYTES,
    MAX_HAVE_HASHES,
    MAX_NAMES,
    MAX_PUT_ENVELOPES,
)
from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.lanes import Lane
from cocoon_relay.refusal import Refusal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
DAY: Final = 24 * 60 * 60  # seconds
_REMEMBERED_ADDRESSES: Final = 10_000  # those without a connection
_Number = TypeVar("_Number", int, float)


class Unit(StrEnum):
    """What a limit counts."""

    COUNT = "count"
    SIZE = "bytes"
    TIME = "seconds"
    RATE = "a second"
    SIZE_RATE = "bytes a second"


class Scope(StrEnum):
    """What a limit holds."""

    TOPIC = "one topic"
    MESSAGE = "one message"
    CONNECTION = "one connection"
    ADDRESS = "one address (of IPv6 the first 64 bits)"
    RELAY = "the whole relay"
    LEASE = "leases, since a topic or blob was last touched"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """What is said of one limit: what it may be set to, and whether a class of users may have its own."""

    scope: Scope
    unit: Unit
    text: str
    least: float
    most: float
    by_class: bool


def _limit(  # a field of Limits, with what is said of it
    default: _Number, scope: Scope, unit: Unit, text: str, *, least: float = 1, most: float = inf, shared: bool = False
) -> _Number:
    by_class = not shared and scope is not Scope.LEASE
    return field(default=default, metadata={"spec": LimitSpec(scope, unit, text, least, most, by_class)})


_SLOW: Final = 1e-6  # the least of a rate


@dataclass(frozen=True, slots=True)
class Limits:
    """Every number that an operator may turn, with its unit. The defaults serve a few thousand members."""

    topic_entries: int = _limit(100_000, Scope.TOPIC, Unit.COUNT, "envelopes")
    topic_bytes: int = _limit(512 * MIB, Scope.TOPIC, Unit.SIZE, "of envelopes", least=64 * KIB)
    topic_blob_bytes: int = _limit(20 * GIB, Scope.TOPIC, Unit.SIZE, "of blobs put with its proof, over its life")

    topic_deliveries: float = _limit(
        200_000.0, Scope.TOPIC, Unit.RATE, "envelopes and casts times who has it open, sustained", least=_SLOW,
        shared=True,
    )  # fmt: skip
    topic_deliveries_burst: int = _limit(
        4_000_000, Scope.TOPIC, Unit.COUNT, "envelopes and casts times who has it open, at once", shared=True
    )
    topic_waiting_bytes: int = _limit(
        8 * MIB, Scope.TOPIC, Unit.SIZE, "of its puts that wait for the disk at once; its next wait unread",
        least=MAX_FRAME_BYTES, shared=True,
    )  # fmt: skip
    topic_waiting_reads: int = _limit(
        4, Scope.TOPIC, Unit.COUNT, "reads of the store for it at once; its next wait", shared=True
    )

    envelope_bytes: int = _limit(
        MAX_ENVELOPE_BYTES, Scope.MESSAGE, Unit.SIZE, "of one envelope", least=1024, most=MAX_ENVELOPE_BYTES
    )
    blob_bytes: int = _limit(MAX_BLOB_BYTES, Scope.MESSAGE, Unit.SIZE, "of one blob", least=1024, most=MAX_BLOB_BYTES)

    connection_topics: int = _limit(64, Scope.CONNECTION, Unit.COUNT, "topics open at once")
    connection_puts: float = _limit(2_000.0, Scope.CONNECTION, Unit.RATE, "envelopes, sustained", least=_SLOW)
    connection_puts_burst: int = _limit(20_000, Scope.CONNECTION, Unit.COUNT, "envelopes at once", least=64)
    connection_put_bytes: float = _limit(
        16.0 * MIB, Scope.CONNECTION, Unit.SIZE_RATE, "of envelopes, sustained", least=_SLOW
    )
    connection_put_bytes_burst: int = _limit(
        128 * MIB, Scope.CONNECTION, Unit.SIZE, "of envelopes at once", least=MAX_FRAME_BYTES
    )
    connection_casts: float = _limit(20.0, Scope.CONNECTION, Unit.RATE, "casts, sustained", least=_SLOW)
    connection_casts_burst: int = _limit(100, Scope.CONNECTION, Unit.COUNT, "casts at once")
    connection_frames: float = _limit(
        5_000.0, Scope.CONNECTION, Unit.RATE, "messages of any kind, sustained; beyond, it is read slower", least=_SLOW
    )
    connection_frames_burst: int = _limit(50_000, Scope.CONNECTION, Unit.COUNT, "messages of any kind at once")
    connection_unanswered_bytes: int = _limit(
        4 * MIB, Scope.CONNECTION, Unit.SIZE, "of puts taken in and not yet acknowledged", shared=True
    )
    connection_unanswered_puts: int = _limit(
        256, Scope.CONNECTION, Unit.COUNT, "puts taken in and not yet acknowledged", shared=True
    )
    connection_buffer_bytes: int = _limit(
        256 * KIB, Scope.CONNECTION, Unit.SIZE, "written and not yet taken by the reader", least=4096, shared=True
    )
    heartbeat_seconds: float = _limit(
        30.0, Scope.CONNECTION, Unit.TIME, "of silence, or half as many more, to a ping; the end half as many after it",
        shared=True,
    )  # fmt: skip
    request_seconds: float = _limit(
        20.0, Scope.CONNECTION, Unit.TIME, "for the head of a request, and for the next on a kept connection",
        shared=True,
    )  # fmt: skip
    reader_seconds: float = _limit(
        120.0, Scope.CONNECTION, Unit.TIME, "that a reader may take for what was written to it, before it is cut off",
        shared=True,
    )  # fmt: skip
    upload_seconds: float = _limit(
        30.0, Scope.CONNECTION, Unit.TIME, "without a byte before an upload is dropped", shared=True
    )
    transfer_bytes: float = _limit(
        4.0 * KIB, Scope.CONNECTION, Unit.SIZE_RATE, "of a blob at least, or its transfer is dropped", shared=True
    )

    address_connections: int = _limit(128, Scope.ADDRESS, Unit.COUNT, "connections at once", shared=True)
    address_requests: float = _limit(
        200.0, Scope.ADDRESS, Unit.RATE, "HTTP requests, new connections among them, sustained", least=_SLOW,
        shared=True,
    )  # fmt: skip
    address_requests_burst: int = _limit(5_000, Scope.ADDRESS, Unit.COUNT, "HTTP requests at once", shared=True)
    address_waiting_bytes: int = _limit(
        16 * MIB, Scope.ADDRESS, Unit.SIZE, "of its puts that wait for the disk at once; its next wait unread",
        least=MAX_FRAME_BYTES, shared=True,
    )  # fmt: skip
    address_uploads: int = _limit(
        32, Scope.ADDRESS, Unit.COUNT, "uploads of blobs, and requests of sync, at once", shared=True
    )
    address_proofs: float = _limit(20.0, Scope.ADDRESS, Unit.RATE, "proofs, sustained", least=_SLOW)
    address_proofs_burst: int = _limit(400, Scope.ADDRESS, Unit.COUNT, "proofs at once")
    address_reads: float = _limit(
        20.0, Scope.ADDRESS, Unit.RATE, "requests for names or single places, sustained", least=_SLOW
    )
    address_reads_burst: int = _limit(400, Scope.ADDRESS, Unit.COUNT, "requests for names or single places at once")
    address_topics: float = _limit(1_000.0 / DAY, Scope.ADDRESS, Unit.RATE, "new topics, sustained", least=_SLOW)
    address_topics_burst: int = _limit(1_000, Scope.ADDRESS, Unit.COUNT, "new topics at once")
    address_blob_bytes: float = _limit(
        50.0 * GIB / DAY, Scope.ADDRESS, Unit.SIZE_RATE, "of blobs, sustained", least=_SLOW
    )
    address_blob_bytes_burst: int = _limit(20 * GIB, Scope.ADDRESS, Unit.SIZE, "of blobs at once", least=MAX_BLOB_BYTES)
    address_read_bytes: float = _limit(
        64.0 * MIB, Scope.ADDRESS, Unit.SIZE_RATE, "of blobs read, sustained", least=_SLOW
    )
    address_read_bytes_burst: int = _limit(
        20 * GIB, Scope.ADDRESS, Unit.SIZE, "of blobs read at once", least=MAX_BLOB_BYTES
    )

    connections: int = _limit(4_000, Scope.RELAY, Unit.COUNT, "connections at once", shared=True)
    backlog_bytes: int = _limit(
        64 * MIB, Scope.RELAY, Unit.SIZE, "of puts that wait for the disk", least=MAX_FRAME_BYTES, shared=True
    )
    stored_bytes: int = _limit(
        0, Scope.RELAY, Unit.SIZE, "of envelopes and blobs; 0 for as much as the disk holds", least=0
    )
    free_bytes: int = _limit(256 * MIB, Scope.RELAY, Unit.SIZE, "of the disk that are left free", least=0)
    gc_seconds: float = _limit(3600.0, Scope.RELAY, Unit.TIME, "between two rounds of `gc` while serving", shared=True)
    drain_seconds: float = _limit(
        0.0, Scope.RELAY, Unit.TIME, "after SIGTERM that it serves on with /healthz failing, for a balancer to see",
        least=0, shared=True,
    )  # fmt: skip
    stop_seconds: float = _limit(
        5.0, Scope.RELAY, Unit.TIME, "that clients have to take their last answers before they are cut off", least=0.1,
        shared=True,
    )  # fmt: skip

    topic_lease: int = _limit(
        90 * DAY, Scope.LEASE, Unit.TIME, "a topic; of a sealed one the last envelope stays longer", least=DAY
    )
    empty_topic_lease: int = _limit(DAY, Scope.LEASE, Unit.TIME, "a topic that nothing was ever put into", least=3600)
    sealed_topic_lease: int = _limit(
        730 * DAY, Scope.LEASE, Unit.TIME,
        "the last envelope of a sealed topic, which leads on; never less than topic_lease", least=DAY,
    )  # fmt: skip
    blob_lease: int = _limit(180 * DAY, Scope.LEASE, Unit.TIME, "a blob", least=DAY)

    @property
    def last_envelope_lease(self) -> int:
        """Seconds that a sealed topic's last envelope is kept: never less than an open topic."""
        return max(self.sealed_topic_lease, self.topic_lease)

    def announced(self) -> dict[str, int]:
        """What a challenge tells the client: the sizes that it must keep to."""
        return {
            "blob_bytes": self.blob_bytes,
            "cast_bytes": MAX_CAST_BYTES,
            "envelope_bytes": self.envelope_bytes,
            "fetch_places": MAX_FETCH_PLACES,
            "frame_bytes": MAX_FRAME_BYTES,
            "have_hashes": MAX_HAVE_HASHES,
            "names": MAX_NAMES,
            "put_envelopes": MAX_PUT_ENVELOPES,
            "topics": self.connection_topics,
            "topic_bytes": self.topic_bytes,
            "topic_entries": self.topic_entries,
        }


GUEST: Final = "guest"  # the class of those without a token, where not everybody needs one
GUEST_CHANGES: Final[dict[str, int | float]] = {
    "topic_entries": 5_000,
    "topic_bytes": 16 * MIB,
    "topic_blob_bytes": 256 * MIB,
    "connection_topics": 16,
    "connection_puts": 50.0,
    "connection_puts_burst": 2_000,
    "connection_put_bytes": 1.0 * MIB,
    "connection_put_bytes_burst": 16 * MIB,
    "address_proofs": 5.0,
    "address_proofs_burst": 100,
    "address_topics": 50.0 / DAY,
    "address_topics_burst": 50,
    "address_blob_bytes": 1.0 * GIB / DAY,
    "address_blob_bytes_burst": 512 * MIB,
    "address_read_bytes": 4.0 * MIB,
    "address_read_bytes_burst": 1 * GIB,
    "free_bytes": 4 * GIB,
}
"""What the class of guests has of its own, if the operator does not say otherwise."""


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once. It starts full."""

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._when = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` and return 0.0; or take nothing and return the seconds after which it would succeed.

        More than the whole burst is taken when the bucket is full: it then owes the rest.
        """
        tokens, burst = self._tokens, self._burst
        if not amount and tokens >= 0:
            return 0.0
        if now > self._when:
            tokens += (now - self._when) * self._rate
            tokens = min(tokens, burst)
        self._when = now
        wanted = amount if amount < burst else burst
        if tokens >= wanted:
            self._tokens = tokens - amount
            return 0.0
        self._tokens = tokens
        return (wanted - tokens) / self._rate

    def charge(self, amount: float, now: float) -> None:
        """Take `amount` whether or not it is there: it is owed, and `take(0, …)` waits until it is paid."""
        self.take(0, now)
        self._tokens -= amount

    def require(self, amount: float, now: float, code: ErrorCode, what: str) -> None:
        """Take, or raise the refusal that says when to come again."""
        wait = self.take(amount, now)
        if wait > 0:
            raise Refusal(code, f"too many {what}", retry_after_ms=max(1, ceil(wait * 1000)))


class Rates:
    """How fast one connection may put, cast and speak."""

    __slots__ = ("casts", "frames", "put_bytes", "puts")

    def __init__(self, limits: Limits, now: float) -> None:
        self.puts = TokenBucket(limits.connection_puts, limits.connection_puts_burst, now)
        self.put_bytes = TokenBucket(limits.connection_put_bytes, limits.connection_put_bytes_burst, now)
        self.casts = TokenBucket(limits.connection_casts, limits.connection_casts_burst, now)
        self.frames = TokenBucket(limits.connection_frames, limits.connection_frames_burst, now)


@dataclass(slots=True)
class Address:
    """What one address has taken. Kept in memory alone, never logged.

    Attributes:
        rates: of its single requests, which together are one connection; None before the first.
    """

    requests: TokenBucket
    proofs: TokenBucket
    reads: TokenBucket
    topics: TokenBucket
    blob_bytes: TokenBucket
    read_bytes: TokenBucket
    waiting: Lane
    uploads: int = 0
    connections: int = 0
    rates: Rates | None = None


@dataclass(slots=True)
class AddressBook:
    """All addresses that are connected, and the latest of those that were."""

    limits: Limits
    _known: OrderedDict[str, Address] = field(default_factory=OrderedDict)

    def find(self, address: str, now: float) -> Address:
        """The account of an address; a new one starts with full buckets."""
        key = _account_key(address)
        known = self._known.get(key)
        if known is None:
            limits = self.limits
            known = Address(
                TokenBucket(limits.address_requests, limits.address_requests_burst, now),
                TokenBucket(limits.address_proofs, limits.address_proofs_burst, now),
                TokenBucket(limits.address_reads, limits.address_reads_burst, now),
                TokenBucket(limits.address_topics, limits.address_topics_burst, now),
                TokenBucket(limits.address_blob_bytes, limits.address_blob_bytes_burst, now),
                TokenBucket(limits.address_read_bytes, limits.address_read_bytes_burst, now),
                Lane(limits.address_waiting_bytes),
            )
            self._known[key] = known
            self._forget()
        else:
            self._known.move_to_end(key)
        return known

    def _forget(self) -> None:
        """Drop the account used longest ago, if no connection of it is open."""
        if len(self._known) > _REMEMBERED_ADDRESSES:
            key, oldest = next(iter(self._known.items()))
            if not oldest.connections and not oldest.uploads:
                del self._known[key]
            else:
                self._known.move_to_end(key)

    def __len__(self) -> int:
        return len(self._known)


def _account_key(address: str) -> str:
    """One key for what one customer usually holds: an IPv4 address, or an IPv6 /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return parsed.packed[:8].hex()
    return str(parsed)
