"""Words as bash hands them to a completion: with the quotes they were typed with, and taken apart at signs.

bash splits at `=` and `:` too, so `--group=Fam` arrives as three words and an address as five, and it replaces what
stands after the last sign alone. The other shells hand words over as they are meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIGNS = re.compile(r"[=:]+")
_REDIRECTION = re.compile(r"[<>&|]*[<>][>&|]*")


def read_parts(parts: Sequence[str]) -> tuple[list[str], str]:
    """The words that were meant, and as much of the last of them as bash leaves where it is."""
    words: list[str] = []
    left, joins = "", False
    for part in parts:
        is_sign = _SIGNS.fullmatch(part) is not None
        if words and (is_sign or joins):
            left = words[-1]
            words[-1] += unquote(part)
        else:
            left = ""
            words.append(unquote(part))
        joins = is_sign
    return words, words[-1] if joins else left


def is_redirected(parts: Sequence[str]) -> bool:
    """Whether the last word names a file that the shell itself opens, as in `cocoon export > FILE`."""
    return any(_REDIRECTION.fullmatch(part) for part in parts[-2:])


def unquote(part: str) -> str:
    """A word without its quotes, of which the last may still be open. Nothing in it is expanded."""
    plain: list[str] = []
    quote = ""
    letters = iter(part)
    for letter in letters:
        if letter == "\\" and quote != "'":
            following = next(letters, "")
            plain.append(following if not quote or following in '"\\$`' else letter + following)
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        else:
            plain.append(letter)
    return "".join(plain)
