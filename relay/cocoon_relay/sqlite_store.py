"""The default store: topics in one SQLite file, blobs as files beside it.

One thread writes (sqlite_writer), a few read, each with a connection of its own; WAL lets them go on beside each
other. Implements specs/relay.md §5 and §6 behind the interface of store.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_bytes
from threading import Lock, local
from typing import Any, Final, TypeVar

from cocoon_core.protocol.frames import ErrorCode, name_envelope
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_relay.blobs import BlobFiles, refuse_disk
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.sqlite_gc import collect_step, condemn_topics
from cocoon_relay.sqlite_schema import DATABASE_NAME, SEQ_MASK, connect_reader, connect_writer, migrate, place_of
from cocoon_relay.sqlite_writer import CallJob, PutJob, SqliteWriter, round_to_hour
from cocoon_relay.store import (
    MOST_NAMED_BYTES,
    Batch,
    Collected,
    CommitListener,
    Names,
    TopicInfo,
    TopicStats,
    Totals,
    hash_envelope,
)

_READERS: Final = 2  # threads
_TOPIC_COLUMNS: Final = "number, topic, incarnation, first, last, sealed, touched"
_Result = TypeVar("_Result")


class SqliteStore:
    """Topics and blobs under one data directory. Make it with `open`, inside the event loop."""

    def __init__(self, data: Path, limits: Limits, clock: Callable[[], float]) -> None:
        self._path = data / DATABASE_NAME
        self._limits = limits
        self._clock = clock
        self._files = BlobFiles(data)
        self._writer = SqliteWriter(self._path, self._files, limits, clock)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="relay-reader")
        self._local = local()
        self._opened: list[sqlite3.Connection] = []
        self._opened_lock = Lock()

    @classmethod
    async def open(
        cls, data: Path, limits: Limits, *, clock: Callable[[], float] = time.time, exclusive: bool = True
    ) -> SqliteStore:
        """Open a data directory, making it and its tables if there are none.

        `exclusive` says that no other process serves it, so what a former one left half-uploaded can go.

        Raises:
            OSError, sqlite3.Error: it cannot be written.
            ProfileDamagedError: a newer relay made it.
        """
        await asyncio.to_thread(_prepare, data, exclusive)
        return cls(data, limits, clock)

    @property
    def backlog_bytes(self) -> int:
        """Bytes of puts that wait for the disk."""
        return self._writer.backlog_bytes

    @property
    def commits(self) -> int:
        """Transactions since the start."""
        return self._writer.commits

    def listen(self, listener: CommitListener) -> None:
        self._writer.listen(listener)

    # --- topics

    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        row = await self._read(lambda db: _find_topic(db, topic))
        hour = round_to_hour(self._clock())
        if row is not None and row[-1] >= hour:
            return _info(row)
        if row is None and not create:
            return None
        return await self._write(lambda db: _open_topic(db, topic, hour, create))

    def put(
        self,
        info: TopicInfo,
        envelopes: tuple[bytes, ...],
        seal: bool,
        expect: int | None,
        limits: Limits | None = None,
    ) -> Awaitable[tuple[int, ...]]:
        size = sum(map(len, envelopes))
        if self._writer.backlog_bytes + size > self._limits.backlog_bytes:
            raise Refusal(ErrorCode.BUSY, "the relay is busy", retry_after_ms=1_000)
        future: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        hashes = tuple(map(hash_envelope, envelopes))
        self._writer.submit(PutJob(info, envelopes, hashes, seal, expect, size, future, limits or self._limits))
        return future

    async def read(self, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
        return await self._read(lambda db: _read_batch(db, handle, after, max_entries, max_bytes))

    async def list_names(self, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
        return await self._read(lambda db: _list_names(db, info, after, most, salt))

    async def read_places(self, info: TopicInfo, places: Sequence[int], max_bytes: int) -> tuple[bytes | None, ...]:
        return await self._read(lambda db: _read_places(db, info, places, max_bytes))

    async def touch_topics(self, handles: Sequence[int]) -> None:
        hour = round_to_hour(self._clock())
        rows = [(hour, handle, hour) for handle in handles]
        await self._write_rows("UPDATE topics SET touched = ? WHERE number = ? AND touched < ?", rows)

    # --- blobs

    async def begin_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> Path:
        limits = limits or self._limits
        free, row, totals = await self._read(lambda db: (self._files.free_bytes(), _blob_bytes(db, info), _totals(db)))
        if row is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
        if row + size > limits.topic_blob_bytes:
            raise Refusal(ErrorCode.QUOTA, "this topic has put as many blobs as this relay allows")
        limit = limits.stored_bytes
        if free - size < limits.free_bytes or (limit and totals.bytes + totals.blob_bytes + size > limit):
            raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
        return self._files.new_upload()

    async def commit_blob(self, info: TopicInfo, blob: BlobHash, size: int, upload: Path) -> bool:
        hour = round_to_hour(self._clock())

        def commit(db: sqlite3.Connection) -> bool:
            _require_writable(db, info)  # the topic may have been sealed while the bytes came
            # The rename stands inside the write transaction, so `gc`, in whatever process, cannot remove the file
            # between the rename and the row.
            self._files.install(upload, blob)
            return _add_blob(db, info, blob, size, hour)

        return await self._write(commit)

    async def find_blob(self, blob: BlobHash) -> Path | None:
        def find(db: sqlite3.Connection) -> Path | None:
            row = db.execute("SELECT 1 FROM blobs WHERE hash = ?", (blob,)).fetchone()
            return self._files.path_of(blob) if row is not None and self._files.exists(blob) else None

        return await self._read(find)

    async def have_blobs(self, blobs: Sequence[BlobHash], *, renew: bool) -> list[BlobHash]:
        hour = round_to_hour(self._clock())

        def find(db: sqlite3.Connection) -> tuple[list[BlobHash], list[BlobHash]]:
            kept, stale = [], []
            for blob in blobs:
                row = db.execute("SELECT touched FROM blobs WHERE hash = ?", (blob,)).fetchone()
                if row is not None and self._files.exists(blob):
                    kept.append(blob)
                    if row[0] < hour:
                        stale.append(blob)
            return kept, stale

        def touch(db: sqlite3.Connection) -> set[BlobHash]:
            """Renew, and say which of them `gc` has taken since they were found."""
            statement = "UPDATE blobs SET touched = max(touched, ?) WHERE hash = ?"
            return {blob for blob in stale if not db.execute(statement, (hour, blob)).rowcount}

        kept, stale = await self._read(find)
        if renew and stale:
            gone = await self._write(touch)
            kept = [blob for blob in kept if blob not in gone]
        return kept

    # --- the operator

    async def totals(self) -> Totals:
        return await self._read(_totals)

    async def topic_stats(self) -> list[TopicStats]:
        return await self._read(_topic_stats)

    async def gc(self) -> Collected:
        """Remove what outlived its lease, in many short transactions."""
        total = Collected()
        now = int(self._clock())
        while True:
            step = await self._write(lambda db: collect_step(db, self._files, self._limits, now))
            if step is None:
                break
            total = Collected(total.topics + step.topics, total.entries + step.entries, total.blobs + step.blobs)
        return Collected(total.topics, total.entries, total.blobs, await self._sweep_files())

    async def drop(self, topics: Collection[TopicId] | None) -> Collected:
        """Let go of these topics now, or of all that are sealed; what is left of them goes with the next `gc`."""
        return await self._write(lambda db: condemn_topics(db, topics))

    async def _sweep_files(self) -> int:
        """Remove files of blobs that a crash left without a row."""
        swept = 0
        await asyncio.to_thread(self._files.sweep_incoming, self._clock() - DAY)
        for blob, path in await asyncio.to_thread(lambda: list(self._files.walk(self._clock() - DAY))):
            if await self._read(partial(_has_row, blob)):
                continue
            if await self._write(partial(_sweep_file, blob, path)):
                swept += 1
        return swept

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._opened:
            connection.close()

    # --- how

    async def _write_rows(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.executemany(statement, rows)

        await self._write(write)

    async def _write(self, run: Callable[[sqlite3.Connection], _Result]) -> _Result:
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._writer.submit(CallJob(run, future))
        return await future

    async def _read(self, run: Callable[[sqlite3.Connection], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run_reader, run)

    def _run_reader(self, run: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect_reader(self._path)
                with self._opened_lock:
                    self._opened.append(connection)
            return run(connection)
        except sqlite3.OperationalError as error:
            raise Refusal(ErrorCode.BUSY, "the relay's store cannot be read", retry_after_ms=5_000) from error
        except OSError as error:
            raise refuse_disk(error) from error


def read_stats(data: Path) -> tuple[Totals, list[TopicStats]]:
    """What a data directory holds, read beside a relay that may be serving it."""
    with closing(connect_reader(data / DATABASE_NAME)) as db:
        return _totals(db), _topic_stats(db)


def _prepare(data: Path, exclusive: bool) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = BlobFiles(data)
    files.prepare()
    if exclusive:
        files.clear_incoming()
    with closing(connect_writer(data / DATABASE_NAME)) as db:
        migrate(db)


def _find_topic(db: sqlite3.Connection, topic: TopicId) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = db.execute(
        f"SELECT {_TOPIC_COLUMNS} FROM topics WHERE topic = ?",
        (topic,),
    ).fetchone()
    return row


def _open_topic(db: sqlite3.Connection, topic: TopicId, hour: int, create: bool) -> TopicInfo | None:
    if create:
        made = db.execute(
            "INSERT INTO topics (topic, incarnation, touched) VALUES (?, ?, ?) ON CONFLICT (topic) DO NOTHING",
            (topic, token_bytes(Incarnation.LENGTH), hour),
        )
        if made.rowcount:
            db.execute("UPDATE totals SET topics = topics + 1")
    db.execute("UPDATE topics SET touched = max(touched, ?) WHERE topic = ?", (hour, topic))
    row = _find_topic(db, topic)
    return None if row is None else _info(row)


def _info(row: tuple[Any, ...]) -> TopicInfo:
    number, topic, incarnation, first, last, sealed, _ = row
    return TopicInfo(number, TopicId(topic), Incarnation(incarnation), first, last, bool(sealed))


def _read_batch(db: sqlite3.Connection, handle: int, after: int, max_entries: int, max_bytes: int) -> Batch:
    row = db.execute("SELECT first, last FROM topics WHERE number = ?", (handle,)).fetchone()
    if row is None:
        return Batch(after + 1, ())
    start = max(after + 1, row[0])
    envelopes: list[bytes] = []
    size = 0
    cursor = db.execute(
        "SELECT place, envelope FROM entries WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?",
        (place_of(handle, start), place_of(handle, row[1]), max_entries),
    )
    with closing(cursor):
        for place, envelope in cursor:
            if not envelopes:
                start = place & SEQ_MASK  # `gc` may have trimmed since the row above was read
            elif size + len(envelope) > max_bytes:
                break
            envelopes.append(envelope)
            size += len(envelope)
    return Batch(start, tuple(envelopes))


def _bounds(db: sqlite3.Connection, info: TopicInfo) -> tuple[int, int]:
    row = db.execute("SELECT first, last FROM topics WHERE number = ?", (info.handle,)).fetchone()
    if row is None:
        raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
    return row[0], row[1]


def _list_names(db: sqlite3.Connection, info: TopicInfo, after: int, most: int, salt: bytes) -> Names:
    first, last = _bounds(db, info)
    start = max(min(after, last) + 1, first)
    names: list[bytes] = []
    size = 0
    cursor = db.execute(
        "SELECT place, envelope FROM entries WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?",
        (place_of(info.handle, start), place_of(info.handle, last), most),
    )
    with closing(cursor):
        for place, envelope in cursor:
            if not names:
                start = place & SEQ_MASK  # `gc` may have trimmed since the row above was read
            elif size + len(envelope) > MOST_NAMED_BYTES:
                break
            names.append(name_envelope(salt, envelope))
            size += len(envelope)
    return Names(start, tuple(names))


def _read_places(
    db: sqlite3.Connection, info: TopicInfo, places: Sequence[int], max_bytes: int
) -> tuple[bytes | None, ...]:
    first, last = _bounds(db, info)
    found: list[bytes | None] = []
    size = 0
    for place in places:
        row = None
        if first <= place <= last:
            row = db.execute("SELECT envelope FROM entries WHERE place = ?", (place_of(info.handle, place),)).fetchone()
        if row is not None:
            size += len(row[0])
            if found and size > max_bytes:
                break
        found.append(None if row is None else row[0])
    return tuple(found)


def _require_writable(db: sqlite3.Connection, info: TopicInfo) -> None:
    row = db.execute("SELECT sealed FROM topics WHERE number = ?", (info.handle,)).fetchone()
    if row is None:
        raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
    if row[0]:
        raise Refusal(ErrorCode.SEALED, "the topic is sealed: it reads blobs and puts none")


def _blob_bytes(db: sqlite3.Connection, info: TopicInfo) -> int | None:
    row = db.execute("SELECT blob_bytes FROM topics WHERE number = ?", (info.handle,)).fetchone()
    return None if row is None else int(row[0])


def _add_blob(db: sqlite3.Connection, info: TopicInfo, blob: BlobHash, size: int, hour: int) -> bool:
    made = db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (blob, size, hour))
    if not made.rowcount:
        db.execute("UPDATE blobs SET touched = max(touched, ?) WHERE hash = ?", (hour, blob))
        return False
    db.execute("UPDATE totals SET blobs = blobs + 1, blob_bytes = blob_bytes + ?", (size,))
    db.execute("UPDATE topics SET blob_bytes = blob_bytes + ? WHERE number = ?", (size, info.handle))
    return True


def _has_row(blob: BlobHash, db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM blobs WHERE hash = ?", (blob,)).fetchone() is not None


def _sweep_file(blob: BlobHash, path: Path, db: sqlite3.Connection) -> bool:
    """Look once more, now that nobody else can write, and remove the file."""
    if _has_row(blob, db):
        return False
    path.unlink(missing_ok=True)
    return True


def _totals(db: sqlite3.Connection) -> Totals:
    return Totals(*db.execute("SELECT topics, entries, bytes, blobs, blob_bytes FROM totals").fetchone())


def _topic_stats(db: sqlite3.Connection) -> list[TopicStats]:
    rows = db.execute(
        "SELECT topic, CASE last WHEN 0 THEN 0 ELSE last - first + 1 END, bytes, blob_bytes, sealed, touched"
        " FROM topics ORDER BY number"
    )
    return [
        TopicStats(TopicId(topic), entries, size, blob_bytes, bool(sealed), touched)
        for topic, entries, size, blob_bytes, sealed, touched in rows
    ]
