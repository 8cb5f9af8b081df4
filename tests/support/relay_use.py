"""One use of a relay's store that touches everything durable, and the check of what must be left of it.

Every act that is refused is done again, as a client does; `Ledger` holds what was tried and what was acknowledged.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_relay.limits import DAY, KIB, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.sqlite_schema import DATABASE_NAME
from cocoon_relay.sqlite_store import SqliteStore
from cocoon_relay.store import TopicInfo
from tests.support.stores import put_into

LIMITS: Final = replace(Limits(), free_bytes=0)
START: Final = 1_700_000_000.0
_TRIES: Final = 3
_CHECKPOINT_PAGES: Final = 12  # so that the log is moved into the database again and again
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class PutTried:
    topic: TopicId
    envelopes: tuple[bytes, ...]
    seal: bool = False


@dataclass(frozen=True, slots=True)
class PutAcked:
    put: PutTried
    incarnation: Incarnation
    seqs: tuple[int, ...]


@dataclass(slots=True)
class Ledger:
    """What a client knows."""

    tried: list[PutTried] = field(default_factory=list)
    acked: list[PutAcked | bytes] = field(default_factory=list)  # puts, and the bytes of blobs
    refused: int = 0
    acknowledged: Callable[[int], None] = lambda count: None  # is told how many were

    def note(self, item: PutAcked | bytes) -> None:
        self.acked.append(item)
        self.acknowledged(len(self.acked))


class StoreUser:
    """A client of the store. `seed` gives the bytes that it puts."""

    def __init__(self, data: Path, ledger: Ledger, seed: int) -> None:
        self.data = data
        self.ledger = ledger
        self.now = START
        self.tries = _TRIES
        self.checkpoint_pages = _CHECKPOINT_PAGES
        self._chance = random.Random(seed)
        self.topics = [TopicId(self._chance.randbytes(32)) for _ in range(3)]

    async def use(self) -> None:
        """Put, seal, put blobs, collect, close; open again and go on."""
        async with self.opened() as store:
            one, two, old = [await self.open_topic(store, topic) for topic in self.topics]
            await self.put(store, old, 2)
            await self.put(store, one, 1)
            await asyncio.gather(*(self.put(store, info, count) for info, count in ((one, 3), (two, 2), (one, 1))))
            await self.put(store, two, 1, size=20 * KIB)
            await self._put_blob(store, one, 5 * KIB)
            for _ in range(4):
                await self.put(store, one, 2)
            await self._put_blob(store, two, 100)
            self.now += 91 * DAY
            one, two = [await self.open_topic(store, topic) for topic in self.topics[:2]]
            self._forget(old)
            await self._again(store.gc)
            await self.put(store, two, 2, seal=True)
            await self.put(store, one, 1)
        async with self.opened() as store:
            one = await self.open_topic(store, self.topics[0])
            await self.put(store, one, 2)
            await self._put_blob(store, one, 9 * KIB)
            await asyncio.gather(*(self.put(store, one, 1) for _ in range(3)))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RelayStore]:
        """The store, open; the error of the disk, if it cannot be opened again and again."""
        store = await self._again(lambda: open_files(self.data, LIMITS, clock=lambda: self.now))
        log = store.log
        assert isinstance(log, SqliteStore)
        try:
            await self._again(lambda: log._write(self._checkpoint_often))
            yield store
        finally:
            await store.close()

    async def open_topic(self, store: RelayStore, topic: TopicId) -> TopicInfo:
        info = await self._again(lambda: store.log.open_topic(topic, create=True))
        assert info is not None
        return info

    async def put(self, store: RelayStore, info: TopicInfo, count: int, *, size: int = 300, seal: bool = False) -> None:
        tried = PutTried(info.topic, tuple(self._chance.randbytes(size) for _ in range(count)), seal)
        self.ledger.tried.append(tried)

        async def append() -> tuple[int, ...]:
            return await put_into(store.log, info, tried.envelopes, seal, None)

        seqs = await self._again(append)
        self.ledger.note(PutAcked(tried, info.incarnation, seqs))
        # Who reads now gets it, whatever failed before.
        batch = await self._again(lambda: store.log.read(info.handle, seqs[0] - 1, count, 2**20))
        assert batch.envelopes == tried.envelopes

    async def _put_blob(self, store: RelayStore, info: TopicInfo, size: int) -> None:
        data = self._chance.randbytes(size)
        name = BlobHash(hashlib.sha256(data).digest())

        async def put() -> None:
            upload = await store.begin_blob(info, size)
            try:
                await asyncio.to_thread(upload.write, data)
                await store.commit_blob(info, name, upload)
            finally:
                await asyncio.to_thread(upload.discard)

        await self._again(put)
        self.ledger.note(data)

    def _checkpoint_often(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA wal_autocheckpoint = {self.checkpoint_pages}").fetchall()

    def _forget(self, info: TopicInfo) -> None:
        """`gc` may take this topic."""
        for acked in list(self.ledger.acked):
            if isinstance(acked, PutAcked) and acked.put.topic == info.topic:
                self.ledger.acked[self.ledger.acked.index(acked)] = b""

    async def _again(self, act: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do it until it is not refused. Nothing but a refusal may come back; at opening, the error of the disk."""
        for left in reversed(range(self.tries)):
            try:
                return await act()
            except (Refusal, OSError, sqlite3.Error):
                self.ledger.refused += 1
                if not left:
                    raise
        raise AssertionError


async def check_store(data: Path, ledger: Ledger, acknowledged: int, now: float) -> None:
    """Open a data directory: all that was acknowledged is there, nothing is half there, and it takes more."""
    store = await open_files(data, LIMITS, clock=lambda: now)
    try:
        logs: dict[TopicId, dict[bytes, int]] = {}
        for topic in {put.topic for put in ledger.tried}:
            info = await store.log.open_topic(topic, create=False)
            if info is None:
                logs[topic] = {}
                continue
            batch = await store.log.read(info.handle, 0, 10_000, 2**30)
            if info.last:
                assert (batch.first, batch.last) == (info.first, info.last), "a log has a gap"
            logs[topic] = {envelope: batch.first + place for place, envelope in enumerate(batch.envelopes)}
        for item in ledger.acked[:acknowledged]:
            if isinstance(item, PutAcked):
                found = tuple(logs[item.put.topic].get(envelope) for envelope in item.put.envelopes)
                assert found == item.seqs, f"an acknowledged put of {len(item.seqs)} is lost"
            elif item:
                assert await _read_blob(store, hashlib.sha256(item).digest()) == item, "an acknowledged blob is lost"
        for put in ledger.tried:
            stored = sum(envelope in logs[put.topic] for envelope in put.envelopes)
            assert stored in (0, len(put.envelopes)), "half a put is there"
        with closing(sqlite3.connect(data / DATABASE_NAME)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = db.execute("SELECT hash FROM blobs").fetchall()
        for (name,) in rows:
            assert hashlib.sha256(await _read_blob(store, name)).digest() == name, "a blob counts and is not whole"
        fresh = await store.log.open_topic(TopicId(bytes(32)), create=True)
        assert fresh is not None
        assert len(await put_into(store.log, fresh, (b"more",), False, None)) == 1
    finally:
        await store.close()


async def _read_blob(store: RelayStore, name: bytes) -> bytes:
    found = await store.find_blob(BlobHash(name))
    if found is None:
        return b""
    assert isinstance(found[1], Path)
    return found[1].read_bytes()
