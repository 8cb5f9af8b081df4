"""Searching a group: what is found, what never is, in which order; and that the index cannot drift. specs/search.md."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.social.search_index import SearchIndex
from cocoon_core.social.search_sources import SOURCES
from cocoon_core.social.search_words import read_query, spell_text
from cocoon_core.storage.search import SearchTable
from tests.support.world import Seat, World, make_world, rebuild_everything  # noqa: F401  a fixture


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


async def texts(seat: Seat, text: str = "", **options: Any) -> list[str]:
    return [result.text for result in await seat.group.search(text, **options)]


def oracle(seat: Seat, text: str) -> list[str]:
    """What a search must give, by looking at every row of every table."""
    needles, found = read_query(text), []
    for source in SOURCES:
        for thing, time_ms, *said in seat.replica.database.query(
            f"SELECT {source.identity}, time_ms, {', '.join(source.texts)} FROM {source.table} "
            f"WHERE group_no=? AND {source.is_kept} AND {source.is_shown}",
            (seat.replica.record.number,),
        ):
            if all(needle in spell_text(said) for needle in needles):
                found.append((time_ms, thing.hex()))
    return [thing for _, thing in sorted(found, reverse=True)]


async def require_level(seat: Seat, *queries: str) -> None:
    """The index gives what the tables hold, neither more nor less, and holds together."""
    for query in queries:
        assert [one.id for one in await seat.group.search(query, limit=1000)] == oracle(seat, query), query
    database = seat.replica.database
    database.execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)")
    rows = sum(
        int(database.query_value(f"SELECT count(*) FROM {source.table} WHERE {source.is_kept}")) for source in SOURCES
    )
    assert SearchTable(database).count() == rows


async def test_posts_replies_and_items_are_found(ana: Seat) -> None:
    post = await ana.group.feed.post("Who has the ladder?")
    reply = await ana.group.feed.reply(post.id, "The LADDER is in the Gewächshaus")
    with ana.replica.transaction():
        (item,) = ana.group.vault.index.write(
            [{"kind": "link", "url": "https://example.org/steps", "name": "Ladders", "caption": "see page 北京"}]
        )
    results = await ana.group.search("ladder")
    assert [(one.id, one.kind, one.parent) for one in results] == [
        (item.hex(), "link", None),
        (reply.id, "reply", post.id),
        (post.id, "post", None),
    ]
    assert results[1].author == "Ana"
    assert results[1].author_id == ana.group.me
    assert results[1].time == reply.time
    assert results[1].excerpt() == [("The ", False), ("LADDER", True), (" is in the Gewächshaus", False)]
    assert await texts(ana, "haus ladd") == ["The LADDER is in the Gewächshaus"]
    assert [one.id for one in await ana.group.search("北京")] == [item.hex()]
    assert [one.kind for one in await ana.group.search("example.org/st")] == ["link"]
    assert await texts(ana, "…") == []
    assert len(await texts(ana)) == 3


async def test_by_author_time_and_kind(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    posts = []
    for number in range(6):
        seat = (ana, ben)[number % 2]
        world.now_ms += 3_600_000
        posts.append(await seat.group.feed.post(f"number {number}"))
    await ben.group.feed.reply(posts[1].id, "number and answer")
    await world.level()
    me = ben.group.me
    for seat in (ana, ben):
        assert await texts(seat, "number", author=me, kind="post") == ["number 5", "number 3", "number 1"]
        assert await texts(seat, author=me, kind=("reply", "photo")) == ["number and answer"]
        assert await texts(seat, "num", since=posts[2].time, until=posts[4].time) == ["number 3", "number 2"]
        assert await texts(seat, "num", until=posts[1].time) == ["number 0"]
        assert await texts(seat, "number", limit=2) == ["number and answer", "number 5"]
        assert await texts(seat, since=posts[5].time + timedelta(days=1)) == []
    assert await ana.group.search("number", limit=1000) == await ben.group.search("number", limit=1000)


async def fill(seat: Seat, number: int = 150) -> None:
    """So many things that one is taken away by itself, and not by wiping all."""
    links = [{"kind": "link", "url": "https://f.org/", "name": f"filler {n}"} for n in range(number)]
    with seat.replica.transaction():
        seat.group.vault.index.write(links)
    assert len(await texts(seat, "filler", limit=1000)) == number


async def test_what_is_erased_or_taken_away_is_not_found_and_leaves_every_page(ana: Seat) -> None:
    await fill(ana)
    secret = "ϟϡϛ flies"  # letters that the index has to hold as they are: nothing else begins so
    post = await ana.group.feed.post(secret)
    with ana.replica.transaction():
        (item,) = ana.group.vault.index.write([{"kind": "link", "url": "https://c.org/", "name": secret}])
    assert len(await texts(ana, "ϟϡϛ")) == 2

    def holds(seat: Seat) -> set[str]:
        rows = {
            table: seat.replica.database.query(f"SELECT * FROM {table}")
            for table in ("search_index_data", "search_texts", "search_todo")
        }
        letters = "ϡϛ".encode()[1:]
        return {
            table
            for table, found in rows.items()
            if any(
                letters in (value if isinstance(value, bytes) else str(value).encode())
                for row in found
                for value in row
            )
        }

    assert holds(ana) == {"search_index_data", "search_texts"}
    ana.group.vault.index.remove([item])
    assert len(await texts(ana, "ϟϡϛ")) == 1
    assert SearchTable(ana.replica.database).count() == 151, "it was taken away by itself"
    await ana.group.feed.erase(post.id)
    assert SearchTable(ana.replica.database).has_todo()
    await ana.restart()  # closing lets it go, with no search and no sync
    assert SearchTable(ana.replica.database).count() == 150
    assert holds(ana) == set()
    assert await texts(ana, "ϟϡϛ") == []
    await require_level(ana, "filler", "filler 7", "f")


async def test_edited_deleted_and_hidden_posts(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first = await ben.group.feed.post("soup with leeks")
    second = await ben.group.feed.post("soup with peas")
    third = await ben.group.feed.reply(second.id, "soup to go")
    await world.level()
    await require_level(ana, "soup", "leeks")
    await ben.group.feed.edit(first.id, "salad with leeks")
    await ben.group.feed.delete(second.id)
    await ana.group.feed.hide(third.id)
    await world.level()
    for seat in (ana, ben):
        await require_level(seat, "soup", "salad", "leeks")
        assert await texts(seat, "soup") == []
        assert await texts(seat, "leeks") == ["salad with leeks"]
    await ana.group.feed.unhide(third.id)
    await world.level()
    assert await texts(ben, "soup") == ["soup to go"]


async def test_what_is_written_together_is_found(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.lists.new("Soup", ["leeks", "potatoes"])
    note = await ana.group.notes.new("Recipe", "boil the leeks")
    event = await ana.group.calendar.new("Soup evening", datetime(2026, 10, 1, 18, tzinfo=UTC), place="Leek street")
    await world.level()
    for seat in (ana, ben):
        found = {one.kind: one for one in await seat.group.search("leek")}
        assert found.keys() == {"list-item", "note", "event"}
        assert found["note"].id == note.id
        assert (found["note"].author, found["note"].author_id) == ("", None)
        assert found["list-item"].parent == made.id
        assert (found["event"].id, found["event"].author) == (event.id, "Ana")
        assert [one.id for one in await seat.group.search("soup", kind="list")] == [made.id]
    await ben.group.notes.write(note.id, "boil the peas")
    await ben.group.lists.drop(made.id, "leeks")
    await world.level()
    for seat in (ana, ben):
        await require_level(seat, "leek", "peas", "soup", "o")
        assert {one.kind for one in await seat.group.search("leek")} == {"event"}


async def test_a_stale_row_shows_nothing(ana: Seat) -> None:
    """Were the triggers ever wrong, a search would cost time and show nothing that is not there."""
    await ana.group.feed.post("still there")
    await ana.group.feed.post("not there")
    assert len(await texts(ana, "there")) == 2
    database = ana.replica.database
    database.execute("DROP TRIGGER search_posts_gone")
    database.execute("DELETE FROM posts WHERE text='not there'")
    assert await texts(ana, "there") == ["still there"]


async def test_the_latest_stand_first_whatever_their_order_of_arrival(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    chance = Random(5)
    for number in range(120):
        seat = chance.choice((ana, ben))
        seat.skew_ms = chance.choice((0, -86_400_000, 86_400_000, -1_000, 7_200_000))
        await seat.group.feed.post(f"entry {number}")
        if chance.random() < 0.1:
            await world.level()
            for one in (ana, ben):
                await require_level(one, "entry")
    await world.level()
    for seat in (ana, ben):
        everything = oracle(seat, "entry")
        for limit in (1, 2, 10, 119):
            assert [one.id for one in await seat.group.search("entry", limit=limit)] == everything[:limit]


async def test_of_one_instant_any_number_is_found(ana: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ana.replica, "clock", lambda: 1_790_000_000_000)
    with ana.replica.transaction():
        ana.group.vault.index.write(
            [{"kind": "link", "url": f"https://e.org/{n}", "name": f"thing {n}"} for n in range(700)]
        )
    await require_level(ana, "thing", "thing 69", "e.org/1")
    at = datetime.fromtimestamp(1_790_000_000, UTC)
    assert len(await texts(ana, "thing", since=at, until=at + timedelta(milliseconds=1), limit=1000)) == 700
    assert await texts(ana, "thing", until=at) == []
    monkeypatch.setattr(ana.replica, "clock", lambda: 1_790_000_001_000)
    later = await ana.group.feed.post("thing later")
    assert [one.id for one in await ana.group.search("thing", limit=1)] == [later.id]


async def test_the_index_cannot_drift(world: World) -> None:
    """Whatever happens to the tables, between any two searches, what is found is what they hold."""
    chance = Random(23)
    ana, ben = await world.group("ana", "ben")
    words = ["soup", "ladder", "北京", "ok", "Größe", "c++"]
    known: list[str] = []
    for step in range(90):
        match chance.randrange(9):
            case 0 | 1 | 2 | 3:
                said = " ".join(chance.choices(words, k=chance.randrange(1, 4)))
                known.append((await ana.group.feed.post(said)).id)
            case 4:
                with ana.replica.transaction():
                    ana.group.vault.index.write(
                        [{"kind": "link", "url": "https://e.org", "name": chance.choice(words)}]
                    )
            case 5 if known:
                await ana.group.feed.erase(known.pop(chance.randrange(len(known))))
            case 6:
                items = await ana.group.vault.items(limit=1)
                if items:
                    await ana.group.vault.remove(items[0].id)
            case 7:
                rebuild_everything(ana)
            case 8:
                await world.level()
        if chance.random() < 0.3:
            await require_level(ana, *words)
        if step == 45:
            await ana.restart()
    await world.level()
    for seat in (ana, ben):
        await require_level(seat, *words)


async def test_a_row_that_gets_the_number_of_one_that_went_is_taken_in(ana: Seat) -> None:
    """SQLite gives the highest rowid anew: what follows by rowids has to notice."""
    await fill(ana)
    database = ana.replica.database
    await ana.group.feed.post("first")
    await ana.group.feed.post("second")
    assert len(await texts(ana, "second")) == 1
    row = database.query_one("SELECT rowid, * FROM posts ORDER BY rowid DESC LIMIT 1")
    columns = [name for (name,) in database.query("SELECT name FROM pragma_table_info('posts') ORDER BY cid")]
    assert row is not None
    values = dict(zip(columns, row[1:], strict=True)) | {"post": b"\x07" * 16, "text": "somebody else"}
    with database.transaction():
        database.execute("DELETE FROM posts WHERE rowid=?", (row[0],))
        database.execute(
            f"INSERT INTO posts ({', '.join(values)}) VALUES ({','.join('?' * len(values))})", tuple(values.values())
        )
    assert database.query_value("SELECT max(rowid) FROM posts") == row[0]
    assert await texts(ana, "somebody") == ["somebody else"]
    assert await texts(ana, "second") == []


async def test_groups_stay_apart_and_a_group_that_goes_takes_its_words_along(world: World) -> None:
    ana = await world.seat("ana")
    url = world.add_relay().url
    family = await ana.running.create_group("Family", member_name="Ana", relays=[url])
    band = await ana.running.create_group("Band", member_name="Annie", relays=[url])
    await family.feed.post("soup for the family")
    for number in range(3):
        await band.feed.post(f"soup for the band {number}")
    assert [one.text for one in await family.search("soup")] == ["soup for the family"]
    assert len(await band.search("soup", author=band.me)) == 3
    assert await band.search("soup", author=family.me) == []
    ana.running._forget(family.replica.record)
    table = SearchTable(band.replica.database)
    database = band.replica.database
    assert database.query("SELECT words FROM search_texts WHERE instr(words, 'family')") == []
    assert len(await band.search("soup")) == 3
    assert table.count() == 3
    database.execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)")


async def test_much_that_goes_at_once_is_wiped_and_the_rest_taken_in_again(ana: Seat) -> None:
    for number in range(40):
        await ana.group.feed.post(f"one of many {number}")
    await require_level(ana, "many")
    database = ana.replica.database
    database.execute("DELETE FROM posts WHERE rowid % 2")
    index = SearchIndex(database)
    assert not index.is_level()
    assert not index.follow(), "everything was wiped"
    assert SearchTable(database).count() == 0
    assert len(await texts(ana, "many")) == 20
    await require_level(ana, "many", "many 1")


async def test_others_get_turns_while_much_is_taken_in(ana: Seat) -> None:
    with ana.replica.transaction():
        ana.group.vault.index.write(
            [{"kind": "link", "url": "https://e.org", "name": f"thing {n}"} for n in range(2_500)]
        )
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    assert len(await texts(ana, "thing", limit=3)) == 3
    counting.cancel()
    assert turns >= 3


@pytest.mark.parametrize(
    "typed",
    ['"', '"a" OR "b"', "a*", "a AND", "NEAR(a b)", "{words}: x", "^soup", "-soup", "soup)", "'; DROP TABLE posts; --"],
)
async def test_nothing_typed_is_a_query_language(ana: Seat, typed: str) -> None:
    await ana.group.feed.post("soup")
    await ana.group.feed.post(f"written as {typed}")
    found = await texts(ana, typed)
    assert found == [] or f"written as {typed}" in found
    assert len(await texts(ana)) == 2


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 1_001}, {"kind": "cake"}, {"text": "x" * 1_001}, {"kind": ["post", "'"]}]
)
async def test_what_cannot_be_asked(ana: Seat, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await ana.group.search(**options)


async def test_who_is_no_member_any_more_is_named(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.feed.post("soup of ben")
    await world.level()
    assert ben.group.me is not None
    await ana.group.remove_member(ben.group.me)
    assert [one.author for one in await ana.group.search("soup")] == ["Ben"]


async def test_a_backup_leaves_search_out_and_the_restored_profile_finds_all(ana: Seat) -> None:
    from cocoon_core.storage.dump import dump, load, read_records

    await ana.group.feed.post("soup before")
    await ana.group.feed.erase((await ana.group.feed.post("soup erased")).id)
    await require_level(ana, "soup")
    database = ana.replica.database
    before = oracle(ana, "soup")
    with database.transaction():
        records = list(dump(database, 1))
    assert b"search_texts" not in b"".join(records)
    for table in ("search_texts", "search_todo"):
        assert database.query_value(f"SELECT count(*) FROM {table}") is not None
    from cocoon_core.protocol.primitives import Secret
    from cocoon_core.storage.database import Database

    path = ana.home / "restored.db"
    path.touch()
    fresh = Database.open(path, Secret(b"\x05" * 32))
    load(fresh, read_records(iter(records)))
    index = SearchIndex(fresh)
    assert not index.is_level()
    assert index.follow()
    assert [row.thing.hex() for row in index.table.match('"oup"', None, None)] == before
    fresh.close()
