"""A snapshot: one document's changes, packed, and the check that signed heads name exactly these. Implements
specs/manifest.md §5.

A snapshot is a row of parts, each of which becomes one sealed page. What is implied is left out (actor, magic, length,
checksum; a dependency on a change of the snapshot is how far back it stands) and put back here to the byte. Nothing is
believed: every change goes through the gate afterwards as a live one does. A part never unpacks to more than
SNAPSHOT_PART_BYTES, whatever it says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cocoon_core.errors import MalformedError, NotYetError, UpdateNeededError, UsageError
from cocoon_core.protocol.change import join_change, read_seq, split_change
from cocoon_core.protocol.constants import (
    LABEL_SNAPSHOT_PAGE,
    MAX_CHANGE_BYTES,
    MAX_CHANGE_DEPS,
    MAX_SNAPSHOT_PARTS,
    SNAPSHOT_PART_BYTES,
    VERSION,
)
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.ids import ActorId, BlobHash, ChangeHash, DeviceId, DocumentId
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.sealed_pages import name_page, open_page, seal_page

_COUNTS: Final = struct.Struct(">BHII")  # version, devices, changes, links
_ROW: Final = 8  # bytes of one change in the tables: author, length of the tail, number of dependencies
_LINK: Final = 4
_LEVEL: Final = 6  # of zlib; every level reads alike
_new: Final = tuple.__new__


class PackedChange(NamedTuple):
    """One change out of a snapshot. Its author is claimed: the signed heads prove it."""

    device: DeviceId
    raw: bytes
    hash: ChangeHash
    seq: int | None


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """Where a snapshot is and what opens it: the pages of its parts, in order."""

    key: Secret
    pages: tuple[BlobHash, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.pages) <= MAX_SNAPSHOT_PARTS:
            raise MalformedError(f"a snapshot has 1 to {MAX_SNAPSHOT_PARTS} pages")


def seal_snapshot(
    document: DocumentId, changes: Iterable[tuple[DeviceId, bytes]], key: Secret
) -> tuple[SnapshotRef, list[bytes]]:
    """Pack a document's changes and seal them.

    Args:
        changes: raw changes with their authors, each after those that it depends on; one at least.
        key: fresh and random; a document that did not change keeps its earlier snapshot instead.

    Returns:
        Where it is, and the blobs. Each shows its length class; equal snapshots under other keys look unlike.

    Raises:
        UsageError: a change is not its device's, or there are too many for a snapshot.
    """
    return seal_parts(document, pack_snapshot(document, changes), key)


def seal_parts(document: DocumentId, parts: Sequence[bytes], key: Secret) -> tuple[SnapshotRef, list[bytes]]:
    """Seal what `pack_snapshot` made, one page for each part."""
    if not 0 < len(parts) <= MAX_SNAPSHOT_PARTS:
        raise UsageError(f"a snapshot of {len(parts)} parts cannot be")
    blobs = [seal_page(part, key, place, LABEL_SNAPSHOT_PAGE, document) for place, part in enumerate(parts)]
    return SnapshotRef(key, tuple(map(name_page, blobs))), blobs


def open_snapshot(ref: SnapshotRef, document: DocumentId, pages: Mapping[BlobHash, bytes]) -> list[PackedChange]:
    """Undo `seal_snapshot`.

    Raises:
        NotYetError: one of its pages is not here.
        DecryptionError: a page is not the one that was named, or of another document or place.
        MalformedError: it is no snapshot, or one that unpacks to more than it may.
        UpdateNeededError: it is of a later version.
    """
    parts = []
    for place, name in enumerate(ref.pages):
        blob = pages.get(name)
        if blob is None:
            raise NotYetError(f"page {name.hex()[:12]} of a snapshot is not here")
        parts.append(open_page(blob, name, ref.key, place, LABEL_SNAPSHOT_PAGE, document))
    return unpack_snapshot(document, parts)


def check_heads(
    changes: Iterable[PackedChange],
    heads: Mapping[DeviceId, tuple[int, ChangeHash]],
    ended: Collection[DeviceId] = (),
) -> None:
    """Check that a snapshot holds, of every device, all changes up to its signed head and none beyond.

    Args:
        heads: of this document, for every device that signed one.
        ended: devices whose part ends before their head, since the gate refused a change of theirs.

    Raises:
        MalformedError: one is missing, one too many, or another stands in its place.
    """
    last: dict[DeviceId, tuple[int | None, ChangeHash]] = {}
    for change in changes:
        before, _ = last.get(change.device, (0, None))
        if before is None or change.seq != before + 1:
            raise MalformedError(f"a snapshot does not hold the changes of {change.device.hex()[:12]} one by one")
        last[change.device] = change.seq, change.hash
    for device, head in heads.items():
        found = last.pop(device, None)
        if found == head or (device in ended and (found is None or (found[0] or 0) < head[0])):
            continue
        raise MalformedError(f"a snapshot does not end at what {device.hex()[:12]} signed")
    if last:
        raise MalformedError(f"a snapshot holds changes of {len(last)} devices that signed none")


# --- packing


@dataclass(slots=True)
class _Part:
    """The tables of one part while it grows."""

    devices: dict[DeviceId, int] = field(default_factory=dict)
    authors: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    outside: list[bytes] = field(default_factory=list)
    tails: list[bytes] = field(default_factory=list)
    size: int = _COUNTS.size

    def add(self, device: DeviceId, links: Sequence[int], outside: Sequence[bytes], tail: bytes) -> None:
        self.authors.append(self.devices.setdefault(device, len(self.devices)))
        self.sizes.append(len(tail))
        self.counts.append(len(links))
        self.links += links
        self.outside += outside
        self.tails.append(tail)
        self.size += _cost(links, outside, tail)

    def pack(self) -> bytes:
        changes, links = len(self.authors), len(self.links)
        table = b"".join(
            (
                _COUNTS.pack(VERSION, len(self.devices), changes, links),
                *self.devices,
                struct.pack(f">{changes}H{changes}I{changes}H", *self.authors, *self.sizes, *self.counts),
                struct.pack(f">{links}I", *self.links),
                *self.outside,
                *self.tails,
            )
        )
        return zlib.compress(table, _LEVEL)


def _cost(links: Sequence[int], outside: Sequence[bytes], tail: bytes) -> int:
    return _ROW + _LINK * len(links) + 32 * len(outside) + len(tail)


def pack_snapshot(document: DocumentId, changes: Iterable[tuple[DeviceId, bytes]]) -> list[bytes]:
    """The parts of a snapshot, compressed: each fits into one page, however little it could be compressed.

    Raises:
        UsageError: a change is not by the actor that its device has in this document.
    """
    parts = [_Part()]
    places: dict[bytes, int] = {}
    actors: dict[DeviceId, ActorId] = {}
    for number, (device, raw) in enumerate(changes):
        deps, actor, tail = split_change(raw)
        if actor != (actors.get(device) or actors.setdefault(device, actor_of(device, document))):
            raise UsageError("a change is not by the actor that its device has in this document")
        links = [number - places[dep] if dep in places else 0 for dep in deps]
        outside = [dep for dep in deps if dep not in places]
        room = SNAPSHOT_PART_BYTES - parts[-1].size - 32 * (device not in parts[-1].devices)
        if _cost(links, outside, tail) > room:
            parts.append(_Part())
        if device not in parts[-1].devices:
            parts[-1].size += DeviceId.LENGTH
        parts[-1].add(device, links, outside, tail)
        places[sha256(raw[8:])] = number
    return [part.pack() for part in parts if part.authors]


# --- unpacking


def unpack_snapshot(document: DocumentId, parts: Iterable[bytes]) -> list[PackedChange]:
    """Undo `pack_snapshot`, putting back what was left out.

    Raises:
        MalformedError: not that, or a part that unpacks to more than it may.
        UpdateNeededError: it is of a later version.
    """
    changes: list[PackedChange] = []
    hashes: list[ChangeHash] = []
    outside: set[bytes] = set()
    for part in parts:
        _unpack_part(_inflate(part), document, changes, hashes, outside)
    known = set(hashes)
    if len(known) != len(hashes) or known & outside:
        raise MalformedError("a snapshot holds a change twice, or after one that depends on it")
    return changes


def _inflate(part: bytes) -> bytes:
    """Decompress at most SNAPSHOT_PART_BYTES."""
    stream = zlib.decompressobj()
    try:
        table = stream.decompress(part, SNAPSHOT_PART_BYTES + 1)
    except zlib.error as error:
        raise MalformedError("a part of a snapshot is not compressed as it should be") from error
    if not stream.eof or stream.unused_data or len(table) > SNAPSHOT_PART_BYTES:
        raise MalformedError("a part of a snapshot is cut off, goes on, or unpacks to too much")
    return table


def _unpack_part(
    table: bytes,
    document: DocumentId,
    changes: list[PackedChange],
    hashes: list[ChangeHash],
    outside: set[bytes],
) -> None:
    if len(table) < _COUNTS.size:
        raise MalformedError("a part of a snapshot has no head")
    version, device_count, count, link_count = _COUNTS.unpack_from(table)
    if version > VERSION:
        raise UpdateNeededError(f"a snapshot is of version {version}; install a newer Cocoon")
    at = _COUNTS.size + DeviceId.LENGTH * device_count
    if version != VERSION or at + _ROW * count + _LINK * link_count > len(table):
        raise MalformedError("a part of a snapshot is shorter than its tables")
    devices = [DeviceId(table[start : start + 32]) for start in range(_COUNTS.size, at, 32)]
    numbers = struct.unpack_from(f">{count}H{count}I{count}H", table, at)
    links = struct.unpack_from(f">{link_count}I", table, at + _ROW * count)
    authors, sizes, counts = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    first = at + _ROW * count + _LINK * link_count
    place = first + 32 * links.count(0)
    if sum(counts) != link_count or place + sum(sizes) != len(table):
        raise MalformedError("the tables of a snapshot do not fit its bytes")
    if len(set(devices)) != device_count or set(authors) != set(range(device_count)):
        raise MalformedError("a part of a snapshot names a device twice, or one that wrote nothing in it")
    if (
        max(counts, default=0) > MAX_CHANGE_DEPS
        or max(sizes, default=0) > MAX_CHANGE_BYTES
        or not min(sizes, default=0)
    ):
        raise MalformedError("a change of a snapshot has too many dependencies, too many bytes or none")
    named = [table[start : start + 32] for start in range(first, place, 32)]
    outside.update(named)
    hashes_outside = iter(named)
    actors = [actor_of(device, document) for device in devices]
    link = 0
    for author, size, deps in zip(authors, sizes, counts, strict=True):
        tail = table[place : place + size]
        place += size
        if deps == 1 and 0 < (back := links[link]) <= len(hashes):  # nearly always
            found: Sequence[bytes] = (hashes[-back],)
        else:
            found = [_dependency(hashes, back, hashes_outside) for back in links[link : link + deps]]
        link += deps
        raw, digest = join_change(found, actors[author], tail)
        hashes.append(digest)
        changes.append(_new(PackedChange, (devices[author], raw, digest, read_seq(tail))))


def _dependency(hashes: Sequence[ChangeHash], back: int, outside: Iterator[bytes]) -> bytes:
    if back > len(hashes):
        raise MalformedError("a dependency stands before the beginning of a snapshot")
    return hashes[-back] if back else next(outside)
