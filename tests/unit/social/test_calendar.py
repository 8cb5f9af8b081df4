"""Events: who may change them, whose reply counts, when they are, and what other calendars are told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social.event import CalendarEvent
from cocoon_core.social.icalendar import write_calendar
from tests.support.hostile import Forger, inject, put_root
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture

SOON = datetime(2026, 12, 24, 18, tzinfo=UTC)
LATER = SOON + timedelta(hours=2)


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


def replies(event: CalendarEvent) -> list[tuple[str, str, str]]:
    return [(reply.member, reply.answer, reply.words) for reply in event.replies]


async def test_an_event_goes_through_its_life(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.calendar.new("Party", SOON, LATER, place="the pier", about="Bring\ncake.")
    await world.level()
    shown = await ben.group.calendar.reply("party", "yes", "with cake")
    assert (shown.begins, shown.ends, shown.place, shown.about) == (SOON, LATER, "the pier", "Bring\ncake.")
    await ana.group.calendar.reply(made.id[:8], "maybe")
    await world.level()
    assert replies(await ana.group.calendar.get(made.id)) == [("Ana", "maybe", ""), ("Ben", "yes", "with cake")]
    moved = await ana.group.calendar.change(made.id, begins=SOON + timedelta(days=1), about="")
    assert (moved.begins, moved.ends, moved.about) == (SOON + timedelta(days=1), LATER + timedelta(days=1), "")
    assert [reply.is_older for reply in moved.replies] == [True, True]
    assert [reply.is_older for reply in (await ana.group.calendar.reply(made.id, "yes")).replies] == [False, True]
    assert (await ana.group.calendar.cancel(made.id)).cancelled
    assert not (await ana.group.calendar.change(made.id, cancelled=False)).cancelled
    await world.level()
    assert await state_of(ana) == await state_of(ben)
    for seat in (ana, ben):
        before = await state_of(seat)
        rebuild_everything(seat)
        assert await state_of(seat) == before
    await ana.group.calendar.remove(made.id)
    await world.level()
    assert await ben.group.calendar.list() == []
    with pytest.raises(UnknownItemError):
        await ben.group.calendar.reply(made.id, "no")


async def test_attack_27_nobody_changes_anothers_event_or_replies_for_another(world: World) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    made = await ana.group.calendar.new("Party", SOON)
    await world.level()
    await ben.group.calendar.reply(made.id, "yes")
    await world.level()
    for act in (mal.group.calendar.cancel, mal.group.calendar.remove):
        with pytest.raises(UsageError, match="who made"):
            await act(made.id)
    forger = Forger(mal)
    bens = Descriptor(DocumentKind.OWNED, "reply/2026-09", ben.group.me)
    anas = Descriptor(DocumentKind.OWNED, "event/2026-09", ana.group.me)
    said = {"at": 1_900_000_000_000, "event": bytes.fromhex(made.id), "says": 2}
    first = forger.change(bens, put_root("reply:00", said))
    second = forger.change(anas, put_root("event:00", {"at": 1, "begins": 2_000_000_000_000, "name": "Forged"}))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((bens, first), (anas, second)))
    await ana.sync()
    assert replies(await ana.group.calendar.get(made.id)) == [("Ben", "yes", "")]
    assert [event.name for event in await ana.group.calendar.list()] == ["Party"]


async def test_the_newest_reply_of_a_member_counts_whichever_device_wrote_it(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.calendar.new("Party", SOON + timedelta(days=90))
    await world.level()
    await ben.group.calendar.reply(made.id, "yes")
    ben.skew_ms = 31 * 86_400_000  # next month, in another document
    await ben.group.calendar.reply(made.id, "no")
    await world.level()
    assert replies(await ana.group.calendar.get(made.id)) == [("Ben", "no", "")]
    rows = ben.replica.database.query_value("SELECT count(*) FROM event_replies")
    await ben.group.calendar.reply(made.id, "maybe")
    assert ben.replica.database.query_value("SELECT count(*) FROM event_replies") == rows


async def test_who_was_removed_comes_no_more(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.calendar.new("Party", SOON)
    bens = await ben.group.calendar.new("Concert", SOON)
    await world.level()
    await ben.group.calendar.reply(made.id, "yes")
    await world.level()
    await ana.group.remove_member(ben.group.me or b"")  # type: ignore[arg-type]
    assert replies(await ana.group.calendar.get(made.id)) == []
    assert (await ana.group.calendar.get(bens.id)).author == "Ben"  # what Ben announced before stays, under that name


async def test_whole_days_are_the_same_everywhere(ana: Seat) -> None:
    calendar = ana.group.calendar
    day = await calendar.new("Moving", date(2026, 12, 30))
    assert (day.begins, day.ends, day.days) == (
        datetime(2026, 12, 30, tzinfo=UTC),
        datetime(2026, 12, 31, tzinfo=UTC),
        1,
    )
    days = await calendar.new("Trip", date(2026, 12, 30), date(2027, 1, 2))
    assert days.days == 4
    moved = await calendar.change("Trip", begins=date(2027, 2, 1))
    assert (moved.begins.date(), moved.days) == (date(2027, 2, 1), 4)
    timed = await calendar.change("Trip", begins=SOON)
    assert (timed.begins, timed.ends, timed.days) == (SOON, None, 0)
    assert (await calendar.change("Trip", ends=LATER)).ends == LATER


async def test_lists_are_by_beginning_and_leave_out_what_is_over(ana: Seat) -> None:
    calendar = ana.group.calendar
    now = datetime.fromtimestamp(ana.world.now_ms / 1000, UTC)
    for name, begins, ends in (
        ("over", now - timedelta(days=2), None),
        ("on now", now - timedelta(hours=1), now + timedelta(hours=1)),
        ("far", now + timedelta(days=30), None),
        ("near", now + timedelta(days=1), None),
    ):
        await calendar.new(name, begins, ends)
    assert [event.name for event in await calendar.list()] == ["on now", "near", "far"]
    assert [event.name for event in await calendar.list(limit=1)] == ["on now"]
    assert [event.name for event in await calendar.list(until=now + timedelta(days=2))] == ["on now", "near"]
    everything = await calendar.list(since=datetime.fromtimestamp(0, UTC))
    assert [event.name for event in everything] == ["over", "on now", "near", "far"]
    assert list(calendar.everything()) == everything
    with pytest.raises(UnknownItemError):
        await calendar.get("over")  # what is over is named by its id
    assert (await calendar.get(everything[0].id)).name == "over"


@pytest.mark.parametrize(("begins", "ends"), [
    (SOON, SOON),
    (SOON, SOON - timedelta(days=1)),
    (SOON, date(2026, 12, 25)),
    (date(2026, 12, 25), SOON),
    (date(2026, 12, 25), date(2026, 12, 24)),
    (date(2026, 12, 25), date(2046, 12, 24)),
    (datetime(2026, 12, 24, 18), None),
    (datetime(1969, 12, 24, 18, tzinfo=UTC), None),
], ids=str)  # fmt: skip
async def test_a_time_that_cannot_be_is_said(ana: Seat, begins: Any, ends: Any) -> None:
    with pytest.raises(UsageError):
        await ana.group.calendar.new("Party", begins, ends)
    assert list(ana.group.calendar.everything()) == []


async def test_what_cannot_be_said_is_said(ana: Seat) -> None:
    calendar = ana.group.calendar
    made = await calendar.new("Party", SOON)
    odd: list[dict[str, Any]] = [{"place": "x" * 257}, {"about": "x" * 4_097}, {"name": " "}]
    for words in odd:
        with pytest.raises(UsageError):
            await calendar.change(made.id, **words)
    with pytest.raises(UsageError):
        await calendar.reply(made.id, "perhaps")
    with pytest.raises(UsageError):
        await calendar.reply(made.id, "yes", "x" * 1_025)
    assert await calendar.get(made.id) == made


async def test_an_erased_event_is_nowhere_and_its_words_leave_the_document(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.calendar.new("Secret canary", SOON)
    kept = await ana.group.calendar.new("Kept", SOON)
    await world.level()
    await ben.group.calendar.reply(kept.id, "yes")
    await world.level()
    assert await ana.group.calendar.remove(made.id, erase=True) == [made.id]
    await world.level()
    for seat in (ana, ben):
        assert [event.id for event in await seat.group.calendar.list()] == [kept.id]
        assert replies(await seat.group.calendar.get(kept.id)) == [("Ben", "yes", "")]
        documents = [
            seat.replica.shelf.get(record.descriptor).read().to_python()
            for record in seat.replica.documents.all()
            if not seat.replica.members.is_retired(record.descriptor)
        ]
        assert "canary" not in repr(documents)


# --- what a hostile member writes

ODD: list[Any] = [
    5, "x", None, {"at": 1}, {"begins": 1}, {"at": "1", "begins": 1}, {"at": 1, "begins": 1.5},
    {"at": True, "begins": 1},
]  # fmt: skip


async def test_odd_events_and_replies_are_made_harmless(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    made = await ana.group.calendar.new("Party", SOON)
    await world.level()
    forger = Forger(mal)
    events = Descriptor(DocumentKind.OWNED, "event/2026-09", forger.member)
    answers = Descriptor(DocumentKind.OWNED, "reply/2026-09", forger.member)
    sound = {"at": 2**62, "begins": 2**62, "ends": 5, "days": -3, "name": "\u202eevil\n", "place": 7, "about": b"x"}
    long = {"at": 1, "begins": SOON.timestamp().__int__() * 1000 + 5, "days": 2, "cancelled": "no", "edited": None}
    event = bytes.fromhex(made.id)

    def write_events(root: Any) -> None:
        for number, value in enumerate([*ODD, sound, long]):
            root[f"event:{number:02}"] = value
        root["post:00"] = {"at": 1, "begins": 1}

    def write_replies(root: Any) -> None:
        odd = [5, {"at": 1, "event": event}, {"at": 1, "event": event, "says": 4}, {"at": 1, "event": b"x", "says": 1},
               {"at": 1, "event": event, "says": True}, {"at": 1, "event": event, "says": 1, "words": 5}]  # fmt: skip
        for number, value in enumerate(odd):
            root[f"reply:{number:02}"] = value

    raws = (events, forger.change(events, write_events)), (answers, forger.change(answers, write_replies))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write(*raws))
    await ana.sync()
    shown = {event.name: event for event in ana.group.calendar.everything()}
    assert shown.keys() == {"Party", "Unnamed", "evil"}
    assert (shown["evil"].begins.year, shown["evil"].ends, shown["evil"].days) == (9999, None, 0)
    assert (shown["evil"].place, shown["evil"].about) == ("", "")
    assert (shown["Unnamed"].begins.hour, shown["Unnamed"].days, shown["Unnamed"].cancelled) == (0, 2, False)
    assert replies(shown["Party"]) == [("Mal", "yes", "")]


# --- for other calendars


def unfold(text: str) -> list[str]:
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    return text.replace("\r\n ", "").removesuffix("\r\n").split("\r\n")


async def test_a_calendar_file_says_what_when_and_where_and_names_nobody(ana: Seat) -> None:
    calendar = ana.group.calendar
    made = await calendar.new("Party; with, \\ signs", SOON, LATER, place="Köln " * 20, about="one\nEND:VEVENT\ntwo")
    await calendar.reply(made.id, "yes", "gladly")
    days = await calendar.new("Trip", date(2026, 12, 30), date(2027, 1, 2))
    await calendar.cancel(days.id)
    text = await calendar.export()
    lines = unfold(text)
    assert lines[:2] == ["BEGIN:VCALENDAR", "VERSION:2.0"]
    assert lines.count("BEGIN:VEVENT") == lines.count("END:VEVENT") == 2
    assert "SUMMARY:Party\\; with\\, \\\\ signs" in lines
    assert "DTSTART:20261224T180000Z" in lines
    assert "DTEND:20261224T200000Z" in lines
    assert "DESCRIPTION:one\\nEND:VEVENT\\ntwo" in lines
    assert "DTSTART;VALUE=DATE:20261230" in lines
    assert "DTEND;VALUE=DATE:20270103" in lines
    assert [line for line in lines if line.startswith("STATUS")] == ["STATUS:CONFIRMED", "STATUS:CANCELLED"]
    assert f"UID:{made.id}" in lines
    assert "Ana" not in text
    assert "gladly" not in text
    assert "Party" not in await calendar.export("Trip")
    assert unfold(write_calendar([]))[-1] == "END:VCALENDAR"
