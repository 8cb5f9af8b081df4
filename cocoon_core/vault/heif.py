"""HEIC and AVIF without their metadata: EXIF and XMP are items beside the picture's own, and blanked in their places.

Which way up the picture is shown is a property of it, and stays. Decoding is left to others: libraries for HEIC come
under licences that Cocoon's does not go with. Spec: specs/media.md §5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.boxes import Box, Boxes
from cocoon_core.vault.exif import UPRIGHT
from cocoon_core.vault.splicing import Piece, Source, Zeros, patch
from cocoon_core.vault.stripped import Findings, Stripped

_TOP: Final = frozenset((b"ftyp", b"meta", b"mdat"))
_META: Final = frozenset(b"hdlr pitm iinf iref iprp idat iloc grpl dinf".split())
_MOST_ITEMS: Final = 20_000
_NO_EXIF: Final = bytes(4) + struct.pack("<2sHIHI", b"II", 42, 8, 0, 0)
_NO_XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
_WORDS: Final = {b"Exif": "EXIF", b"mime": "XMP", b"uri ": "data of programs and cameras"}


def strip_heif(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole HEIC or AVIF file, or is a film in that form."""
    boxes, found = Boxes(source), Findings()
    metas = []
    for box in boxes.inside(0, source.size, whole_file=True):
        if box.name == b"moov":
            raise MetadataError("this is a moving picture in HEIC or AVIF, of which metadata cannot be taken out")
        if box.name == b"meta":
            metas.append(box)
        elif box.name not in _TOP:
            if box.name != b"free":
                found.removed.add("data of programs and cameras")
            boxes.blank(box)
    if len(metas) != 1:
        raise MetadataError("this picture has no description, or several")
    _strip_meta(boxes, found, metas[0])
    found.splice = patch(source.size, boxes.patches)
    return replace(found.finish(), orientation=UPRIGHT)


def _strip_meta(boxes: Boxes, found: Findings, meta: Box) -> None:
    parts: dict[bytes, Box] = {}
    for box in boxes.inside(meta.inner + 4, meta.end):
        if box.name in _META:
            parts[box.name] = box
        else:
            boxes.blank(box)
            found.removed.add("data of programs and cameras")
    if not {b"iinf", b"iloc"} <= parts.keys():
        raise MetadataError("this picture has no list of its items")
    if b"hdlr" in parts:
        boxes.zero(parts[b"hdlr"].inner + 12, parts[b"hdlr"].end)
    _measure(boxes, found, parts)
    said = _items_of(boxes, parts[b"iinf"])
    blanked: set[tuple[int, int]] = set()
    for item, place in _places_of(boxes, parts[b"iloc"], parts.get(b"idat")):
        if item in said and place not in blanked:
            blanked.add(place)
            start, length = place
            boxes.patches.append((start, _nothing(said[item], length)))
            found.removed.add(_WORDS[said[item]])


def _nothing(kind: bytes, length: int) -> Piece:
    """As many bytes that say nothing: EXIF without a field, XMP without a word."""
    least = _NO_EXIF if kind == b"Exif" else _NO_XMP if kind == b"mime" else b""
    if len(least) <= length <= 1 << 20 and least:
        return least + (bytes(length - len(least)) if kind == b"Exif" else b" " * (length - len(least)))
    return Zeros(length)


def _items_of(boxes: Boxes, iinf: Box) -> dict[int, bytes]:
    """The items that are metadata, with their kind."""
    version = boxes.source.at(iinf.inner, 4)[0]
    said = {}
    for box in boxes.inside(iinf.inner + (6 if version == 0 else 8), iinf.end):
        content = boxes.content(box)
        if box.name != b"infe" or len(content) < 14 - 2 * (content[:1] == b"\2") or content[0] < 2:
            continue
        item, _, kind = struct.unpack_from(">HH4s" if content[0] == 2 else ">IH4s", content, 4)
        if kind in _WORDS:
            said[item] = kind
    return said


@dataclass(slots=True)
class _Reader:
    raw: bytes
    at: int = 0

    def number(self, size: int) -> int:
        if self.at + size > len(self.raw):
            raise MetadataError("this picture is damaged: its list of places ends too early")
        self.at += size
        return int.from_bytes(self.raw[self.at - size : self.at])


def _places_of(boxes: Boxes, iloc: Box, idat: Box | None) -> list[tuple[int, tuple[int, int]]]:
    """(item, (start, length)) of every part of every item that lies in this file."""
    reader = _Reader(boxes.content(iloc))
    version = reader.number(4) >> 24
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    if version > 2:
        raise MetadataError("this picture has its items in a way that is not known")
    places: list[tuple[int, tuple[int, int]]] = []
    for _ in range(min(reader.number(2 if version < 2 else 4), _MOST_ITEMS)):
        item = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        for _ in range(reader.number(2)):
            reader.number(index_size)
            start, length = base + reader.number(offset_size), reader.number(length_size)
            if method == 1 and idat is not None:
                start += idat.inner
            elif method:
                continue
            if start + length > boxes.source.size or len(places) > _MOST_ITEMS:
                raise boxes.damaged(start)
            places.append((item, (start, length)))
    return places


def _measure(boxes: Boxes, found: Findings, parts: dict[bytes, Box]) -> None:
    """Clean the properties, and read the size and turn of the picture that is shown first."""
    properties: list[Box] = []
    shown: set[int] = set()
    for container in boxes.inside(parts[b"iprp"].inner, parts[b"iprp"].end) if b"iprp" in parts else ():
        if container.name == b"ipco":
            properties = list(boxes.inside(container.inner, container.end))
        elif container.name == b"ipma" and b"pitm" in parts:
            shown |= _properties_of(boxes.content(container), boxes.content(parts[b"pitm"]))
    for place, box in enumerate(properties, 1):
        if box.name == b"colr":
            boxes.clean_colours(box)
        if place not in shown:
            continue
        content = boxes.source.up_to(box.inner, min(box.length, 16))
        if box.name == b"ispe" and len(content) >= 12 and found.width is None:
            found.width, found.height = struct.unpack_from(">II", content, 4)
        elif box.name == b"clap" and len(content) >= 16:
            width, of_width, height, of_height = struct.unpack(">IIII", content)
            if of_width and of_height:
                found.width, found.height = width // of_width, height // of_height
        elif box.name == b"irot" and content and content[0] & 1:
            found.orientation = 6  # for the size alone: the turn itself stays a property of the picture


def _properties_of(table: bytes, primary: bytes) -> set[int]:
    """The places of the properties that a table gives the primary item, counted from 1."""
    reader, named = _Reader(table), _Reader(primary)
    wanted = named.number(2 if named.number(4) >> 24 == 0 else 4)
    head = reader.number(4)
    wide, size = head & 1, 2 if head >> 24 == 0 else 4
    found: set[int] = set()
    for _ in range(min(reader.number(4), _MOST_ITEMS)):
        item = reader.number(size)
        places = [reader.number(2 if wide else 1) & (0x7FFF if wide else 0x7F) for _ in range(reader.number(1))]
        if item == wanted:
            found.update(places)
    return found
