"""PNG, WebP and GIF without their metadata: chunks are left out, and the picture's own data stays byte for byte.

A chunk that is not known to be needed to show the picture goes. Orientation is kept in a minimal EXIF, the colour
profile is cleaned; what follows the picture's end goes. Spec: specs/media.md §4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.exif import UPRIGHT, minimal_exif, read_orientation
from cocoon_core.vault.icc import MAX_PROFILE_BYTES, clean_profile
from cocoon_core.vault.splicing import Source, Splice
from cocoon_core.vault.stripped import Findings, Stripped

_MOST_CHUNKS: Final = 100_000  # a long animation has some thousands
_PNG_KEPT: Final = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT bKGD hIST pHYs cICP mDCV cLLI acTL fcTL fdAT".split()
)
_PNG_WORDS: Final = {b"eXIf": "EXIF", b"tIME": "times", b"tEXt": "comments", b"zTXt": "comments", b"iTXt": "comments"}
_WEBP_KEPT: Final = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"))
_WEBP_WORDS: Final = {b"EXIF": "EXIF", b"XMP ": "XMP"}
_HAS_PROFILE, _HAS_EXIF, _HAS_XMP = 0x20, 0x08, 0x04
_GIF_APPLICATIONS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


# --- PNG


def strip_png(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole PNG file."""
    found = Findings()
    out = found.splice
    out.keep(0, 8)
    end = 8
    profile: bytes | None = None
    for name, begin, end in _png_chunks(source):
        if (begin == 8) != (name == b"IHDR"):
            raise MetadataError("this PNG file is damaged: its header is not where it must be")
        if name == b"iCCP":
            profile = profile or _png_profile(source.at(begin + 8, end - begin - 12))
        elif name == b"eXIf":
            found.orientation = read_orientation(source.at(begin + 8, end - begin - 12))
            found.removed.add("EXIF")
        elif name not in _PNG_KEPT:
            found.removed.add(_PNG_WORDS.get(name, "data of programs and cameras"))
    for name, begin, end in _png_chunks(source):
        if name in _PNG_KEPT:
            out.keep(begin, end)
        if name == b"IHDR":
            found.width, found.height = struct.unpack(">II", source.at(begin + 8, 8))
            if profile is not None:
                out.put(_png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile, 9)))
            if found.orientation != UPRIGHT:
                out.put(_png_chunk(b"eXIf", minimal_exif(found.orientation)))
    if source.size > end:
        found.removed.add("what follows the picture")
    return found.finish()


def _png_chunks(source: Source) -> Iterator[tuple[bytes, int, int]]:
    """(name, begin, end) of every chunk up to IEND, its length and checksum included."""
    if source.at(0, 8) != b"\x89PNG\r\n\x1a\n":
        raise MetadataError("this is no PNG file")
    at = 8
    for _ in range(_MOST_CHUNKS):
        length, name = struct.unpack(">I4s", source.at(at, 8))
        end = at + 12 + length
        source.at(end - 1, 1)
        yield name, at, end
        if name == b"IEND":
            return
        at = end
    raise MetadataError(f"this PNG file has over {_MOST_CHUNKS:,} chunks")


def _png_profile(chunk: bytes) -> bytes | None:
    compressed = chunk.partition(b"\0")[2][1:]
    inflater = zlib.decompressobj()
    try:
        return clean_profile(inflater.decompress(compressed, MAX_PROFILE_BYTES))
    except zlib.error:
        return None


def _png_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


# --- WebP


def strip_webp(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole WebP file."""
    found = Findings()
    form, size, kind = struct.unpack("<4sI4s", source.at(0, 12))
    if form != b"RIFF" or kind != b"WEBP" or size + 8 > source.size:
        raise MetadataError("this is no whole WebP file")
    chunks = list(_riff_chunks(source, 12, size + 8))
    profile = None
    for name, begin, end in chunks:
        if name == b"ICCP":
            profile = clean_profile(source.at(begin, end - begin))
        elif name == b"EXIF":
            found.orientation = read_orientation(source.at(begin, end - begin))
        if name not in _WEBP_KEPT and name != b"ICCP":
            found.removed.add(_WEBP_WORDS.get(name, "data of programs and cameras"))
    body, extended = Splice(), False
    for name, begin, end in chunks:
        if name == b"VP8X" and not extended:
            extended = True
            flags, rest = source.at(begin, 1)[0], source.at(begin + 1, 9)
            flags &= ~(_HAS_PROFILE | _HAS_EXIF | _HAS_XMP)
            flags |= (_HAS_PROFILE if profile else 0) | (_HAS_EXIF if found.orientation != UPRIGHT else 0)
            body.put(_riff_chunk(b"VP8X", bytes((flags,)) + rest))
            found.width, found.height = _little24(rest[3:6]) + 1, _little24(rest[6:9]) + 1
            if profile:
                body.put(_riff_chunk(b"ICCP", profile))
        elif name == b"ANMF":
            _keep_frame(source, body, begin, end)
        elif name in _WEBP_KEPT:
            _keep_chunk(body, name, begin, end)
            if name in (b"VP8 ", b"VP8L") and found.width is None:
                found.width, found.height = _webp_size(name, source.at(begin, min(10, end - begin)))
    if not extended:
        found.orientation = UPRIGHT  # only the extended form has EXIF that counts
    elif found.orientation != UPRIGHT:
        body.put(_riff_chunk(b"EXIF", minimal_exif(found.orientation)))
    if source.size > size + 8:
        found.removed.add("what follows the picture")
    found.splice.put(struct.pack("<4sI4s", b"RIFF", body.size + 4, b"WEBP"))
    found.splice.extend(body.pieces)
    return found.finish()


def _riff_chunks(source: Source, at: int, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, begin, end) of each chunk's payload between two places."""
    for _ in range(_MOST_CHUNKS):
        if at + 8 > limit:
            return
        name, length = struct.unpack("<4sI", source.at(at, 8))
        begin, end = at + 8, at + 8 + length
        if end > limit:
            raise MetadataError(f"this file is damaged: a chunk at byte {at:,} is longer than the file")
        yield name, begin, end
        at = end + (length & 1)
    raise MetadataError(f"this file has over {_MOST_CHUNKS:,} chunks")


def _keep_frame(source: Source, body: Splice, begin: int, end: int) -> None:
    """One picture of an animation: its place and time, and of its own chunks those that hold the picture."""
    if end - begin < 16:
        raise MetadataError(f"this WebP file is damaged at byte {begin:,}")
    inner = Splice()
    inner.keep(begin, begin + 16)
    for name, inner_begin, inner_end in _riff_chunks(source, begin + 16, end):
        if name in (b"ALPH", b"VP8 ", b"VP8L"):
            _keep_chunk(inner, name, inner_begin, inner_end)
    body.put(struct.pack("<4sI", b"ANMF", inner.size))
    body.extend(inner.pieces)


def _keep_chunk(body: Splice, name: bytes, begin: int, end: int) -> None:
    body.keep(begin - 8, end)
    body.put(bytes((end - begin) & 1))


def _riff_chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack("<4sI", name, len(payload)) + payload + bytes(len(payload) & 1)


def _webp_size(name: bytes, head: bytes) -> tuple[int | None, int | None]:
    if name == b"VP8 " and len(head) >= 10 and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and len(head) >= 5 and head[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", head, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None, None


def _little24(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


# --- GIF


def strip_gif(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole GIF file."""
    found = Findings()
    out = found.splice
    head = source.at(0, 13)
    if head[:6] not in (b"GIF87a", b"GIF89a"):
        raise MetadataError("this is no GIF file")
    found.width, found.height = struct.unpack_from("<HH", head, 6)
    at = 13 + _palette_bytes(head[10])
    out.keep(0, at)
    for _ in range(_MOST_CHUNKS):
        mark = source.at(at, 1)
        if mark == b";":
            out.put(mark)
            if source.size > at + 1:
                found.removed.add("what follows the picture")
            return found.finish()
        if mark == b",":
            end = _end_of_blocks(source, at + 11 + _palette_bytes(source.at(at + 9, 1)[0]))
            out.keep(at, end)
        elif mark == b"!":
            label, first = source.at(at + 1, 1)[0], source.at(at + 3, 11)
            end = _end_of_blocks(source, at + 2)
            if label == 0xF9 or (label == 0xFF and first in _GIF_APPLICATIONS):
                out.keep(at, end)
            else:
                found.removed.add("comments" if label == 0xFE else "data of programs and cameras")
        else:
            raise MetadataError(f"this GIF file is damaged at byte {at:,}")
        at = end
    raise MetadataError(f"this GIF file has over {_MOST_CHUNKS:,} parts")


def _palette_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _end_of_blocks(source: Source, at: int) -> int:
    """Behind the empty block that ends a chain of blocks of up to 255 bytes."""
    start, held = at, b""
    while True:
        if not start <= at < start + len(held):
            start, held = at, source.up_to(at, 1 << 16)
            if not held:
                raise MetadataError("this GIF file is damaged: it ends in the middle of a picture")
        length = held[at - start]
        at += 1 + length
        if length == 0:
            return at
