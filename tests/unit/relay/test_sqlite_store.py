"""What is SQLite's and the files' own: durability, older forms, and what is left after faults."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier, local
from types import SimpleNamespace
from typing import Any

import pytest

from cocoon_core.errors import ProfileDamagedError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.limits import DAY, MIB, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.sqlite_schema import DATABASE_NAME, MIGRATIONS, connect_writer, migrate
from cocoon_relay.sqlite_store import SqliteStore, read_stats
from cocoon_relay.sqlite_writer import SqliteWriter
from cocoon_relay.store import Collected, Totals, round_to_hour
from tests.support.stores import LIMITS, START, Clock, envelopes, make_topic, put_blob, put_into

OpenStore = Callable[..., Awaitable[RelayStore]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_store(tmp_path: Path, clock: Clock) -> AsyncIterator[OpenStore]:
    opened: list[RelayStore] = []

    async def open_one(limits: Limits = LIMITS) -> RelayStore:
        store = await open_files(tmp_path / "data", limits, clock=clock)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


async def path_of(store: RelayStore, blob: BlobHash) -> Path:
    found = await store.find_blob(blob)
    assert found is not None
    assert isinstance(found[1], Path)
    return found[1]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not say what is open")
async def test_a_database_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(sqlite3.OperationalError):
            SqliteWriter(tmp_path, LIMITS, Clock())  # a directory
    assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_a_reserve_of_the_disk_is_left_alone(open_store: OpenStore, tmp_path: Path) -> None:
    store = await open_store(replace(LIMITS, free_bytes=2**60))
    info = await make_topic(store)
    with pytest.raises(Refusal) as caught:
        await put_into(store.log, info, envelopes(1), False, None)
    assert caught.value.code is ErrorCode.FULL
    assert read_stats(tmp_path / "data")[0] == Totals(1, 0, 0, 0, 0)


@pytest.mark.parametrize(("limits", "most"), [({"stored_bytes": 2_000_000}, 2), ({"free_bytes": 8 * MIB}, 4)])
async def test_what_is_written_within_a_second_counts_against_the_reserve(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], most: int
) -> None:
    """The disk is looked at once a second; whoever puts faster than that stays out of the reserve all the same."""
    monkeypatch.setattr("cocoon_relay.sqlite_writer._FREE_SPACE_SECONDS", 3600.0)
    monkeypatch.setattr("cocoon_relay.sqlite_writer.disk_usage", lambda path: SimpleNamespace(free=16 * MIB))
    store = await open_store(replace(LIMITS, **limits))
    info = await make_topic(store)
    for _ in range(most):
        await put_into(store.log, info, (os.urandom(MIB),), False, None)
    with pytest.raises(Refusal) as caught:
        for _ in range(1 if "stored_bytes" in limits else 2):
            await put_into(store.log, info, (os.urandom(MIB),), False, None)
    assert caught.value.code is ErrorCode.FULL


class TestBlobs:
    async def test_a_blob_whose_file_is_gone_counts_as_absent(self, open_store: OpenStore) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(100)
        blob = await put_blob(store, info, data)
        path = await path_of(store, blob)
        path.unlink()
        assert await store.have_blobs([blob], renew=False) == []
        await put_blob(store, info, data)
        assert await store.have_blobs([blob], renew=False) == [blob]

    async def test_a_file_of_the_first_form_is_named_by_its_hash_alone(
        self, open_store: OpenStore, clock: Clock, tmp_path: Path
    ) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(100)
        blob = await put_blob(store, info, data)
        path = await path_of(store, blob)
        old = path.rename(path.with_name(blob.hex()))
        os.utime(old, (START, START))
        with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db, db:
            db.execute("UPDATE blobs SET place = NULL")
        clock.now += 3 * DAY
        await store.log.touch_topics([info.handle])
        assert await store.gc() == Collected()
        assert await path_of(store, blob) == old
        assert await store.have_blobs([blob], renew=False) == [blob]
        clock.now += LIMITS.blob_lease
        assert (await store.gc()).blobs == 1
        assert not old.exists()

    async def test_half_an_upload_does_not_outlive_a_restart(self, open_store: OpenStore, tmp_path: Path) -> None:
        store = await open_store()
        upload = await store.begin_blob(await make_topic(store), 100)
        upload.write(b"half")
        await store.close()
        await open_store()
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        upload.discard()


async def test_data_of_a_newer_relay_is_left_alone(open_store: OpenStore, tmp_path: Path) -> None:
    await (await open_store()).close()
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(ProfileDamagedError, match="a newer relay made"):
        await open_store()


@pytest.mark.parametrize("form", range(len(MIGRATIONS)))
def test_of_those_that_find_an_older_form_at_once_one_makes_the_new_one(tmp_path: Path, form: int) -> None:
    """As `serve` and `gc` after an update: all of them have looked at the form before the first begins."""
    with closing(connect_writer(tmp_path / DATABASE_NAME)) as db:
        for number, script in enumerate(MIGRATIONS[:form], start=1):
            db.executescript(f"{script}; PRAGMA user_version = {number}")
    begin, gone = Barrier(3, timeout=10), local()

    class Late(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            if statement == "BEGIN IMMEDIATE" and not hasattr(gone, "once"):
                gone.once = begin.wait()
            return super().execute(statement, *parameters)

        def executescript(self, script: str) -> sqlite3.Cursor:
            if not hasattr(gone, "once"):
                gone.once = begin.wait()
            return super().executescript(script)

    def start(_: int) -> None:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None, timeout=10, factory=Late)) as db:
            migrate(db)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(start, range(3)))
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM totals").fetchone() == (1,)


async def test_a_put_uses_the_same_few_pages_however_much_is_stored(open_store: OpenStore, tmp_path: Path) -> None:
    """The plan of every statement of a put is a search by key: no scan grows with topics or entries."""
    await (await open_store()).close()
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db:
        from cocoon_relay import sqlite_known as known
        from cocoon_relay import sqlite_writer as writer

        statements = [
            (known.SELECT_TOPIC, 1),
            (known.SELECT_TAIL, 2),
            (known.SELECT_HASHES.format("(?,?),(?,?)"), 4),
            (writer._UPDATE_TOPIC, 5),
            (writer._TOUCH_TOPIC, 3),
        ]
        for statement, parameters in statements:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * parameters)]
            tables = [step for step in plan if any(table in step for table in ("topics", "hashes", "entries"))]
            assert tables
            assert all(step.startswith("SEARCH") for step in tables), plan


async def test_a_put_touches_its_topic_once_an_hour_and_leaves_that_index_alone(
    open_store: OpenStore, tmp_path: Path, clock: Clock
) -> None:
    """The index over hours would be a page of every put's commit."""
    store = await open_store()
    info = await make_topic(store)
    statements: list[str] = []
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db:

        async def touches() -> int:
            statements.clear()
            await put_into(store.log, info, envelopes(1), False, None)
            return sum("touched" in statement and statement.startswith("UPDATE") for statement in statements)

        assert isinstance(store.log, SqliteStore)
        store.log._writer._db.set_trace_callback(statements.append)
        assert [await touches() for _ in range(3)] == [0, 0, 0], "it was opened in this hour"
        clock.now += 3_600
        assert [await touches() for _ in range(3)] == [1, 0, 0]
        assert db.execute("SELECT touched FROM topics").fetchall() == [(round_to_hour(clock.now),)]
