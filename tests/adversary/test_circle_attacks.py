"""Attacks by members on what a circle writes: texts and threads that cost without end, things that pass for others.

Where a defence can be taken out, the attack is also run against a build without it, to see that it would succeed there.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest

from cocoon_cli.events import draw_event
from cocoon_cli.output import Output
from cocoon_core.documents import Document
from cocoon_core.errors import UnknownItemError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.social.event_view import event_id
from cocoon_core.social.list_view import ListsView
from cocoon_core.social.owned_view import LAST_MS
from cocoon_core.social.post_view import post_id
from cocoon_core.storage.database import Database
from cocoon_core.storage.member_profiles import MemberProfile
from cocoon_core.vault import naming
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of

__all__ = ["make_world"]

PILE = "a" + "\u0301\u0316" * 30_000  # accents over one letter, in the order that is dearest to put right
DEEP = 500  # replies below each other


async def give(world: World, seat: Seat, forger: Forger, *changes: tuple[Descriptor, Any]) -> None:
    """Have a seat get changes that no program of ours writes, each in an entry of its own."""
    relay = next(iter(world.relays.values()))
    for descriptor, edit in changes:
        raw = forger.change(descriptor, edit)
        inject(relay, seat.replica.epoch, forger.write((descriptor, raw)))
    await seat.sync()


def put(**values: Any) -> Any:
    """An edit that sets root keys."""

    def edit(root: Any) -> None:
        for key, value in values.items():
            root[key] = value

    return edit


# --- 42: accents


async def pile_up(world: World, ana: Seat, mal: Seat) -> float:
    """Seconds of computing in which a device reads and searches texts of many accents."""
    forger, short = Forger(mal), PILE[:4_000]
    event = Descriptor(DocumentKind.OWNED, "event/2026-09", forger.member)
    made = Descriptor(DocumentKind.SHARED, "list/00", schema=ListsView.schema)
    items = {f"{number:016x}": {"text": short, "at": 1, "place": "V"} for number in range(20)}
    began = time.process_time()
    await give(
        world,
        ana,
        forger,
        (forger.feed(), put(**{"post:0": {"at": 1, "text": PILE}})),
        (event, put(**{"event:0": {"at": 1, "begins": 1, "name": short, "about": PILE[:16_000]}})),
        (made, lambda root: [root["items"].__setitem__(key, value) for key, value in items.items()]),
    )
    assert await ana.group.search("soup") == []
    return time.process_time() - began


async def test_attack_42_accents_piled_up_cost_no_more_than_by_their_number(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    assert await pile_up(world, ana, mal) < 1.5
    (found,) = await ana.group.lists.all()
    items = (await ana.group.lists.get(found.id)).items
    assert len(items) == 20
    assert all(1 < len(item.text) < 8 for item in items)


async def test_attack_42_succeeds_where_accents_are_not_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, mal = await world.group("ana", "mal")
    monkeypatch.setattr("cocoon_core.social.search_words.bound_marks", lambda text: text)
    monkeypatch.setattr(naming, "bound_marks", lambda text: text)
    assert await pile_up(world, ana, mal) > 2


# --- 43: threads


def write_deep(forger: Forger) -> Any:
    """An edit that makes a thread in which each reply answers the one before."""
    document = forger.feed().document_id(forger.group)

    def edit(root: Any) -> None:
        for number in range(DEEP):
            more = {"re": post_id(document, f"post:{number - 1:04}")} if number else {}
            root[f"post:{number:04}"] = {"at": number, "text": "deeper", **more}

    return edit


async def test_attack_43_a_deep_thread_is_gone_up_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, mal = await world.group("ana", "mal")
    await ana.group.feed.note_here()
    forger = Forger(mal)
    await give(world, ana, forger, (forger.feed(), write_deep(forger)))
    assert await ana.group.feed.unread() == DEEP
    asked, query_value = [0], Database.query_value

    def counting(self: Database, *arguments: Any) -> Any:
        asked[0] += 1
        return query_value(self, *arguments)

    monkeypatch.setattr(Database, "query_value", counting)
    (thread,) = await ana.group.feed.new()
    assert [post.text for post in thread] == ["deeper"] * DEEP
    assert asked[0] < 3 * DEEP


# --- 21: what passes for something else


async def test_attack_21_a_name_that_is_the_id_of_another_names_only_itself(world: World) -> None:
    """Whoever calls theirs by an id of somebody else's would have others change, read and keep theirs instead."""
    ana, mal = await world.group("ana", "mal")
    lists, notes, calendar = ana.group.lists, ana.group.notes, ana.group.calendar
    mine = await lists.new("Shopping", ["milk"])
    note = await notes.new("Rules", "Shoes off.")
    event = await calendar.new("Party", datetime(2026, 12, 24, 18, tzinfo=UTC))
    await world.level()
    milk = mine.items[0].id
    await mal.group.lists.new(mine.id, ["poison"])
    await mal.group.lists.add(mine.name, milk)
    await mal.group.notes.new(note.id, "Shoes on.")
    await mal.group.calendar.new(event.id, datetime(2026, 12, 24, 18, tzinfo=UTC))
    await world.level()
    assert [item.text for item in (await lists.get(mine.id)).items] == ["milk", milk]
    assert (await notes.get(note.id)).text == "Shoes off."
    assert (await calendar.get(event.id)).name == "Party"
    ticked = await lists.tick(mine.id, milk)
    assert [item.text for item in ticked.items if item.done] == ["milk"]
    assert {one.name for one in await lists.all()} == {"Shopping", mine.id}


async def test_attack_21_a_name_that_is_the_beginning_of_anothers_id_is_in_doubt(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    mine = await ana.group.lists.new("Shopping", ["milk"])
    note = await ana.group.notes.new("Rules", "Shoes off.")
    event = await ana.group.calendar.new("Party", datetime(2026, 12, 24, 18, tzinfo=UTC))
    await world.level()
    milk = mine.items[0].id
    await mal.group.lists.new(mine.id[:8], ["poison"])
    await mal.group.lists.add(mine.id, milk[:8])
    await mal.group.notes.new(note.id[:8], "Shoes on.")
    await mal.group.calendar.new(event.id[:8], datetime(2026, 12, 24, 18, tzinfo=UTC))
    await world.level()
    for asked in (
        ana.group.lists.get(mine.id[:8]),
        ana.group.lists.tick(mine.id, milk[:8]),
        ana.group.notes.get(note.id[:8]),
        ana.group.calendar.get(event.id[:8]),
    ):
        with pytest.raises(UnknownItemError, match="by its whole id"):
            await asked
    assert (await ana.group.notes.get(note.id[:9])).text == "Shoes off."


# --- 33: times


async def test_attack_33_an_event_at_the_end_of_the_calendar_keeps_nobody_from_seeing_events_or_an_archive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    document = Descriptor(DocumentKind.OWNED, "event/2026-09", forger.member)
    events: dict[str, Any] = {
        "event:0": {"at": LAST_MS, "begins": LAST_MS},
        "event:1": {"at": 1, "begins": LAST_MS, "days": 3_660},
        "event:2": {"at": 1, "begins": LAST_MS - 1, "ends": LAST_MS},
        "event:3": {"at": 2**63 - 1, "begins": 2**63 - 1, "ends": 2**63 - 1, "edited": 2**63 - 1},
        "event:4": {"at": -(2**63), "begins": -(2**63), "days": 1},
    }
    await give(world, ana, forger, (document, put(**events)))
    base = document.document_id(ana.replica.group)
    out = StringIO()
    screen = Output(as_json=False, out=out, err=out).screen()
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "UTC"):
        with monkeypatch.context() as there:
            there.setenv("TZ", zone)
            time.tzset()
            for key in events:
                draw_event(screen, await ana.group.calendar.get(event_id(base, key).hex()))
        time.tzset()
    assert (await ana.group.calendar.export()).count("BEGIN:VEVENT") == len(events)
    target = world.folder / "archive"
    await ana.running.export(target, ana.running.groups())
    assert "31 Dec 9999" in next(target.glob("*/together.html")).read_text()


# --- generations


def changes_of(forger: Forger, descriptor: Descriptor, *edits: Any) -> list[bytes]:
    """Changes of a new document that follow one another."""
    identity = descriptor.document_id(forger.group)
    document = Document(descriptor, identity, actor_of(forger.keys.id, identity), lambda: iter(()))
    raws = []
    for edit in edits:
        editing = document.change()
        with editing as root:
            edit(root)
        assert editing.change is not None
        raws.append(editing.change.raw)
    return raws


async def test_generations_of_a_profile_say_the_same_in_whatever_order_they_come(world: World) -> None:
    """A later generation goes before an earlier one as long as it says something, and no longer."""
    ana, ben, mal = await world.group("ana", "ben", "mal")
    forger, relay = Forger(mal), next(iter(world.relays.values()))
    first = Descriptor(DocumentKind.OWNED, "profile", forger.member)
    later, member = first.at(1), forger.member
    (old,) = changes_of(forger, first, put(about="the first", quiet=True))
    said, emptied = changes_of(forger, later, put(about="the second"), lambda root: root.pop("about"))
    inject(relay, ana.replica.epoch, forger.write((first, old)), forger.write((later, said)))
    await ana.sync()
    assert ana.group.profile.get(member) == MemberProfile("the second")
    inject(relay, ana.replica.epoch, forger.write((later, emptied)))
    await mal.stop()
    for seat in (ana, ben):  # one had all of it, the other none of it before
        await seat.sync()
        assert seat.group.profile.get(member) == MemberProfile("the first", quiet=True)
    reference = await state_of(ana)
    for seat in (ana, ben):
        rebuild_everything(seat)
        assert await state_of(seat) == reference
