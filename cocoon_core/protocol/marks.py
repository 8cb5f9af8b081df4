"""Bounds how many accents may follow one another in a text that a stranger wrote, before it is brought into a form.

Putting accents into their order costs the square of how many stand in a row: 128,000 of them, as one post can hold,
cost ten seconds. No language writes more than a few over one letter; Unicode's own bound for streams (UAX #15 §12) is
30. Spec: specs/media.md §1.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MOST_MARKS: Final = 30  # in a row
_MOST_KNOWN: Final = 20_000  # characters whose accents are kept in mind


class _Marks(dict[str, tuple[bool, int]]):
    """Of a character, taken apart: whether it goes on with a row of accents, and how many it ends with."""

    def __missing__(self, letter: str) -> tuple[bool, int]:
        apart = unicodedata.normalize("NFKD", letter)
        last = 0
        for part in reversed(apart):
            if not unicodedata.combining(part):
                break
            last += 1
        made = last == len(apart), last
        if len(self) < _MOST_KNOWN:
            self[letter] = made
        return made


_known: Final = _Marks()


def bound_marks(text: str) -> str:
    """The text without the accents that stand behind MOST_MARKS in a row; as it is where there are none such."""
    if len(text) <= MOST_MARKS or text.isascii():
        return text
    kept: list[str] = []
    row = 0
    for letter in text:
        goes_on, marks = _known[letter]
        row = row + marks if goes_on else marks
        if row <= MOST_MARKS or not goes_on:
            kept.append(letter)
    return text if len(kept) == len(text) else "".join(kept)
