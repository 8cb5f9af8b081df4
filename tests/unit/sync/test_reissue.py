"""Edits that were lost with a chain are made again: key by key, unless somebody changed the same since."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.sync import replacing
from cocoon_core.sync.reissue import UNITS_A_CHANGE
from tests.support.world import SCHEMA, Seat, World, make_world, state_of  # noqa: F401  a fixture


async def restored(world: World) -> tuple[Seat, Seat]:
    """Ana's profile before her last entry, running and not yet synced; and Ben, who has it all."""
    ana, ben = await world.group("ana", "ben")
    async with ana.group.document("list", SCHEMA).change() as doc:
        doc["items"].update({"kept": 1, "changed": 1, "gone": 1, "deep": {"a": 1, "b": [1, 2, 3]}})
        doc["lines"].extend(["one", "two", "three"])
        doc["note"].append("a note")
    await world.level()
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.group.feed.post("ahead")
    await world.level([ana, ben])
    await ana.stop()
    await copy.start()
    return copy, ben


async def edit(seat: Seat, change: Any) -> None:
    async with seat.group.document("list", SCHEMA).change() as doc:
        change(doc)


def offline(doc: Any) -> None:
    doc["items"]["changed"] = 2
    doc["items"]["new"] = {"x": [True, None, 1.5, b"bytes"]}
    doc["items"]["deep"]["a"] = 2
    doc["items"]["deep"]["b"][1:2] = ["two"]
    del doc["items"]["gone"]
    doc["lines"].insert(1, "inserted")
    doc["note"].insert(2, "longer ")


def kinds(seat: Seat) -> set[str]:
    return {kind for kind, _, _, _ in seat.replica.groups.alarms(seat.replica.record.number)}


async def test_every_kind_of_value_is_written_again(world: World) -> None:
    copy, ben = await restored(world)
    await edit(copy, offline)
    before = copy.shared()
    await copy.sync()
    assert copy.shared() == before
    await world.level([copy, ben])
    assert ben.shared() == before
    assert "edits-left" not in kinds(copy)
    assert await state_of(copy) == await state_of(ben)


async def test_what_others_changed_since_is_left_and_the_rest_written(world: World) -> None:
    copy, ben = await restored(world)
    await edit(copy, offline)

    def since(doc: Any) -> None:
        doc["items"]["changed"] = "by ben"
        doc["items"]["deep"]["b"].append(4)
        doc["lines"].append("four")
        doc["note"].append("!")

    await edit(ben, since)
    await ben.sync()
    await copy.sync()
    assert copy.shared() == {
        "items": {
            "kept": 1,
            "changed": "by ben",
            "deep": {"a": 2, "b": [1, 2, 3, 4, "two"]},
            "new": {"x": [True, None, 1.5, b"bytes"]},
        },
        "lines": ["one", "two", "three", "four", "inserted"],
        "note": "a note!",
    }
    assert "edits-left" in kinds(copy)
    await world.level([copy, ben])
    assert await state_of(copy) == await state_of(ben)


async def test_many_edits_are_few_changes(world: World) -> None:
    copy, ben = await restored(world)
    count = 2 * UNITS_A_CHANGE + 5
    for number in range(count):
        await copy.group.feed.post(f"post {number}")
    await copy.sync()
    assert copy.replica.chains[copy.device].last_seq < 12  # replace_device and the few changes
    await world.level([copy, ben])
    assert sorted(await ben.texts()) == sorted(["ahead", *(f"post {number}" for number in range(count))])


async def test_a_crash_before_they_are_written_again_loses_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, ben = await restored(world)
    await copy.group.feed.post("offline")
    with monkeypatch.context() as crashing:

        def crash(replica: object) -> None:
            raise SystemExit

        crashing.setattr(replacing, "reissue_lost", crash)
        with pytest.raises(SystemExit):
            await copy.sync()
    await copy.restart()
    assert "offline" not in await copy.texts()
    await world.level([copy, ben])
    assert sorted(await copy.texts()) == ["ahead", "offline"] == sorted(await ben.texts())
    assert await state_of(copy) == await state_of(ben)


async def test_operations_that_were_never_sent_are_told_and_not_repeated(world: World) -> None:
    copy, ben = await restored(world)
    await copy.group.invite()
    await copy.sync()
    assert "operations-lost" in kinds(copy)
    assert len(copy.group.invites()) == len(ben.group.invites()) == 1
