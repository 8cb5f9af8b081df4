"""What is stored is known again, whatever of the hashes is in memory, in the table, or only in the envelopes."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cocoon_core.protocol.ids import TopicId
from cocoon_relay import sqlite_known
from cocoon_relay.limits import DAY
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.sqlite_gc import condemn_topics
from cocoon_relay.sqlite_schema import DATABASE_NAME, connect_writer, place_of
from cocoon_relay.store import TopicInfo, hash_envelope
from tests.support.stores import LIMITS, Clock, put_into


class Story:
    """Puts old and new envelopes into a few topics, and holds the numbers against its own count."""

    def __init__(self, store: RelayStore, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.topics: list[tuple[TopicInfo, list[bytes]]] = []

    async def make_topic(self) -> None:
        info = await self.store.log.open_topic(TopicId(self.chance.randbytes(32)), create=True)
        assert info is not None
        self.topics.append((info, []))

    async def put(self) -> None:
        info, stored = self.chance.choice(self.topics)
        old = self.chance.sample(stored, min(len(stored), self.chance.randrange(4)))
        envelopes = old + [self.chance.randbytes(300) for _ in range(self.chance.randrange(6))]
        self.chance.shuffle(envelopes)
        seqs = await put_into(self.store.log, info, tuple(envelopes), False, None)
        stored += [envelope for envelope in envelopes if envelope not in stored]
        assert list(seqs) == [stored.index(envelope) + 1 for envelope in envelopes]

    async def reopen(self, path: Path) -> None:
        await self.store.close()
        self.store = await open_files(path, LIMITS, clock=Clock())


async def begin(folder: Path, clock: Clock | None = None) -> tuple[Story, TopicInfo]:
    """A store with one topic, in which nothing stands yet."""
    story = Story(await open_files(folder, LIMITS, clock=clock or Clock()), random.Random(1))
    await story.make_topic()
    return story, story.topics[0][0]


@pytest.mark.parametrize("seed", range(6))
async def test_every_envelope_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(sqlite_known, "_TAIL_NAMES", chance.choice([1, 5, 20]))
    monkeypatch.setattr(sqlite_known, "_TAIL_BYTES", chance.choice([700, 10_000]))
    monkeypatch.setattr(sqlite_known, "_KNOWN", chance.choice([1, 12, 1_000]))
    monkeypatch.setattr(sqlite_known, "_WORTH_WRITING", chance.choice([1, 4]))
    story = Story(await open_files(tmp_path, LIMITS, clock=Clock()), chance)
    for number in range(150):
        if number % 40 == 0:
            await story.make_topic()
        if number % 37 == 36:
            await story.reopen(tmp_path)
        await story.put()
    await story.store.close()


async def test_hashes_go_into_the_table_in_portions_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_known, "_TAIL_NAMES", 2_000)
    story, info = await begin(tmp_path)
    for _ in range(5):
        await put_into(story.store.log, info, tuple(story.chance.randbytes(300) for _ in range(1_000)), False, None)
    await story.store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        (indexed,) = db.execute("SELECT indexed FROM topics").fetchone()
        assert db.execute("SELECT count(*), count(DISTINCT seq), max(seq) FROM hashes").fetchone() == (indexed,) * 3
    assert 0 < indexed < 5_000


async def test_memory_is_bounded_whatever_the_number_of_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_known, "_KNOWN", 100)
    store = await open_files(tmp_path, LIMITS, clock=Clock())
    story = Story(store, random.Random(2))
    for _ in range(60):
        await story.make_topic()
        await story.put()
    known = store.log._writer._known  # type: ignore[attr-defined]
    assert known._weight == sum(1 + len(one.names) for one in known._known.values()) <= 100
    await store.close()


async def test_what_another_process_did_to_a_topic_is_seen(tmp_path: Path) -> None:
    """`gc` and `drop` may run as processes of their own beside the relay that serves."""
    story, info = await begin(tmp_path)
    envelope = story.chance.randbytes(300)
    await put_into(story.store.log, info, (envelope,), False, None)
    with closing(connect_writer(tmp_path / DATABASE_NAME)) as db:
        db.execute("BEGIN IMMEDIATE")
        condemn_topics(db, [info.topic])
        db.execute("COMMIT")
    with pytest.raises(Refusal, match="expired"):
        await put_into(story.store.log, info, (envelope,), False, None)
    await story.store.close()


async def test_what_gc_took_of_a_sealed_topic_is_not_known(tmp_path: Path) -> None:
    clock = Clock()
    story, info = await begin(tmp_path, clock)
    first, last = story.chance.randbytes(300), story.chance.randbytes(300)
    await put_into(story.store.log, info, (first, last), True, 0)
    clock.now += LIMITS.topic_lease + 2 * DAY
    await story.store.log.collect()
    assert await put_into(story.store.log, info, (last,), True, 0) == (2,)
    with pytest.raises(Refusal, match="sealed"):
        await put_into(story.store.log, info, (first,), False, None)
    await story.store.close()


async def test_a_transaction_that_was_undone_leaves_nothing_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, info = await begin(tmp_path)
    envelope, other = story.chance.randbytes(300), story.chance.randbytes(300)

    def fail(self: sqlite_known.KnownTopics, db: sqlite3.Connection) -> None:
        raise ValueError("the last step fails")

    with monkeypatch.context() as broken:
        broken.setattr(sqlite_known.KnownTopics, "shrink", fail)
        with pytest.raises(ValueError, match="last step"):
            await put_into(story.store.log, info, (envelope,), False, None)
    assert await put_into(story.store.log, info, (other, envelope), False, None) == (1, 2)
    await story.store.close()


async def test_the_data_of_an_older_relay_keeps_what_it_knew(tmp_path: Path) -> None:
    """There all hashes stand in the table."""
    story, info = await begin(tmp_path)
    envelopes = tuple(story.chance.randbytes(300) for _ in range(3))
    await put_into(story.store.log, info, envelopes, False, None)
    await story.store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db, db:
        for seq, envelope in enumerate(envelopes, start=1):
            row = (info.handle, hash_envelope(envelope), seq)
            db.execute("INSERT INTO hashes (topic, hash, seq) VALUES (?, ?, ?)", row)
        db.execute("ALTER TABLE topics DROP COLUMN indexed")
        db.execute("PRAGMA user_version = 2")
    await story.reopen(tmp_path)
    assert await put_into(story.store.log, info, envelopes[::-1], False, None) == (3, 2, 1)
    await story.store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        assert db.execute("SELECT count(*) FROM entries WHERE place > ?", (place_of(1, 3),)).fetchone() == (0,)
