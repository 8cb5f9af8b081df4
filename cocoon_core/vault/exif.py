"""Of EXIF, the one thing that is kept: which way up a photo is shown. Spec: specs/media.md §4."""

from __future__ import annotations

import struct
from typing import Final

UPRIGHT: Final = 1
_ORIENTATION: Final = 0x0112
_MOST_FIELDS: Final = 1000


def read_orientation(exif: bytes) -> int:
    """1 to 8 as EXIF has it, of a TIFF header and what follows; 1 where it says nothing sensible."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return UPRIGHT
    (fields,) = struct.unpack_from(order + "H", exif, start)
    for number in range(min(fields, _MOST_FIELDS)):
        at = start + 2 + 12 * number
        if at + 12 > len(exif):
            break
        tag, form, count, value = struct.unpack_from(order + "HHIH", exif, at)
        if tag == _ORIENTATION:
            return value if form == 3 and count == 1 and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def minimal_exif(orientation: int) -> bytes:
    """A TIFF header with one field, the orientation."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def is_turned(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation in (5, 6, 7, 8)
