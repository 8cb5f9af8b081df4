"""Lists as members see them: items and their order, what two devices do at once, and what is odd in a document."""

from __future__ import annotations

from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_LIST_ITEMS, MAX_LIST_TEXT_BYTES, MAX_TITLE_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social import list_view
from cocoon_core.social.list_view import ListsView
from cocoon_core.social.lists import SharedList
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


def texts(found: SharedList) -> list[str]:
    return [item.text for item in found.items]


async def test_a_list_goes_through_its_life(ana: Seat) -> None:
    lists = ana.group.lists
    made = await lists.new("Shopping", ["milk", "rye bread"])
    assert texts(made) == ["milk", "rye bread"]
    assert texts(await lists.add("shopping", "eggs", "salt", before="rye bread")) == [
        "milk",
        "eggs",
        "salt",
        "rye bread",
    ]
    assert texts(await lists.move(made.id, "salt")) == ["milk", "eggs", "rye bread", "salt"]
    assert texts(await lists.move(made.id[:6], "salt", before="Milk")) == ["salt", "milk", "eggs", "rye bread"]
    ticked = await lists.tick("Shopping", "milk", "EGGS")
    assert [item.text for item in ticked.items if item.done] == ["milk", "eggs"]
    assert [item.text for item in (await lists.tick("Shopping", "milk", done=False)).items if item.done] == ["eggs"]
    eggs = next(item.id for item in ticked.items if item.text == "eggs")
    assert texts(await lists.edit("Shopping", eggs[:8], "six eggs"))[2] == "six eggs"
    (info,) = await lists.all()
    assert (info.name, info.open, info.done, info.removed) == ("Shopping", 3, 1, False)
    assert texts(await lists.clear("Shopping")) == ["salt", "milk", "rye bread"]
    assert texts(await lists.drop("Shopping", "salt", "milk")) == ["rye bread"]
    await lists.rename("Shopping", "Errands")
    assert (await lists.get("errands")).name == "Errands"
    await lists.remove("Errands")
    assert await lists.all() == []
    assert [one.removed for one in await lists.all(removed=True)] == [True]
    with pytest.raises(UnknownItemError):
        await lists.get("Errands")
    await lists.restore(made.id[:8])
    assert texts(await lists.get("Errands")) == ["rye bread"]


async def test_what_two_members_do_at_once_is_merged(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.lists.new("Trip", ["tent", "stove", "map", "rope"])
    await world.level()
    await ana.group.lists.move(made.id, "rope", before="tent")
    await ben.group.lists.move(made.id, "rope", before="stove")  # the same item, elsewhere
    await ana.group.lists.tick(made.id, "map")
    await ben.group.lists.edit(made.id, "map", "old map")
    await ana.group.lists.add(made.id, "lamp")
    await ben.group.lists.add(made.id, "soap")
    await ana.group.lists.drop(made.id, "stove")
    await ben.group.lists.tick(made.id, "stove")  # what was taken off stays off
    await world.level()
    assert await state_of(ana) == await state_of(ben)
    shown = await ana.group.lists.get(made.id)
    assert sorted(texts(shown)) == ["lamp", "old map", "rope", "soap", "tent"]
    assert next(item for item in shown.items if item.text == "old map").done is not None
    before = await state_of(ana)
    for seat in (ana, ben):
        rebuild_everything(seat)
        assert await state_of(seat) == before


async def test_items_that_were_put_at_one_place_at_once_can_be_moved_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoon_core.social.lists.secrets.randbelow", lambda most: 0)
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.lists.new("Trip", ["first"])
    await world.level()
    await ana.group.lists.add(made.id, "one")
    await ben.group.lists.add(made.id, "two")
    await world.level()
    both = texts(await ana.group.lists.get(made.id))[1:]  # they share a place, and stand by their ids
    moved = await ana.group.lists.add(made.id, "between", before=both[1])
    assert texts(moved) == ["first", both[0], "between", both[1]]
    await world.level()
    assert texts(await ben.group.lists.get(made.id)) == texts(moved)


async def test_a_long_list_is_written_whole_or_not(ana: Seat) -> None:
    lists = ana.group.lists
    made = await lists.new("Long", [f"item {number}" for number in range(450)])
    assert texts(made) == [f"item {number}" for number in range(450)]
    with pytest.raises(UsageError):
        await lists.add("Long", *[f"more {number}" for number in range(MAX_LIST_ITEMS)])
    with pytest.raises(UsageError):
        await lists.add("Long", *["more"] * 200, "x" * (MAX_LIST_TEXT_BYTES + 1))
    assert len((await lists.get("Long")).items) == 450


@pytest.mark.parametrize("name", ["", "  ", "\u202e", "x" * (MAX_TITLE_BYTES + 1), "é" * MAX_TITLE_BYTES])
async def test_a_name_that_cannot_be_is_said(ana: Seat, name: str) -> None:
    with pytest.raises(UsageError):
        await ana.group.lists.new(name)
    assert await ana.group.lists.all(removed=True) == []


async def test_what_is_meant_by_two_is_said(ana: Seat) -> None:
    lists = ana.group.lists
    await lists.new("Shopping", ["milk", "milk", "salt"])
    with pytest.raises(UnknownItemError, match="2 items"):
        await lists.tick("Shopping", "milk")
    two = (await lists.get("Shopping")).items
    await lists.tick("Shopping", two[0].id)
    assert [item.done is not None for item in (await lists.tick("Shopping", "milk")).items] == [True, True, False]
    await lists.new("SHOPPING")
    with pytest.raises(UnknownItemError, match="2 lists"):
        await lists.get("shopping")
    for reference in ("nothing", "abcd" * 3, "", "0" * 65):
        with pytest.raises(UnknownItemError):
            await lists.get(reference)
    with pytest.raises(UnknownItemError):
        await lists.drop(two[0].id, "pepper")


async def test_a_list_may_not_be_written_as_a_document(ana: Seat) -> None:
    for name in ("list/x", "note/x", "event/2026-09", "reply/2026-09"):
        with pytest.raises(UsageError):
            ana.group.document(name, {"items": dict})


# --- what a hostile member writes

SCHEMA = ListsView.schema


def forge(seat: Seat, edit: Any, name: str = "list/0011223344556677") -> tuple[Forger, Descriptor, bytes]:
    forger = Forger(seat)
    descriptor = Descriptor(DocumentKind.SHARED, name, schema=SCHEMA)
    return forger, descriptor, forger.write((descriptor, forger.change(descriptor, edit)))


async def test_odd_items_are_made_harmless(world: World) -> None:
    ana, mal = await world.group("ana", "mal")

    def edit(root: Any) -> None:
        root["about"]["name"] = "\u202eevil\nname"
        root["about"]["at"] = -5
        odd: list[Any] = ["text", 5, None, [1], {}, {"text": 5}, {"text": "  "}, {"text": b"x"}]
        for number, value in enumerate(odd):
            root["items"][f"{number:016x}"] = value
        root["items"]["no id"] = {"text": "hidden", "at": 1, "place": "V"}
        root["items"]["f" * 16] = {"text": "\x1b[2Jlast", "at": 2**62, "place": "~~", "done": True}
        root["items"]["e" * 16] = {"text": "x" * 5_000, "place": "V"}

    _, _, envelope = forge(mal, edit)
    inject(next(iter(world.relays.values())), ana.replica.epoch, envelope)
    await ana.sync()
    (info,) = await ana.group.lists.all()
    assert (info.name, info.time.year) == ("evil name", 1970)
    long, last = (await ana.group.lists.get(info.id)).items
    assert len(long.text.encode()) <= MAX_LIST_TEXT_BYTES
    assert (last.text, last.time.year, last.done) == ("[2Jlast", 9999, None)
    shown = await ana.group.lists.add(info.id, "behind all")
    assert texts(shown)[-1] == "behind all"


async def test_attack_43_a_list_of_too_many_items_shows_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_view, "MOST_SHOWN", 10)
    ana, mal = await world.group("ana", "mal")

    def edit(root: Any) -> None:
        for number in range(300):
            root["items"][f"{number:016x}"] = {"text": f"{number}", "place": f"{number + 1000}1"}

    _, _, envelope = forge(mal, edit)
    inject(next(iter(world.relays.values())), ana.replica.epoch, envelope)
    await ana.sync()
    (info,) = await ana.group.lists.all()
    assert info.name == "Unnamed"
    assert texts(await ana.group.lists.get(info.id)) == [str(number) for number in range(10)]


async def test_a_document_of_that_name_with_another_schema_is_no_list(world: World) -> None:
    ana, mal = await world.group("ana", "mal")
    forger = Forger(mal)
    other = Descriptor(DocumentKind.SHARED, "list/x", schema=(("items", "map"),))
    owned = Descriptor(DocumentKind.OWNED, "list/y", forger.member)
    first = forger.change(other, lambda root: root["items"].__setitem__("0" * 16, {"text": "no"}))
    second = forger.change(owned, lambda root: root.__setitem__("items", {"text": "no"}))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((other, first), (owned, second)))
    await ana.sync()
    assert await ana.group.lists.all(removed=True) == []


async def test_a_view_is_computed_anew_where_a_step_of_the_schema_asks_for_it(ana: Seat) -> None:
    made = await ana.group.lists.new("Shopping", ["milk"])
    note = await ana.group.notes.new("Rules", "Shoes off.")
    database = ana.replica.database
    with database.transaction():
        for table in ("lists", "notes"):
            database.execute(f"DELETE FROM {table}")
            database.execute("INSERT INTO stale_views SELECT id, ? FROM groups", (table,))
        database.execute("DELETE FROM list_items")
    await ana.restart()
    assert await ana.group.lists.get("Shopping") == made
    assert await ana.group.notes.get("Rules") == note
    assert database is not ana.replica.database
    assert ana.replica.database.query("SELECT * FROM stale_views") == []
