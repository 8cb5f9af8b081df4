"""Edits of texts: only what differs is written, and two edits of one text are both kept."""

from __future__ import annotations

from random import Random
from time import process_time

import pytest

from cocoon_core.social.splices import MOST_DIFFERENCES, Splice, apply_splices, find_splices, rebase_splices


def random_edit(text: str, chance: Random, letters: str = "ab \n") -> str:
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(text))
        if chance.random() < 0.5:
            text = text[:at] + "".join(chance.choice(letters) for _ in range(chance.randint(1, 5))) + text[at:]
        else:
            text = text[:at] + text[at + chance.randint(1, 5) :]
    return text


def random_text(chance: Random) -> str:
    return "".join(chance.choice("ab \n") for _ in range(chance.randint(0, 40)))


@pytest.mark.parametrize("seed", range(4))
def test_splices_make_the_new_text(seed: int) -> None:
    chance = Random(seed)
    for _ in range(500):
        old = random_text(chance)
        new = random_text(chance) if chance.random() < 0.3 else random_edit(old, chance)
        splices = find_splices(old, new)
        assert apply_splices(old, splices) == new
        end = -1
        for splice in splices:
            assert splice.at > end
            assert splice.removed or splice.text
            end = splice.at + splice.removed
        if old == new:
            assert splices == []


@pytest.mark.parametrize(("old", "new", "splices"), [
    ("", "new", [Splice(0, 0, "new")]),
    ("old", "", [Splice(0, 3, "")]),
    ("one two three", "one 2 three", [Splice(4, 3, "2")]),
    ("milk\neggs\n", "milk\nbread\neggs\n", [Splice(5, 0, "bread\n")]),
    ("a\nb\nc\n", "A\nb\nC\n", [Splice(0, 1, "A"), Splice(4, 1, "C")]),
    ("naïve 💥 end", "naïve 💥💥 end", [Splice(7, 0, "💥")]),
])  # fmt: skip
def test_only_what_differs_is_written(old: str, new: str, splices: list[Splice]) -> None:
    assert find_splices(old, new) == splices


@pytest.mark.parametrize("seed", range(4))
def test_an_edit_of_a_text_that_went_on_keeps_both(seed: int) -> None:
    """What each put in is marked by letters of its own; what neither took out stays, in its order."""
    chance = Random(seed)
    for _ in range(400):
        base = "".join(chr(0x4E00 + number) for number in range(chance.randint(0, 30)))  # every character once
        mine, theirs = random_edit(base, chance, "xyz"), random_edit(base, chance, "PQR")
        merged = apply_splices(theirs, rebase_splices(find_splices(base, mine), base, theirs))
        kept = [letter for letter in base if letter in mine and letter in theirs]
        assert [letter for letter in merged if letter in base] == kept
        assert [letter for letter in merged if letter in "xyz"] == [letter for letter in mine if letter in "xyz"]
        assert [letter for letter in merged if letter in "PQR"] == [letter for letter in theirs if letter in "PQR"]


def test_two_people_write_in_one_note() -> None:
    base = "Shoes off.\nNo smoking.\n"
    mine, theirs = "Shoes off, please.\nNo smoking.\n", "Shoes off.\nNo smoking.\nFeed the cat.\n"
    merged = apply_splices(theirs, rebase_splices(find_splices(base, mine), base, theirs))
    assert merged == "Shoes off, please.\nNo smoking.\nFeed the cat.\n"


@pytest.mark.parametrize(("old", "new"), [
    ("a" * 60_000, "b" + "a" * 59_000 + "c"),
    ("a\n" * 30_000, "b\n" + "a\n" * 20_000 + "c\nd"),
    ("ab" * 30_000, "ba" * 31_000),
    ("".join(chr(0x100 + n % 5_000) for n in range(60_000)), "".join(chr(0x100 + n % 4_999) for n in range(60_000))),
], ids=["one letter", "one line", "shifted", "other"])  # fmt: skip
def test_attack_42_texts_that_are_dear_to_compare_take_bounded_time(old: str, new: str) -> None:
    begun = process_time()
    assert apply_splices(old, find_splices(old, new)) == new
    assert process_time() - begun < 10


def test_what_differs_too_much_is_put_in_the_place_of_the_other() -> None:
    old, new = "".join(map(chr, range(1000, 1000 + MOST_DIFFERENCES))), "".join(map(chr, range(3000, 3100)))
    assert find_splices(f"x{old}y", f"x{new}y") == [Splice(1, len(old), new)]
