"""Reading the feed: pages that hold while others write, what is new, and what comes from the future."""

from __future__ import annotations

from random import Random

import pytest

from cocoon_core.errors import UnknownItemError
from tests.support.world import Seat, World, make_world, rebuild_everything

__all__ = ["make_world"]

DAY_MS = 86_400_000


async def texts_of_new(seat: Seat) -> list[list[str]]:
    return [[post.text for post in thread if post.unread] for thread in await seat.group.feed.new()]


# --- pages


async def test_pages_meet_whatever_is_written_deleted_and_erased_between_them(world: World) -> None:
    chance = Random(3)
    ana, ben = await world.group("ana", "ben")
    written = [await ana.group.feed.post(f"post {number}") for number in range(40)]
    mine = {post.id for post in written}
    seen: list[str] = []
    gone: set[str] = set()
    place: str | None = None
    while True:
        page = await ana.group.feed.page(limit=7, before=place)
        seen += [post.id for post in page.posts]
        place = page.next
        if place is None:
            break
        last = page.posts[-1].id  # the very post at which the next page begins, and others
        for post in ({last, chance.choice(written).id} & mine) - gone:
            gone.add(post)
            await (ana.group.feed.erase(post) if chance.random() < 0.3 else ana.group.feed.delete(post))
        ben.skew_ms = -chance.randrange(60) * 1000
        await ben.group.feed.post("newer, or among them")
        await world.level()
    assert len(seen) == len(set(seen))
    own = [post for post in seen if post in mine]
    assert own == sorted(own, key=[post.id for post in reversed(written)].index)
    assert mine - set(own) <= gone


async def test_the_last_page_says_so(world: World) -> None:
    (ana,) = await world.group("ana")
    assert (await ana.group.feed.page()).posts == ()
    for number in range(4):
        await ana.group.feed.post(f"{number}")
    first = await ana.group.feed.page(limit=2)
    assert first.next is not None
    second = await ana.group.feed.page(limit=2, before=first.next)
    assert [post.text for post in (*first.posts, *second.posts)] == ["3", "2", "1", "0"]
    assert second.next is None
    assert (await ana.group.feed.list(before=first.next)) == list(second.posts)
    for odd in ("-", "0-0", f"{'g' * 12}-{'0' * 32}", f"{'0' * 12}-{'g' * 32}"):
        with pytest.raises(UnknownItemError):
            await ana.group.feed.page(before=odd)


# --- new


async def test_what_came_since_one_was_here_is_new_until_it_is_read(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.feed.post("before she ever looked")
    await world.level()
    assert (await ana.group.feed.unread(), ana.group.feed.last_here) == (0, None)
    await ana.group.feed.note_here()
    assert ana.group.feed.last_here is not None
    own = await ana.group.feed.post("her own")
    await world.level()
    reply = await ben.group.feed.reply(own.id, "a reply")
    post = await ben.group.feed.post("a post")
    await world.level()
    for _ in range(2):
        assert await ana.group.feed.unread() == 2
        assert await texts_of_new(ana) == [["a post"], ["a reply"]]
        (thread,) = [thread for thread in await ana.group.feed.new() if len(thread) > 1]
        assert [one.id for one in thread] == [own.id, reply.id], "with what it answers"
        rebuild_everything(ana)
        await ana.restart()
    await ana.group.feed.note_here([reply.id[:10]])
    assert await texts_of_new(ana) == [["a post"]]
    assert (await ana.group.feed.get(post.id)).unread
    await ana.group.feed.mark_all_read()
    assert await ana.group.feed.unread() == 0
    assert not (await ana.group.feed.get(post.id)).unread
    assert await ben.group.feed.unread() == 0, "what one has read, and whether, is one's own"


async def test_what_is_edited_erased_or_shown_again_is_not_new(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first, second = await ben.group.feed.post("first"), await ben.group.feed.post("second")
    await world.level()
    await ana.group.feed.note_here()
    await ben.group.feed.edit(first.id, "first, edited")
    await world.level()
    await ben.group.feed.erase(second.id)
    await world.level()
    await ben.group.rotate()
    await world.level()
    assert await ana.group.feed.unread() == 0
    third = await ben.group.feed.post("third")
    await world.level()
    assert await texts_of_new(ana) == [["third"]]
    await ben.group.feed.delete(third.id)
    await world.level()
    assert (await ana.group.feed.unread(), await ana.group.feed.new()) == (0, [])


async def test_who_slept_finds_all_that_came_meanwhile_as_new_and_a_newcomer_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await world.level()
    await ana.group.feed.note_here()
    for number in range(3):
        await ben.group.feed.post(f"post {number}")
        await ben.group.rotate()  # it comes to her by manifests
        await ben.sync()
        world.now_ms += 20 * DAY_MS
    await ana.sync()
    assert sorted(text for thread in await texts_of_new(ana) for text in thread) == ["post 0", "post 1", "post 2"]
    invite = await ben.group.invite()
    await ben.sync()
    chi = await world.seat("chi")
    await chi.running.join(invite, member_name="Chi")
    await world.level()
    await chi.group.feed.note_here()
    assert await chi.group.feed.unread() == 0
    await ben.group.feed.post("hello Chi")
    await world.level()
    assert await texts_of_new(chi) == [["hello Chi"]]


async def test_another_device_of_ones_own_writes_nothing_new(world: World) -> None:
    from tests.support.linking import link

    (laptop,) = await world.group("ana")
    phone = await world.seat("phone")
    await link(laptop, phone)
    await world.level()
    await phone.group.feed.note_here()
    await laptop.group.feed.post("from the laptop")
    await world.level()
    assert (await phone.texts(), await phone.group.feed.unread()) == (["from the laptop"], 0)


# --- clocks


async def test_a_post_from_the_future_is_marked_and_stands_where_all_show_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    ben.skew_ms = 3_500_000
    near = await ben.group.feed.post("clocks differ")
    ben.skew_ms = 3_700_000
    far = await ben.group.feed.post("from the future")
    await world.level()
    order = [post.id for post in await ana.group.feed.list()]
    assert order == [far.id, near.id] == [post.id for post in await ben.group.feed.list()]
    assert [post.future for post in await ana.group.feed.list()] == [True, False]
    world.now_ms += 3_700_000
    assert [post.future for post in await ana.group.feed.list()] == [False, False]
    assert [post.id for post in await ana.group.feed.list()] == order


@pytest.mark.parametrize("seed", range(4))
async def test_devices_with_wrong_clocks_show_one_order(world: World, seed: int) -> None:
    chance = Random(seed)
    seats = await world.group("ana", "ben", "chi")
    for seat in seats:
        seat.skew_ms = chance.choice([-400 * DAY_MS, -90_000, 0, 90_000, 40 * DAY_MS, 400 * DAY_MS])
    for number in range(30):
        seat = chance.choice(seats)
        posts = await seat.group.feed.list()
        own = [post for post in posts if post.author_id == seat.group.me and not post.deleted]
        if own and chance.random() < 0.2:
            await seat.group.feed.edit(chance.choice(own).id, f"edited {number}")
        elif own and chance.random() < 0.1:
            await seat.group.feed.delete(chance.choice(own).id)
        elif posts and chance.random() < 0.5:
            await seat.group.feed.reply(chance.choice(posts).id, f"reply {number}")
        else:
            await seat.group.feed.post(f"post {number}")
        if chance.random() < 0.3:
            await chance.choice(seats).sync()
    await world.level()
    shown = [await seat.group.feed.list(limit=100) for seat in seats]
    assert shown[0] == shown[1] == shown[2]
    for post in shown[0]:
        threads = [await seat.group.feed.thread(post.id) for seat in seats]
        assert threads[0] == threads[1] == threads[2]
        times = {one.id: one.time for one in threads[0]}
        places = [one.id for one in threads[0]]
        assert all(places.index(one.parent) < places.index(one.id) for one in threads[0] if one.parent in times)
