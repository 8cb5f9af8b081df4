"""Erasing posts: what goes, what stays as it was, and what the others see."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.sync.events import GroupEvent
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of

__all__ = ["make_world"]


async def everything(seats: list[Seat]) -> None:
    """All hold the same, and so do they when all is built anew or loaded again."""
    reference = await state_of(seats[0])
    for seat in seats:
        assert await state_of(seat) == reference, seat.name
        rebuild_everything(seat)
        assert await state_of(seat) == reference, seat.name
        await seat.restart()
        assert await state_of(seat) == reference, seat.name


async def test_a_post_is_erased_and_all_else_stays_as_it_was(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first = await ana.group.feed.post("first")
    second = await ana.group.feed.post("second")
    await world.level()
    reply = await ben.group.feed.reply(second.id, "to the second")
    await world.level()
    before = {post.id: post for post in await ana.group.feed.list()}
    (erased,) = await ana.group.feed.erase(second.id[:8])
    assert (erased.id, erased.text, erased.erased, erased.time) == (second.id, "", True, second.time)
    await world.level()
    for seat in (ana, ben):
        shown = {post.id: post for post in await seat.group.feed.list()}
        assert shown[first.id] == before[first.id]
        assert shown[second.id].erased
        assert (shown[second.id].text, shown[second.id].replies) == ("", 1)
        assert [post.id for post in await seat.group.feed.thread(reply.id)] == [second.id, reply.id]
    third = await ana.group.feed.post("third")
    await world.level()
    assert (await ben.group.feed.get(third.id)).text == "third"
    assert third.id not in before
    await everything([ana, ben])


async def test_only_its_author_can_erase_a_post(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("hers")
    own = await ben.group.feed.post("his")
    await world.level()
    with pytest.raises(UsageError, match="only its author"):
        await ben.group.feed.erase(own.id, post.id)
    assert (await ben.group.feed.get(own.id)).text == "his"
    with pytest.raises(UnknownItemError):
        await ben.group.feed.erase("00" * 16)


async def test_erasing_twice_is_erasing_once(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("gone")
    await ana.group.feed.erase(post.id)
    entries = ana.replica.chains[ana.device].last_seq
    await ana.group.feed.erase(post.id)
    assert ana.replica.chains[ana.device].last_seq == entries


async def test_posts_of_several_months_are_erased_at_once(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    early = [await ana.group.feed.post(f"early {n}") for n in range(3)]
    world.now_ms += 40 * 86_400_000
    late = [await ana.group.feed.post(f"late {n}") for n in range(3)]
    await ana.group.feed.erase(early[1].id, late[2].id, early[0].id)
    await world.level()
    assert [post.text for post in await ben.group.feed.list()] == ["", "late 1", "late 0", "early 2", "", ""]
    await everything([ana, ben])


async def test_generation_after_generation(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    posts = [await ana.group.feed.post(f"post {n}") for n in range(4)]
    for number in range(3):
        await ana.group.feed.erase(posts[number].id)
        await world.level()
    assert [post.text for post in await ben.group.feed.list()] == ["post 3", "", "", ""]
    assert [post.id for post in await ben.group.feed.list()] == [post.id for post in reversed(posts)]
    await everything([ana, ben])


async def test_many_posts_take_several_changes(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    posts = [await ana.group.feed.post(f"post {n} " + "x" * 1500) for n in range(150)]
    await ana.group.feed.erase(posts[75].id)
    await world.level()
    texts = [post.text.split("x")[0] for post in await ben.group.feed.list(limit=200)]
    assert texts == [f"post {n} " if n != 75 else "" for n in reversed(range(150))]
    await everything([ana, ben])


async def test_an_edit_that_is_open_is_not_pulled_away(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("one")
    async with ana.group.document("diary").change() as doc:
        doc["a"] = 1
        with pytest.raises(UsageError, match="edit"):
            await ana.group.feed.erase(post.id)
    assert (await ana.group.feed.get(post.id)).text == "one"


async def test_a_newcomer_after_a_rotation_sees_it_as_erased(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    kept = await ana.group.feed.post("kept")
    gone = await ana.group.feed.post("gone")
    await world.level()
    await ana.group.feed.erase(gone.id)
    await ana.group.rotate()
    await world.level()
    link = await ana.group.invite()
    await ana.sync()
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    await world.level()
    assert [(post.id, post.text, post.erased) for post in await chi.group.feed.list()] == [
        (gone.id, "", True),
        (kept.id, "kept", False),
    ]
    await chi.group.rotate()  # a newcomer's manifest says so too
    await world.level()
    await everything([ana, ben, chi])


async def test_a_watcher_is_shown_what_was_erased_and_not_all_that_was_copied(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    posts = [await ana.group.feed.post(f"post {n}") for n in range(5)]
    await world.level()
    events: list[GroupEvent] = []
    ben.replica.listen(events.append)
    await ana.group.feed.erase(posts[2].id)
    new = await ana.group.feed.post("new")
    await world.level()
    told = {post.id: post.erased for event in events for post in await ben.group.feed.changed(event)}
    assert told == {posts[2].id: True, new.id: False}
