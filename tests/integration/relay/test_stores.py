"""What every pair of stores does alike: SQLite and files, PostgreSQL and S3, and two databases that are one store."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore
from cocoon_relay.store import Collected, Committed, StoredBlob, Totals
from tests.support.servers import PostgresServer, S3Server
from tests.support.stores import (
    LIMITS,
    Backing,
    Clock,
    envelopes,
    make_topic,
    places_of,
    put_blob,
    put_into,
    read_blob,
)

OpenStore = Callable[..., Awaitable[RelayStore]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite, files", "postgres, s3", "two databases, files"])
async def backing(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Backing:
    if request.param == "sqlite, files":
        return Backing(tmp_path / "data", (), None, clock)
    postgres: PostgresServer = request.getfixturevalue("postgres")
    if request.param == "two databases, files":
        databases = (await postgres.make_database(), await postgres.make_database())
        return Backing(tmp_path / "data", databases, None, clock)
    s3: S3Server = request.getfixturevalue("s3")
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    return Backing(tmp_path / "data", (await postgres.make_database(),), s3.make_folder(), clock)


@pytest.fixture
async def open_store(backing: Backing) -> AsyncIterator[OpenStore]:
    opened: list[RelayStore] = []

    async def open_one(limits: Limits = LIMITS) -> RelayStore:
        store = await backing.open(limits)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


async def test_what_was_put_is_there_after_reopening(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    items = envelopes(200)
    assert await put_into(store.log, info, items, False, None) == tuple(range(1, 201))
    await store.close()
    again = await open_store()
    found = await again.log.open_topic(info.topic, create=False)
    assert found is not None
    assert (found.incarnation, found.last) == (info.incarnation, 200)
    batch = await again.log.read(found.handle, 0, 1000, 10**9)
    assert (batch.first, batch.envelopes) == (1, items)
    assert await put_into(again.log, found, items[:3], False, None) == (1, 2, 3)


async def test_puts_that_wait_together_share_one_commit(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    seen: list[Committed] = []
    store.log.listen(seen.extend)
    before = store.log.commits
    answers = await asyncio.gather(*(put_into(store.log, info, envelopes(1), False, None) for _ in range(500)))
    assert sorted(answers) == [(n,) for n in range(1, 501)]
    assert store.log.commits - before < 50
    assert [seq for commit in seen for seq in range(commit.batch.first, commit.batch.last + 1)] == list(range(1, 501))


async def test_one_refused_put_leaves_its_neighbours_of_the_same_commit_alone(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    one, two, three = (envelopes(2) for _ in range(3))
    answers = await asyncio.gather(
        put_into(store.log, info, one, False, 0),
        put_into(store.log, info, two, False, 0),
        put_into(store.log, info, three, True, 2),
        return_exceptions=True,
    )
    assert answers[0] == (1, 2)
    assert isinstance(answers[1], Refusal)
    assert (answers[1].code, answers[1].last) == (ErrorCode.EXPECT, 2)
    assert answers[2] == (3, 4)
    assert (await store.log.read(info.handle, 0, 10, 10**9)).envelopes == one + three


async def test_reads_keep_to_their_limits_and_always_give_one(open_store: OpenStore) -> None:
    store = await open_store()
    info = await make_topic(store)
    await put_into(store.log, info, envelopes(10), False, None)
    assert len((await store.log.read(info.handle, 0, 3, 10**9)).envelopes) == 3
    assert len((await store.log.read(info.handle, 4, 99, 900)).envelopes) == 3
    assert len((await store.log.read(info.handle, 4, 99, 1)).envelopes) == 1
    assert (await store.log.read(info.handle, 10, 99, 10**9)).envelopes == ()


@pytest.mark.parametrize("limits", [replace(LIMITS, topic_entries=3), replace(LIMITS, topic_bytes=1000)])
async def test_a_topic_keeps_to_its_quota(open_store: OpenStore, limits: Limits) -> None:
    store = await open_store(limits)
    info, other = await make_topic(store), await make_topic(store)
    kept = envelopes(3)
    await put_into(store.log, info, kept, False, None)
    with pytest.raises(Refusal) as caught:
        await put_into(store.log, info, envelopes(1), False, None)
    assert caught.value.code is ErrorCode.QUOTA
    assert await put_into(store.log, info, kept, False, None) == (1, 2, 3)
    assert await put_into(store.log, other, envelopes(1), False, None) == (1,)


@pytest.mark.parametrize("limits", [replace(LIMITS, topic_entries=3), replace(LIMITS, topic_bytes=1000)])
async def test_a_full_topic_can_still_be_sealed_and_then_takes_nothing(open_store: OpenStore, limits: Limits) -> None:
    """A hostile holder of the topic key can fill it, but not so keep the others from leaving it."""
    store = await open_store(limits)
    info = await make_topic(store)
    await put_into(store.log, info, envelopes(3), False, None)
    for more in (envelopes(1), envelopes(2)):
        with pytest.raises(Refusal) as caught:
            await put_into(store.log, info, more, False, None)
        assert caught.value.code is ErrorCode.QUOTA
    rotation = envelopes(2)
    assert await put_into(store.log, info, rotation, True, 3) == (4, 5)
    assert await put_into(store.log, info, rotation, True, 3) == (4, 5)
    with pytest.raises(Refusal) as caught:
        await put_into(store.log, info, envelopes(1), True, None)
    assert caught.value.code is ErrorCode.SEALED


async def test_the_operators_ceiling_is_a_full_disk(open_store: OpenStore) -> None:
    store = await open_store(replace(LIMITS, stored_bytes=1))
    info = await make_topic(store)
    await put_into(store.log, info, envelopes(1), False, None)
    with pytest.raises(Refusal) as caught:
        await put_blob(store, info, b"x" * 100)
    assert caught.value.code is ErrorCode.FULL


class TestLeases:
    async def test_a_topic_nobody_touches_expires_and_comes_back_as_another(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        store = await open_store()
        info, kept = await make_topic(store), await make_topic(store)
        for topic in (info, kept):
            await put_into(store.log, topic, envelopes(3_000 if topic is info else 2), False, None)
        clock.now += LIMITS.topic_lease - DAY
        await store.log.open_topic(kept.topic, create=False)
        assert await store.gc() == Collected()
        clock.now += 2 * DAY
        assert await store.gc() == Collected(topics=1, entries=3_000)
        assert await store.log.open_topic(info.topic, create=False) is None
        with pytest.raises(Refusal) as caught:
            await put_into(store.log, info, envelopes(1), False, None)
        assert caught.value.code is ErrorCode.NOT_OPEN
        again = await store.log.open_topic(info.topic, create=True)
        assert again is not None
        assert again.incarnation != info.incarnation
        assert again.last == 0
        assert (await store.log.read(info.handle, 0, 10, 10**9)).envelopes == ()
        assert (await store.log.read(kept.handle, 0, 10, 10**9)).last == 2
        assert await store.log.totals() == Totals(2, 2, 600, 0, 0)

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
        await put_into(store.log, info, items, True, None)
        clock.now += LIMITS.topic_lease + DAY
        assert await store.gc() == Collected(entries=9)
        batch = await store.log.read(info.handle, 0, 99, 10**9)
        assert (batch.first, batch.envelopes) == (10, items[-1:])
        found = await store.log.open_topic(info.topic, create=False)
        assert found is not None
        assert (found.first, found.last, found.sealed) == (10, 10, True)
        assert await put_into(store.log, found, items[-1:], True, 0) == (10,)
        assert await store.log.totals() == Totals(1, 1, 300, 0, 0)
        clock.now += LIMITS.sealed_topic_lease + DAY
        assert (await store.gc()).topics == 1

    async def test_a_sealed_topic_is_kept_no_shorter_than_an_open_one(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        limits = replace(LIMITS, topic_lease=1000 * DAY, sealed_topic_lease=10 * DAY)
        store = await open_store(limits)
        info = await make_topic(store)
        await put_into(store.log, info, envelopes(5), True, None)
        clock.now += 990 * DAY
        assert await store.gc() == Collected()
        clock.now += 20 * DAY
        assert (await store.gc()).topics == 1

    async def test_a_sealed_topic_goes_in_the_end_though_only_its_end_was_left(
        self, open_store: OpenStore, clock: Clock
    ) -> None:
        store = await open_store()
        info = await make_topic(store)
        await put_into(store.log, info, envelopes(5), True, None)
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
        assert len(await places_of(store)) == 1
        assert (await store.log.totals()).blob_bytes == 500


class TestBlobs:
    async def test_a_blob_is_stored_once_and_counted_once(self, open_store: OpenStore) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(1000)
        blob = await put_blob(store, info, data)
        assert await put_blob(store, info, data) == blob
        assert await read_blob(store, blob) == data
        assert len(await places_of(store)) == 1
        assert await store.log.totals() == Totals(1, 0, 0, 1, 1000)

    async def test_other_bytes_under_a_name_are_refused(self, open_store: OpenStore, backing: Backing) -> None:
        store = await open_store()
        info = await make_topic(store)
        upload = await store.begin_blob(info, 5)
        upload.write(b"bytes")
        with pytest.raises(Refusal) as caught:
            await store.commit_blob(info, BlobHash(bytes(32)), upload)
        upload.discard()
        assert caught.value.code is ErrorCode.BAD_HASH
        assert list((backing.data / "incoming").iterdir()) == []
        assert await places_of(store) == []

    async def test_an_upload_that_ends_after_the_seal_is_refused(self, open_store: OpenStore) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(100)
        blob = BlobHash(hashlib.sha256(data).digest())
        upload = await store.begin_blob(info, len(data))
        upload.write(data)
        await put_into(store.log, info, envelopes(1), True, None)
        with pytest.raises(Refusal) as caught:
            await store.commit_blob(info, blob, upload)
        upload.discard()
        assert caught.value.code is ErrorCode.SEALED
        assert await store.have_blobs([blob], renew=False) == []
        assert await places_of(store) == []

    async def test_bytes_that_a_crash_left_are_swept(self, open_store: OpenStore, clock: Clock) -> None:
        store = await open_store()
        info = await make_topic(store)
        data = os.urandom(100)
        kept = await put_blob(store, info, data)
        lost = await store.begin_blob(info, 100)
        unseen = os.urandom(100)
        lost.write(unseen)
        orphan = await store.blobs.keep(
            BlobHash(hashlib.sha256(unseen).digest()), lost
        )  # and the relay dies before the row
        lost.discard()
        assert await store.gc() == Collected()
        await store.close()
        store = await open_store()
        assert orphan in await places_of(store)
        clock.now += 3 * DAY
        await store.log.touch_topics([info.handle])
        assert await store.gc() == Collected(files=1)
        assert orphan not in await places_of(store)
        assert await read_blob(store, kept) == data

    async def test_a_topic_puts_no_more_blobs_than_its_quota(self, open_store: OpenStore) -> None:
        store = await open_store(replace(LIMITS, topic_blob_bytes=150))
        info = await make_topic(store)
        await put_blob(store, info, os.urandom(100))
        with pytest.raises(Refusal) as caught:
            await put_blob(store, info, os.urandom(100))
        assert caught.value.code is ErrorCode.QUOTA
