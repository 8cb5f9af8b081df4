"""The table of groups: what is forgotten with a relay."""

from __future__ import annotations

from cocoon_core.storage.groups import GroupTable
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture

A_BLOB, A_TEXT = b"\x07" * 32, "ws://gone.test:80"
OF_THE_PROFILE = {"recovery_indexes"}


async def test_with_a_relay_everything_goes_that_is_kept_for_it(world: World) -> None:
    """With what one table kept of it, a relay that comes back would be taken for one that is known."""
    (ana,) = await world.group("ana")
    database, number = ana.replica.database, ana.replica.record.number
    tables = {
        name: _columns(ana, name) for (name,) in database.query("SELECT name FROM sqlite_master WHERE type='table'")
    }
    of_relays = {name for name, columns in tables.items() if "relay" in columns}
    assert of_relays >= {
        "cursors",
        "letters",
        "missed",
        "outbox",
        "topics",
        "uploads",
        "shown_early",
        "untold",
        "answers",
    }
    assert {name for name in of_relays if "group_no" not in tables[name]} == OF_THE_PROFILE, "clear these by hand"
    other = ana.group.relays[0]
    run = database.query_value("SELECT id FROM runs LIMIT 1")
    with database.transaction():
        for name in of_relays:
            for relay in (A_TEXT, other):
                _fill(ana, name, tables[name], {"group_no": number, "relay": relay, "run": run})
        kept = {name: _count(ana, name, other) for name in of_relays - OF_THE_PROFILE}
        GroupTable(database).remove_relay(number, A_TEXT)
    for name in of_relays:
        assert _count(ana, name, A_TEXT) == 0, name
    assert {name: _count(ana, name, other) for name in of_relays - OF_THE_PROFILE} == kept, (
        "of another relay nothing goes"
    )


def _columns(seat: Seat, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in seat.replica.database.query(f"PRAGMA table_info({table})")}


def _fill(seat: Seat, table: str, columns: dict[str, str], values: dict[str, int | str]) -> None:
    """A row with something in every column but its number."""
    samples: dict[str, int | str | bytes] = {"BLOB": A_BLOB, "TEXT": "x", "INTEGER": 1}
    row = {name: values.get(name, samples[kind]) for name, kind in columns.items() if name != "id"}
    marks = ",".join("?" * len(row))
    seat.replica.database.execute(
        f"INSERT OR REPLACE INTO {table} ({','.join(row)}) VALUES ({marks})", tuple(row.values())
    )


def _count(seat: Seat, table: str, relay: str) -> int:
    return int(seat.replica.database.query_value(f"SELECT count(*) FROM {table} WHERE relay=?", (relay,)))
