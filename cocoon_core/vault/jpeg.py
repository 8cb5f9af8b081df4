"""JPEG without its metadata: segments are left out, and the picture's own data stays byte for byte.

Kept are the segments that decoding needs, the colour profile (cleaned) and, where it is not 1, the orientation in a
minimal EXIF. Everything after the picture's end goes: further pictures, films of motion photos, makers' trailers.
Spec: specs/media.md §4.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.exif import UPRIGHT, minimal_exif, read_orientation
from cocoon_core.vault.icc import clean_profile
from cocoon_core.vault.splicing import Source
from cocoon_core.vault.stripped import Findings, Stripped

_BLOCK: Final = 1 << 16
_MOST_SEGMENTS: Final = 20_000  # of an honest file; a progressive one has some dozens
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the next one in entropy-coded data that is none of it
_PARAMETER_BYTES: Final = 65_000  # of a segment's payload
_ICC: Final = b"ICC_PROFILE\0"

_SOI, _EOI, _SOS, _DNL, _COM = 0xD8, 0xD9, 0xDA, 0xDC, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES: Final = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF)) | _FRAMES
_APP_WORDS: Final = (
    (_APP1, b"Exif\0", "EXIF"),
    (_APP1, b"http://ns.adobe.com/", "XMP"),
    (_APP2, b"MPF\0", "further pictures"),
    (0xED, b"Photoshop", "IPTC"),
)


@dataclass(slots=True)
class _Header:
    """What is gathered before the first scan."""

    kept: list[tuple[int, int]] = field(default_factory=list)
    is_jfif: bytes | None = None
    profile: dict[int, bytes] = field(default_factory=dict)


def strip_jpeg(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole JPEG file."""
    found, header = Findings(), _Header()
    out = found.splice
    at = 2
    if source.at(0, 2) != b"\xff\xd8":
        raise MetadataError("this is no JPEG file")
    for _ in range(_MOST_SEGMENTS):
        marker, at = _next_marker(source, at)
        if marker == _EOI:
            break
        if marker in (_SOI, 0x01) or 0xD0 <= marker <= 0xD7 or marker < 0xC0:
            raise _damaged(at)
        (length,) = struct.unpack(">H", source.at(at, 2))
        if length < 2:
            raise _damaged(at)
        begin, end = at - 2, at + length  # with the marker
        source.at(end - 1, 1)
        at = end
        if marker == _SOS:
            if not out.size:
                _write_header(found, header)
            at = _end_of_scan(source, end)
            out.keep(begin, at)
        elif marker in _TABLES:
            if marker in _FRAMES and found.width is None:
                found.height, found.width = struct.unpack(">HH", source.at(begin + 5, 4))
            if out.size:
                out.keep(begin, end)
            else:
                header.kept.append((begin, end))
        elif marker == _COM or _APP0 <= marker <= _APP15:
            _look_at(source, found, header, marker, begin, end)
        else:
            raise _damaged(begin)
    else:
        raise MetadataError(f"this JPEG file has over {_MOST_SEGMENTS:,} segments")
    if not out.size:
        raise MetadataError("this JPEG file holds no picture")
    if source.size > at:
        found.removed.add("what follows the picture")
    out.put(b"\xff\xd9")
    return found.finish()


def is_in_one_scan(source: Source) -> bool:
    """Whether the picture comes row by row, so that a decoder needs room for some rows and not for all of it."""
    at, components = 2, 0
    for _ in range(_MOST_SEGMENTS):
        marker, at = _next_marker(source, at)
        if marker == _EOI:
            return False
        (length,) = struct.unpack(">H", source.at(at, 2))
        if marker in _FRAMES:
            components = source.at(at + 7, 1)[0] if marker in (0xC0, 0xC1) else 0
        if marker == _SOS:
            return components > 0 and source.at(at + 2, 1)[0] == components
        at += max(2, length)
    return False


def _next_marker(source: Source, at: int) -> tuple[int, int]:
    """The marker that stands here, after any fill bytes, and the place behind it."""
    head = source.up_to(at, 2)
    if len(head) < 2:
        return _EOI, at  # cut off behind a scan: what there is of the picture is kept
    if head[0] != 0xFF:
        raise _damaged(at)
    at += 1
    while head[1] == 0xFF:
        fill = source.up_to(at, 4096)
        bare = fill.lstrip(b"\xff")
        at += len(fill) - len(bare)
        if bare:
            return bare[0], at + 1
        if not fill:
            return _EOI, at
    return head[1], at + 1


def _end_of_scan(source: Source, at: int) -> int:
    """Where the entropy-coded data that begins here ends: at a marker that is none of it, or with the file."""
    while block := source.up_to(at, _BLOCK):
        match = _MARKER.search(block)
        if match:
            return at + match.start()
        at += len(block) - (1 if block.endswith(b"\xff") and len(block) > 1 else 0)
    return at


def _look_at(source: Source, found: Findings, header: _Header, marker: int, begin: int, end: int) -> None:
    """An application's segment or a comment: little of any is kept."""
    payload = source.at(begin + 4, end - begin - 4)
    if marker == _APP0 and payload.startswith(b"JFIF\0") and len(payload) >= 14:
        header.is_jfif = header.is_jfif or payload[:12] + b"\0\0"
        if payload[12:14] != b"\0\0":
            found.removed.add("thumbnail")
        return
    if marker == _APP14 and payload.startswith(b"Adobe") and len(payload) == 12:
        header.kept.append((begin, end))
        return
    if marker == _APP2 and payload.startswith(_ICC) and len(payload) > 14:
        header.profile.setdefault(payload[12], payload[14:])
        return
    if marker == _APP1 and payload.startswith(b"Exif\0") and found.orientation == UPRIGHT:
        found.orientation = read_orientation(payload[6:])
    words = [word for app, start, word in _APP_WORDS if marker == app and payload.startswith(start)]
    found.removed.add(words[0] if words else "comments" if marker == _COM else "data of programs and cameras")


def _write_header(found: Findings, header: _Header) -> None:
    out = found.splice
    out.put(b"\xff\xd8")
    if header.is_jfif:
        out.put(_segment(_APP0, header.is_jfif))
    if found.orientation != UPRIGHT:
        out.put(_segment(_APP1, b"Exif\0\0" + minimal_exif(found.orientation)))
    profile = clean_profile(b"".join(header.profile[number] for number in sorted(header.profile)))
    if profile is not None:
        parts = [profile[at : at + _PARAMETER_BYTES] for at in range(0, len(profile), _PARAMETER_BYTES)]
        for number, part in enumerate(parts, 1):
            out.put(_segment(_APP2, _ICC + bytes((number, len(parts))) + part))
    for begin, end in header.kept:
        out.keep(begin, end)


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _damaged(at: int) -> MetadataError:
    return MetadataError(f"this JPEG file is damaged at byte {at:,}")
