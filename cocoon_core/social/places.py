"""Where an item stands in a list: a short text between those of its neighbours. Implements specs/together.md §3.

A place is a fraction between 0 and 1, written in base 62 without the point, so places compare as texts do. To move an
item is to give it one other place, so two devices that move one item at once leave it at one of both places, never at
two. What is drawn at random is given by the caller.
"""

from __future__ import annotations

import re
from typing import Final

from cocoon_core.protocol.constants import MAX_PLACE_CHARACTERS

DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LAST: Final = "~"  # where an item stands whose place is none: below all others
_BASE: Final = len(DIGITS)
_PLACE: Final = re.compile(rf"[0-9A-Za-z]{{0,{MAX_PLACE_CHARACTERS - 1}}}[1-9A-Za-z]", re.ASCII)
_HEAD: Final = 6  # digits that items put at an end differ in
_STEP: Final = _BASE**3  # between two of them: room for 238,000
JITTERS: Final = _BASE * (_BASE - 1)  # what is drawn at random is below this


def read_place(value: object) -> str:
    """What stands in a document, if it is a place; else the one below all."""
    return value if type(value) is str and _PLACE.fullmatch(value) else LAST


def place_between(above: str | None, below: str | None, jitter: int) -> str | None:
    """A place between two others; None of one is the end of the list.

    Args:
        jitter: a random number from 0 to JITTERS - 1. Two devices that draw others put two items at two places.

    Returns:
        None where there is no room: they are equal, or the place would be too long. The list is then to be spread.
    """
    low, high = above or "", below
    if low == LAST or (high is not None and low >= high):
        return None
    if high == LAST:
        high = None
    found = _at_end(low, high, jitter) or _divide(low, high, jitter)
    return found if len(found) <= MAX_PLACE_CHARACTERS else None


def spread(count: int) -> list[str]:
    """Places for a whole list, with the same room between all."""
    step = _BASE**_HEAD // (count + 1)
    return [_encode((number + 1) * step) for number in range(count)]


def _at_end(low: str, high: str | None, jitter: int) -> str | None:
    """One step behind the last, or before the first, so that a list that only grows keeps short places."""
    if low and high is None:
        value = _decode(low) + _STEP + jitter
        return _encode(value) if value < _BASE**_HEAD else None
    if high is not None and not low:
        value = _decode(high) - _STEP - jitter
        return _encode(value) if value > 0 else None
    return None


def _divide(low: str, high: str | None, jitter: int) -> str:
    middle = _middle(low, high)
    tail = DIGITS[jitter // (_BASE - 1)] + DIGITS[1 + jitter % (_BASE - 1)]
    return middle + tail if high is None or middle + tail < high else middle


def _middle(low: str, high: str | None) -> str:
    """The shortest text between two, the first of which may be empty."""
    same = 0
    if high is not None:
        while same < len(high) and (low[same] if same < len(low) else DIGITS[0]) == high[same]:
            same += 1
    if high is not None and same:
        return high[:same] + _middle(low[same:], high[same:])
    first = DIGITS.index(low[0]) if low else 0
    last = DIGITS.index(high[0]) if high is not None else _BASE
    if last - first > 1:
        return DIGITS[(first + last) // 2]
    if high is not None and len(high) > 1:
        return high[0]
    return DIGITS[first] + _middle(low[1:], None)


def _decode(place: str) -> int:
    """The first digits as a number."""
    value = 0
    for digit in place[:_HEAD].ljust(_HEAD, DIGITS[0]):
        value = value * _BASE + DIGITS.index(digit)
    return value


def _encode(value: int) -> str:
    digits = ""
    for _ in range(_HEAD):
        value, digit = divmod(value, _BASE)
        digits = DIGITS[digit] + digits
    return digits.rstrip(DIGITS[0])
