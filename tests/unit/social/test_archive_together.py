"""Lists, notes and events in an archive: all that is shown of them, harmless, and not a second time as documents."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture
from tests.unit.social.test_archive import HOSTILE, Page, find_faults, folder_of, read, write

SOON = datetime(2026, 12, 24, 18, tzinfo=UTC)


async def test_what_is_written_together_is_in_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.lists.new("Shopping", ["milk", "salt"])
    await ana.group.lists.tick("Shopping", "milk")
    aside = await ana.group.notes.new("Old rules", "None.")
    await ana.group.notes.remove("Old rules")
    event = await ana.group.calendar.new("Party", SOON, place="the pier")
    await ana.group.calendar.new("Trip", date(2026, 12, 30), date(2027, 1, 2))
    await world.level()
    await ben.group.calendar.reply("Party", "yes", "with cake")
    await world.level()
    out = world.folder / "out"
    await write(ana, out)
    folder = folder_of(out)
    value = read(folder / "together.json")
    assert [(item["text"], item["done"] is None) for item in value["lists"][0]["items"]] == [
        ("milk", False),
        ("salt", True),
    ]
    assert (value["lists"][0]["id"], value["notes"][0]["id"]) == (made.id, aside.id)
    assert (value["notes"][0]["text"], value["notes"][0]["removed"]) == ("None.", True)
    assert (value["events"][0]["id"], value["events"][0]["replies"][0]["words"]) == (event.id, "with cake")
    page = Page((folder / "together.html").read_text("utf-8")).text
    for words in ("☑ milk", "☐ salt", "put aside", "the pier", "yes: Ben (with cake)", "30 Dec 2026 – 2 Jan 2027"):
        assert words in page, words
    assert (folder / "events.ics").read_bytes().count(b"BEGIN:VEVENT\r\n") == 2
    assert read(folder / "group.json")["together"] == "together.json"
    assert read(folder / "group.json")["documents"] == []
    (group,) = read(out / "archive.json")["groups"]
    assert {"together.json", "together.html", "events.ics"} <= set(group["files"])
    assert find_faults(out) == []


async def test_attack_21_nothing_of_lists_notes_and_events_runs(world: World) -> None:
    (ana,) = await world.group("ana")
    for number, text in enumerate(HOSTILE):
        await ana.group.lists.new(text[:60], [text])
        await ana.group.notes.new(text[:60], text)
        event = await ana.group.calendar.new(text[:60], SOON, place=text, about=text)
        await ana.group.calendar.reply(event.id, ("yes", "no", "maybe")[number % 3], text)
    await write(ana, world.folder / "out")
    assert find_faults(world.folder / "out") == []


async def test_where_there_is_nothing_of_it_there_is_no_page(world: World) -> None:
    (ana,) = await world.group("ana")
    await write(ana, world.folder / "out")
    folder = folder_of(world.folder / "out")
    assert not (folder / "together.html").exists()
    assert read(folder / "group.json")["together"] is None
