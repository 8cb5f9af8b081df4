"""Ogg (Vorbis, Opus, Theora, Speex, FLAC) without its comments: they are blanked in their places, page by page.

The packet of comments stays as long as it was, so that no page moves or gets another number; it names a maker of spaces
and no comment. Pages that changed get a new checksum. Spec: specs/media.md §5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.splicing import Piece, Source, patch
from cocoon_core.vault.stripped import Findings, Stripped

MAX_COMMENT_BYTES: Final = 16 * 1024 * 1024  # of all pages that change; pictures of albums are comments
_MOST_PAGES: Final = 5_000  # that are read until every stream's comments are whole
_MOST_STREAMS: Final = 16
_TAIL: Final = 1 << 17  # bytes at the end in which the last page is looked for

# How a stream's first packet begins, and its comments.
_CODECS: Final = (
    (b"\x01vorbis", b"\x03vorbis", b"\x01"),
    (b"OpusHead", b"OpusTags", b""),
    (b"\x80theora", b"\x81theora", b""),
    (b"Speex   ", b"", b""),
)
_OGG_FLAC: Final = b"\x7fFLAC"


@dataclass(slots=True)
class _Page:
    start: int
    raw: bytearray
    body: int  # where in it the content begins

    @property
    def stream(self) -> int:
        return int.from_bytes(self.raw[14:18], "little")


@dataclass(slots=True)
class _Stream:
    first: bytes
    places: list[tuple[_Page, int, int]] = field(default_factory=list)  # of the packet that is being gathered
    packets: int = 0
    done: bool = False


def strip_ogg(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole Ogg file, or its comments have no end."""
    found = Findings()
    streams: dict[int, _Stream] = {}
    changed: dict[int, _Page] = {}
    at, beginning = 0, True
    for _ in range(_MOST_PAGES):
        page = _page_at(source, at)
        if page is None:
            break
        at += len(page.raw)
        if page.raw[5] & 2:
            if not beginning or page.stream in streams or len(streams) >= _MOST_STREAMS:
                raise MetadataError("this Ogg file has several parts, of which metadata cannot be taken out")
            streams[page.stream] = _Stream(bytes(page.raw[page.body :]))
            continue
        beginning = False
        if page.stream not in streams:
            raise MetadataError(f"this Ogg file is damaged at byte {page.start:,}")
        for part in _gather(streams[page.stream], page):
            if _blank(streams[page.stream], part):
                found.removed.add("tags")
            changed |= {touched.start: touched for touched, _, _ in part}
        if sum(len(one.raw) for one in changed.values()) > MAX_COMMENT_BYTES:
            raise MetadataError("the comments of this Ogg file are too long")
        if all(stream.done for stream in streams.values()):
            break
    if not streams or not all(stream.done for stream in streams.values()):
        raise MetadataError("this Ogg file is damaged: the comments have no end")
    found.duration_ms = _length_of(source, streams)
    found.splice = patch(source.size, [(page.start, _sealed(page)) for page in changed.values()])
    return found.finish()


def _page_at(source: Source, at: int) -> _Page | None:
    head = source.up_to(at, 27)
    if not head:
        return None
    if len(head) < 27 or head[:5] != b"OggS\0":
        raise MetadataError(f"this Ogg file is damaged at byte {at:,}")
    laces = source.at(at + 27, head[26])
    whole = 27 + len(laces) + sum(laces)
    return _Page(at, bytearray(source.at(at, whole)), 27 + len(laces))


def _gather(stream: _Stream, page: _Page) -> list[list[tuple[_Page, int, int]]]:
    """The packets of comments that end on this page, each as its places on pages."""
    whole, at = [], page.body
    begin = at
    for lace in page.raw[27 : page.body]:
        at += lace
        if lace < 255:
            stream.places.append((page, begin, at))
            begin = at
            stream.packets += 1
            if not stream.done:
                whole.append(stream.places)
                stream.done = not stream.first.startswith(_OGG_FLAC) or _is_last(stream.places)
            stream.places = []
    if at > begin:
        stream.places.append((page, begin, at))
    return whole


def _is_last(places: list[tuple[_Page, int, int]]) -> bool:
    """Whether a packet of FLAC is the last of its metadata, or sound already."""
    page, begin, end = next((one for one in places if one[2] > one[1]), places[0])
    return end == begin or page.raw[begin] & 0x80 != 0


def _blank(stream: _Stream, places: list[tuple[_Page, int, int]]) -> bool:
    """Put a packet without comments in the place of this one; whether it was one of comments."""
    packet = b"".join(bytes(page.raw[begin:end]) for page, begin, end in places)
    empty = _empty(stream.first, packet)
    if empty == packet:
        return False
    at = 0
    for page, begin, end in places:
        page.raw[begin:end] = empty[at : at + end - begin]
        at += end - begin
    return True


def _empty(first: bytes, packet: bytes) -> bytes:
    """A packet as long as this one that says nothing."""
    if first.startswith(_OGG_FLAC):
        if packet[:1] == b"\xff":
            return packet  # sound
        if packet and packet[0] & 0x7F == 4:
            return packet[:4] + _comments(len(packet) - 4, b"")
        if packet and packet[0] & 0x7F in (1, 2, 6):
            return bytes((packet[0] & 0x80 | 1,)) + packet[1:4] + bytes(len(packet) - 4)
        return packet
    for head, begin, end in _CODECS:
        if first.startswith(head):
            if not packet.startswith(begin):
                raise MetadataError("this Ogg file is damaged: its comments are none")
            return begin + _comments(len(packet) - len(begin), end)
    raise MetadataError("this Ogg file holds something of which metadata cannot be taken out")


def _comments(length: int, end: bytes) -> bytes:
    maker = length - 8 - len(end)
    if maker < 0:
        raise MetadataError("this Ogg file is damaged: its comments are too short")
    return struct.pack("<I", maker) + b" " * maker + bytes(4) + end


def _length_of(source: Source, streams: dict[int, _Stream]) -> int | None:
    """By the place that the last page names, where it is of a sound whose rate is known."""
    tail = source.up_to(max(0, source.size - _TAIL), _TAIL)
    at = tail.rfind(b"OggS\0")
    if at < 0 or len(tail) < at + 27:
        return None
    place, number = struct.unpack_from("<qI", tail, at + 6)
    first = streams[number].first if number in streams else b""
    if first.startswith(b"OpusHead") and len(first) >= 12:
        place, rate = place - int.from_bytes(first[10:12], "little"), 48000
    elif first.startswith(b"\x01vorbis") and len(first) >= 16:
        rate = int.from_bytes(first[12:16], "little")
    else:
        return None
    return place * 1000 // rate if rate and place > 0 else None


def _sealed(page: _Page) -> Piece:
    """The page with the checksum of what it holds now."""
    page.raw[22:26] = bytes(4)
    page.raw[22:26] = struct.pack("<I", _checksum(page.raw))
    return bytes(page.raw)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 1 << 31 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def _checksum(raw: bytearray) -> int:
    """The CRC of Ogg: not reflected, beginning with zero."""
    value = 0
    for byte in raw:
        value = (value << 8 & 0xFFFFFFFF) ^ _TABLE[value >> 24 ^ byte]
    return value
