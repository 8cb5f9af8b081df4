"""The tables of lists, notes and events: damaged rows are found and computed anew, and newcomers have the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.world import Seat, World, make_world, posts_table, state_of  # noqa: F401  a fixture

TABLES = {"lists": "list", "list_items": "item", "notes": "note", "events": "event", "event_replies": "reply"}
DAMAGE = [
    "UPDATE lists SET name='forged'",
    "DELETE FROM lists",
    "UPDATE list_items SET text='forged', done_ms=5 WHERE rowid=1",
    "DELETE FROM list_items WHERE rowid=1",
    "UPDATE list_items SET document_no=(SELECT document_no FROM notes)",
    "UPDATE notes SET text='forged'",
    "UPDATE notes SET gone_ms=1",
    "UPDATE events SET begins_ms=5, over_ms=5",
    "DELETE FROM event_replies",
    "UPDATE event_replies SET says=2",
    "UPDATE event_replies SET document_no=(SELECT document_no FROM events)",
]


async def write_some(seat: Seat) -> None:
    group = seat.group
    await group.lists.new("Shopping", ["milk", "salt"])
    await group.notes.new("Rules", "Shoes off.")
    event = await group.calendar.new("Party", datetime(2026, 12, 24, tzinfo=UTC))
    await group.calendar.reply(event.id, "yes", "gladly")


@pytest.mark.parametrize("sql", DAMAGE)
async def test_damaged_rows_are_found_and_computed_anew(world: World, sql: str) -> None:
    (ana,) = await world.group("ana")
    await write_some(ana)
    sound = [posts_table(ana, table, order) for table, order in TABLES.items()]
    with ana.replica.database.transaction():
        ana.replica.database.execute(sql)
    report = await ana.running.check()
    assert {finding.what for finding in report.findings} == {"view"}
    assert all(finding.repaired for finding in report.findings)
    assert [posts_table(ana, table, order) for table, order in TABLES.items()] == sound
    assert (await ana.running.check()).findings == ()


async def test_who_comes_later_has_the_same_out_of_a_manifest(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await write_some(ana)
    await world.level()
    await ben.group.notes.append("Rules", "No smoking.")
    await ben.group.lists.tick("Shopping", "milk")
    await world.level()
    await ana.group.rotate()
    await world.level()
    link = await ana.group.invite()
    await ana.sync()
    chi = await world.seat("chi")
    await chi.running.join(link, member_name="Chi")
    await world.level()
    for table, order in TABLES.items():
        assert posts_table(chi, table, order) == posts_table(ana, table, order), table
    assert await chi.group.lists.get("Shopping") == await ana.group.lists.get("Shopping")
    assert await state_of(chi) == await state_of(ben)
