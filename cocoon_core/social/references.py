"""Naming one of a kind by its id in hex, or by a beginning of it that no other has, as people type it; or by its name.

For what a table holds under ids: posts in post_rows.py, items of the vault in item_index.py; with names: lists and
notes in shared_documents.py, events in calendar.py. Names are chosen by members, and may be made to look like an id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def find_begun(reference: str, between: Between, size: int) -> list[bytes]:
    """The ids that begin with this, two at most; none where it is no beginning of an id."""
    text = reference.strip().lower()
    low, high = text.ljust(2 * size, "0"), text.ljust(2 * size, "f")
    try:
        bounds = bytes.fromhex(low), bytes.fromhex(high)
    except ValueError:
        return []
    if len(text) < _LEAST or len(bounds[0]) != size:
        return []
    return [bytes(row[0]) for row in between(*bounds)]


def find_named(reference: str, named: Sequence[bytes], between: Between, *, size: int, word: str) -> bytes | None:
    """The id of the one that is called so, if none is meant by its id; None where no name and no whole id fits.

    A whole id goes before every name: else who calls theirs by the id of another's would have it taken for that.

    Args:
        named: the ids of those that are called so.

    Raises:
        UnknownItemError: more than one is meant.
    """
    begun = find_begun(reference, between, size) if named else []
    if begun and len(reference.strip()) == 2 * size:
        return begun[0]
    meant = sorted({*named, *begun})
    if len(meant) > 1:
        ids = ", ".join(one.hex()[:8] for one in meant)
        how = "are meant by that; say which by its whole id" if begun else "are called so; say which by its id"
        raise UnknownItemError(f"{len(meant)} {word}s {how}: {ids}")
    return meant[0] if meant else None
