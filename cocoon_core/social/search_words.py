"""Texts as they are searched: the same words for every way of writing them, in any language. Spec: specs/search.md §2.

An index of three letters each finds parts of words from three letters on. So that shorter words are found too, each
word stands behind two spaces, and its beginning is in the index as "  o" and " ok". In languages that are written
without spaces, and for symbols, every character is a word by itself behind one space: two of them that stand together
are in the index as "北 京". Whatever a person types is made of these forms, so nothing in it is ever a query language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final
from zlib import crc32

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_QUERY_CHARS, MAX_QUERY_WORDS, MAX_SEARCH_CHARS
from cocoon_core.protocol.marks import bound_marks

MOST_TRIGRAMS: Final = 24  # that the index is asked for; the rest is compared

_ALONE: Final = "\x02"  # before a character that is a word by itself
_GROUP, _MEMBER, _KIND = "\uf8f0", "\uf8f1", "\uf8f2"  # marks, which no text has: private characters are left out of it
_FIRST_DIGIT, _DIGITS = 0xE000, 0x1800
_MARKS: Final = re.compile("[\u0300-\u036f]+")  # accents and the like, where letters are alphabetic
_MOST_KNOWN: Final = 20_000  # characters whose class is kept

# Scripts that put no spaces between words, or join them so that a word's beginning says little.
_UNSPACED: Final = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Tibetan, Burmese, Khmer
    *((0x3005, 0x3007), (0x3041, 0x30FF), (0x3105, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF)),  # Kana, Bopomofo
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3347F)),  # Han
    (0xAC00, 0xD7A3),  # Hangul
)


class _Table(dict[int, int | str | None]):
    """What each character becomes, made out when it is first met."""

    def __missing__(self, code: int) -> int | str | None:
        made = _class_of(code)
        if len(self) < _MOST_KNOWN:
            self[code] = made
        return made


def _class_of(code: int) -> int | str | None:
    """Itself in a word; alone; a space; or None, nothing."""
    category = unicodedata.category(chr(code))
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F:  # what does not show must hide no word
        return None
    if category[0] in "LMN":
        return f" {_ALONE}{chr(code)} " if any(low <= code <= high for low, high in _UNSPACED) else code
    return f" {_ALONE}{chr(code)} " if category[0] == "S" or category == "Cn" else " "


_TABLE: Final = _Table()


def fold_letters(text: str) -> str:
    """Letters of either case, wide and composed ones, and those with accents are alike."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", bound_marks(text)).casefold()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", apart)))


def spell_words(text: str) -> str:
    """A text as it is searched: every word behind two spaces, every character that is a word by itself behind one."""
    words = fold_letters(text).translate(_TABLE).split()
    if not words:
        return ""
    spelled = "  " + "  ".join(words) + " "
    return spelled.replace(f"  {_ALONE}", " ") if _ALONE in spelled else spelled


def spell_text(parts: Sequence[str | None]) -> str:
    """All that a thing says, as it is searched; the end of what is very long is left out."""
    return spell_words("\n".join(part for part in parts if part))[:MAX_SEARCH_CHARS]


# --- what is sought


def read_query(text: str) -> list[str]:
    """The forms that must all stand in a text: a word of three letters or more anywhere, a shorter one where a word
    begins. Nothing where there is nothing to look for in it.

    Raises:
        UsageError: it is too long.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise UsageError(f"a search is for {MAX_QUERY_CHARS} characters at most, not {len(text)}")
    needles = dict.fromkeys(filter(None, map(_needle, text.split())))
    if len(needles) > MAX_QUERY_WORDS:
        raise UsageError(f"a search is for {MAX_QUERY_WORDS} words at most, not {len(needles)}")
    return list(needles)


def _needle(typed: str) -> str:
    """One piece of what was typed. Its last word may go on: that makes it a search while one types."""
    spelled = spell_words(typed)
    words = list(_words_of(spelled))
    if not words:
        return ""
    if len(words[0][0]) >= 3:
        spelled = spelled.lstrip(" ")
    return spelled if words[-1][1] else spelled.rstrip(" ")


def _words_of(spelled: str) -> Iterator[tuple[str, bool]]:
    """The words of a spelled text, and whether each is a character by itself."""
    for spaces, word in re.findall(r"( *)([^ ]+)", spelled):
        yield word, len(word) == 1 and spaces == " "


def trigrams_of(needles: Sequence[str]) -> list[str]:
    """Pieces of three characters that stand in every text in which the needles do: those that few texts have."""
    found: dict[str, None] = {}
    for needle in needles:
        words = list(_words_of(needle))
        for place, (word, alone) in enumerate(words):
            if alone:
                after = words[place + 1] if place + 1 < len(words) else ("", False)
                before = place > 0 and words[place - 1][1]
                pieces = [f"{word} {after[0]}"] if after[1] else [] if before else [f" {word} "]
            elif len(word) < 3:
                pieces = [f"  {word}"[-3:]]
            else:
                pieces = [word[at : at + 3] for at in range(len(word) - 2)]
            found |= dict.fromkeys(pieces)
    return list(found)[:MOST_TRIGRAMS]


def expression_of(pieces: Sequence[str | Sequence[str]]) -> str:
    """A query of FTS5 that asks for all pieces, each three characters; of a sequence of them for any. None of them has
    a quotation mark, since no spelled text has one.
    """
    return " AND ".join(
        f'"{piece}"' if isinstance(piece, str) else "(" + " OR ".join(f'"{one}"' for one in piece) + ")"
        for piece in pieces
    )


# --- marks: what is sought beside the text, as further pieces of three characters


def mark_group(number: int) -> str:
    return _GROUP + _digits(number)


def mark_member(member: bytes) -> str:
    """Two members may have the same mark, which whoever asks has to tell apart."""
    return _MEMBER + _digits(int.from_bytes(member[:4]))


def mark_kind(kind: str) -> str:
    return _KIND + _digits(crc32(kind.encode()))


def _digits(number: int) -> str:
    high, low = divmod(number, _DIGITS)
    return chr(_FIRST_DIGIT + high % _DIGITS) + chr(_FIRST_DIGIT + low)


# --- where it stands in what was written


def find_places(text: str, needles: Sequence[str]) -> list[tuple[int, int]]:
    """The places of a text, from and to, at which something that was sought stands, in order; none overlaps.

    A help for the eye: in texts with characters that are put together of several, some are not found.
    """
    spelled, origins = _spell_slowly(text)
    marked: set[int] = set()
    for needle in needles:
        begins = len(needle) - len(needle.lstrip(" "))
        at = spelled.find(needle)
        while at >= 0:
            marked.update(place for place in origins[at + begins : at + len(needle)] if place >= 0)
            at = spelled.find(needle, at + 1)
    places: list[tuple[int, int]] = []
    for place in sorted(marked):
        if places and places[-1][1] == place:
            places[-1] = places[-1][0], place + 1
        else:
            places.append((place, place + 1))
    return places


def _spell_slowly(text: str) -> tuple[str, list[int]]:
    """A spelled text, and of each of its characters the place that it comes from; -1 for a space."""
    spelled: list[str] = []
    origins: list[int] = []
    inside = False
    for place, character in enumerate(text):
        for letter in fold_letters(character):
            made = _TABLE[ord(letter)]
            if made is None:
                continue
            if isinstance(made, str):
                inside = False
                if made != " ":
                    spelled += " ", letter
                    origins += -1, place
                continue
            if not inside:
                spelled += " ", " "
                origins += -1, -1
                inside = True
            spelled.append(letter)
            origins.append(place)
    return "".join(spelled) + " ", [*origins, -1]
