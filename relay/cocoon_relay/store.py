"""The one interface behind which a relay keeps what it keeps; SQLite and files implement it first.

A store knows topics by a `handle`, its own number for one incarnation, so that a cursor never crosses from one life of
a topic into the next. All refusals are `Refusal`; whoever is not refused is durable. Implements specs/relay.md §5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cocoon_core.protocol.constants import LABEL_ENVELOPE_HASH
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_relay.limits import MIB, Limits

MOST_NAMED_BYTES: Final = 8 * MIB  # bytes of envelopes that are hashed for one answer, if one alone is not more


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it stands: `first` is the earliest sequence number kept, `last` the latest given (0: none)."""

    handle: int
    topic: TopicId
    incarnation: Incarnation
    first: int
    last: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes with consecutive sequence numbers from `first`; empty when the reader is level."""

    first: int
    envelopes: tuple[bytes, ...]

    @property
    def last(self) -> int:
        return self.first + len(self.envelopes) - 1


@dataclass(frozen=True, slots=True)
class Names:
    """Names of envelopes with consecutive sequence numbers from `first`; empty where nothing follows."""

    first: int
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit added to one topic."""

    handle: int
    topic: TopicId
    batch: Batch
    sealed: bool


@dataclass(frozen=True, slots=True)
class TopicStats:
    """What the operator may count of one topic. `touched` is in seconds since 1970."""

    topic: TopicId
    entries: int
    bytes: int
    blob_bytes: int
    sealed: bool
    touched: int


@dataclass(frozen=True, slots=True)
class Totals:
    topics: int
    entries: int
    bytes: int
    blobs: int
    blob_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What one round of `gc` removed."""

    topics: int = 0
    entries: int = 0
    blobs: int = 0
    files: int = 0


CommitListener = Callable[[Sequence[Committed]], None]


class Store(Protocol):
    """Where a relay keeps topics and blobs."""

    def listen(self, listener: CommitListener) -> None:
        """Call `listener` in the event loop after every commit that added envelopes, in the order of the commits."""

    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        """Find a topic and renew its lease; make it, if there is none and `create` is set."""

    def put(
        self,
        info: TopicInfo,
        envelopes: tuple[bytes, ...],
        seal: bool,
        expect: int | None,
        limits: Limits | None = None,
    ) -> Awaitable[tuple[int, ...]]:
        """Append all or none; the sequence numbers once durable. What is stored already keeps its number.

        `limits` are those of who puts: how much the topic may hold for them, and what of the disk is left free.
        """

    async def read(self, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
        """The next envelopes after `after`: at least one if there is one, then as many as the limits allow."""

    async def list_names(self, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
        """Names under a salt of what follows `after`, computed from the bytes: at least one if there is one, then as
        many as `most` and MOST_NAMED_BYTES allow.
        """

    async def read_places(self, info: TopicInfo, places: Sequence[int], max_bytes: int) -> tuple[bytes | None, ...]:
        """The envelopes at the first of these places, one at least, as many as fit; None where nothing is kept."""

    async def touch_topics(self, handles: Sequence[int]) -> None:
        """Renew the leases of topics that are open."""

    async def begin_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> Path:
        """Where to write an upload of `size` bytes; refused if there is no room for it under the limits of who puts."""

    async def commit_blob(self, info: TopicInfo, blob: BlobHash, size: int, upload: Path) -> bool:
        """Take over a whole upload whose hash was checked; whether it is new."""

    async def find_blob(self, blob: BlobHash) -> Path | None:
        """The file of a blob."""

    async def have_blobs(self, blobs: Sequence[BlobHash], *, renew: bool) -> list[BlobHash]:
        """Those of `blobs` that are kept, in the order given; with `renew`, their leases are renewed."""

    async def totals(self) -> Totals:
        """What is kept in all."""

    async def topic_stats(self) -> list[TopicStats]:
        """Every topic, for the operator."""

    async def gc(self) -> Collected:
        """Remove what outlived its lease."""

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""


def hash_envelope(envelope: bytes) -> bytes:
    """The name by which a store knows that it has an envelope already."""
    return hash_bytes(LABEL_ENVELOPE_HASH, envelope)
