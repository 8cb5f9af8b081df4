"""The two interfaces behind which a relay keeps what it keeps: a log store, and a blob store.

The log store holds topics, envelopes, leases, and the ledger that says which blobs count. It knows topics by a
`handle`, its own number for one incarnation, so that a cursor never crosses from one life of a topic into the next. The
blob store holds bytes, each blob under a *place* that is used once and never again: so the bytes that `gc` removes are
never those that a later upload has brought, whatever runs at once. Bytes without a row in the ledger are nobody's.

relay_store joins one of each. All refusals are `Refusal`; whoever is not refused is durable. Implements specs/relay.md
§5 and §6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from cocoon_core.protocol.constants import LABEL_ENVELOPE_HASH
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_core.protocol.primitives import make_hasher
from cocoon_relay.calls import report_fault
from cocoon_relay.limits import MIB, Limits
from cocoon_relay.uploads import Upload

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
    """What one round of `gc` removed. `files` are bytes of blobs that a crash left without a row."""

    topics: int = 0
    entries: int = 0
    blobs: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A row of the ledger: where the bytes of a blob are, and how many. `touched` is in seconds since 1970."""

    blob: BlobHash
    place: str
    size: int
    touched: int


hash_envelope: Final = make_hasher(LABEL_ENVELOPE_HASH)  # the name by which a store knows an envelope that it has

CommitListener = Callable[[Sequence[Committed]], None]
CastListener = Callable[[int, bytes], None]  # the topic's handle, and the payload


class Answer(Protocol):
    """Who waits for a put, or for several: a future, or what is cheaper than one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """It is durable; the sequence numbers of its envelopes."""

    def set_exception(self, exception: Exception, /) -> None:
        """It was refused, or the store failed."""


class LogStore(Protocol):
    """Where a relay keeps topics, and which blobs count."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes of puts that wait to be durable."""

    @property
    def commits(self) -> int:
        """Transactions since the start."""

    def listen(self, listener: CommitListener) -> None:
        """Call `listener` in the event loop after every commit that added envelopes, in the order of the commits."""

    # other nodes that serve the same store, where there can be some

    def follow(self, info: TopicInfo) -> None:
        """Someone here has a topic open and was told that it stands as `info`: tell the listeners of what other nodes
        commit from there on.
        """

    def unfollow(self, handle: int) -> None:
        """Nobody here has it open any more."""

    def cast(self, handle: int, payload: bytes) -> None:
        """Pass a cast on to the other nodes, as far as that goes at once; it may be lost."""

    def listen_casts(self, listener: CastListener) -> None:
        """Call `listener` in the event loop for casts of other nodes to topics that are followed here."""

    async def shared_secret(self) -> bytes:
        """32 bytes that all nodes of this store have, and nobody else."""

    # topics

    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        """Find a topic and renew its lease; make it, if there is none and `create` is set."""

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
        """Append all or none; what is stored already keeps its number. `answer` is told the sequence numbers once they
        are durable, in the event loop, after the listeners are.

        Args:
            limits: of who puts: how much the topic may hold for them, and what of the disk is left free.
            apart: each envelope is a put of its own, one after the other, that neither seals nor expects: `answer` is
                told a list that has for each its sequence number, or its Refusal.
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

    # the ledger of blobs

    async def admit_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> None:
        """Refuse an upload for which the topic or the relay has no room under the limits of who puts."""

    async def record_blob(self, info: TopicInfo, blob: BlobHash, size: int, place: str) -> bool:
        """Let a blob count whose bytes are at `place`. False: it counted already, and `place` is not used."""

    async def find_blobs(self, blobs: Sequence[BlobHash]) -> list[StoredBlob]:
        """Those of `blobs` that count, in the order given."""

    async def renew_blobs(self, blobs: Sequence[BlobHash]) -> set[BlobHash]:
        """Renew leases; those of `blobs` that had one to renew."""

    async def forget_blob(self, stored: StoredBlob) -> None:
        """Strike a blob from the ledger, if it is still at that place: its bytes are gone."""

    async def condemned_places(self, most: int) -> list[str]:
        """Places whose bytes are to be removed: their blobs have expired."""

    async def forget_places(self, places: Sequence[str]) -> None:
        """The bytes at these condemned places are removed."""

    async def unknown_places(self, places: Sequence[str]) -> list[str]:
        """Those of `places` that no row of the ledger names."""

    # the operator

    async def totals(self) -> Totals:
        """What is kept in all."""

    async def topic_stats(self) -> list[TopicStats]:
        """Every topic, for the operator."""

    async def collect(self) -> Collected:
        """Remove the topics that outlived their lease, and condemn the places of such blobs."""

    async def drop(self, topics: Collection[TopicId] | None) -> Collected:
        """Let go of these topics now, or of all that are sealed; what is left of them goes with the next `collect`."""

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""


class BlobReader(Protocol):
    """A blob whose bytes are not in a file of this machine."""

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces: memory does not depend on their number.

        Raises:
            Refusal: they are gone, or cannot be had now.
        """


class BlobStore(Protocol):
    """Where a relay keeps the bytes of blobs."""

    def begin_upload(self, size: int) -> Upload:
        """Somewhere to gather a blob of so many bytes on its way in, until its hash was checked."""

    async def keep(self, blob: BlobHash, upload: Upload) -> str:
        """Check an upload that came whole, and take it over; its place, once durable.

        Raises:
            Refusal: the bytes are not the blob's, or are not taken.
        """

    async def open(self, stored: StoredBlob) -> Path | BlobReader | None:
        """A blob to be sent: a file, which the system sends best, or a reader. None: the bytes are gone."""

    async def list_gone(self, stored: Sequence[StoredBlob]) -> set[str]:
        """Places of these whose bytes are gone, as far as that is cheap to see."""

    async def remove(self, places: Sequence[str]) -> None:
        """Remove bytes; those that are not there are no fault."""

    def list_old(self, before: float) -> AsyncIterator[list[str]]:
        """All places that were written before a time, in seconds since 1970, in portions."""

    async def sweep_uploads(self, before: float) -> None:
        """Remove uploads that nobody finished and that were last written before a time."""

    async def free_bytes(self) -> int | None:
        """Bytes that there is room for; None: nobody can tell."""

    async def close(self) -> None:
        """Let go of what is held."""


def tell(
    listeners: Sequence[CommitListener],
    commits: Sequence[Committed],
    outcomes: Iterable[tuple[Answer | asyncio.Future[Any], Any]] = (),
) -> None:
    """Call all listeners, if there is something to tell, and then whoever waits: with a result, or the exception to
    raise. In the event loop. A fault of one of them is the loop's to report, and neither the store's end nor another's.
    """
    for listener in listeners if commits else ():
        try:
            listener(commits)
        except Exception as error:
            report_fault("a listener of the store", error)
    for answer, outcome in outcomes:
        try:
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        except Exception as error:
            report_fault("a listener of the store", error)


def round_to_hour(seconds: float) -> int:
    """Leases are kept to the hour: finer times would only tell more about the members."""
    return int(seconds) // 3600 * 3600
