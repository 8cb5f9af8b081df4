"""A part: changes of one or more documents as one compressed table. Implements specs/manifest.md §5.

What is implied is left out and put back to the byte: actor, magic, length, checksum and hash of a change; its number in
its document; a dependency on a change of the same document is how far back it stands. Columns of one kind lie together,
since they compress better so. A part never unpacks to more than SNAPSHOT_PART_BYTES, whatever it says, and nothing in
it is believed: heads are compared by snapshot.py, and every change goes through the gate afterwards as a live one does.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cocoon_core.errors import MalformedError, UpdateNeededError, UsageError
from cocoon_core.protocol.change import encode_leb128, join_pieces, read_leb128, split_change
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS, MAX_SEQ, SNAPSHOT_PART_BYTES, VERSION
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import ActorId, DeviceId, DocumentId
from cocoon_core.protocol.primitives import sha256

_SECTION: Final = struct.Struct(">32sI")  # document, bytes of what follows
_COUNTS: Final = struct.Struct(">HII")  # devices, changes, links
_ROW: Final = 20  # bytes of one change in the tables: author, entry, dependencies, first operation, length of its head
_LINK: Final = 4
_ACTOR: Final = 17  # bytes of another actor in a head, its length among them
_COLUMNS: Final = 12  # kinds of columns that a change can have
_STREAMS: Final = 5
# which stream a column's bytes go into: by their kind, in the order in which they stand in a change
_STREAM_OF: Final[Mapping[int, int]] = {
    0x01: 0, 0x02: 0, 0x11: 0, 0x13: 0, 0x15: 1, 0x34: 2, 0x42: 2, 0x56: 2, 0x57: 3, 0x70: 4, 0x71: 4, 0x73: 4,
}  # fmt: skip
_LEVEL: Final = 5  # blocks of 500,000 bytes, so that a part is one; every level reads alike
_new: Final = tuple.__new__
_SHORT_HEAD: Final = 64  # bytes of heads that repeat from change to change, so what they say is remembered,
_REMEMBERED: Final = 4096  # of so many

_Plan = tuple[int, ...]  # how many bytes of each stream belong to a change
_plans: dict[bytes, _Plan] = {}


class Said(NamedTuple):
    """A change that a snapshot says, with the seq of its entry in its device's chain."""

    device: DeviceId
    raw: bytes
    seq: int


class PackedChange(NamedTuple):
    """One change out of a part. Its author is claimed: the signed heads prove it.

    Attributes:
        hash: a bare one, since there are thousands of these.
        seq: its number among the changes of its device in this document, counted from 1.
        entry: the seq of its entry in its device's chain, as whoever packed it says.
    """

    device: DeviceId
    raw: bytes
    hash: bytes
    seq: int
    entry: int


class Part(NamedTuple):
    """A part that was packed: its compressed bytes, and the documents of which it holds something."""

    data: bytes
    documents: tuple[DocumentId, ...]


# --- packing


@dataclass(slots=True)
class _Section:
    """The rows of one document in one part while they grow."""

    document: DocumentId
    devices: dict[DeviceId, int] = field(default_factory=dict)
    authors: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    outside: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    streams: tuple[list[bytes], ...] = field(default_factory=lambda: tuple([] for _ in range(_STREAMS)))
    size: int = _SECTION.size + _COUNTS.size
    _last_entry: dict[DeviceId, int] = field(default_factory=dict)
    _last_start: int = 0

    def cost(self, row: _Row) -> int:
        """Bytes by which this row makes the part larger."""
        return row.size + (0 if row.device in self.devices else DeviceId.LENGTH)

    def add(self, row: _Row) -> None:
        self.size += self.cost(row)
        self.authors.append(self.devices.setdefault(row.device, len(self.devices)))
        self.entries.append(row.entry - self._last_entry.get(row.device, 0) & 0xFFFFFFFFFFFFFFFF)
        self._last_entry[row.device] = row.entry
        self.counts.append(len(row.links))
        self.starts.append(row.start - self._last_start & 0xFFFFFFFF)
        self._last_start = row.start
        self.sizes.append(len(row.head))
        self.links += row.links
        self.outside += row.outside
        self.heads.append(row.head)
        for stream, cut in zip(self.streams, row.cuts, strict=True):
            stream.append(cut)

    def encode(self) -> bytes:
        changes, links = len(self.authors), len(self.links)
        body = b"".join(
            (
                _COUNTS.pack(len(self.devices), changes, links),
                *self.devices,
                struct.pack(f">{changes}H", *self.authors),
                struct.pack(f">{changes}Q", *self.entries),
                struct.pack(f">{changes}H", *self.counts),
                struct.pack(f">{changes}I", *self.starts),
                struct.pack(f">{changes}I", *self.sizes),
                struct.pack(f">{links}I", *self.links),
                *self.outside,
                *self.heads,
                *(b"".join(stream) for stream in self.streams),
            )
        )
        return _SECTION.pack(self.document, len(body)) + body


class _Row(NamedTuple):
    device: DeviceId
    entry: int
    links: list[int]
    outside: list[bytes]
    start: int
    head: bytes
    cuts: list[bytes]
    size: int


def pack_parts(documents: Iterable[tuple[DocumentId, Sequence[Said]]]) -> list[Part]:
    """Pack the changes of documents, each change after those that it depends on, into as few parts as they fill.

    A document that fits into one part stands in one; of others each part but the last is filled by it alone.

    Raises:
        UsageError: a change is not by the actor that its device has in the document, does not number on from the one
            before of its device, or is none that the gate admits.
    """
    parts: list[Part] = []
    sections: list[_Section] = []
    size = 1

    def flush() -> None:
        nonlocal size
        if sections:
            table = bytes((VERSION,)) + b"".join(section.encode() for section in sections)
            parts.append(Part(bz2.compress(table, _LEVEL), tuple(section.document for section in sections)))
            sections.clear()
        size = 1

    for document, changes in documents:
        if not changes:
            continue
        rows = _rows(document, changes)
        devices = len({row.device for row in rows})
        whole = _SECTION.size + _COUNTS.size + DeviceId.LENGTH * devices + sum(row.size for row in rows)
        if size + whole > SNAPSHOT_PART_BYTES:
            flush()
        section = _Section(document)
        for row in rows:
            if section.authors and size + section.size + section.cost(row) > SNAPSHOT_PART_BYTES:
                sections.append(section)
                flush()
                section = _Section(document)
            section.add(row)
        sections.append(section)
        size += section.size
    flush()
    return parts


def _rows(document: DocumentId, changes: Iterable[Said]) -> list[_Row]:
    rows: list[_Row] = []
    places: dict[bytes, int] = {}
    actors: dict[DeviceId, ActorId] = {}
    last: dict[DeviceId, int] = {}
    for number, (device, raw, entry) in enumerate(changes):
        deps, actor, tail = split_change(raw)
        if actor != (actors.get(device) or actors.setdefault(device, actor_of(device, document))):
            raise UsageError("a change is not by the actor that its device has in this document")
        seq, start, head, cuts = _cut(tail)
        if seq != last.get(device, 0) + 1:
            raise UsageError(f"a change of seq {seq} does not follow the one before of its device")
        last[device] = seq
        links = [number - places[dep] if dep in places else 0 for dep in deps]
        outside = [dep for dep in deps if dep not in places]
        size = _ROW + _LINK * len(links) + 32 * len(outside) + len(head) + sum(map(len, cuts))
        rows.append(_Row(device, entry, links, outside, start, head, cuts, size))
        places[sha256(raw[8:])] = number
    return rows


def _cut(tail: bytes) -> tuple[int, int, bytes, list[bytes]]:
    """The number of a change, its first operation, its head and what of it goes into each stream."""
    try:
        seq, at = read_leb128(tail, 0)
        start, at = read_leb128(tail, at)
        end, plan = _measure(tail, at)
    except MalformedError as error:
        raise UsageError(f"a change cannot be packed: {error}") from error
    cuts, place = [], end
    for size in plan:
        cuts.append(tail[place : place + size])
        place += size
    if place != len(tail) or start > 0xFFFFFFFF:
        raise UsageError("a change cannot be packed: its columns do not fill it")
    return seq, start, tail[at:end], cuts


def _measure(raw: bytes, at: int) -> tuple[int, _Plan]:
    """Where the head of a change ends that begins at `at` (time, message, other actors, columns), and how many bytes of
    columns follow for each stream.
    """
    try:
        if raw[at] or raw[at + 1]:
            raise MalformedError("a change has a time or a message")
        others, at = read_leb128(raw, at + 2)
        columns, at = read_leb128(raw, at + _ACTOR * others)
        if columns > _COLUMNS:
            raise MalformedError(f"a change has {columns} columns")
        plan, last = [0] * _STREAMS, 0
        for _ in range(columns):
            column = raw[at]
            size, at = read_leb128(raw, at + 1)
            if column <= last or column not in _STREAM_OF:
                raise MalformedError("a change has a column that is unknown, or out of order")
            plan[_STREAM_OF[column]] += size
            last = column
    except IndexError:
        raise MalformedError("the head of a change is cut off") from None
    return at, tuple(plan)


# --- unpacking


def open_part(data: bytes) -> dict[DocumentId, bytes]:
    """Decompress a part; what it holds of each document, for `read_sections`.

    Raises:
        MalformedError: not one whole stream of at most SNAPSHOT_PART_BYTES, or not a row of sections that fills it.
        UpdateNeededError: it is of a later version.
    """
    table = _inflate(data)
    if not table or table[0] != VERSION:
        if table and table[0] > VERSION:
            raise UpdateNeededError(f"a snapshot is of version {table[0]}; install a newer Cocoon")
        raise MalformedError("a part of a snapshot has no version")
    found: dict[DocumentId, bytes] = {}
    at = 1
    while at < len(table):
        if at + _SECTION.size > len(table):
            raise MalformedError("a section of a part has no head")
        document, size = _SECTION.unpack_from(table, at)
        at += _SECTION.size
        if size < _COUNTS.size or at + size > len(table) or document in found:
            raise MalformedError("the sections of a part do not fill it, or one document has two")
        found[DocumentId(document)] = table[at : at + size]
        at += size
    if not found:
        raise MalformedError("a part of a snapshot is empty")
    return found


def count_changes(section: bytes) -> int:
    """How many changes an opened section says to hold."""
    return int(_COUNTS.unpack_from(section)[1])


def _inflate(data: bytes) -> bytes:
    """Decompress at most SNAPSHOT_PART_BYTES."""
    stream = bz2.BZ2Decompressor()
    try:
        table = stream.decompress(data, SNAPSHOT_PART_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MalformedError("a part of a snapshot is not compressed as it should be") from error
    if not stream.eof or stream.unused_data or len(table) > SNAPSHOT_PART_BYTES:
        raise MalformedError("a part of a snapshot is cut off, goes on, or unpacks to too much")
    return table


def read_sections(document: DocumentId, sections: Iterable[bytes]) -> list[PackedChange]:
    """The changes of one document out of its sections, in their order, with what was left out put back.

    Raises:
        MalformedError: a section is not as it should be, or a change stands twice or after one that depends on it.
    """
    changes: list[PackedChange] = []
    hashes: list[bytes] = []
    outside: set[bytes] = set()
    last: dict[DeviceId, int] = {}
    for section in sections:
        _read_section(section, document, changes, hashes, outside, last)
    known = set(hashes)
    if len(known) != len(hashes) or known & outside:
        raise MalformedError("a snapshot holds a change twice, or after one that depends on it")
    return changes


def _read_section(
    section: bytes,
    document: DocumentId,
    changes: list[PackedChange],
    hashes: list[bytes],
    outside: set[bytes],
    last: dict[DeviceId, int],
) -> None:
    devices, links, rows, at = _read_tables(section)
    hashes_outside = iter(_read_outside(section, at, links, outside))
    at += 32 * links.count(0)
    heads, plans = _read_heads(section, at, rows.sizes)
    streams = _read_streams(section, at + sum(rows.sizes), plans)
    actors = [actor_of(device, document) for device in devices]
    seqs = [last.get(device, 0) for device in devices]
    entries = [0] * len(devices)
    link = start = 0
    for author, entry_step, deps, start_step, head, c0, c1, c2, c3, c4 in zip(
        rows.authors, rows.entries, rows.counts, rows.starts, heads, *streams, strict=True
    ):
        seq = seqs[author] = seqs[author] + 1
        entry = entries[author] = entries[author] + entry_step & 0xFFFFFFFFFFFFFFFF
        start = start + start_step & 0xFFFFFFFF
        if deps == 1 and 0 < (back := links[link]) <= len(hashes):  # nearly always
            found: Sequence[bytes] = (hashes[-back],)
        else:
            found = [_dependency(hashes, back, hashes_outside) for back in links[link : link + deps]]
        link += deps
        tail = encode_leb128(seq), encode_leb128(start), head, c0, c1, c2, c3, c4
        raw, digest = join_pieces(found, actors[author], *tail)
        if entry > MAX_SEQ or (len(raw) > MAX_CHANGE_BYTES and sum(map(len, tail)) > MAX_CHANGE_BYTES):
            raise MalformedError("a change of a snapshot has too many bytes, or the seq of its entry is none")
        hashes.append(digest)
        changes.append(_new(PackedChange, (devices[author], raw, digest, seq, entry)))
    last.update(zip(devices, seqs, strict=True))


class _Rows(NamedTuple):
    authors: Sequence[int]
    entries: Sequence[int]
    counts: Sequence[int]
    starts: Sequence[int]
    sizes: Sequence[int]


def _read_tables(section: bytes) -> tuple[list[DeviceId], Sequence[int], _Rows, int]:
    """Devices, links and rows of a section, and where its tables end."""
    device_count, count, link_count = _COUNTS.unpack_from(section)
    at = _COUNTS.size + DeviceId.LENGTH * device_count
    if not count or at + _ROW * count + _LINK * link_count > len(section):
        raise MalformedError("a section of a part is empty, or shorter than its tables")
    devices = [DeviceId(section[start : start + 32]) for start in range(_COUNTS.size, at, 32)]
    columns = []
    for kind, size in (("H", 2), ("Q", 8), ("H", 2), ("I", 4), ("I", 4)):
        columns.append(struct.unpack_from(f">{count}{kind}", section, at))
        at += size * count
    rows = _Rows(*columns)
    links = struct.unpack_from(f">{link_count}I", section, at)
    if sum(rows.counts) != link_count or max(rows.counts) > MAX_CHANGE_DEPS:
        raise MalformedError("a section of a part has other links than its changes, or too many of one")
    if len(set(devices)) != device_count or set(rows.authors) != set(range(device_count)):
        raise MalformedError("a section of a part names a device twice, or one that wrote nothing in it")
    return devices, links, rows, at + _LINK * link_count


def _read_outside(section: bytes, at: int, links: Sequence[int], outside: set[bytes]) -> list[bytes]:
    end = at + 32 * links.count(0)
    if end > len(section):
        raise MalformedError("a section of a part is shorter than its hashes")
    named = [section[start : start + 32] for start in range(at, end, 32)]
    outside.update(named)
    return named


def _read_heads(section: bytes, at: int, sizes: Sequence[int]) -> tuple[list[bytes], list[_Plan]]:
    """Of each change its head, and how many bytes of each stream are its."""
    heads, plans = [], []
    for size in sizes:
        head = section[at : at + size]
        at += size
        plan = _plans.get(head)
        if plan is None:
            end, plan = _measure(head, 0)
            if end != size or len(head) != size:
                raise MalformedError("the head of a change has another length than its part says")
            if size <= _SHORT_HEAD:
                if len(_plans) >= _REMEMBERED:
                    _plans.clear()
                _plans[head] = plan
        heads.append(head)
        plans.append(plan)
    return heads, plans


def _read_streams(section: bytes, at: int, plans: Sequence[_Plan]) -> Iterator[list[bytes]]:
    """For each stream what of it is each change's. They fill the section to its end."""
    sizes = [[plan[stream] for plan in plans] for stream in range(_STREAMS)]
    if at + sum(map(sum, sizes)) != len(section):
        raise MalformedError("the columns of a section do not fill it")
    for of_stream in sizes:
        cuts = []
        for size in of_stream:
            cuts.append(section[at : at + size])
            at += size
        yield cuts


def _dependency(hashes: Sequence[bytes], back: int, outside: Iterator[bytes]) -> bytes:
    if back > len(hashes):
        raise MalformedError("a dependency stands before the beginning of a snapshot")
    return hashes[-back] if back else next(outside)
