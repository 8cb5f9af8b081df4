"""How much one topic, connection or address may take: the numbers, and the buckets that hold them to it.

Buckets are pure: the time, in seconds of any steady clock, arrives as an argument. Implements specs/relay.md §8.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final

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
from cocoon_relay.refusal import Refusal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
DAY: Final = 24 * 60 * 60  # seconds
_REMEMBERED_ADDRESSES: Final = 10_000  # those without a connection


@dataclass(frozen=True, slots=True)
class Limits:
    """Every number that an operator may turn, with its unit. The defaults serve a few thousand members."""

    # one topic
    topic_entries: int = 100_000  # envelopes
    topic_bytes: int = 512 * MIB  # bytes of envelopes
    topic_blob_bytes: int = 20 * GIB  # bytes of blobs put with this topic's proof, over its life
    # one message
    envelope_bytes: int = MAX_ENVELOPE_BYTES  # bytes of one envelope
    blob_bytes: int = MAX_BLOB_BYTES  # bytes of one blob
    # one connection
    connection_topics: int = 64  # topics open at once
    connection_puts: float = 2_000.0  # envelopes a second, sustained
    connection_puts_burst: int = 20_000  # envelopes at once
    connection_put_bytes: float = 16.0 * MIB  # bytes a second, sustained
    connection_put_bytes_burst: int = 128 * MIB  # bytes at once
    connection_casts: float = 20.0  # casts a second, sustained
    connection_casts_burst: int = 100  # casts at once
    connection_unanswered_bytes: int = 4 * MIB  # bytes of puts taken in and not yet acknowledged
    connection_unanswered_puts: int = 256  # puts taken in and not yet acknowledged
    connection_buffer_bytes: int = 256 * KIB  # bytes written and not yet taken by the reader
    heartbeat_seconds: float = 30.0  # seconds of silence before a ping; half of it again, and the connection ends
    request_seconds: float = 20.0  # seconds for the head of a request, and for the next on a kept connection
    upload_seconds: float = 30.0  # seconds without a byte before an upload is dropped
    # one address (of IPv6 the first 64 bits)
    address_connections: int = 128  # connections at once
    address_proofs: float = 20.0  # proofs a second, sustained
    address_proofs_burst: int = 400  # proofs at once
    address_reads: float = 20.0  # requests for names or for single places a second, sustained
    address_reads_burst: int = 400  # of them at once
    address_topics: float = 1_000.0 / DAY  # new topics a second, sustained
    address_topics_burst: int = 1_000  # new topics at once
    address_blob_bytes: float = 50.0 * GIB / DAY  # bytes of blobs a second, sustained
    address_blob_bytes_burst: int = 20 * GIB  # bytes of blobs at once
    # the whole relay
    connections: int = 4_000  # connections at once
    backlog_bytes: int = 64 * MIB  # bytes of puts that wait for the disk
    stored_bytes: int = 0  # bytes of envelopes and blobs; 0: as much as the disk holds
    free_bytes: int = 256 * MIB  # bytes of the disk that are left alone
    # leases, since a topic or blob was last touched
    topic_lease: int = 90 * DAY  # seconds; of a sealed topic the last envelope stays longer
    empty_topic_lease: int = DAY  # seconds; a topic that nothing was ever put into
    sealed_topic_lease: int = 730 * DAY  # seconds; the last envelope of a sealed topic
    blob_lease: int = 180 * DAY  # seconds
    gc_seconds: float = 3600.0  # seconds between two rounds of `gc` while serving

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
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._when) * self._rate)
        self._when = now
        wanted = min(amount, self._burst)
        if self._tokens >= wanted:
            self._tokens -= amount
            return 0.0
        return (wanted - self._tokens) / self._rate

    def require(self, amount: float, now: float, code: ErrorCode, what: str) -> None:
        """Take, or raise the refusal that says when to come again."""
        wait = self.take(amount, now)
        if wait > 0:
            raise Refusal(code, f"too many {what}", retry_after_ms=max(1, ceil(wait * 1000)))


@dataclass(slots=True)
class Address:
    """What one address has taken. Kept in memory alone, never logged."""

    proofs: TokenBucket
    reads: TokenBucket
    topics: TokenBucket
    blob_bytes: TokenBucket
    connections: int = 0


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
                TokenBucket(limits.address_proofs, limits.address_proofs_burst, now),
                TokenBucket(limits.address_reads, limits.address_reads_burst, now),
                TokenBucket(limits.address_topics, limits.address_topics_burst, now),
                TokenBucket(limits.address_blob_bytes, limits.address_blob_bytes_burst, now),
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
            if oldest.connections == 0:
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
