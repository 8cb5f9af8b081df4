"""Naming one of a kind by its id in hex, or by a beginning of it that no other has, as people type it.

For what a table holds under 16-byte ids: posts in feed.py, items of the vault in item_index.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cocoon_core.errors import UnknownItemError

_LEAST: Final = 4  # characters of a beginning

Between = Callable[[bytes, bytes], list[tuple[Any, ...]]]


def find_reference(reference: str, between: Between, *, size: int, word: str, whose: str, where: str) -> bytes:
    """The id that a hex string or a unique beginning of one names.

    Args:
        between: gives the rows of two at most, id first, whose ids lie between these two.
        size: bytes of an id.
        word, whose, where: for the messages: "post", "a post", "here".

    Raises:
        UnknownItemError: none, or more than one.
    """
    text = reference.strip().lower()
    low, high = text.ljust(2 * size, "0"), text.ljust(2 * size, "f")
    try:
        bounds = bytes.fromhex(low), bytes.fromhex(high)
    except ValueError:
        raise UnknownItemError(f"{reference[:40]!r} is not the id of {whose}") from None
    if len(text) < _LEAST or len(bounds[0]) != size:
        raise UnknownItemError(f"{reference[:40]!r} is not the id of {whose}, nor {_LEAST} or more characters of one")
    rows = between(*bounds)
    if len(rows) > 1:
        raise UnknownItemError(f"more than one {word} begins with {text}; give more of the id")
    if not rows:
        raise UnknownItemError(f"no {word} {text} is {where}; `cocoon sync` may bring it")
    return bytes(rows[0][0])
