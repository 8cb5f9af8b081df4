"""The table of a part, taken apart and put together by specs/manifest.md §5 alone, without the code under test."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cocoon_core.protocol.ids import DocumentId

HEAD = b"\0\0\0\1\x57\1"  # no time, message or other actor, and one column of one byte
STREAMS = 5


@dataclass(frozen=True)
class Section:
    """The changes of one document in a part. As it stands here it need not fit."""

    document: bytes
    devices: tuple[bytes, ...]
    authors: tuple[int, ...] = (0,)
    entries: tuple[int, ...] = (1,)
    counts: tuple[int, ...] = (0,)
    starts: tuple[int, ...] = (1,)
    sizes: tuple[int, ...] = (len(HEAD),)
    links: tuple[int, ...] = ()
    rest: bytes = HEAD + b"x"  # hashes from outside, heads and streams

    def encode(self) -> bytes:
        body = struct.pack(">HII", len(self.devices), len(self.authors), len(self.links)) + b"".join(self.devices)
        columns: tuple[tuple[str, Sequence[int]], ...] = (
            ("H", self.authors),
            ("Q", self.entries),
            ("H", self.counts),
            ("I", self.starts),
            ("I", self.sizes),
            ("I", self.links),
        )
        for kind, values in columns:
            body += struct.pack(f">{len(values)}{kind}", *values)
        body += self.rest
        return self.document + struct.pack(">I", len(body)) + body


def encode_table(*sections: Section, version: int = 1) -> bytes:
    return bytes((version,)) + b"".join(section.encode() for section in sections)


def parse_table(table: bytes) -> dict[DocumentId, Section]:
    """The sections of a table that is as it should be."""
    assert table[0] == 1
    found: dict[DocumentId, Section] = {}
    at = 1
    while at < len(table):
        document, size = table[at : at + 32], int.from_bytes(table[at + 32 : at + 36])
        found[DocumentId(document)] = _parse_section(document, table[at + 36 : at + 36 + size])
        at += 36 + size
    return found


def _parse_section(document: bytes, body: bytes) -> Section:
    d, m, k = struct.unpack_from(">HII", body)
    devices = tuple(body[at : at + 32] for at in range(10, 10 + 32 * d, 32))
    at = 10 + 32 * d
    columns: list[tuple[int, ...]] = []
    for kind, count, size in (("H", m, 2), ("Q", m, 8), ("H", m, 2), ("I", m, 4), ("I", m, 4), ("I", k, 4)):
        columns.append(struct.unpack_from(f">{count}{kind}", body, at))
        at += count * size
    authors, entries, counts, starts, sizes, links = columns
    return Section(document, devices, authors, entries, counts, starts, sizes, links, body[at:])
