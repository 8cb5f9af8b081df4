"""What admins hide and pin: seen by all, taken away from nobody, and by nobody else."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_PINNED
from cocoon_core.social.circle_view import CIRCLE, read_marks
from tests.support.world import Seat, World, make_world, posts_table, rebuild_everything, state_of

__all__ = ["make_world"]


async def agree(seats: list[Seat]) -> None:
    """All show the same marks, and so do they when all is built anew or loaded again."""
    reference = await state_of(seats[0])
    for seat in seats:
        assert await state_of(seat) == reference, seat.name
        rebuild_everything(seat)
        await seat.restart()
        assert await state_of(seat) == reference, seat.name
        assert (await seat.running.check()).findings == ()


async def test_a_hidden_post_is_seen_as_hidden_and_read_on_request_alone(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    note = world.folder / "note.txt"
    note.write_text("a file")
    post = await ben.group.feed.post("@Ana harsh words", [note])
    await world.level()
    reply = await ana.group.feed.reply(post.id, "please", quote=post.id)
    await ana.group.feed.hide(post.id[:8])
    await world.level()
    for seat in (ana, ben):
        feed = seat.group.feed
        for shown in (*await feed.list(), await feed.get(post.id), (await feed.thread(reply.id))[0]):
            assert (shown.id, shown.hidden, shown.text) == (post.id, True, "")
            assert (shown.attachments, shown.missing, shown.mentions, shown.replies) == ((), 0, (), 1)
        quoted = (await feed.get(reply.id)).quoted
        assert quoted is not None
        assert (quoted.hidden, quoted.text, quoted.author) == (True, "", "Ben")
        with pytest.raises(UsageError, match="hid"):
            await feed.versions(post.id)
        for revealed in (await feed.get(post.id, reveal=True), (await feed.thread(post.id, reveal=True))[0]):
            assert (revealed.hidden, revealed.text, len(revealed.attachments)) == (True, "@Ana harsh words", 1)
        assert [one.text for one in await feed.versions(post.id, reveal=True)] == ["@Ana harsh words"]
    await agree([ana, ben])
    await ana.group.feed.unhide(post.id)
    await world.level()
    assert (await ben.group.feed.get(post.id)).text == "@Ana harsh words"
    await agree([ana, ben])


async def test_its_author_edits_and_takes_back_a_hidden_post(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ben.group.feed.post("harsh words")
    await world.level()
    await ana.group.feed.hide(post.id)
    await world.level()
    await ben.group.feed.edit(post.id, "kind words")
    await world.level()
    assert (await ana.group.feed.get(post.id)).text == ""
    assert (await ana.group.feed.get(post.id, reveal=True)).text == "kind words"
    await ben.group.feed.delete(post.id)
    await world.level()
    assert await ana.group.feed.list() == []


async def test_only_admins_hide_and_pin(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("hers")
    await world.level()
    feed = ben.group.feed
    for act, what in ((feed.hide, "hide"), (feed.unhide, "show"), (feed.pin, "pin"), (feed.unpin, "unpin")):
        with pytest.raises(UsageError, match=f"only an admin can {what}"):
            await act(post.id)
    assert posts_table(ben, "post_marks", "post") == []
    await ana.group.set_role("Ben", "admin")
    await world.level()
    await feed.hide(post.id)
    await world.level()
    assert (await ana.group.feed.get(post.id)).hidden


async def test_hiding_twice_writes_once_and_beside_a_showing_it_prevails(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.set_role("Ben", "admin")
    post = await ana.group.feed.post("disputed")
    await ana.group.feed.hide(post.id)
    entries = ana.replica.chains[ana.device].last_seq
    await ana.group.feed.hide(post.id)
    assert ana.replica.chains[ana.device].last_seq == entries
    await world.level()
    await ana.group.feed.unhide(post.id)
    await ben.group.feed.unhide(post.id)
    await ben.group.feed.hide(post.id)
    await world.level()
    for seat in (ana, ben):
        assert (await seat.group.feed.get(post.id)).hidden
    await agree([ana, ben])


async def test_pinned_posts_stand_apart_too_the_last_one_first(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    posts = [await ben.group.feed.post(f"post {number}") for number in range(4)]
    reply = await ben.group.feed.reply(posts[0].id, "a reply can be pinned")
    await world.level()
    for post in (posts[2], posts[0], reply):
        await ana.group.feed.pin(post.id)
    await world.level()
    for seat in (ana, ben):
        assert [post.id for post in await seat.group.feed.pinned()] == [reply.id, posts[0].id, posts[2].id]
        assert [post.pinned for post in await seat.group.feed.list()] == [False, True, False, True]
    await ben.group.feed.delete(posts[2].id)
    await world.level()
    await ana.group.feed.unpin(reply.id)
    await world.level()
    for seat in (ana, ben):
        assert [post.id for post in await seat.group.feed.pinned()] == [posts[0].id]
    await agree([ana, ben])


async def test_no_more_than_so_many_are_pinned_and_what_was_taken_back_holds_no_place(world: World) -> None:
    (ana,) = await world.group("ana")
    feed = ana.group.feed
    posts = [await feed.post(f"post {number}") for number in range(MAX_PINNED + 1)]
    await feed.pin(*(post.id for post in posts[:MAX_PINNED]))
    with pytest.raises(UsageError, match="unpin one"):
        await feed.pin(posts[MAX_PINNED].id)
    assert not (await feed.get(posts[MAX_PINNED].id)).pinned
    await feed.delete(posts[3].id)
    await feed.pin(posts[MAX_PINNED].id)
    assert len(await feed.pinned()) == MAX_PINNED


async def test_a_profile_of_an_older_version_shows_the_marks_that_it_has_already(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("hidden")
    await ana.group.feed.hide(post.id)
    await world.level()
    with ben.replica.transaction():  # as the step of the schema leaves it
        ben.replica.database.execute("DELETE FROM post_marks")
        ben.replica.database.execute("INSERT INTO stale_views SELECT id, 'post_marks' FROM groups")
    await ben.restart()
    assert (await ben.group.feed.get(post.id)).hidden
    assert posts_table(ana, "post_marks", "post") == posts_table(ben, "post_marks", "post")


def test_odd_marks_are_as_if_absent() -> None:
    key = bytes(range(10, 26)).hex()
    odd = {
        key.upper(): 1, key[:-1]: 1, key + "00": 1, "zz" * 16: 1, "０" * 32: 1, " " + key[1:]: 1,
        "11" * 16: "1", "22" * 16: True, "33" * 16: None, "44" * 16: {"a": 1}, "55" * 16: b"1", "66" * 16: 1.5,
    }  # fmt: skip
    assert read_marks({"hidden": {**odd, key: -5}, "pinned": [key]}) == {("hidden", bytes.fromhex(key)): 0}
    assert read_marks({"hidden": None, "pinned": {key: 2**62}}) == {("pinned", bytes.fromhex(key)): 253_402_300_799_000}


def test_the_document_of_admins_is_the_one_that_the_page_names() -> None:
    assert CIRCLE.to_value() == [2, "circle", {"about": "map", "hidden": "map", "pins": "map"}]
