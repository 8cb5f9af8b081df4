"""Own posts edited, deleted and erased: what everybody sees of it, and who may."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.social.post_view import MAX_TEXT_BYTES
from tests.support.linking import link
from tests.support.world import Seat, World, make_world, posts_table, rebuild_everything, state_of
from tests.unit.sync.test_erase import rows_with

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
        assert (await seat.running.check()).findings == ()


async def two_devices(world: World) -> tuple[Seat, Seat, Seat]:
    """Ana's laptop and phone, and Ben."""
    laptop, ben = await world.group("ana", "ben")
    phone = await world.seat("phone")
    await link(laptop, phone)
    await world.level()
    return laptop, phone, ben


# --- editing


async def test_an_edited_post_says_something_else_in_its_place_and_all_its_versions_can_be_seen(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    first = await ana.group.feed.post("soup at seven")
    later = await ana.group.feed.post("later")
    await world.level()
    await ben.group.feed.reply(first.id, "fine")
    await ana.group.feed.edit(first.id[:8], "soup at eight")
    edited = await ana.group.feed.edit(first.id, "soup at nine")
    await world.level()
    for seat in (ana, ben):
        assert [post.id for post in await seat.group.feed.list()] == [later.id, first.id]
        shown = await seat.group.feed.get(first.id)
        assert (shown.text, shown.edited, shown.time, shown.replies) == ("soup at nine", True, first.time, 1)
        assert shown.edited_at == edited.edited_at
        versions = await seat.group.feed.versions(first.id)
        assert [one.text for one in versions] == ["soup at seven", "soup at eight", "soup at nine"]
        assert [one.is_current for one in versions] == [False, False, True]
        assert (versions[0].time, versions[2].time) == (first.time, edited.edited_at)
        assert [one.text for one in await seat.group.feed.versions(later.id)] == ["later"]
    await everything([ana, ben])


async def test_an_edit_that_changes_nothing_writes_nothing(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("as it is")
    entries = ana.replica.chains[ana.device].last_seq
    assert not (await ana.group.feed.edit(post.id, "as it is")).edited
    assert ana.replica.chains[ana.device].last_seq == entries


async def test_only_its_author_edits_and_deletes_a_post(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    post = await ana.group.feed.post("hers")
    own = await ben.group.feed.post("his")
    await world.level()
    with pytest.raises(UsageError, match="only its author can edit"):
        await ben.group.feed.edit(post.id, "not hers")
    with pytest.raises(UsageError, match="only its author can delete"):
        await ben.group.feed.delete(own.id, post.id)
    assert await ben.texts() == ["hers", "his"]


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * (MAX_TEXT_BYTES + 1), "\ud800"], ids=["empty", "blank", "long", "half"]
)
async def test_an_edit_to_what_cannot_be_posted_is_said_and_leaves_all_as_it_was(world: World, text: str) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("sound")
    with pytest.raises(UsageError):
        await ana.group.feed.edit(post.id, text)
    shown = await ana.group.feed.get(post.id)
    assert (shown.text, shown.edited) == ("sound", False)


async def test_of_two_edits_side_by_side_one_stands_whole_everywhere(world: World) -> None:
    laptop, phone, ben = await two_devices(world)
    post = await laptop.group.feed.post("first")
    await world.level()
    for number in range(4):  # whichever wins
        await phone.group.feed.edit(post.id, f"@Ben from the phone {number}")
        await laptop.group.feed.edit(post.id, f"from the laptop {number}")
        await world.level()
        shown = await ben.group.feed.get(post.id)
        (current,) = [one for one in await ben.group.feed.versions(post.id) if one.is_current]
        assert (current.text, current.time) == (shown.text, shown.edited_at)
        assert (shown.mentions == (ben.group.me,)) == shown.text.startswith("@Ben")
        for seat in (laptop, phone):
            assert await seat.group.feed.get(post.id) == shown
            assert await seat.group.feed.versions(post.id) == await ben.group.feed.versions(post.id)
    assert len(await ben.group.feed.versions(post.id)) == 9
    await everything([laptop, phone, ben])


async def test_only_so_many_versions_are_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_core.social.feed_changing.MAX_VERSIONS", 3)
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("0")
    for number in range(1, 6):
        await ana.group.feed.edit(post.id, f"{number}")
    assert [one.text for one in await ana.group.feed.versions(post.id)] == ["3", "4", "5"]


# --- deleting


async def test_a_deleted_post_is_nowhere_unless_something_answers_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    alone = await ana.group.feed.post("alone")
    root = await ana.group.feed.post("root")
    await world.level()
    answer = await ben.group.feed.reply(root.id, "an answer")
    below = await ben.group.feed.reply(answer.id, "below")
    await world.level()
    gone = await ana.group.feed.delete(alone.id, root.id[:10])
    assert [(post.id, post.text, post.deleted) for post in gone] == [(alone.id, "", True), (root.id, "", True)]
    await world.level()
    for seat in (ana, ben):
        (shown,) = await seat.group.feed.list()
        assert (shown.id, shown.text, shown.deleted, shown.erased) == (root.id, "", True, False)
        assert (shown.time, shown.replies) == (root.time, 1)
        assert [post.id for post in await seat.group.feed.thread(below.id)] == [root.id, answer.id, below.id]
        with pytest.raises(UnknownItemError):
            await seat.group.feed.versions(root.id)
    await ben.group.feed.delete(answer.id)
    await world.level()
    assert [post.deleted for post in await ana.group.feed.thread(root.id)] == [True, True, False]
    assert (await ana.group.feed.get(root.id)).replies == 0
    await ben.group.feed.delete(below.id)
    await world.level()
    for seat in (ana, ben):
        assert await seat.group.feed.list() == []
        assert [post.id for post in await seat.group.feed.thread(root.id)] == [root.id]
        assert list(seat.group.feed.threads("2026-09")) == []
    await everything([ana, ben])


async def test_what_was_deleted_is_neither_edited_nor_deleted_again(world: World) -> None:
    (ana,) = await world.group("ana")
    post = await ana.group.feed.post("gone")
    await ana.group.feed.delete(post.id)
    for act in (ana.group.feed.delete(post.id), ana.group.feed.edit(post.id, "back")):
        with pytest.raises(UnknownItemError, match="taken back"):
            await act
    assert (await ana.group.feed.get(post.id)).deleted


async def test_an_edit_on_another_device_brings_nothing_back(world: World) -> None:
    laptop, phone, ben = await two_devices(world)
    post = await laptop.group.feed.post("to be deleted")
    await world.level()
    await phone.group.feed.edit(post.id, "edited meanwhile")
    await laptop.group.feed.delete(post.id)
    await world.level()
    for seat in (laptop, phone, ben):
        assert (await seat.group.feed.get(post.id)).deleted
        assert await seat.texts() == []
    await everything([laptop, phone, ben])


async def test_the_text_of_a_deleted_post_stays_in_the_history_and_goes_when_it_is_erased(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    kept = await ana.group.feed.post("kept")
    post = await ana.group.feed.post("a-word-to-be-found")
    await world.level()
    await ben.group.feed.reply(post.id, "an answer")
    await ana.group.feed.edit(post.id, "another-word")
    await ana.group.feed.delete(post.id)
    await world.level()
    stored = b"".join(raw for (raw,) in ben.replica.database.query("SELECT wire FROM runs"))
    assert b"a-word-to-be-found" in stored
    (erased,) = await ana.group.feed.erase(post.id)
    assert (erased.deleted, erased.erased) == (False, True)
    await ana.group.rotate()
    await world.level()
    await ben.group.rotate()
    await world.level()
    for seat in (ana, ben):
        assert rows_with(seat, "a-word-to-be-found") == rows_with(seat, "another-word") == []
        shown = await seat.group.feed.get(post.id)
        assert (shown.erased, shown.deleted) == (True, False)
        assert [one.id for one in await seat.group.feed.list()] == [post.id, kept.id]
    await everything([ana, ben])


async def test_what_was_deleted_stays_so_when_its_month_goes_on_in_a_next_generation(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    other, post = await ana.group.feed.post("other"), await ana.group.feed.post("deleted")
    await world.level()
    await ben.group.feed.reply(post.id, "an answer")
    await ana.group.feed.delete(post.id)
    await ana.group.feed.erase(other.id)
    await world.level()
    for seat in (ana, ben):
        shown = {one.id: one for one in await seat.group.feed.list()}
        assert (shown[post.id].deleted, shown[post.id].erased) == (True, False)
        assert shown[other.id].erased
    await ana.group.rotate()
    await world.level()
    chi = await world.seat("chi")
    invite = await ben.group.invite()
    await ben.sync()
    await chi.running.join(invite, member_name="Chi")
    await world.level()
    assert (await chi.group.feed.get(post.id)).deleted
    await everything([ana, ben, chi])


async def test_a_deletion_that_did_not_know_of_an_erase_is_made_again(world: World) -> None:
    laptop, phone, ben = await two_devices(world)
    first, second = await laptop.group.feed.post("first"), await laptop.group.feed.post("second")
    await world.level()
    await phone.group.feed.delete(second.id)
    await laptop.group.feed.erase(first.id)
    for _ in range(3):
        await world.level()
        world.now_ms += 3_600_000
    generation = max(record.descriptor.generation for record in ben.replica.documents.all())
    assert generation == 1, "nothing lingers, so nothing is erased a second time"
    for seat in (laptop, phone, ben):
        assert (await seat.group.feed.get(second.id)).deleted
        assert (await seat.group.feed.get(first.id)).erased
    await everything([laptop, phone, ben])


async def test_what_is_erased_on_one_device_and_deleted_on_another_is_erased(world: World) -> None:
    laptop, phone, ben = await two_devices(world)
    post = await laptop.group.feed.post("both")
    await world.level()
    await phone.group.feed.delete(post.id)
    await laptop.group.feed.erase(post.id)
    for _ in range(3):
        await world.level()
        world.now_ms += 3_600_000
    for seat in (laptop, phone, ben):
        shown = await seat.group.feed.get(post.id)
        assert (shown.erased, shown.deleted) == (True, False)
    assert posts_table(laptop) == posts_table(phone) == posts_table(ben)


async def test_posts_of_several_months_are_deleted_all_or_none(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    early = await ana.group.feed.post("early")
    world.now_ms += 40 * 86_400_000
    late = await ana.group.feed.post("late")
    foreign = await ben.group.feed.post("foreign")
    await world.level()
    with pytest.raises(UsageError):
        await ana.group.feed.delete(early.id, late.id, foreign.id)
    assert len(await ana.texts()) == 3
    await ana.group.feed.delete(early.id, late.id)
    await world.level()
    assert await ben.texts() == ["foreign"]


async def test_a_watcher_is_told_of_edits_and_deletions(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    one, two = await ana.group.feed.post("one"), await ana.group.feed.post("two")
    await world.level()
    events: list[object] = []
    ben.replica.listen(events.append)
    await ana.group.feed.edit(one.id, "one, edited")
    await ana.group.feed.delete(two.id)
    await world.level()
    told = [post for event in events for post in await ben.group.feed.changed(event)]  # type: ignore[arg-type]
    assert {(post.id, post.text, post.deleted) for post in told} == {(one.id, "one, edited", False), (two.id, "", True)}
