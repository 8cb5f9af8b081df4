"""Several PostgreSQL databases as one log store: topics and blobs are spread over them by hash.

The home of a topic is told by its id and the number of databases, that of a blob by its hash. What is not at home is
looked for in the others before it is made, so a database can be added: what is there stays where it is, what is new is
spread over all. All nodes are given the same databases in the same order. A topic lies in one database whole, so order,
seal and expect stay a matter of one transaction; a blob may be counted in another database than its topic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_relay.limits import Limits
from cocoon_relay.postgres_schema import MOST_SHARDS, shard_of
from cocoon_relay.postgres_store import POLL_SECONDS, PostgresStore
from cocoon_relay.store import (
    Answer,
    Batch,
    CastListener,
    Collected,
    CommitListener,
    LogStore,
    Names,
    StoredBlob,
    TopicInfo,
    TopicStats,
    Totals,
    hash_envelope,
)

_Part = TypeVar("_Part")


async def open_databases(
    urls: Sequence[str],
    limits: Limits,
    *,
    clock: Callable[[], float] = time.time,
    poll_seconds: float = POLL_SECONDS,
) -> LogStore:
    """Open one database, or several as one.

    Raises:
        LocalStateError, ProfileDamagedError: as PostgresStore.open.
        UsageError: there are too many, or one is named twice.
    """
    if len(urls) > MOST_SHARDS or len(set(urls)) < len(urls):
        raise UsageError(f"--database names each of at most {MOST_SHARDS} databases once")
    shards: list[PostgresStore] = []
    try:
        for index, url in enumerate(urls):
            shards.append(await PostgresStore.open(url, limits, clock=clock, shard=index, poll_seconds=poll_seconds))
    except BaseException:
        await asyncio.gather(*(shard.close() for shard in shards))
        raise
    return shards[0] if len(shards) == 1 else ShardedStore(shards)


class ShardedStore:
    """The log store of several databases."""

    def __init__(self, shards: Sequence[PostgresStore]) -> None:
        self._shards = shards

    @property
    def backlog_bytes(self) -> int:
        return sum(shard.backlog_bytes for shard in self._shards)

    @property
    def commits(self) -> int:
        return sum(shard.commits for shard in self._shards)

    def _of(self, handle: int) -> PostgresStore:
        return self._shards[shard_of(handle)]

    def _homeward(self, name: bytes) -> list[PostgresStore]:
        """All databases, home first."""
        # Hashed, since whoever makes a topic chooses its id.
        home = int.from_bytes(hash_envelope(name)[:8]) % len(self._shards)
        return [*self._shards[home:], *self._shards[:home]]

    # --- nodes

    def listen(self, listener: CommitListener) -> None:
        for shard in self._shards:
            shard.listen(listener)

    def listen_casts(self, listener: CastListener) -> None:
        for shard in self._shards:
            shard.listen_casts(listener)

    def follow(self, info: TopicInfo) -> None:
        self._of(info.handle).follow(info)

    def unfollow(self, handle: int) -> None:
        self._of(handle).unfollow(handle)

    def cast(self, handle: int, payload: bytes) -> None:
        self._of(handle).cast(handle, payload)

    async def shared_secret(self) -> bytes:
        return await self._shards[0].shared_secret()

    # --- topics

    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        home, *others = self._homeward(topic)
        info = await home.open_topic(topic, create=False)
        if info is not None:
            return info
        for found in await asyncio.gather(*(other.open_topic(topic, create=False) for other in others)):
            if found is not None:
                return found
        return await home.open_topic(topic, create=True) if create else None

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
        store = self._of(info.handle)
        store.submit(info, envelopes, limits, answer, seal=seal, expect=expect, apart=apart)

    async def read(self, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
        return await self._of(handle).read(handle, after, max_entries, max_bytes)

    async def list_names(self, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
        return await self._of(info.handle).list_names(info, after, most, salt)

    async def read_places(self, info: TopicInfo, places: Sequence[int], max_bytes: int) -> tuple[bytes | None, ...]:
        return await self._of(info.handle).read_places(info, places, max_bytes)

    async def touch_topics(self, handles: Sequence[int]) -> None:
        for shard in self._shards:
            await shard.touch_topics([handle for handle in handles if self._of(handle) is shard])

    # --- the ledger of blobs

    async def admit_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> None:
        await self._of(info.handle).admit_blob(info, size, limits)

    async def record_blob(self, info: TopicInfo, blob: BlobHash, size: int, place: str) -> bool:
        """First the topic, which may refuse, then the blob; if it dies between, the topic has paid for nothing."""
        topic, home = self._of(info.handle), self._homeward(blob)[0]
        if topic is home:
            return await home.record_blob(info, blob, size, place)
        await topic.charge(info, size)
        new = await home.count(blob, size, place)
        if not new:
            await topic.charge(info, -size)
        return new

    async def find_blobs(self, blobs: Sequence[BlobHash]) -> list[StoredBlob]:
        found: dict[BlobHash, StoredBlob] = {}
        for turn in range(len(self._shards)):  # at home first, then where it may have stayed
            asked: dict[int, list[BlobHash]] = {}
            for blob in blobs:
                if blob not in found:
                    shard = self._homeward(blob)[turn]
                    asked.setdefault(self._shards.index(shard), []).append(blob)
            parts = await _gather(self._shards[index].find_blobs(part) for index, part in asked.items())
            found |= {stored.blob: stored for part in parts for stored in part}
        return [found[blob] for blob in blobs if blob in found]

    async def renew_blobs(self, blobs: Sequence[BlobHash]) -> set[BlobHash]:
        parts = await _gather(shard.renew_blobs(blobs) for shard in self._shards)
        return {blob for part in parts for blob in part}

    async def forget_blob(self, stored: StoredBlob) -> None:
        await _gather(shard.forget_blob(stored) for shard in self._shards)

    async def condemned_places(self, most: int) -> list[str]:
        parts = await _gather(shard.condemned_places(most) for shard in self._shards)
        return [place for part in parts for place in part]

    async def forget_places(self, places: Sequence[str]) -> None:
        await _gather(shard.forget_places(places) for shard in self._shards)

    async def unknown_places(self, places: Sequence[str]) -> list[str]:
        for shard in self._shards:
            places = await shard.unknown_places(places)
        return list(places)

    # --- the operator

    async def totals(self) -> Totals:
        parts = await _gather(shard.totals() for shard in self._shards)
        return Totals(
            sum(part.topics for part in parts),
            sum(part.entries for part in parts),
            sum(part.bytes for part in parts),
            sum(part.blobs for part in parts),
            sum(part.blob_bytes for part in parts),
        )

    async def topic_stats(self) -> list[TopicStats]:
        return [topic for part in await _gather(shard.topic_stats() for shard in self._shards) for topic in part]

    async def collect(self) -> Collected:
        return _add(await _gather(shard.collect() for shard in self._shards))

    async def drop(self, topics: Collection[TopicId] | None) -> Collected:
        return _add(await _gather(shard.drop(topics) for shard in self._shards))

    async def close(self) -> None:
        await _gather(shard.close() for shard in self._shards)


async def _gather(parts: Iterable[Awaitable[_Part]]) -> list[_Part]:
    return list(await asyncio.gather(*parts))


def _add(parts: Sequence[Collected]) -> Collected:
    return Collected(
        sum(part.topics for part in parts),
        sum(part.entries for part in parts),
        sum(part.blobs for part in parts),
        sum(part.files for part in parts),
    )
