"""How operators write numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_relay import units

PAIRS: list[tuple[Callable[[object], float], Callable[[float], str]]] = [
    (units.parse_count, units.show_count),
    (units.parse_size, units.show_size),
    (units.parse_time, units.show_time),
    (units.parse_rate, units.show_rate),
    (units.parse_size_rate, units.show_size_rate),
]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_count, "100_000", 100_000), (units.parse_count, 7, 7),
        (units.parse_size, "512 MiB", 512 * 2**20), (units.parse_size, "1.5GB", 1_500_000_000),
        (units.parse_size, 4096, 4096), (units.parse_size, "10", 10), (units.parse_size, "2 tib", 2**41),
        (units.parse_time, "90 days", 90 * 86400), (units.parse_time, "2h", 7200), (units.parse_time, "0.5 s", 0.5),
        (units.parse_time, "15 min", 900), (units.parse_time, 30, 30),
        (units.parse_rate, "20/s", 20.0), (units.parse_rate, "86400/day", 1.0), (units.parse_rate, 2.5, 2.5),
        (units.parse_size_rate, "16 MiB/s", 2**24), (units.parse_size_rate, "50 GiB / day", 50 * 2**30 / 86400),
    ],
)  # fmt: skip
def test_numbers_are_read_with_their_unit(parse: Callable[[object], float], text: object, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("parse", [parse for parse, _ in PAIRS])
@pytest.mark.parametrize(
    "text", ["", "-1", "a lot", "12 parsecs", "1e400", "nan", True, None, -1, float("nan"), [1], "٣", "3/fortnight"]
)
def test_anything_else_is_refused(parse: Callable[[object], float], text: object) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(("parse", "show"), PAIRS)
@given(number=st.integers(0, 2**50))
def test_what_is_shown_can_be_read(parse: Callable[[object], float], show: Callable[[float], str], number: int) -> None:
    assert parse(show(number)) == pytest.approx(number, rel=1e-9)
