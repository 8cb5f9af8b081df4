"""Colour profiles without what they say of who made them: only the tags that colours are computed with are kept.

A profile decides how a photo looks, so it cannot simply go; but it also has texts, the times and makers of devices, and
an id by which a screen's own calibration is known again. Spec: specs/media.md §4.
"""

from __future__ import annotations

import struct
from typing import Final

MAX_PROFILE_BYTES: Final = 2 * 1024 * 1024
_MOST_TAGS: Final = 100
_HEADER: Final = 128
_COLOUR_TAGS: Final = frozenset(
    b"rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC wtpt bkpt chad lumi cicp A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 gamt".split()
)


def clean_profile(profile: bytes) -> bytes | None:
    """The same colours, and nothing of device, maker or time; None for what is no profile or is none of a picture."""
    if not _HEADER + 4 <= len(profile) <= MAX_PROFILE_BYTES or profile[36:40] != b"acsp":
        return None
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    if count > _MOST_TAGS or _HEADER + 4 + 12 * count > len(profile):
        return None
    tags: dict[bytes, bytes] = {}
    for number in range(count):
        name, start, length = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * number)
        if name in _COLOUR_TAGS:
            if start < _HEADER or start + length > len(profile) or length < 8:
                return None
            tags.setdefault(name, profile[start : start + length])
    if not tags or sum(map(len, tags.values())) > MAX_PROFILE_BYTES:
        return None
    newer = profile[8] >= 4
    tags = {b"desc": _text(b"colours", newer, described=True), b"cprt": _text(b"none", newer, described=False)} | tags
    return _join(_clean_header(profile[:_HEADER]), tags)


def _clean_header(header: bytes) -> bytes:
    """Version, class, spaces, intent and illuminant; no size yet, preferred module, time, platform, maker or id."""
    return b"".join(
        (bytes(8), header[8:24], struct.pack(">6H", 2000, 1, 1, 0, 0, 0), b"acsp", bytes(24), header[64:80], bytes(48))
    )


def _text(text: bytes, newer: bool, *, described: bool) -> bytes:
    """A text as versions before 4 or from 4 on write it."""
    if newer:
        wide = text.decode().encode("utf-16-be")
        return struct.pack(">4sIII4sII", b"mluc", 0, 1, 12, b"enUS", len(wide), 28) + wide
    if described:
        return struct.pack(">4sII", b"desc", 0, len(text) + 1) + text + bytes(1 + 8 + 3 + 67)
    return struct.pack(">4sI", b"text", 0) + text + b"\0"


def _join(header: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Header, table and data; tags of equal data, as the curves often are, share it."""
    start = _HEADER + 4 + 12 * len(tags)
    table, data = [struct.pack(">I", len(tags))], b""
    places: dict[bytes, int] = {}
    for name, value in tags.items():
        if value not in places:
            places[value] = start + len(data)
            data += value + bytes(-len(value) % 4)
        table.append(struct.pack(">4sII", name, places[value], len(value)))
    whole = header + b"".join(table) + data
    return struct.pack(">I", len(whole)) + whole[4:]
