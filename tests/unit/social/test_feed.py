"""The feed as a member sees it: order, pages, threads, ids, and texts that cannot be."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.social.post_view import MAX_TEXT_BYTES, post_id
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything  # noqa: F401  a fixture


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


async def test_the_newest_stand_first_and_pages_meet(ana: Seat) -> None:
    feed = ana.group.feed
    posts = [await feed.post(f"post {number}") for number in range(23)]
    newest_first = [post.id for post in reversed(posts)]
    assert [post.id for post in await feed.list(limit=1000)] == newest_first
    paged: list[str] = []
    while page := await feed.list(limit=5, before=paged[-1] if paged else None):
        assert len(page) <= 5
        paged += [post.id for post in page]
    assert paged == newest_first


async def test_posts_of_one_instant_are_in_one_order_and_on_one_page_each(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)

    def at_once(root: Any) -> None:
        for number in range(9):
            root[f"post:{number}"] = {"at": 1_790_000_000_000, "text": f"post {number}"}

    written = forger.write((forger.feed(), forger.change(forger.feed(), at_once)))
    inject(next(iter(world.relays.values())), ana.replica.epoch, written)
    await ana.sync()
    feed = ana.group.feed
    expected = sorted((post.id for post in await feed.list()), reverse=True)
    assert len(expected) == 9
    assert [post.id for post in await feed.list()] == expected
    assert [post.id for post in await feed.list(limit=4, before=expected[3])] == expected[4:8]


async def test_what_is_written_in_one_millisecond_stands_in_its_order(
    ana: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mended: where a post takes less, each stood before the other as their ids had it."""
    feed, now_ms = ana.group.feed, 1_790_000_000_000
    monkeypatch.setattr(ana.replica, "clock", lambda: now_ms)
    posts = [await feed.post(f"post {number}") for number in range(5)]
    replies = [await feed.reply(posts[0].id, f"reply {number}") for number in range(5)]
    assert [post.id for post in await feed.list()] == [post.id for post in reversed(posts)]
    assert [post.id for post in await feed.thread(posts[0].id)] == [posts[0].id, *(post.id for post in replies)]
    now_ms -= 1_000  # and a clock that was set back is followed
    assert (await feed.post("before")).time < posts[0].time


async def test_a_clock_that_goes_back_moves_nothing_that_is_there(ana: Seat) -> None:
    first = await ana.group.feed.post("first")
    ana.skew_ms = -86_400_000
    second = await ana.group.feed.post("a day before")
    assert [post.id for post in await ana.group.feed.list()] == [first.id, second.id]


async def test_a_thread_is_its_root_and_all_replies_by_the_time_shown(ana: Seat) -> None:
    feed = ana.group.feed
    root = await feed.post("root")
    one = await feed.reply(root.id, "one")
    two = await feed.reply(root.id, "two")
    ana.skew_ms = -86_400_000  # this reply claims to be older than what it replies to
    under_two = await feed.reply(two.id, "under two")
    ana.skew_ms = 0
    three = await feed.reply(root.id, "three")
    wanted = ["root", "one", "two", "under two", "three"]
    for start in (root, one, under_two, three):
        thread = await feed.thread(start.id)
        assert thread[0].id == root.id
        assert [post.text for post in thread] in (wanted, ["root", "one", "under two", "two", "three"])
        assert [post.text for post in thread].index("two") < 4
    assert (await feed.get(root.id)).replies == 3
    assert [post.text for post in await feed.list()] == ["root"]


async def test_random_threads_are_the_same_for_everybody_and_begin_with_their_root(world: World) -> None:
    chance = Random(7)
    seats = await world.group("ana", "ben", "chi")
    ids: list[str] = []
    for number in range(60):
        seat = chance.choice(seats)
        seat.skew_ms = chance.randrange(-5_000, 5_000)
        if ids and chance.random() < 0.8:
            try:
                post = await seat.group.feed.reply(chance.choice(ids), f"{number}")
            except UnknownItemError:
                await seat.sync()
                continue
        else:
            post = await seat.group.feed.post(f"{number}")
        ids.append(post.id)
        if chance.random() < 0.2:
            await seat.sync()
    await world.level()
    for reference in ids:
        threads = [await seat.group.feed.thread(reference) for seat in seats]
        assert threads[0] == threads[1] == threads[2]
        shown: dict[str, Any] = {}
        for post in threads[0]:
            shown[post.id] = post
            assert post.parent is None or post.parent in {p.id for p in threads[0]}
    for seat in seats:
        before = await seat.group.feed.list(limit=1000)
        rebuild_everything(seat)
        assert await seat.group.feed.list(limit=1000) == before


async def test_replies_in_a_circle_are_shown_and_end(world: World) -> None:
    """Only malice makes one: a post's id is known before it is written."""
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    document = forger.feed().document_id(forger.group)
    ids = [post_id(document, f"post:{n}") for n in range(3)]

    def circle(root: Any) -> None:
        for n in range(3):
            root[f"post:{n}"] = {"at": 1000 + n, "text": f"{n}", "re": ids[(n + 1) % 3]}
        root["post:9"] = {"at": 5, "text": "its own parent", "re": post_id(document, "post:9")}

    inject(
        next(iter(world.relays.values())),
        ana.replica.epoch,
        forger.write((forger.feed(), forger.change(forger.feed(), circle))),
    )
    await ana.sync()
    for id_ in ids:
        thread = await ana.group.feed.thread(id_.hex())
        assert sorted(post.text for post in thread) == ["0", "1", "2"]
        assert thread[0].id == min(ids).hex()
    assert [post.text for post in await ana.group.feed.list()] == ["its own parent"]
    await ana.group.feed.reply(ids[0].hex(), "into the circle")
    assert len(await ana.group.feed.thread(ids[1].hex())) == 4


ODD: list[Any] = [
    {"at": 1},
    {"text": "no time"},
    {"at": "1", "text": "x"},
    {"at": 1, "text": b"bytes"},
    {"at": True, "text": "x"},
    {"at": 1.5, "text": "x"},
    "text",
    7,
    None,
    [1, 2],
    {"at": 1, "text": ["x"]},
]


@pytest.mark.parametrize("value", ODD, ids=ascii)
async def test_what_is_no_post_is_not_shown(world: World, value: Any) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    raw = forger.change(forger.feed(), lambda root: root.__setitem__("post:0", value))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ana.group.feed.post("sound")
    await ana.sync()
    assert [post.text for post in await ana.group.feed.list()] == ["sound"]


@pytest.mark.parametrize("parent", [b"", b"\x01" * 15, b"\x01" * 17, "text", 5, None, {"a": 1}], ids=ascii)
async def test_a_parent_that_is_no_id_makes_it_a_post(world: World, parent: Any) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    value = {"at": 1, "text": "odd", "re": parent}
    raw = forger.change(forger.feed(), lambda root: root.__setitem__("post:0", value))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ana.sync()
    (post,) = await ana.group.feed.list()
    assert post.parent is None


async def test_a_reply_whose_parent_is_not_here_waits_for_it_in_no_list(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    raw = forger.change(
        forger.feed(), lambda root: root.__setitem__("post:0", {"at": 1, "text": "?", "re": b"\x07" * 16})
    )
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((forger.feed(), raw)))
    await ana.sync()
    assert await ana.group.feed.list() == []


# --- ids and limits


async def test_a_post_is_named_by_a_unique_beginning_of_its_id(ana: Seat) -> None:
    post = await ana.group.feed.post("one")
    for reference in (post.id, post.id[:4], post.id[:7], post.id.upper(), f" {post.id[:9]} "):
        assert (await ana.group.feed.get(reference)).id == post.id


@pytest.mark.parametrize(
    "reference", ["", "abc", "zzzz", "0" * 33, "g" * 32, "💥💥💥💥", "12 34", "-1-1", "'; --"], ids=ascii
)
async def test_what_names_no_post_is_said(ana: Seat, reference: str) -> None:
    await ana.group.feed.post("one")
    for act in (ana.group.feed.get, ana.group.feed.thread):
        with pytest.raises(UnknownItemError):
            await act(reference)
    with pytest.raises(UnknownItemError):
        await ana.group.feed.reply(reference, "to nothing")
    with pytest.raises(UnknownItemError):
        await ana.group.feed.list(before=reference or "none")


async def test_a_beginning_of_two_ids_is_said(ana: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([b"\xab\xcd" + b"\x01" * 14, b"\xab\xcd" + b"\x02" * 14])
    made: dict[Any, bytes] = {}

    def same_beginning(document: Any, key: str) -> bytes:
        return made.setdefault(key, next(ids)) if key not in made else made[key]

    monkeypatch.setattr("cocoon_core.social.post_view.post_id", same_beginning)
    monkeypatch.setattr("cocoon_core.social.feed_writing.post_id", same_beginning)
    await ana.group.feed.post("one")
    await ana.group.feed.post("two")
    with pytest.raises(UnknownItemError, match="more than one"):
        await ana.group.feed.get("abcd")
    assert (await ana.group.feed.get("abcd01")).text == "one"


@pytest.mark.parametrize("text",
                         ["", "   ", "\n\t", "x" * (MAX_TEXT_BYTES + 1), "é" * (MAX_TEXT_BYTES // 2 + 1), "\ud800"],
                         ids=["empty", "blank", "white", "long", "long in bytes", "surrogate"])  # fmt: skip
async def test_a_text_that_cannot_be_posted_is_said_and_leaves_nothing(ana: Seat, text: str) -> None:
    with pytest.raises(UsageError):
        await ana.group.feed.post(text)
    assert await ana.group.feed.list() == []
    assert ana.group.unsent() == 0


async def test_the_longest_text_can_be_posted_and_read_elsewhere(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    text = "x" * (MAX_TEXT_BYTES - 4) + "💥"
    await ana.group.feed.post(text)
    await world.level()
    assert await ben.texts() == [text]


async def test_a_limit_below_one_is_said(ana: Seat) -> None:
    with pytest.raises(UsageError):
        await ana.group.feed.list(limit=0)


async def test_a_month_is_a_document_of_its_own(ana: Seat) -> None:
    await ana.group.feed.post("in september")
    ana.skew_ms = 31 * 86_400_000
    await ana.group.feed.post("in october")
    names = {record.descriptor.name for record in ana.replica.documents.all()}
    assert names == {"feed/2026-09", "feed/2026-10"}
    assert [post.text for post in await ana.group.feed.list()] == ["in october", "in september"]
