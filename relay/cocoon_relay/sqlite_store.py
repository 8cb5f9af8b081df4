"""The default log store: topics, and the ledger of blobs, in one SQLite file.

One thread writes (sqlite_writer), a few read, each with a connection of its own; WAL lets them go on beside each
other. Implements specs/relay.md §5 and §6 behind the interface of store.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from secrets import token_bytes
from threading import Lock, local
from typing import Any, Final, TypeVar

from cocoon_core.protocol.frames import ErrorCode, name_envelope
from cocoon_core.protocol.ids import BlobHash, Incarnation, TopicId
from cocoon_relay.limits import Limits
from cocoon_relay.puts import SEQ_MASK, TakesPuts
from cocoon_relay.refusal import Refusal
from cocoon_relay.sqlite_gc import collect_step, condemn_topics, remove_blob
from cocoon_relay.sqlite_schema import DATABASE_NAME, connect_reader, connect_writer, empty_log, migrate, place_of
from cocoon_relay.sqlite_writer import CallJob, SqliteWriter
from cocoon_relay.store import (
    MOST_NAMED_BYTES,
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
from cocoon_relay.uploads import refuse_disk

_READERS: Final = 2  # threads
_TOPIC_COLUMNS: Final = "number, topic, incarnation, first, last, sealed, touched"
_Result = TypeVar("_Result")


class SqliteStore(TakesPuts):
    """The log store of one data directory. Make it with `open`, inside the event loop."""

    _writer: SqliteWriter

    def __init__(self, data: Path, limits: Limits, clock: Callable[[], float]) -> None:
        self._path = data / DATABASE_NAME
        self._limits = limits
        self._clock = clock
        self._writer = SqliteWriter(self._path, limits, clock)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="relay-reader")
        self._local = local()
        self._opened: list[sqlite3.Connection] = []
        self._opened_lock = Lock()
        self._secret = token_bytes(32)

    @classmethod
    async def open(cls, data: Path, limits: Limits, *, clock: Callable[[], float] = time.time) -> SqliteStore:
        """Open the database of a data directory, making it and its tables if there are none.

        Raises:
            OSError, sqlite3.Error: it cannot be written.
            ProfileDamagedError: a newer relay made it.
        """
        await asyncio.to_thread(_prepare, data)
        return cls(data, limits, clock)

    def listen(self, listener: CommitListener) -> None:
        self._writer.listen(listener)

    # --- other nodes: one process alone serves a data directory

    def follow(self, info: TopicInfo) -> None:
        """All commits are this node's own."""

    def unfollow(self, handle: int) -> None:
        """All commits are this node's own."""

    def cast(self, handle: int, payload: bytes) -> None:
        """Nobody else is there."""

    def listen_casts(self, listener: CastListener) -> None:
        """Nobody else casts."""

    async def shared_secret(self) -> bytes:
        return self._secret

    # --- topics

    async def open_topic(self, topic: TopicId, *, create: bool) -> TopicInfo | None:
        row = await self._read(lambda db: _find_topic(db, topic))
        hour = round_to_hour(self._clock())
        if row is not None and row[-1] >= hour:
            return _info(row)
        if row is None and not create:
            return None
        return await self._write(lambda db: _open_topic(db, topic, hour, create))

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

    # --- the ledger of blobs

    async def admit_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> None:
        limits = limits or self._limits
        row, totals = await self._read(lambda db: (_blob_bytes(db, info), _totals(db)))
        if row is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
        if row + size > limits.topic_blob_bytes:
            raise Refusal(ErrorCode.QUOTA, "this topic has put as many blobs as this relay allows")
        limit = limits.stored_bytes
        if limit and totals.bytes + totals.blob_bytes + size > limit:
            raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)

    async def record_blob(self, info: TopicInfo, blob: BlobHash, size: int, place: str) -> bool:
        hour = round_to_hour(self._clock())

        def record(db: sqlite3.Connection) -> bool:
            _require_writable(db, info)  # the topic may have been sealed while the bytes came
            return _add_blob(db, info, StoredBlob(blob, place, size, hour))

        return await self._write(record)

    async def find_blobs(self, blobs: Sequence[BlobHash]) -> list[StoredBlob]:
        return await self._read(lambda db: _find_blobs(db, blobs))

    async def renew_blobs(self, blobs: Sequence[BlobHash]) -> set[BlobHash]:
        hour = round_to_hour(self._clock())

        def renew(db: sqlite3.Connection) -> set[BlobHash]:
            statement = "UPDATE blobs SET touched = max(touched, ?) WHERE hash = ?"
            return {blob for blob in blobs if db.execute(statement, (hour, blob)).rowcount}

        return await self._write(renew)

    async def forget_blob(self, stored: StoredBlob) -> None:
        def forget(db: sqlite3.Connection) -> None:
            if [found.place for found in _find_blobs(db, [stored.blob])] == [stored.place]:
                remove_blob(db, stored.blob, stored.size)

        await self._write(forget)

    async def condemned_places(self, most: int) -> list[str]:
        return await self._read(
            lambda db: [place for (place,) in db.execute("SELECT place FROM condemned_blobs LIMIT ?", (most,))]
        )

    async def forget_places(self, places: Sequence[str]) -> None:
        await self._write_rows("DELETE FROM condemned_blobs WHERE place = ?", [(place,) for place in places])

    async def unknown_places(self, places: Sequence[str]) -> list[str]:
        return await self._read(lambda db: [place for place in places if not _is_named(db, place)])

    # --- the operator

    async def totals(self) -> Totals:
        return await self._read(_totals)

    async def topic_stats(self) -> list[TopicStats]:
        return await self._read(_topic_stats)

    async def collect(self) -> Collected:
        total = Collected()
        now = int(self._clock())
        while step := await self._write(lambda db: collect_step(db, self._limits, now)):
            total = Collected(total.topics + step.topics, total.entries + step.entries, total.blobs + step.blobs)
        return total

    async def drop(self, topics: Collection[TopicId] | None) -> Collected:
        """Let go of these topics now, or of all that are sealed; what is left of them goes with the next `gc`."""
        return await self._write(lambda db: condemn_topics(db, topics))

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


def _prepare(data: Path) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(connect_writer(data / DATABASE_NAME)) as db:
        migrate(db)
        empty_log(db)


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


def _find_blobs(db: sqlite3.Connection, blobs: Sequence[BlobHash]) -> list[StoredBlob]:
    found = []
    for blob in blobs:
        row = db.execute("SELECT place, size, touched FROM blobs WHERE hash = ?", (blob,)).fetchone()
        if row is not None:
            found.append(StoredBlob(blob, row[0] or blob.hex(), row[1], row[2]))
    return found


def _add_blob(db: sqlite3.Connection, info: TopicInfo, new: StoredBlob) -> bool:
    made = db.execute(
        "INSERT OR IGNORE INTO blobs (hash, size, touched, place) VALUES (?, ?, ?, ?)",
        (new.blob, new.size, new.touched, new.place),
    )
    if not made.rowcount:
        db.execute("UPDATE blobs SET touched = max(touched, ?) WHERE hash = ?", (new.touched, new.blob))
        return False
    db.execute("UPDATE totals SET blobs = blobs + 1, blob_bytes = blob_bytes + ?", (new.size,))
    db.execute("UPDATE topics SET blob_bytes = blob_bytes + ? WHERE number = ?", (new.size, info.handle))
    return True


def _is_named(db: sqlite3.Connection, place: str) -> bool:
    """Whether a row names this place; an older row names it by its hash alone."""
    if db.execute("SELECT 1 FROM blobs WHERE place = ?", (place,)).fetchone() is not None:
        return True
    try:
        name = bytes.fromhex(place)
    except ValueError:
        return False
    return db.execute("SELECT 1 FROM blobs WHERE hash = ? AND place IS NULL", (name,)).fetchone() is not None


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
