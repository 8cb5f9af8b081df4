"""Notes: what several write at once is kept, long texts are written in steps, and what is odd is made harmless."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_NOTE_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social import notes as notes_module
from cocoon_core.social.note_view import NotesView
from tests.support.hostile import Forger, inject
from tests.support.world import Seat, World, make_world, rebuild_everything, state_of  # noqa: F401  a fixture


@pytest.fixture
async def ana(world: World) -> Seat:
    (seat,) = await world.group("ana")
    return seat


async def test_a_note_goes_through_its_life(ana: Seat) -> None:
    notes = ana.group.notes
    made = await notes.new("House rules", "Shoes off.")
    assert (made.name, made.text, made.edited) == ("House rules", "Shoes off.", made.time)
    appended = await notes.append("house rules", "No smoking.")
    assert appended.text == "Shoes off.\nNo smoking."
    assert appended.edited > made.edited
    assert (await notes.write("House rules", "Shoes off, please.\nNo smoking.")).text.startswith("Shoes off, please")
    await notes.rename(made.id, "Rules")
    await notes.remove("Rules")
    assert await notes.all() == []
    assert [note.name for note in await notes.all(removed=True)] == ["Rules"]
    await notes.restore(made.id)
    assert (await notes.get("rules")).text == "Shoes off, please.\nNo smoking."


async def test_only_what_differs_is_written(ana: Seat) -> None:
    notes = ana.group.notes
    made = await notes.new("Long", "word " * 1_000)
    document = ana.replica.documents.all()[-1]
    before = list(ana.replica.shelf.admitted_changes(document, 0))
    assert (await notes.write(made.id, "word " * 1_000)).edited == made.edited
    await notes.write(made.id, "word " * 500 + "other " + "word " * 500)
    (fresh,) = [raw for raw in ana.replica.shelf.admitted_changes(document, 0) if raw not in before]
    assert len(fresh) < 300  # of six letters, not of five thousand


async def test_what_two_members_write_at_once_is_kept(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.notes.new("Rules", "Shoes off.\nNo smoking.\n")
    await world.level()
    await ana.group.notes.write(made.id, "Shoes off, please.\nNo smoking.\n")
    await ben.group.notes.write(made.id, "Shoes off.\nNo smoking.\nFeed the cat.\n")
    await world.level()
    assert (await ana.group.notes.get("Rules")).text == "Shoes off, please.\nNo smoking.\nFeed the cat.\n"
    assert await state_of(ana) == await state_of(ben)


async def test_what_came_while_somebody_edited_is_kept(world: World) -> None:
    """As in an editor that was open while a sync ran."""
    ana, ben = await world.group("ana", "ben")
    made = await ana.group.notes.new("Rules", "Shoes off.\nNo smoking.\n")
    await world.level()
    await ben.group.notes.write(made.id, "Shoes off.\nFeed the cat.\nNo smoking.\n")
    await world.level()
    await ana.group.notes.write(made.id, "Shoes off.\nNo smoking, please.\n", base=made.text)
    assert (await ana.group.notes.get("Rules")).text == "Shoes off.\nFeed the cat.\nNo smoking, please.\n"


@pytest.mark.parametrize("seed", range(3))
async def test_random_edits_of_three_devices_converge(world: World, seed: int) -> None:
    chance = Random(seed)
    seats = await world.group("ana", "ben", "chi")
    made = await seats[0].group.notes.new("Text", "the quick brown fox\njumps over the lazy dog\n")
    await world.level()
    for number in range(40):
        seat = chance.choice(seats)
        text = (await seat.group.notes.get(made.id)).text
        at = chance.randint(0, len(text))
        new = text[:at] + f"<{number}>" + text[at + chance.choice([0, 0, 3]) :]
        await seat.group.notes.write(made.id, new)
        if chance.random() < 0.3:
            await seat.sync()
    await world.level()
    states = [await state_of(seat) for seat in seats]
    assert states[0] == states[1] == states[2], f"seed {seed}"
    rebuild_everything(seats[1])
    assert await state_of(seats[1]) == states[0]


async def test_a_long_text_is_written_in_steps_whole_or_not(ana: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = ana.group.notes
    text = "".join(chr(0x4E00 + number % 3_000) for number in range(MAX_NOTE_BYTES // 3))
    made = await notes.new("Long", text)
    assert made.text == text
    document = ana.replica.documents.all()[-1]
    assert len(list(ana.replica.shelf.admitted_changes(document, 0))) == 4  # the name, and three of text
    steps = notes_module._steps

    def failing(*given: Any) -> Any:
        def fail(root: Any) -> None:
            raise UsageError("no")

        return [*steps(*given), fail]

    monkeypatch.setattr(notes_module, "_steps", failing)
    with pytest.raises(UsageError, match="no"):
        await notes.write(made.id, text[::-1])
    monkeypatch.undo()
    assert (await notes.get(made.id)).text == text
    assert (await notes.write(made.id, text[::-1])).text == text[::-1]
    assert (await notes.write(made.id, "")).text == ""


@pytest.mark.parametrize("text", ["x" * (MAX_NOTE_BYTES + 1), "é" * (MAX_NOTE_BYTES // 2 + 1), "\ud800"],
                         ids=["long", "long in bytes", "surrogate"])  # fmt: skip
async def test_a_text_that_cannot_be_is_said(ana: Seat, text: str) -> None:
    with pytest.raises(UsageError):
        await ana.group.notes.new("Bad", text)
    made = await ana.group.notes.new("Good", "words")
    with pytest.raises(UsageError):
        await ana.group.notes.write(made.id, text)
    assert (await ana.group.notes.get("Good")).text == "words"
    assert len(await ana.group.notes.all(removed=True)) == 1


async def test_a_note_that_others_made_too_long_can_be_made_shorter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, mal = await world.group("ana", "mal")
    monkeypatch.setattr(notes_module, "MAX_NOTE_BYTES", 100)
    forger = Forger(mal)
    descriptor = Descriptor(DocumentKind.SHARED, "note/0011223344556677", schema=NotesView.schema)
    raw = forger.change(descriptor, lambda root: root["text"].append("x" * 300))
    inject(next(iter(world.relays.values())), ana.replica.epoch, forger.write((descriptor, raw)))
    await ana.sync()
    (note,) = await ana.group.notes.all()
    assert (note.name, len(note.text)) == ("Unnamed", 300)
    with pytest.raises(UsageError):
        await ana.group.notes.append(note.id, "more")
    assert len((await ana.group.notes.write(note.id, "x" * 200)).text) == 200


async def test_a_note_that_is_not_here_is_said(ana: Seat) -> None:
    for act in (ana.group.notes.get, ana.group.notes.remove, ana.group.notes.restore):
        with pytest.raises(UnknownItemError):
            await act("nothing")
