"""The SQLite store by itself: durability, leases, quotas, and what is left after faults."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cocoon_core.errors import ProfileDamagedError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.sqlite_schema import DATABASE_NAME, MIGRATIONS
from cocoon_relay.sqlite_store import read_stats
from cocoon_relay.store import Collected, Committed, StoredBlob, TopicInfo, Totals

START = 1_700_000_000.0
LIMITS = replace(Limits(), free_bytes=0)
OpenStore = Callable[..., Awaitable[RelayStore]]


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


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


async def make_topic(store: RelayStore) -> TopicInfo:
    info = await store.log.open_topic(TopicId(os.urandom(32)), create=True)
    assert info is not None
    return info


async def put_blob(store: RelayStore, info: TopicInfo, data: bytes) -> BlobHash:
    blob = BlobHash(hashlib.sha256(data).digest())
    upload = await store.begin_blob(info, len(data))
    upload.write(data)
    upload.finish(blob)
    await store.commit_blob(info, blob, upload)
    upload.discard()
    return blob


async def path_of(store: RelayStore, blob: BlobHash) -> Path:
    found = await store.find_blob(blob)
    assert found is not None
    assert isinstance(found[1], Path)
    return found[1]


def envelopes(count: int) -> tuple[bytes, ...]:
    return tuple(os.urandom(300) for _ in range(count))


async def test_what_was_put_is_there_after_reopening(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    items = envelopes(200)
    assert await store.log.put(info, items, False, None) == tuple(range(1, 201))
    await store.close()
    again = await open_store()
    found = await again.log.open_topic(info.topic, create=False)
    assert found is not None
    assert (found.incarnation, found.last) == (info.incarnation, 200)
    batch = await again.log.read(found.handle, 0, 1000, 10**9)
    assert (batch.first, batch.envelopes) == (1, items)
    assert await again.log.put(found, items[:3], False, None) == (1, 2, 3)


async def test_puts_that_wait_together_share_one_commit(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    seen: list[Committed] = []
    store.log.listen(seen.extend)
    before = store.log.commits
    answers = await asyncio.gather(*(store.log.put(info, envelopes(1), False, None) for _ in range(500)))
    assert sorted(answers) == [(n,) for n in range(1, 501)]
    assert store.log.commits - before < 50
    assert [seq for commit in seen for seq in range(commit.batch.first, commit.batch.last + 1)] == list(range(1, 501))


async def test_one_refused_put_leaves_its_neighbours_of_the_same_commit_alone(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    one, two, three = (envelopes(2) for _ in range(3))
    answers = await asyncio.gather(
        store.log.put(info, one, False, 0), store.log.put(info, two, False, 0), store.log.put(info, three, True, 2),
        return_exceptions=True,
    )  # fmt: skip
    assert answers[0] == (1, 2)
    assert isinstance(answers[1], Refusal)
    assert (answers[1].code, answers[1].last) == (ErrorCode.EXPECT, 2)
    assert answers[2] == (3, 4)
    assert (await store.log.read(info.handle, 0, 10, 10**9)).envelopes == one + three


async def test_reads_keep_to_their_limits_and_always_give_one(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    await store.log.put(info, envelopes(10), False, None)
    assert len((await store.log.read(info.handle, 0, 3, 10**9)).envelopes) == 3
    assert len((await store.log.read(info.handle, 4, 99, 900)).envelopes) == 3
    assert len((await store.log.read(info.handle, 4, 99, 1)).envelopes) == 1
    assert (await store.log.read(info.handle, 10, 99, 10**9)).envelopes == ()


@pytest.mark.parametrize("limits", [replace(LIMITS, topic_entries=3), replace(LIMITS, topic_bytes=1000)])
async def test_a_topic_keeps_to_its_quota(open_store: OpenStore, limits: Limits) -> None:
    store = await open_store(limits)
    info, other = await make_topic(store), await make_topic(store)
    kept = envelopes(3)
    await store.log.put(info, kept, False, None)
    with pytest.raises(Refusal) as caught:
        await store.log.put(info, envelopes(1), False, None)
    assert caught.value.code is ErrorCode.QUOTA
    assert await store.log.put(info, kept, False, None) == (1, 2, 3)
    assert await store.log.put(other, envelopes(1), False, None) == (1,)


@pytest.mark.parametrize("limits", [replace(LIMITS, topic_entries=3), replace(LIMITS, topic_bytes=1000)])
async def test_a_full_topic_can_still_be_sealed_and_then_takes_nothing(open_store: OpenStore, limits: Limits) -> None:
    """A hostile holder of the topic key can fill it, but not so keep the others from leaving it."""
    store = await open_store(limits)
    info = await make_topic(store)
    await store.log.put(info, envelopes(3), False, None)
    for more in (envelopes(1), envelopes(2)):
        with pytest.raises(Refusal) as caught:
            await store.log.put(info, more, False, None)
        assert caught.value.code is ErrorCode.QUOTA
    rotation = envelopes(2)
    assert await store.log.put(info, rotation, True, 3) == (4, 5)
    assert await store.log.put(info, rotation, True, 3) == (4, 5)
    with pytest.raises(Refusal) as caught:
        await store.log.put(info, envelopes(1), True, None)
    assert caught.value.code is ErrorCode.SEALED


async def test_the_operators_ceiling_is_a_full_disk(open_store: OpenStore) -> None:
    store = await open_store(replace(LIMITS, stored_bytes=1))
    info = await make_topic(store)
    await store.log.put(info, envelopes(1), False, None)
    with pytest.raises(Refusal) as caught:
        await put_blob(store, info, b"x" * 100)
    assert caught.value.code is ErrorCode.FULL


async def test_a_reserve_of_the_disk_is_left_alone(open_store: OpenStore) -> None:
    store = await open_store(replace(LIMITS, free_bytes=2**60))
    info = await make_topic(store)
    with pytest.raises(Refusal) as caught:
        await store.log.put(info, envelopes(1), False, None)
    assert caught.value.code is ErrorCode.FULL
    assert await store.log.totals() == Totals(1, 0, 0, 0, 0)


class TestLeases:
    async def test_a_topic_nobody_touches_expires_and_comes_back_as_another(
        self, open_store: OpenStore, clock: Clock, tmp_path: Path
    ) -> None:
        store = await open_store()
        info, kept = await make_topic(store), await make_topic(store)
        for topic in (info, kept):
            await store.log.put(topic, envelopes(3_000 if topic is info else 2), False, None)
        clock.now += LIMITS.topic_lease - DAY
        await store.log.open_topic(kept.topic, create=False)
        assert await store.gc() == Collected()
        clock.now += 2 * DAY
        assert await store.gc() == Collected(topics=1, entries=3_000)
        assert await store.log.open_topic(info.topic, create=False) is None
        with pytest.raises(Refusal) as caught:
            await store.log.put(info, envelopes(1), False, None)
        assert caught.value.code is ErrorCode.NOT_OPEN
        again = await store.log.open_topic(info.topic, create=True)
        assert again is not None
        assert again.incarnation != info.incarnation
        assert again.last == 0
        assert (await store.log.read(info.handle, 0, 10, 10**9)).envelopes == ()
        assert (await store.log.read(kept.handle, 0, 10, 10**9)).last == 2
        assert read_stats(tmp_path / "data")[0] == Totals(2, 2, 600, 0, 0)

    async def test_an_empty_topic_goes_after_a_day(self, open_store: OpenStore, clock: Clock) -> None:
        store = await open_store()
        info = await make_topic(store)
        clock.now += 2 * DAY
        assert await store.gc() == Collected(topics=1, entries=0)
        assert await store.log.open_topic(info.topic, create=False) is None

    async def test_open_topics_are_touched(self, open_store: OpenStore, clock: Clock) -> None:
        store = await open_store()
        info = await make_topic(store)
        clock.now += 2 * DAY
        await store.log.touch_topics([info.handle])
        assert await store.gc() == Collected()

    async def test_a_sealed_topic_keeps_its_last_envelope_for_two_years(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        store = await open_store()
        info = await make_topic(store)
        items = envelopes(10)
        await store.log.put(info, items, True, None)
        clock.now += LIMITS.topic_lease + DAY
        assert await store.gc() == Collected(entries=9)
        batch = await store.log.read(info.handle, 0, 99, 10**9)
        assert (batch.first, batch.envelopes) == (10, items[-1:])
        found = await store.log.open_topic(info.topic, create=False)
        assert found is not None
        assert (found.first, found.last, found.sealed) == (10, 10, True)
        assert await store.log.put(found, items[-1:], True, 0) == (10,)
        assert await store.log.totals() == Totals(1, 1, 300, 0, 0)
        clock.now += LIMITS.sealed_topic_lease + DAY
        assert (await store.gc()).topics == 1

    async def test_a_sealed_topic_is_kept_no_shorter_than_an_open_one(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        limits = replace(LIMITS, topic_lease=1000 * DAY, sealed_topic_lease=10 * DAY)
        store = await open_store(limits)
        info = await make_topic(store)
        await store.log.put(info, envelopes(5), True, None)
        clock.now += 990 * DAY
        assert await store.gc() == Collected()
        clock.now += 20 * DAY
        assert (await store.gc()).topics == 1

    async def test_a_sealed_topic_goes_in_the_end_though_only_its_end_was_left(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        store = await open_store()
        info = await make_topic(store)
        await store.log.put(info, envelopes(5), True, None)
        for days in (91, 300, 338):
            clock.now += days * DAY
            await store.gc()
            assert (await store.log.totals()).entries == 1
        clock.now += 2 * DAY
        assert (await store.gc()).topics == 1
        assert await store.log.totals() == Totals(0, 0, 0, 0, 0)

    async def test_a_blob_that_gc_takes_while_it_is_asked_for_is_not_said_to_be_here(
        self, open_store: OpenStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = await open_store()
        info = await make_topic(store)
        blob = await put_blob(store, info, os.urandom(100))
        clock.now += LIMITS.blob_lease + DAY
        find = store.log.find_blobs

        async def find_then_collect(blobs: Sequence[BlobHash]) -> list[StoredBlob]:
            found = await find(blobs)
            monkeypatch.setattr(store.log, "find_blobs", find)
            await store.gc()
            return found

        monkeypatch.setattr(store.log, "find_blobs", find_then_collect)
        assert await store.have_blobs([blob], renew=True) == []

    async def test_blobs_expire_unless_somebody_asks_for_them(self, open_store: OpenStore, clock: Clock) -> None:
        store = await open_store()
        info = await make_topic(store)
        asked, forgotten, read_only = [await put_blob(store, info, os.urandom(500)) for _ in range(3)]
        clock.now += LIMITS.blob_lease - DAY
        assert await store.have_blobs([asked], renew=True) == [asked]
        assert await store.have_blobs([read_only], renew=False) == [read_only]
        clock.now += 2 * DAY
        assert (await store.gc()).blobs == 2
        assert await store.have_blobs([forgotten, read_only, asked], renew=False) == [asked]
        assert await store.find_blob(forgotten) is None
        assert (await store.log.totals()).blob_bytes == 500


class TestBlobs:
    async def test_a_blob_is_stored_once_and_counted_once(self, open_store: OpenStore) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(1000)
        blob = await put_blob(store, info, data)
        assert await put_blob(store, info, data) == blob
        path = await path_of(store, blob)
        assert path.read_bytes() == data
        assert await store.log.totals() == Totals(1, 0, 0, 1, 1000)

    async def test_other_bytes_under_a_name_are_refused(self, open_store: OpenStore, tmp_path: Path) -> None:
        store = await open_store()
        info = await make_topic(store)
        upload = await store.begin_blob(info, 5)
        upload.write(b"bytes")
        with pytest.raises(Refusal) as caught:
            upload.finish(BlobHash(bytes(32)))
        upload.discard()
        assert caught.value.code is ErrorCode.BAD_HASH
        assert list((tmp_path / "data" / "incoming").iterdir()) == []

    async def test_an_upload_that_ends_after_the_seal_is_refused(self, open_store: OpenStore, tmp_path: Path) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(100)
        blob = BlobHash(hashlib.sha256(data).digest())
        upload = await store.begin_blob(info, len(data))
        upload.write(data)
        upload.finish(blob)
        await store.log.put(info, envelopes(1), True, None)
        with pytest.raises(Refusal) as caught:
            await store.commit_blob(info, blob, upload)
        upload.discard()
        assert caught.value.code is ErrorCode.SEALED
        assert await store.have_blobs([blob], renew=False) == []
        assert [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()] == []

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

    async def test_files_that_a_crash_left_are_swept(self, open_store: OpenStore, clock: Clock, tmp_path: Path) -> None:
        store = await open_store()
        info = await make_topic(store)
        kept = await put_blob(store, info, os.urandom(100))
        orphan = tmp_path / "data" / "blobs" / "ab" / ("ab" * 32)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"left behind")
        for path in (orphan, await path_of(store, kept)):
            os.utime(path, (START, START))
        clock.now += 3 * DAY
        await store.log.touch_topics([info.handle])
        assert await store.gc() == Collected(files=1)
        assert not orphan.exists()
        assert await store.find_blob(kept) is not None

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

    async def test_a_topic_puts_no_more_blobs_than_its_quota(self, open_store: OpenStore) -> None:
        store = await open_store(replace(LIMITS, topic_blob_bytes=150))
        info = await make_topic(store)
        await put_blob(store, info, os.urandom(100))
        with pytest.raises(Refusal) as caught:
            await put_blob(store, info, os.urandom(100))
        assert caught.value.code is ErrorCode.QUOTA


async def test_data_of_a_newer_relay_is_left_alone(open_store: OpenStore, tmp_path: Path) -> None:
    await (await open_store()).close()
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(ProfileDamagedError, match="this relay knows"):
        await open_store()


async def test_a_put_uses_the_same_few_pages_however_much_is_stored(open_store: OpenStore, tmp_path: Path) -> None:
    """The plan of every statement of a put is a search by key: no scan grows with topics or entries."""
    await (await open_store()).close()
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_NAME)) as db:
        from cocoon_relay import sqlite_writer as writer

        statements = [
            (writer._SELECT_TOPIC, 1), (writer._UPDATE_TOPIC, 5), (writer._SELECT_HASHES.format("(?,?),(?,?)"), 4)
        ]  # fmt: skip
        for statement, parameters in statements:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * parameters)]
            tables = [step for step in plan if "topics" in step or "hashes" in step]
            assert tables
            assert all(step.startswith("SEARCH") for step in tables), plan
