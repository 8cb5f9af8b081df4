"""The content of a change that makes one new root map of plain values, read from the change itself.

Most changes of a feed are such *records*. A view that shows what was merged can take them from here, at a third of what
asking automerge costs; one is only taken where nothing else ever stood under its key, so both say the same.
Implements specs/documents.md §6.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, Final

from cocoon_core.documents.change import BYTES, FALSE, INT, NULL, STRING, TRUE, ParsedChange
from cocoon_core.documents.places import Effects

_FLOAT64: Final = struct.Struct("<d")
_SIMPLE: Final[dict[int, Any]] = {NULL: None, FALSE: False, TRUE: True}


def is_record(parsed: ParsedChange, effects: Effects) -> bool:
    """True where an admitted change does nothing but make one map at the root, with plain values in it."""
    return parsed.shape.is_record and len(effects.written) == 1 and len(effects.created) == 1


def read_record(parsed: ParsedChange) -> dict[str, Any]:
    """The map that a record makes, as a plain dict."""
    content: dict[str, Any] = {}
    values, at = parsed.values, 0
    keys = parsed.key_strings or ()
    for place in range(1, len(keys)):
        meta = parsed.metas[place]
        key = keys[place]
        assert key is not None
        assert meta is not None, "the gate admits no null key and no value without a type"
        if meta in _SIMPLE:
            content[key] = _SIMPLE[meta]
            continue
        end = at + (meta >> 4)
        content[key] = _read_scalar(meta & 15, values[at:end])
        at = end
    return content


class Records:
    """The content of a document all of whose changes are records, by root key: what a view reads, without a replica."""

    def __init__(self, records: Mapping[str, ParsedChange]) -> None:
        self._records = records

    def root_keys(self) -> Collection[str]:
        return self._records.keys()

    def plain(self, key: str) -> Any:
        """What stands under a root key, as plain scalars in a dict; None where nothing does."""
        record = self._records.get(key)
        return None if record is None else read_record(record)


def _read_scalar(kind: int, raw: bytes) -> Any:
    if kind == STRING:
        return raw.decode()
    if kind == BYTES:
        return raw
    if kind == INT:
        value = 0
        for place, byte in enumerate(raw):
            value |= (byte & 0x7F) << 7 * place
        return value - (1 << 7 * len(raw)) if raw[-1] & 0x40 else value
    return _FLOAT64.unpack(raw)[0]
