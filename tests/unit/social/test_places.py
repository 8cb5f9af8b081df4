"""Places of items: always between their neighbours, short, and spread anew where there is no room."""

from __future__ import annotations

from random import Random

import pytest

from cocoon_core.protocol.constants import MAX_PLACE_CHARACTERS
from cocoon_core.social.places import JITTERS, LAST, place_between, read_place, spread


@pytest.mark.parametrize("seed", range(5))
def test_places_that_are_put_anywhere_stand_in_order_and_stay_short(seed: int) -> None:
    chance = Random(seed)
    places: list[str] = []
    spreads = 0
    for _ in range(600):
        index = chance.choice([0, len(places), chance.randint(0, len(places)), len(places) // 2])
        above = places[index - 1] if index else None
        below = places[index] if index < len(places) else None
        place = place_between(above, below, chance.randrange(JITTERS))
        if place is None:
            places, spreads = spread(len(places) + 1), spreads + 1
            continue
        assert above is None or above < place
        assert below is None or place < below
        assert read_place(place) == place
        places.insert(index, place)
    assert places == sorted(set(places))
    assert spreads <= 1
    assert max(map(len, places)) <= MAX_PLACE_CHARACTERS


def test_a_list_that_only_grows_at_one_end_has_short_places() -> None:
    last = first = place_between(None, None, 0)
    for number in range(3_000):
        last, first = place_between(last, None, number), place_between(None, first, number)
        assert last is not None
        assert first is not None
        assert len(last) <= 6
        assert len(first) <= 6
    assert first is not None
    assert last is not None
    assert first < last


def test_the_worst_place_is_spread_before_it_is_too_long() -> None:
    """Always before the item that was put there last."""
    above, below = spread(2)
    for _ in range(10_000):
        place = place_between(above, below, 0)
        if place is None:
            return
        assert above < place < below
        below = place
    raise AssertionError("it never ran out of room")


@pytest.mark.parametrize(("above", "below"), [("V", "V"), ("k", "V"), (LAST, None), (LAST, LAST)])
def test_where_there_is_no_room_it_is_said(above: str, below: str | None) -> None:
    assert place_between(above, below, 0) is None


def test_items_without_a_place_stand_last() -> None:
    odd = ["", "0", "a0", "a b", "ä", "V" * (MAX_PLACE_CHARACTERS + 1), 5, None, b"V", "V\n"]
    assert {read_place(value) for value in odd} == {LAST}
    place = place_between("zzzzzz", None, 5)
    assert place is not None
    assert "zzzzzz" < place < LAST
    before = place_between("V", LAST, 3)
    assert before is not None
    assert "V" < before < LAST


@pytest.mark.parametrize("count", [0, 1, 2, 5_000])
def test_spread_places_stand_in_order(count: int) -> None:
    places = spread(count)
    assert len(places) == count
    assert places == sorted(set(places))
    assert all(read_place(place) == place for place in places)
