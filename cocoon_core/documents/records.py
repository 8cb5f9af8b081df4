"""The content of a change that makes one new root map of plain values, read from the change itself.

Most changes of a feed are such *records*. A view that shows what was merged can take them from here, at a third of what
asking automerge costs; one is only taken where nothing else ever stood under its key, so both say the same.
Implements specs/documents.md §6.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, Final

from cocoon_core.documents.change import BYTES, FALSE, FLOAT, INT, NULL, STRING, TRUE, ParsedChange

_FLOAT64: Final = struct.Struct("<d")
_SIMPLE: Final[dict[int, Any]] = {NULL: None, FALSE: False, TRUE: True}


# what a record says: the keys in its map, (type, place, end) of each one's value, and the values. A bare tuple, since
# there is one for every post that is merged, and the garbage collector stops looking at bare tuples
Record = tuple[tuple[str, ...], tuple[tuple[int, int, int], ...], bytes]


def record_of(parsed: ParsedChange) -> Record:
    """What an admitted change says that is a record."""
    return parsed.names, parsed.plan.fields, parsed.values


def read_record(record: Record) -> dict[str, Any]:
    """The map that a record makes, as a plain dict."""
    content: dict[str, Any] = {}
    names, fields, values = record
    for key, (kind, start, end) in zip(names, fields, strict=True):
        if kind == STRING:
            value: Any = values[start:end].decode()
        elif kind == INT:
            value = _read_int(values[start:end])
        elif kind == BYTES:
            value = values[start:end]
        elif kind == FLOAT:
            value = _FLOAT64.unpack_from(values, start)[0]
        else:
            value = _SIMPLE[kind]
        content[key] = value
    return content


class Records:
    """The content of a document all of whose changes are records, by root key: what a view reads, without a replica."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def root_keys(self) -> Collection[str]:
        return self._records.keys()

    def plain(self, key: str) -> Any:
        """What stands under a root key, as plain scalars in a dict; None where nothing does."""
        record = self._records.get(key)
        return None if record is None else read_record(record)


def _read_int(raw: bytes) -> int:
    value = shift = 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value - (1 << shift) if byte & 0x40 else value
