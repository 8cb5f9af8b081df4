"""The log store of many nodes: topics, and the ledger of blobs, in PostgreSQL.

One connection writes (postgres_writer), one listens (postgres_news), a few do the rest. Any number of nodes serve one
database at the same time; none of them is special, and none keeps anything that another would need. Implements
specs/relay.md §5 and §6 behind the interface of store.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from secrets import randbelow, token_bytes
from typing import Any, Final, ParamSpec, TypeVar

import asyncpg

from cocoon_core.errors import LocalStateError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_relay import postgres_reads
from cocoon_relay.limits import Limits
from cocoon_relay.postgres_gc import collect_step, remove_topic
from cocoon_relay.postgres_news import PostgresNews
from cocoon_relay.postgres_schema import (
    FAULTS,
    Connection,
    Patience,
    choose_slot,
    connect_pool,
    describe_error,
    handle_of,
    migrate,
    number_of,
    refuse_database,
)
from cocoon_relay.postgres_writer import PostgresWriter
from cocoon_relay.puts import TakesPuts
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import (
    Batch,
    CastListener,
    Collected,
    CommitListener,
    Names,
    StoredBlob,
    TopicInfo,
    TopicStats,
    Totals,
    round_to_hour,
)

POLL_SECONDS: Final = 5.0
_CONNECTIONS: Final = 8  # of the pool; the writer and the listener have their own
_TOPIC_COLUMNS: Final = "number, topic, incarnation, first, last, sealed, touched"


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _patient(
    work: Callable[_Parameters, Coroutine[Any, Any, _Result]],
) -> Callable[_Parameters, Coroutine[Any, Any, _Result]]:
    """For what may be done twice: it is tried again while the database is away for a moment."""

    @wraps(work)
    async def try_again(*words: _Parameters.args, **how: _Parameters.kwargs) -> _Result:
        patience = Patience()
        while True:
            try:
                return await work(*words, **how)
            except Refusal as refusal:
                if refusal.__cause__ is None or not await patience.waits_out(refusal.__cause__):
                    raise

    return try_again


class PostgresStore(TakesPuts):
    """The log store of one database. Make it with `open`, inside the event loop."""

    _writer: PostgresWriter

    def __init__(
        self,
        url: str,
        pool: asyncpg.Pool,
        limits: Limits,
        clock: Callable[[], float],
        shard: int,
        poll_seconds: float,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._clock = clock
        self._shard = shard
        self._slot = choose_slot(randbelow(1 << 16))
        self._writer = PostgresWriter(url, self._slot, shard, clock)
        self._news = PostgresNews(url, pool, shard, poll_seconds=poll_seconds)
        self._writer.listen(self._news.committed)

    @classmethod
    async def open(
        cls,
        url: str,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
        shard: int = 0,
        poll_seconds: float = POLL_SECONDS,
    ) -> PostgresStore:
        """Open a database, making the relay's tables if there are none.

        Args:
            url: without a password, which comes from PGPASSWORD or a file that PGPASSFILE names.
            shard: which of the relay's databases this is, if it has several.
            poll_seconds: how often the ends of open topics are asked for, should a hint be lost.

        Raises:
            LocalStateError: it cannot be reached or used.
            ProfileDamagedError: a newer relay made the tables.
        """
        await migrate(url)
        try:
            pool = await connect_pool(url, "pool", _CONNECTIONS)
        except FAULTS as error:
            raise LocalStateError(f"the database cannot be reached: {describe_error(error)}") from error
        return cls(url, pool, limits, clock, shard, poll_seconds)

    def listen(self, listener: CommitListener) -> None:
        self._writer.listen(listener)
        self._news.listen(listener)

    def listen_casts(self, listener: CastListener) -> None:
        self._news.listen_casts(listener)

    def follow(self, info: TopicInfo) -> None:
        self._news.follow(info)

    def unfollow(self, handle: int) -> None:
        self._news.unfollow(handle)

    def cast(self, handle: int, payload: bytes) -> None:
        self._news.cast(handle, payload)

    @_patient
    async def shared_secret(self) -> bytes:
        async with self._use() as db:
            await db.execute("INSERT INTO secrets VALUES ('challenges', $1) ON CONFLICT DO NOTHING", token_bytes(32))
            return bytes(await db.fetchval("SELECT value FROM secrets WHERE name = 'challenges'"))

    # --- topics

    @_patient
    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        hour = round_to_hour(self._clock())
        async with self._use() as db:
            row = await db.fetchrow(f"SELECT {_TOPIC_COLUMNS} FROM topics WHERE topic = $1", topic)
            if row is not None and row["touched"] < hour:
                row = await db.fetchrow(
                    "UPDATE topics SET touched = greatest(touched, $2) WHERE topic = $1"
                    f" RETURNING {_TOPIC_COLUMNS}", topic, hour,
                )  # fmt: skip
            while row is None and create:
                row = await self._create_topic(db, topic, hour)
        return None if row is None else self._info(row)

    async def _create_topic(self, db: Connection, topic: TopicId, hour: int) -> Any:
        """Make a topic, or find the one that another made just now; None if that was let go as soon."""
        made = await db.fetchrow(
            "WITH made AS (INSERT INTO topics (topic, incarnation, touched) VALUES ($1, $2, $3)"
            f" ON CONFLICT (topic) DO NOTHING RETURNING {_TOPIC_COLUMNS}),"
            " counted AS (UPDATE totals SET topics = topics + 1 WHERE slot = $4 AND EXISTS (SELECT FROM made))"
            " SELECT * FROM made",
            topic, token_bytes(Incarnation.LENGTH), hour, self._slot,
        )  # fmt: skip
        return made or await db.fetchrow(
            f"UPDATE topics SET touched = greatest(touched, $2) WHERE topic = $1 RETURNING {_TOPIC_COLUMNS}",
            topic,
            hour,
        )

    def _info(self, row: Any) -> TopicInfo:
        return TopicInfo(
            handle_of(row["number"], self._shard),
            TopicId(row["topic"]),
            Incarnation(row["incarnation"]),
            row["first"],
            row["last"],
            row["sealed"],
        )

    @_patient
    async def read(self, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
        async with self._use() as db:
            return await postgres_reads.read_batch(db, handle, after, max_entries, max_bytes)

    @_patient
    async def list_names(self, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
        async with self._use() as db:
            return await postgres_reads.list_names(db, info, after, most, salt)

    @_patient
    async def read_places(self, info: TopicInfo, places: Sequence[int], max_bytes: int) -> tuple[bytes | None, ...]:
        async with self._use() as db:
            return await postgres_reads.read_places(db, info, places, max_bytes)

    @_patient
    async def touch_topics(self, handles: Sequence[int]) -> None:
        hour = round_to_hour(self._clock())
        async with self._use() as db:
            # One that is locked is being put into, which touches it, or collected, which is too late to hinder.
            await db.execute(
                "UPDATE topics SET touched = $2 WHERE number IN (SELECT number FROM topics"
                " WHERE number = ANY($1::bigint[]) AND touched < $2 FOR UPDATE SKIP LOCKED)",
                [number_of(handle) for handle in handles], hour,
            )  # fmt: skip

    # --- the ledger of blobs

    @_patient
    async def admit_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> None:
        limits = limits or self._limits
        async with self._use() as db:
            used = await db.fetchval("SELECT blob_bytes FROM topics WHERE number = $1", number_of(info.handle))
            if used is None:
                raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
            if used + size > limits.topic_blob_bytes:
                raise Refusal(ErrorCode.QUOTA, "this topic has put as many blobs as this relay allows")
            if limits.stored_bytes:
                stored = await db.fetchval("SELECT sum(bytes + blob_bytes)::bigint FROM totals")
                if stored + size > limits.stored_bytes:
                    raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)

    async def record_blob(self, info: TopicInfo, blob: BlobHash, size: int, place: str) -> bool:
        async with self._use() as db, db.transaction():
            await self._charge(db, info, size)
            new = await self._count(db, blob, size, place)
            if not new:
                await self._charge(db, info, -size)
            return new

    async def charge(self, info: TopicInfo, size: int) -> None:
        """Add to what a topic has put; refused if it was sealed while the bytes came."""
        async with self._use() as db, db.transaction():
            await self._charge(db, info, size)

    async def count(self, blob: BlobHash, size: int, place: str) -> bool:
        """Let a blob count, or renew its lease if it does already."""
        async with self._use() as db:
            return await self._count(db, blob, size, place)

    async def _charge(self, db: Connection, info: TopicInfo, size: int) -> None:
        sealed = await db.fetchval(
            "UPDATE topics SET blob_bytes = blob_bytes + $2 WHERE number = $1 RETURNING sealed",
            number_of(info.handle), size,
        )  # fmt: skip
        if sealed is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
        if sealed:
            raise Refusal(ErrorCode.SEALED, "the topic is sealed: it reads blobs and puts none")

    async def _count(self, db: Connection, blob: BlobHash, size: int, place: str) -> bool:
        hour = round_to_hour(self._clock())
        while True:
            made = await db.fetchval(
                "WITH made AS (INSERT INTO blobs (hash, size, touched, place) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (hash) DO NOTHING RETURNING 1),"
                " counted AS (UPDATE totals SET blobs = blobs + 1, blob_bytes = blob_bytes + $2"
                " WHERE slot = $5 AND EXISTS (SELECT FROM made))"
                " SELECT count(*) FROM made",
                blob, size, hour, place, self._slot,
            )  # fmt: skip
            if made:
                return True
            if await db.fetchval(
                "UPDATE blobs SET touched = greatest(touched, $2) WHERE hash = $1 RETURNING 1", blob, hour
            ):
                return False  # else `gc` took it in between

    @_patient
    async def find_blobs(self, blobs: Sequence[BlobHash]) -> list[StoredBlob]:
        async with self._use() as db:
            rows = await db.fetch(
                "SELECT blobs.hash, place, size, touched FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (hash, at)"
                " JOIN blobs ON blobs.hash = asked.hash ORDER BY asked.at", list(blobs),
            )  # fmt: skip
        return [StoredBlob(BlobHash(row["hash"]), row["place"], row["size"], row["touched"]) for row in rows]

    @_patient
    async def renew_blobs(self, blobs: Sequence[BlobHash]) -> set[BlobHash]:
        hour = round_to_hour(self._clock())
        async with self._use() as db:
            rows = await db.fetch(
                "WITH held AS (SELECT hash FROM blobs WHERE hash = ANY($1::bytea[]) ORDER BY hash FOR UPDATE)"
                " UPDATE blobs SET touched = greatest(touched, $2) FROM held WHERE blobs.hash = held.hash"
                " RETURNING blobs.hash", list(blobs), hour,
            )  # fmt: skip
        return {BlobHash(row["hash"]) for row in rows}

    @_patient
    async def forget_blob(self, stored: StoredBlob) -> None:
        async with self._use() as db:
            await db.execute(
                "WITH gone AS (DELETE FROM blobs WHERE hash = $1 AND place = $2 RETURNING size)"
                " UPDATE totals SET blobs = blobs - 1, blob_bytes = blob_bytes - gone.size FROM gone WHERE slot = $3",
                stored.blob, stored.place, self._slot,
            )  # fmt: skip

    @_patient
    async def condemned_places(self, most: int) -> list[str]:
        async with self._use() as db:
            return [row["place"] for row in await db.fetch("SELECT place FROM condemned_blobs LIMIT $1", most)]

    @_patient
    async def forget_places(self, places: Sequence[str]) -> None:
        async with self._use() as db:
            await db.execute("DELETE FROM condemned_blobs WHERE place = ANY($1::text[])", list(places))

    @_patient
    async def unknown_places(self, places: Sequence[str]) -> list[str]:
        async with self._use() as db:
            rows = await db.fetch(
                "SELECT asked.place FROM unnest($1::text[]) AS asked (place)"
                " WHERE NOT EXISTS (SELECT FROM blobs WHERE blobs.place = asked.place)", list(places),
            )  # fmt: skip
        return [row["place"] for row in rows]

    # --- the operator

    async def totals(self) -> Totals:
        async with self._use() as db:
            row = await db.fetchrow(
                "SELECT sum(topics), sum(entries), sum(bytes), sum(blobs), sum(blob_bytes) FROM totals"
            )
        return Totals(*map(int, row))

    async def topic_stats(self) -> list[TopicStats]:
        async with self._use() as db:
            rows = await db.fetch(
                "SELECT topic, CASE last WHEN 0 THEN 0 ELSE last - first + 1 END AS entries,"
                " bytes, blob_bytes, sealed, touched FROM topics ORDER BY number"
            )
        return [TopicStats(TopicId(topic), *rest) for topic, *rest in rows]

    async def collect(self) -> Collected:
        total = Collected()
        now = int(self._clock())
        async with self._use() as db:
            while step := await collect_step(db, self._limits, now, self._slot):
                total = Collected(total.topics + step.topics, total.entries + step.entries, total.blobs + step.blobs)
        return total

    async def drop(self, topics: Collection[TopicId] | None) -> Collected:
        removed = entries = 0
        async with self._use() as db:
            rows = await db.fetch(
                "SELECT number FROM topics WHERE CASE WHEN $1::bytea[] IS NULL THEN sealed ELSE topic = ANY($1) END",
                None if topics is None else list(topics),
            )
            for row in rows:
                async with db.transaction():
                    topic = await db.fetchrow(
                        "SELECT number, first, last, bytes FROM topics WHERE number = $1 FOR UPDATE", row["number"]
                    )
                    if topic is not None:
                        await remove_topic(db, topic, self._slot)
                        removed += 1
                        entries += topic["last"] - topic["first"] + 1
        return Collected(topics=removed, entries=entries)

    async def close(self) -> None:
        await self._writer.close()
        await self._news.close()
        try:
            async with asyncio.timeout(5.0):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    # --- how

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[Connection]:
        """A connection of the pool; faults of the database become refusals."""
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except FAULTS as error:
            raise refuse_database(error) from error
