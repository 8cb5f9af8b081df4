"""The entry: the unit that a device signs, one link of its hash chain. Implements specs/envelope.md §1.

    entry = [version, group_id, device_id, seq, prev, roster_heads, time_ms, kind, body]      entry_id = BLAKE2b(entry)

`prev` is the id of the device's previous entry (empty at seq 0), so a gap, a replay, a reorder or a fork is visible.
`time_ms` is for display; nothing is decided by it. This module makes and hashes entries; run.py signs and carries them.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import read_seq, split_change
from cocoon_core.protocol.constants import LABEL_ENTRY, MAX_ROSTER_HEADS, MAX_SEQ, MAX_TIME_MS, VERSION
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId, GroupId
from cocoon_core.protocol.primitives import make_hasher, sha256


class EntryKind(IntEnum):
    """What an entry's body is. A kind that is not listed stops the group: two versions must not count differently."""

    CHANGE = 0
    ROSTER = 1
    REKEY = 2
    MANIFEST = 3
    BEACON = 4
    RETIRE = 5


class DocumentChange(NamedTuple):
    """One automerge change in a body of kind CHANGE. A NamedTuple because thousands are made while catching up.

    `seq` is the actor seq that its header claims; None where the header is not readable.
    """

    document: DocumentId
    raw: bytes
    hash: ChangeHash
    seq: int | None


class Entry(NamedTuple):
    """One link of a device's chain, whole. Make it with `make_entry`, which computes the id."""

    id: EntryId
    group: GroupId
    device: DeviceId
    seq: int
    prev: EntryId | None
    roster_heads: tuple[EntryId, ...]
    time_ms: int
    kind: EntryKind
    changes: tuple[DocumentChange, ...]
    body: list[Any] | None  # of every kind but CHANGE


def document_change(document: DocumentId, raw: bytes) -> DocumentChange:
    """Name an own change for an entry.

    Raises:
        MalformedError: not a whole uncompressed change.
    """
    _, _, tail = split_change(raw)
    return DocumentChange(document, raw, ChangeHash(sha256(raw[8:])), read_seq(tail))


class EntryMaker:
    """Makes entries of one device under one set of roster heads; the constant parts are encoded once."""

    __slots__ = ("_device", "_group", "_head", "_heads", "_heads_bytes")

    def __init__(self, group: GroupId, device: DeviceId, roster_heads: tuple[EntryId, ...]) -> None:
        if len(roster_heads) > MAX_ROSTER_HEADS or list(roster_heads) != sorted(set(roster_heads)):
            raise MalformedError(f"roster heads are sorted, unique and at most {MAX_ROSTER_HEADS}")
        self._group, self._device, self._heads = group, device, roster_heads
        self._head = b"\x89" + encoding.encode(VERSION) + encoding.encode(group) + encoding.encode(device)
        self._heads_bytes = encoding.encode(list(roster_heads))

    def change(self, seq: int, prev: EntryId | None, time_ms: int, changes: tuple[DocumentChange, ...]) -> Entry:
        """An entry that carries automerge changes (one at least)."""
        if len(changes) == 1:
            document, raw, _, _ = changes[0]
            body = b"".join((_ONE_PAIR_WITH_ID, document, _head(2, len(raw)), raw))
        else:
            parts = [_head(4, len(changes))]
            for document, raw, _, _ in changes:
                parts += (_PAIR_WITH_ID, document, _head(2, len(raw)), raw)
            body = b"".join(parts)
        return self._make(seq, prev, time_ms, EntryKind.CHANGE, body, changes, None)

    def operation(self, seq: int, prev: EntryId | None, time_ms: int, body: list[Any]) -> Entry:
        """An entry that carries one roster operation, in its CBOR form (operations.py)."""
        return self.statement(EntryKind.ROSTER, seq, prev, time_ms, body)

    def statement(self, kind: EntryKind, seq: int, prev: EntryId | None, time_ms: int, body: list[Any]) -> Entry:
        """An entry of any kind but CHANGE: the last of its run, so that it stays individually signed for ever."""
        return self._make(seq, prev, time_ms, kind, encoding.encode(body), (), body)

    def _make(
        self,
        seq: int,
        prev: EntryId | None,
        time_ms: int,
        kind: EntryKind,
        body: bytes,
        changes: tuple[DocumentChange, ...],
        value: list[Any] | None,
    ) -> Entry:
        if (seq == 0) != (prev is None) or not 0 <= seq <= MAX_SEQ or not 0 <= time_ms <= MAX_TIME_MS:
            raise MalformedError(f"seq {seq} or time {time_ms} is out of range, or prev does not fit")
        link = _NO_ID if prev is None else _ID + prev
        full = b"".join((self._head, _head(0, seq), link, self._heads_bytes, _head(0, time_ms), _KINDS[kind], body))
        return _new(
            Entry,
            (
                EntryId.unchecked(_hash_entry(full)), self._group, self._device, seq, prev, self._heads, time_ms, kind,
                changes, value,
            ),
        )  # fmt: skip


def require_known_kind(kind: Any) -> EntryKind:
    """The entry kind of that number.

    Raises:
        MalformedError: not a number.
        UpdateNeededError: a kind of a later version.
    """
    if type(kind) is not int or kind < 0:
        raise MalformedError("an entry's kind is a number")
    try:
        return EntryKind(kind)
    except ValueError:
        raise UpdateNeededError(f"an entry is of kind {kind}; install a newer Cocoon") from None


def _head(major: int, value: int) -> bytes:
    """The head of a CBOR item: its major type and a length or value, shortest form. For the hot path; else
    encoding.py.
    """
    if value < 0x18:
        return _SMALL[major][value]
    if value < 0x100:
        return bytes((major << 5 | 24, value))
    if value < 0x10000:
        return _TWO.pack(major << 5 | 25, value)
    if value < 0x100000000:
        return _FOUR.pack(major << 5 | 26, value)
    return _EIGHT.pack(major << 5 | 27, value)


_SMALL: Final = [[bytes((major << 5 | value,)) for value in range(0x18)] for major in range(8)]
_TWO, _FOUR, _EIGHT = Struct(">BH"), Struct(">BI"), Struct(">BQ")
_KINDS: Final = {kind: _head(0, kind) for kind in EntryKind}
_hash_entry: Final = make_hasher(LABEL_ENTRY)
_new: Final = tuple.__new__
_ID: Final = b"\x58\x20"  # the head of 32 bytes
_NO_ID: Final = b"\x40"  # no bytes
_ONE_PAIR_WITH_ID: Final = b"\x81\x82\x58\x20"  # an array of one array of two, the first of them 32 bytes
_PAIR_WITH_ID: Final = b"\x82\x58\x20"  # an array of two, the first of them 32 bytes
