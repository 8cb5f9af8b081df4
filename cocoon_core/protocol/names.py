"""Names of members and groups: which may be chosen, and how members who chose alike are told apart.

Two questions are kept apart. Whether a name may stand in an operation (`require_good_name`) decides whether the
operation is well formed, so every replica must answer alike for ever: it looks at fixed code points and at nothing that
a newer Unicode table may change. How a name is shown (`show_names`) decides nothing, so it may use Python's own tables.
Spec: specs/roster.md §8.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_NAME_BYTES
from cocoon_core.protocol.ids import MemberId

SUFFIX_HEX: Final = 8  # hex digits of the member id that a clashing name is shown with

_SPACES: Final = frozenset([0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000])
# Ranges, ends included, of code points that never stand in a name: controls, line separators, bidirectional and other
# invisible formatting, fillers that show as nothing, surrogates, private use, tags. The zero-width joiner (200D) and
# the variation selector FE0F stay, because families of emoji are made with them.
_FORBIDDEN: Final = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200C),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xD800, 0xF8FF),
    (0xFE00, 0xFE0E),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0x10FFFF),
)
_NONCHARACTER: Final = 0xFFFE
_LIKE_AN_ID: Final = re.compile(r"[0-9A-Fa-f]{8,}")
_LIKE_A_SUFFIX: Final = re.compile(r"#[ ]?[0-9A-Fa-f]{4,}\Z")

# Letters that look like a Latin one in common typefaces, after NFKC and case folding. Small on purpose: it serves
# people who read names, and whoever must be certain compares ids.
_LOOKS_LIKE: Final = str.maketrans(
    {
        **dict(zip("аеорсухкмтнвгіјѕһԁԛԝьзбӏ", "aeopcyxkmthbrijshdqwb36l", strict=True)),  # Cyrillic
        **dict(zip("αβεικνορτυχηωγ", "abeikvoptuxnwy", strict=True)),  # Greek
        **dict(zip("ահոսցզքօ", "whnugqpo", strict=True)),  # Armenian
        **dict(zip("ıłøđħŧæœɑɡɩʋ", "lloodtaoagiv", strict=True)),  # Latin with strokes, ligatures and small forms
        **dict(zip("01|!456789i", "olllasbtbgl", strict=True)),  # digits and signs read as letters; i as l
    }
)
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def require_good_name(name: str) -> None:
    """Refuse a name that must not stand in an operation. The same answer on every version of Python and Unicode.

    Raises:
        MalformedError: empty or over MAX_NAME_BYTES of UTF-8; a control, bidirectional or invisible character; space at
            an end; the form of an id (8 or more hex digits and nothing else) or of the suffix that tells clashing names
            apart.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise MalformedError("a name is not UTF-8") from error
    if not 0 < size <= MAX_NAME_BYTES:
        raise MalformedError(f"a name is 1 to {MAX_NAME_BYTES} bytes of UTF-8, not {size}")
    points = [ord(letter) for letter in name]
    for point in points:
        if is_hidden(point):
            raise MalformedError(f"a name holds U+{point:04X}, which does not show")
    if points[0] in _SPACES or points[-1] in _SPACES:
        raise MalformedError("a name has a space at an end")
    if all(point in (0x200D, 0xFE0F) or point in _SPACES for point in points):
        raise MalformedError("a name shows nothing")
    if _LIKE_AN_ID.fullmatch(name) or _LIKE_A_SUFFIX.search(name):
        raise MalformedError("a name looks like an id")


def is_hidden(point: int) -> bool:
    """Whether a code point never stands in a name: it steers, hides or shows nothing. A fixed table, for ever."""
    return point & _NONCHARACTER == _NONCHARACTER or any(first <= point <= last for first, last in _FORBIDDEN)


def clean_name(typed: str) -> str:
    """The name to write for what a person typed: NFC, runs of white space as one space, none at the ends.

    Raises:
        MalformedError: `require_good_name` refuses the result.
    """
    name = " ".join(unicodedata.normalize("NFC", typed).split())
    require_good_name(name)
    return name


def skeleton(name: str) -> str:
    """What a name looks like: names with one skeleton are hard to tell apart. For display only."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    bare = "".join(letter for letter in folded if not _is_slight(letter))
    looks = bare.translate(_LOOKS_LIKE).translate(_LOOKS_LIKE)  # twice: a look-alike of i is then one of l
    for pair, one in _PAIRS:
        looks = looks.replace(pair, one)
    return looks


def _is_slight(letter: str) -> bool:
    """Accents over Latin, Greek and Cyrillic letters, spaces, format characters and small punctuation."""
    return "\u0300" <= letter <= "\u036f" or letter in "'’`´.,-_" or unicodedata.category(letter)[0] in "ZC"


def show_names(chosen: Iterable[tuple[MemberId, str]]) -> dict[MemberId, str]:
    """The name under which each member is shown, members given in order of seniority.

    The first who chose a name has it. One who comes later with a name that looks like it, or one that looks like an id,
    is shown with `#` and the first 8 hex digits of their member id, which no chosen name can end in.
    """
    taken: set[str] = set()
    shown: dict[MemberId, str] = {}
    for member, name in chosen:
        shape = skeleton(name)
        if shape in taken or not shape or _LIKE_AN_ID.fullmatch(unicodedata.normalize("NFKC", name)):
            shown[member] = f"{name} #{member.hex()[:SUFFIX_HEX]}"
        else:
            taken.add(shape)
            shown[member] = name
    return shown
