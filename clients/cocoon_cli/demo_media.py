"""A photo and a film for `demo`: whole files, with what a camera writes of place, device and maker, and without.

The photo is a small JPEG; with EXIF it says where it was taken, by whom and with what. The film is an MP4 of still
pictures, each a JPEG with random bytes after its end, so that it is as large as films are and nothing can make it
smaller. Of both the demo knows, to the byte, what is to be left of them.
"""

from __future__ import annotations

import base64
import os
import struct
from pathlib import Path
from typing import Final

MAKER = "Kestrelflex Optical Works"
MODEL = "Kestrelflex KX-7 Serial 0047113"
ARTIST = "Anastasia Thistlewood-Kerr"
PLACE = "+47.3712+008.5431/"  # as films say it
LATITUDE, LONGITUDE = (47, 22, 1632), (8, 32, 3516)  # degrees, minutes, hundredths of seconds
TITLE = "Greenhouse opening, rehearsal film"
TAGS = (MAKER, MODEL, ARTIST, PLACE, TITLE)

PICTURE_BYTES: Final = 1024 * 1024  # of one picture of the film, with what follows it
_PHOTO: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8yb"
    "qmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAB4"
    "AKADASIAAhEBAxEB/8QAGQABAQEBAQEAAAAAAAAAAAAAAAEDBAIF/8QAJBABAQABBAEEAgMAAAAAAAAAAAECAxESUSEEEzFhIoFBkbH/xAAZAQ"
    "EBAQEBAQAAAAAAAAAAAAAAAQIDBAX/xAAcEQEBAAMBAQEBAAAAAAAAAAAAAQIREgMhMUH/2gAMAwEAAhEDEQA/ANBB6Xy1VBGlEUVRBFVUBVEU"
    "VRBFehHqYZ2bzHKz6iW6ak2ip8XahtVEUVziK08qiCNPQgKqvKiqIqKogKqo09POWvhL3uzbqbak3dOrQ0JhOWcly/xuD52WVyu6+hjjMZqPOe"
    "GOpNsp++nDq6d08+N/VfQc/rJ+GOX8y7OvjnZlpz9cZZtyKg9jzMBBp5VVAaURUVRN9o5sta+7ynxPG3Y3jhcvx1K845TKby7yqiaURRVe9LPh"
    "qY5dVmqX78anx9WWWbzzFfP0PUXS/GzfH/HVPVaVm9ys+rHiy8spXtx9MbGzk9bn5xwl+PNXU9ZNrNOXfuuS3e73zXTy87L1XP09JZqKIr0uLn"
    "EVXlUQGnoR5zz4Y7/0LJv48eo1Nvwn7YFu93vzRXtxx5mm3p9Ta8L8X4dDhdWjqc8fPzPlK5emP9jUQZclVAVRFFUQRp6EBXPyncOU7jAdNOHL"
    "o5TuHKdxgJpeW/Kdz+3PqZ88vqfBlf4eTTv54a+gCuwuGVwyliAn67JnjZvLF5TuOTDLbw0Z043DTflO4cp3GCpo5b8p3DlO4wDS8t+U7i8p3G"
    "AaXlvyncXlO451TS8ufc3QZ7rnqLuu7yHdNAB3W+6AHdXugB3Tuj3M/Hl4DupcrWnOfZzn2zE6qbac59nuT7Zh1Tda+5Ps9yfbIOqvVa+5Oqe5"
    "OqyDqnVAGWQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAH//Z"
)
_SIDE = (160, 120)


def make_photo(*, tagged: bool) -> bytes:
    """The photo, with its EXIF or without."""
    if not tagged:
        return _PHOTO
    exif = b"Exif\0\0" + _exif()
    return _PHOTO[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + _PHOTO[2:]


def _exif() -> bytes:
    """TIFF, big end first: maker, model, artist, and a directory of the place."""
    texts = [(0x010F, MAKER), (0x0110, MODEL), (0x013B, ARTIST)]
    start = 8 + 2 + 12 * (len(texts) + 1) + 4
    entries, values = b"", b""
    for tag, text in texts:
        raw = text.encode() + b"\0"
        entries += struct.pack(">HHII", tag, 2, len(raw), start + len(values))
        values += raw + b"\0" * (len(raw) % 2)
    place = start + len(values)
    entries += struct.pack(">HHII", 0x8825, 4, 1, place)
    head = b"MM\0*" + struct.pack(">IH", 8, len(texts) + 1) + entries + bytes(4) + values
    rationals = place + 2 + 12 * 4 + 4
    return head + b"".join(
        (
            struct.pack(">H", 4),
            struct.pack(">HHI4s", 1, 2, 2, b"N\0\0\0"),
            struct.pack(">HHII", 2, 5, 3, rationals),
            struct.pack(">HHI4s", 3, 2, 2, b"E\0\0\0"),
            struct.pack(">HHII", 4, 5, 3, rationals + 24),
            bytes(4),
            *(
                struct.pack(">6I", degrees, 1, minutes, 1, hundredths, 100)
                for degrees, minutes, hundredths in (LATITUDE, LONGITUDE)
            ),
        )
    )


def write_film(path: Path, pictures: int) -> None:
    """A film of so many pictures, one a second, with its tags; a MiB each."""
    head = film_head(pictures, tagged=True)
    with path.open("wb") as file:
        file.write(head)
        for _ in range(pictures):
            file.write(_PHOTO + os.urandom(PICTURE_BYTES - len(_PHOTO)))


def film_head(pictures: int, *, tagged: bool) -> bytes:
    """All that stands before the pictures: what plays them, and the tags, or as many zeros."""
    when = 3_900_000_000 if tagged else 0  # seconds since 1904
    kind = _box(b"ftyp", b"isom", bytes(4), b"isommp41")

    def moov(first: int) -> bytes:
        table = _box(
            b"stbl",
            _full(b"stsd", struct.pack(">I", 1), _picture_entry()),
            _full(b"stts", struct.pack(">III", 1, pictures, 1000)),
            _full(b"stsc", struct.pack(">IIII", 1, 1, 1, 1)),
            _full(b"stsz", struct.pack(">II", PICTURE_BYTES, pictures)),
            _full(b"co64", struct.pack(">I", pictures), *(_place(first, one) for one in range(pictures))),
        )
        minf = _box(
            b"minf",
            _full(b"vmhd", bytes(8), flags=1),
            _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))),
            table,
        )
        handler = (b"Kestrelflex picture track" if tagged else bytes(25)) + b"\0"
        media = _box(
            b"mdia",
            _full(b"mdhd", struct.pack(">IIIIHH", when, when, 1000, pictures * 1000, 0x55C4, 0)),
            _full(b"hdlr", bytes(4), b"vide", bytes(12), handler),
            minf,
        )
        track = _box(b"trak", _full(b"tkhd", _track_head(when, pictures * 1000), flags=3), media)
        tags = _box(b"udta", *(_tag(name, text) for name, text in ((b"\xa9xyz", PLACE), (b"\xa9nam", TITLE))))
        if not tagged:
            tags = _box(b"free", bytes(len(tags) - 8))
        return _box(b"moov", _full(b"mvhd", _film_times(when, pictures * 1000)), track, tags)

    start = len(kind) + len(moov(0)) + 16
    return kind + moov(start) + struct.pack(">I4sQ", 1, b"mdat", 16 + pictures * PICTURE_BYTES)


def _place(first: int, number: int) -> bytes:
    return struct.pack(">Q", first + number * PICTURE_BYTES)


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def _full(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", flags), *parts)


def _tag(name: bytes, text: str) -> bytes:
    raw = text.encode()
    return _box(name, struct.pack(">HH", len(raw), 0x15C7), raw)


_MATRIX: Final = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def _film_times(when: int, length: int) -> bytes:
    return struct.pack(">IIIIIH10x", when, when, 1000, length, 1 << 16, 1 << 8) + _MATRIX + bytes(24) + b"\0\0\0\2"


def _track_head(when: int, length: int) -> bytes:
    return (
        struct.pack(">IIIII8xHHHH", when, when, 1, 0, length, 0, 0, 0, 0)
        + _MATRIX
        + struct.pack(">II", _SIDE[0] << 16, _SIDE[1] << 16)
    )


def _picture_entry() -> bytes:
    return _box(
        b"jpeg",
        bytes(6),
        struct.pack(">H", 1),
        bytes(16),
        struct.pack(">HHIIIH", *_SIDE, 72 << 16, 72 << 16, 0, 1),
        bytes(32),
        struct.pack(">Hh", 24, -1),
    )
