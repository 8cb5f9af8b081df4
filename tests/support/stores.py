"""What tests of stores share: a clock to turn, topics, blobs, and every pair of stores that a relay may have."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_relay.limits import Limits
from cocoon_relay.relay_store import RelayStore, open_store
from cocoon_relay.sharded_store import ShardedStore
from cocoon_relay.store import LogStore, TopicInfo

START = time.time()
LIMITS = replace(Limits(), free_bytes=0)


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Backing:
    """Where the stores of one test are: opened again, they hold what they held."""

    data: Path
    databases: tuple[str, ...]
    bucket: str | None
    clock: Clock

    async def open(self, limits: Limits = LIMITS) -> RelayStore:
        return await open_store(self.data, self.databases, self.bucket, limits, clock=self.clock)


async def make_topic(store: RelayStore) -> TopicInfo:
    info = await store.log.open_topic(TopicId(os.urandom(32)), create=True)
    assert info is not None
    return info


def put_into(
    log: LogStore,
    info: TopicInfo,
    envelopes: tuple[bytes, ...],
    seal: bool,
    expect: int | None,
    limits: Limits | None = None,
) -> asyncio.Future[tuple[int, ...]]:
    """Put, and wait for the sequence numbers. Without limits of who puts, the store's own hold."""
    answer: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
    own: Limits = getattr(log._shards[0] if isinstance(log, ShardedStore) else log, "_limits", LIMITS)
    log.submit(info, envelopes, limits or own, answer, seal=seal, expect=expect)
    return answer


async def put_blob(store: RelayStore, info: TopicInfo, data: bytes) -> BlobHash:
    blob = BlobHash(hashlib.sha256(data).digest())
    upload = await store.begin_blob(info, len(data))
    upload.write(data)
    await store.commit_blob(info, blob, upload)
    upload.discard()
    return blob


async def read_blob(store: RelayStore, blob: BlobHash) -> bytes | None:
    found = await store.find_blob(blob)
    if found is None:
        return None
    stored, source = found
    if isinstance(source, Path):
        return source.read_bytes()
    return b"".join([piece async for piece in await source.read(0, stored.size)])


async def places_of(store: RelayStore) -> list[str]:
    """Every place at which there are bytes."""
    portions: AsyncIterator[list[str]] = store.blobs.list_old(math.inf)
    return [place async for portion in portions for place in portion]


def envelopes(count: int) -> tuple[bytes, ...]:
    return tuple(os.urandom(300) for _ in range(count))
