"""MP3, AAC, FLAC and WAV without their tags: what stands before, between and behind the sound is left out.

The sound itself stays byte for byte. Titles and names of musicians are tags too: who shares music keeps the metadata.
Spec: specs/media.md §5.
"""

from __future__ import annotations

import struct
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.splicing import Source
from cocoon_core.vault.stripped import Findings, Stripped

_MOST_TAGS: Final = 32  # before and behind the sound
_MOST_CHUNKS: Final = 100_000
_FLAC_KEPT: Final = frozenset((0, 3))  # STREAMINFO and SEEKTABLE
_WAV_KEPT: Final = frozenset((b"fmt ", b"fact", b"data"))

# kbit/s of layer III by the number in a frame's header, of MPEG 1 and of MPEG 2 and 2.5.
_RATES_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def strip_frames(source: Source) -> Stripped:
    """MP3 or AAC: frames of sound between ID3, APE and Lyrics3 tags. FLAC behind an ID3 tag too.

    Raises:
        MetadataError: nothing is left between the tags, or they are damaged.
    """
    found = Findings()
    begin, end = _behind_tags(source), _before_tags(source)
    if begin >= end:
        raise MetadataError("this file has tags and no sound")
    if begin > 0 or end < source.size:
        found.removed.add("tags")
    if source.up_to(begin, 4) == b"fLaC":
        return _strip_flac(source, found, begin, end)
    found.splice.keep(begin, end)
    found.duration_ms = _length_of_frames(source, begin, end)
    found.left.add("what the encoder wrote into the sound itself")
    return found.finish()


def strip_flac(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole FLAC file."""
    return _strip_flac(source, Findings(), 0, _before_tags(source))


def strip_wav(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole WAV file."""
    found = Findings()
    if source.at(0, 4) != b"RIFF" or source.at(8, 4) != b"WAVE":
        raise MetadataError("this is no WAV file")
    at, rate, kept = 12, 0, []
    for _ in range(_MOST_CHUNKS):
        head = source.up_to(at, 8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        end = at + 8 + length
        if end > source.size:
            if name != b"data":
                raise MetadataError(f"this WAV file is damaged at byte {at:,}")
            end = source.size  # it was still being recorded
        if name == b"fmt " and length >= 16:
            (rate,) = struct.unpack("<I", source.at(at + 16, 4))
        if name in _WAV_KEPT:
            kept.append((name, at + 8, end))
        else:
            found.removed.add("tags")
        at = end + (length & 1)
    else:
        raise MetadataError(f"this WAV file has over {_MOST_CHUNKS:,} parts")
    sound = sum(end - begin for name, begin, end in kept if name == b"data")
    if not rate or not sound:
        raise MetadataError("this WAV file holds no sound")
    found.duration_ms = sound * 1000 // rate
    whole = 4 + sum(8 + end - begin + (end - begin & 1) for _, begin, end in kept)
    if whole >= 1 << 32:
        raise MetadataError("this WAV file is too long for its form")
    out = found.splice
    out.put(struct.pack("<4sI4s", b"RIFF", whole, b"WAVE"))
    for name, begin, end in kept:
        out.put(struct.pack("<4sI", name, end - begin))
        out.keep(begin, end)
        out.put(bytes(end - begin & 1))
    return found.finish()


# --- FLAC


def _strip_flac(source: Source, found: Findings, begin: int, end: int) -> Stripped:
    if source.at(begin, 4) != b"fLaC":
        raise MetadataError("this is no FLAC file")
    kept, at = [], begin + 4
    for _ in range(_MOST_TAGS * 8):
        head = source.at(at, 4)
        kind, length = head[0] & 0x7F, int.from_bytes(head[1:])
        if kind in _FLAC_KEPT:
            kept.append((kind, source.at(at + 4, length)))
        elif kind != 1:
            found.removed.add("tags")
        at += 4 + length
        if head[0] & 0x80:
            break
    else:
        raise MetadataError("this FLAC file has too many tags")
    if not kept or kept[0][0] != 0 or len(kept[0][1]) != 34 or at >= end:
        raise MetadataError("this FLAC file is damaged: it does not say what it is")
    bits = int.from_bytes(kept[0][1][10:18])
    rate, samples = bits >> 44, bits & (1 << 36) - 1
    found.duration_ms = samples * 1000 // rate if rate and samples else None
    out = found.splice
    out.put(b"fLaC")
    for number, (kind, block) in enumerate(kept, 1):
        out.put(bytes((kind | (0x80 if number == len(kept) else 0),)) + len(block).to_bytes(3) + block)
    out.keep(at, end)
    return found.finish()


# --- tags around frames


def _behind_tags(source: Source) -> int:
    """Where the sound begins: behind ID3 and APE tags and the zeros that follow some."""
    at = 0
    for _ in range(_MOST_TAGS):
        head = source.up_to(at, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(head[6:10])))
            at += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            at += 32 + struct.unpack_from("<I", head, 12)[0]
        else:
            break
    while at and (block := source.up_to(at, 4096)):
        bare = block.lstrip(b"\0")
        at += len(block) - len(bare)
        if bare:
            break
    return at


def _before_tags(source: Source) -> int:
    """Where the sound ends: before ID3, APE and Lyrics3 tags."""
    end = source.size
    for _ in range(_MOST_TAGS):
        if end >= 128 and source.at(end - 128, 3) == b"TAG":
            end -= 128
            if end >= 227 and source.at(end - 227, 4) == b"TAG+":
                end -= 227
        elif end >= 32 and source.at(end - 32, 8) == b"APETAGEX":
            size, _, flags = struct.unpack("<III", source.at(end - 20, 12))
            end -= min(end, size + (32 if flags & 1 << 31 else 0))
        elif end >= 15 and source.at(end - 9, 9) == b"LYRICS200" and source.at(end - 15, 6).isdigit():
            end -= min(end, 15 + int(source.at(end - 15, 6)))
        elif end >= 10 and source.at(end - 10, 3) == b"3DI":
            size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(source.at(end - 4, 4))))
            end -= min(end, 20 + size)
        else:
            break
    return end


def _length_of_frames(source: Source, begin: int, end: int) -> int | None:
    """Milliseconds of an MP3, by the count of frames that its first one names, or by the rate of that one."""
    head = source.up_to(begin, 256)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate, sampled = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or sampled == 3:
        return None
    samples = _SAMPLES[version][sampled]
    for name in (b"Xing", b"Info"):
        at = head.find(name, 4, 48)
        if at >= 0 and len(head) >= at + 12 and head[at + 7] & 1:
            frames = int.from_bytes(head[at + 8 : at + 12])
            return frames * (1152 if version == 3 else 576) * 1000 // samples
    return (end - begin) * 8 // (_RATES_1 if version == 3 else _RATES_2)[rate]
