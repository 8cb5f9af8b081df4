"""What a member is told of events, lists and notes: an evening of editing once, nothing that is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cocoon_core.errors import StorageFullError, UnknownItemError
from cocoon_core.storage import notices as tables
from cocoon_core.storage.notices import NoticeTable
from tests.support.linking import link
from tests.support.world import Seat, World, make_world, rebuild_everything  # noqa: F401  a fixture
from tests.unit.sync.test_erase import rows_with

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
KINDS = ("event", "event-change", "event-reply", "list", "note")

Told = list[tuple[str, str | None, str, str, str]]


async def told(seat: Seat, *, unread: bool = False) -> Told:
    """Kind, name, title, change and text of these notices, the oldest first."""
    found = reversed(await seat.group.notices.list(limit=10_000, unread=unread))
    return [(str(n.kind), n.name, n.title, n.change, n.text) for n in found if n.kind in KINDS]


async def fresh(seat: Seat) -> Told:
    """The unread ones, which are marked as read then."""
    found = await told(seat, unread=True)
    await seat.group.notices.mark_read()
    return found


def later(world: World, hours: float = 24) -> datetime:
    return datetime.fromtimestamp(world.now_ms / 1000, UTC) + timedelta(hours=hours)


async def test_events_are_told_with_what_is_other_and_who_comes(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    party = await ana.group.calendar.new("Party", later(world), place="pier", about="Bring\ncake.")
    await world.level()
    assert await fresh(ben) == [("event", "Ana", "Party", "", "Bring cake.")]
    await ben.group.calendar.reply(party.id, "yes", "with cake")
    await chi.group.calendar.reply(party.id, "no")
    await world.level()
    assert sorted(await fresh(ana)) == [
        ("event-reply", "Ben", "Party", "yes", "with cake"),
        ("event-reply", "Chi", "Party", "no", ""),
    ]
    assert await told(chi) == [("event", "Ana", "Party", "", "Bring cake.")]  # what others reply is the maker's
    await ana.group.calendar.change(party.id, about="Bring tea.")  # nothing that somebody has to be told
    await world.level()
    assert await fresh(ben) == []
    await ana.group.calendar.change(party.id, begins=later(world, 30), place="my place")
    await world.level()
    await ana.group.calendar.change(party.id, name="Feast")
    await world.level()
    assert await fresh(ben) == [("event-change", "Ana", "Feast", "time, place, name", "Bring tea.")]
    await ana.group.calendar.cancel(party.id)
    await world.level()
    await ana.group.calendar.change(party.id, cancelled=False, place="pier")
    await world.level()
    assert await fresh(ben) == [("event-change", "Ana", "Feast", "place, on again", "Bring tea.")]
    for answer in ("maybe", "no", "yes"):
        await ben.group.calendar.reply(party.id, answer)
        await world.level()
    assert await fresh(ana) == [("event-reply", "Ben", "Feast", "yes", "")]
    await ben.group.calendar.new("Over already", later(world, -5))
    await world.level()
    assert await fresh(ana) == []


async def test_an_evening_of_editing_is_told_once(world: World) -> None:
    ana, ben, chi = await world.group("ana", "ben", "chi")
    lists, notes = ana.group.lists, ana.group.notes
    await lists.new("Shopping", ["milk"])
    note = await notes.new("Rules", "Shoes off.")
    await world.level()
    await notes.append(note.id, "No smoking.")
    await lists.add("Shopping", "eggs")
    await world.level()
    assert await fresh(ben) == [("list", "Ana", "Shopping", "new", ""), ("note", "Ana", "Rules", "new", "")]
    await lists.move("Shopping", "eggs", "milk")  # where it stands says nothing
    await world.level()
    assert await fresh(ben) == []
    newest = ben.group.notices.newest
    for number in range(4):
        await lists.tick("Shopping", "milk", done=number % 2 == 0)
        await world.level()
    assert [(n.change, n.name) for n in (await ben.group.notices.after(newest)).notices] == [("changed", "Ana")]
    await chi.group.lists.add("Shopping", "salt")
    await world.level()
    assert await told(ben, unread=True) == [("list", None, "Shopping", "changed", "")]
    await lists.add("Shopping", "oil")
    await world.level()
    assert len((await ben.group.notices.after(newest)).notices) == 1
    world.now_ms += 7 * HOUR_MS
    await lists.add("Shopping", "rice")
    await world.level()
    page = await ben.group.notices.after(newest)
    assert [notice.change for notice in page.notices] == ["changed"]
    assert page.notices[0].number > int(newest.partition(".")[0]) + 2
    assert not page.missed
    await lists.remove("Shopping")
    await notes.rename("Rules", "House rules")
    await world.level()
    assert await fresh(ben) == [
        ("list", "Ana", "Shopping", "put aside", ""),
        ("note", "Ana", "House rules", "changed", ""),
    ]


async def test_what_takes_the_place_of_another_pushes_nothing_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    monkeypatch.setattr(tables, "MAX_NOTICES", 5)
    party = await ana.group.calendar.new("Party", later(world))
    await world.level()
    await ben.group.feed.post("kept")
    for number in range(12):
        await ben.group.calendar.reply(party.id, ("yes", "no")[number % 2])
        await ben.sync()
        await ana.sync()
    assert [(n.kind, n.change, n.text) for n in await ana.group.notices.list(limit=2)] == [
        ("event-reply", "no", ""),
        ("post", "", "kept"),
    ]


async def test_own_deeds_on_another_device_and_what_is_old_give_none(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ben.group.lists.new("Old", ["milk"])
    await ben.group.notes.new("Old note", "old")
    await ben.group.calendar.new("Party", later(world, 1_000))
    await world.level()
    await ana.group.rotate()
    await ben.group.lists.add("Old", "eggs")  # above the manifest
    await world.level()
    phone = await world.seat("phone")
    await link(ana, phone)
    link_text = await ana.group.invite()
    await world.level()
    chi = await world.seat("chi")
    await chi.running.join(link_text, member_name="Chi")
    await world.level()
    assert [len(one.items) for one in [await chi.group.lists.get("Old")]] == [2]
    assert await told(chi) == await told(phone) == []
    for seat in world.seats:
        await seat.group.notices.mark_read()
    party = await ana.group.calendar.new("Mine", later(world, 50))
    await ana.group.lists.new("Ours", ["tent"])
    await ana.group.lists.tick("Old", "milk")
    await world.level()
    assert await told(phone) == []
    assert sorted(await told(chi)) == [
        ("event", "Ana", "Mine", "", ""),
        ("list", "Ana", "Old", "changed", ""),
        ("list", "Ana", "Ours", "new", ""),
    ]
    await chi.group.calendar.reply(party.id, "yes")
    await world.level()
    assert await fresh(phone) == [("event-reply", "Chi", "Mine", "yes", "")]  # on every device of who made it
    assert ("event-reply", "Chi", "Mine", "yes", "") in await told(ana)


async def test_who_comes_back_after_weeks_is_told_of_each_list_once(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.lists.new("Shopping", ["milk"])
    await world.level()
    await fresh(ben)
    await ana.group.lists.add("Shopping", "long ago")
    await ana.sync()
    world.now_ms += 40 * DAY_MS
    await ana.group.lists.new("Packing", ["tent"])
    for number in range(5):
        await ana.group.lists.add("Packing", f"thing {number}")
        await ana.sync()
    await world.level()
    assert await fresh(ben) == [("list", "Ana", "Packing", "new", "")]
    await ana.group.lists.add("Shopping", "now")
    await world.level()
    assert await fresh(ben) == [("list", "Ana", "Shopping", "changed", "")]


async def test_it_is_committed_with_what_it_tells_and_building_anew_tells_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    newest = ben.group.notices.newest
    await ana.group.lists.new("Shopping", ["milk"])
    await ana.group.calendar.new("Party", later(world))
    await ana.sync()
    added = NoticeTable.add

    def fail(self: NoticeTable, *args: Any) -> tuple[int, int]:
        added(self, *args)
        raise StorageFullError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NoticeTable, "add", fail)
        with pytest.raises(StorageFullError):
            await ben.sync()
    assert await ben.group.lists.all() == []
    assert await told(ben) == []
    await ben.sync()
    page = await ben.group.notices.after(newest)
    assert sorted(str(notice.kind) for notice in page.notices) == ["event", "list"]
    await ben.restart()
    rebuild_everything(ben)
    assert await ben.group.notices.after(newest) == page


async def test_a_mute_or_a_mark_names_a_list_a_note_or_an_event(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    shopping = await ana.group.lists.new("Shopping", ["milk"])
    party = await ana.group.calendar.new("Party", later(world))
    note = await ana.group.notes.new("Rules", "Shoes off.")
    await world.level()
    notices = ben.group.notices
    await notices.mute(thread="shopping")
    await notices.mute(thread=party.id[:8])
    assert [one[2] for one in await told(ben)] == ["Rules"]
    assert {mute.subject for mute in notices.mutes()} == {shopping.id, party.id}
    assert await notices.unmute(thread=shopping.id)
    assert await notices.unmute(thread="Party")
    assert len(await told(ben)) == 3
    assert await notices.mark_read(about=note.id[:10]) == 1
    assert {one[2] for one in await told(ben, unread=True)} == {"Shopping", "Party"}
    await ana.group.notes.new("Shopping", "a namesake")
    await world.level()
    with pytest.raises(UnknownItemError, match="more than one is meant"):
        await notices.mute(thread="Shopping")
    with pytest.raises(UnknownItemError, match="neither"):
        await notices.mute(thread="no such thing")


async def test_no_words_of_theirs_are_kept_among_the_notices(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    party = await ana.group.calendar.new("canary-of-events", later(world), about="canary-of-events")
    await world.level()
    await ben.group.calendar.reply(party.id, "yes", "canary-of-replies")
    await world.level()
    assert rows_with(ana, "canary-of-replies").count("notices") == 0
    assert rows_with(ben, "canary-of-events").count("notices") == 0
    await ana.group.calendar.remove(party.id, erase=True)
    await world.level()
    assert await told(ben) == [("event", "Ana", "", "", "")]
    assert await told(ana) == [("event-reply", "Ben", "", "", "")]
