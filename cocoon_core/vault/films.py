"""MP4, MOV, M4A and 3GP without their metadata: boxes that do not play the film become free space, in their places.

Nothing moves, so no offset in the file changes, and a film of any size is a handful of patches. A box that is not known
to be needed goes, with tracks of sensor data (places, timecodes) and the samples that they have among the film's own.
Spec: specs/media.md §5.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.boxes import Box, Boxes
from cocoon_core.vault.splicing import Source, patch
from cocoon_core.vault.stripped import Findings, Stripped

_CONTAINERS: Final = {
    b"moov": frozenset(b"mvhd trak mvex iods".split()),
    b"trak": frozenset(b"tkhd mdia edts tref tapt".split()),
    b"mdia": frozenset(b"mdhd hdlr minf elng".split()),
    b"minf": frozenset(b"vmhd smhd hmhd nmhd sthd gmhd dinf stbl hdlr".split()),
    b"dinf": frozenset((b"dref",)),
    b"stbl": frozenset(
        b"stsd stts ctts cslg stss stps stsc stsz stz2 stco co64 sdtp sbgp sgpd subs saiz saio padb stdp".split()
    ),
    b"edts": frozenset((b"elst",)),
    b"tapt": frozenset(b"clef prof enof".split()),
    b"mvex": frozenset(b"mehd trex leva".split()),
    b"moof": frozenset(b"mfhd traf".split()),
    b"traf": frozenset(b"tfhd trun tfdt sbgp sgpd subs saiz saio sdtp".split()),
}
_TOP: Final = frozenset(b"ftyp styp pdin moov moof mdat mfra sidx ssix".split())
_FREE: Final = frozenset((b"free", b"skip", b"wide"))
_PLAYED: Final = frozenset((b"vide", b"soun", b"auxv", b"text", b"sbtl", b"subt", b"clcp", b"subp", b"hint", b"pict"))
_WRITTEN: Final = frozenset((b"text", b"sbtl", b"subt", b"clcp"))
_NEVER_IN_ENTRY: Final = frozenset((b"uuid", b"udta", b"meta", b"name"))
_WORDS: Final = {b"udta": "tags and places", b"meta": "tags and places", b"uuid": "data of programs and cameras"}
_TRACK_WORDS: Final = "tracks of places, sensors and timecodes"


@dataclass(slots=True)
class _Track:
    handler: bytes = b""
    boxes: dict[bytes, Box] = field(default_factory=dict)  # of its sample table


@dataclass(slots=True)
class _Film:
    boxes: Boxes
    found: Findings = field(default_factory=Findings)
    tracks: list[_Track] = field(default_factory=list)
    dropped: list[_Track] = field(default_factory=list)
    media: list[tuple[int, int]] = field(default_factory=list)  # where `mdat` has its content
    fragmented: bool = False


def strip_film(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole file of boxes, or one whose parts contradict each other."""
    boxes = Boxes(source)
    film = _Film(boxes)
    has_film = False
    for box in boxes.inside(0, source.size, whole_file=True):
        if box.name in _FREE:
            boxes.zero(box.inner, box.end)
        elif box.name not in _TOP:
            boxes.blank(box)
            film.found.removed.add(_WORDS.get(box.name, "data of programs and cameras"))
        elif box.name == b"mdat":
            film.media.append((box.inner, box.end))
        elif box.name in _CONTAINERS:
            has_film |= box.name == b"moov"
            film.fragmented |= box.name == b"moof"
            _strip_container(film, box)
    if not has_film:
        raise MetadataError("this film has no table of contents: it was not closed, or it is damaged")
    _zero_dropped(film)
    film.found.left.add("what the encoder wrote into the stream itself")
    if any(track.handler in _WRITTEN for track in film.tracks):
        film.found.left.add("subtitles and chapters")
    film.found.splice = patch(source.size, boxes.patches)
    return film.found.finish()


def _strip_container(film: _Film, container: Box, track: _Track | None = None) -> None:
    boxes, kept = film.boxes, _CONTAINERS[container.name]
    for box in list(boxes.inside(container.inner, container.end)):
        if box.name == b"cmov":
            raise MetadataError("this film's table of contents is compressed")
        if box.name == b"trak":
            _strip_track(film, box)
        elif box.name in _FREE:
            boxes.zero(box.inner, box.end)
        elif box.name not in kept:
            boxes.blank(box)
            film.found.removed.add(_WORDS.get(box.name, "data of programs and cameras"))
        elif box.name in _CONTAINERS:
            _strip_container(film, box, track)
        else:
            _strip_leaf(film, box, track)


def _strip_track(film: _Film, box: Box) -> None:
    """A track that plays is cleaned, another one is free space, and its samples are noted."""
    handler = _handler_of(film.boxes, box)
    track = _Track(handler)
    if handler in _PLAYED:
        film.tracks.append(track)
        _strip_container(film, box, track)
        return
    film.boxes.blank(box)
    film.found.removed.add(_TRACK_WORDS)
    film.dropped.append(track)
    for media in _named(film.boxes, box, b"mdia"):
        for table in _named(film.boxes, media, b"minf", b"stbl"):
            track.boxes = {leaf.name: leaf for leaf in film.boxes.inside(table.inner, table.end)}


def _named(boxes: Boxes, box: Box, *path: bytes) -> list[Box]:
    found = [box]
    for name in path:
        found = [inner for outer in found for inner in boxes.inside(outer.inner, outer.end) if inner.name == name]
    return found


def _handler_of(boxes: Boxes, box: Box) -> bytes:
    for handler in _named(boxes, box, b"mdia", b"hdlr"):
        return boxes.source.at(handler.inner + 8, 4)
    return b""


def _strip_leaf(film: _Film, box: Box, track: _Track | None) -> None:
    boxes = film.boxes
    if box.name in (b"mvhd", b"tkhd", b"mdhd"):
        _strip_times(film, box, track)
    elif box.name == b"hdlr" and box.length > 12:
        boxes.zero(box.inner + 12, box.end)  # who made it, and a name
    elif box.name == b"stsd":
        _strip_entries(boxes, box, track.handler if track else b"")
    elif box.name == b"dref":
        _strip_references(boxes, box)
    if track is not None:
        track.boxes[box.name] = box


def _strip_times(film: _Film, box: Box, track: _Track | None) -> None:
    content = film.boxes.source.at(box.inner, min(box.length, 112))
    long = content[:1] == b"\1"
    size = 8 if long else 4
    if len(content) < 4 + 4 * size:
        raise film.boxes.damaged(box.start)
    if any(content[4 : 4 + 2 * size]):
        film.found.removed.add("times")
    film.boxes.zero(box.inner + 4, box.inner + 4 + 2 * size)
    if box.name == b"mvhd":
        scale, length = struct.unpack_from(">IQ" if long else ">II", content, 4 + 2 * size)
        if scale and length and length != (1 << 8 * size) - 1:
            film.found.duration_ms = min(length * 1000 // scale, 1 << 53)
    elif box.name == b"tkhd" and track is not None and track.handler == b"vide" and not film.found.width:
        at = 52 if long else 40  # of the matrix, which width and height follow
        if len(content) >= at + 44:
            across, width, height = (
                *struct.unpack_from(">i", content, at + 4),
                *struct.unpack_from(">II", content, at + 36),
            )
            turned = across != 0 and struct.unpack_from(">i", content, at)[0] == 0
            film.found.width, film.found.height = (height >> 16, width >> 16) if turned else (width >> 16, height >> 16)


def _strip_entries(boxes: Boxes, box: Box, handler: bytes) -> None:
    """In the descriptions of samples: the vendor, the name of the encoder, and boxes of metadata."""
    for entry in boxes.inside(box.inner + 8, box.end):
        if handler == b"vide" and entry.end - entry.start >= 86:
            boxes.zero(entry.start + 20, entry.start + 24)
            boxes.zero(entry.start + 50, entry.start + 82)
            for part in boxes.inside(entry.start + 86, entry.end):
                if part.name in _NEVER_IN_ENTRY:
                    boxes.blank(part)
                elif part.name == b"colr":
                    boxes.clean_colours(part)
        elif handler == b"soun" and entry.end - entry.start >= 36:
            boxes.zero(entry.start + 20, entry.start + 24)


def _strip_references(boxes: Boxes, box: Box) -> None:
    """References to the file itself; a name or a path in one goes."""
    for entry in boxes.inside(box.inner + 8, box.end):
        content = boxes.content(entry)
        if len(content) < 4:
            raise boxes.damaged(entry.start)
        if not content[3] & 1 and content[4:].strip(b"\0"):
            raise MetadataError("this film has its pictures or its sound in another file")
        boxes.zero(entry.inner + 4, entry.end)


# --- the samples of tracks that were dropped


def _zero_dropped(film: _Film) -> None:
    """Blank the samples of dropped tracks where they lie among those of the film."""
    if film.fragmented and film.dropped:
        film.found.left.add("samples of dropped tracks, since the film is in fragments")
    ranges = sorted(part for track in film.dropped for part in _samples_of(film.boxes, track))
    if not ranges:
        return
    needed = sorted({place for track in film.tracks for place in _chunks_of(film.boxes, track)})
    done = 0
    for start, end in ranges:
        start = max(start, done)  # noqa: PLW2901  two dropped tracks may share samples
        if end <= start:
            continue
        if not any(begin <= start and end <= limit for begin, limit in film.media):
            raise film.boxes.damaged(start)
        at = bisect_left(needed, start)
        if at < len(needed) and needed[at] < end:
            raise film.boxes.damaged(start)
        film.boxes.zero(start, end)
        done = end


def _chunks_of(boxes: Boxes, track: _Track) -> list[int]:
    """Where the chunks of a track begin."""
    for name, form, size in ((b"stco", "I", 4), (b"co64", "Q", 8)):
        if box := track.boxes.get(name):
            content = boxes.content(box)
            count = _count(boxes, box, content, 4, size)
            return list(struct.unpack_from(f">{count}{form}", content, 8))
    return []


def _count(boxes: Boxes, box: Box, content: bytes, at: int, size: int) -> int:
    """How many entries of `size` bytes a table says it has behind its count at `at`, and has."""
    if len(content) < at + 4:
        raise boxes.damaged(box.start)
    (count,) = struct.unpack_from(">I", content, at)
    if at + 4 + count * size > len(content):
        raise boxes.damaged(box.start)
    return int(count)


def _samples_of(boxes: Boxes, track: _Track) -> list[tuple[int, int]]:
    """(start, end) of every chunk of a track, by its tables of chunks, of samples in each, and of their sizes."""
    chunks = _chunks_of(boxes, track)
    in_chunks, sizes = track.boxes.get(b"stsc"), track.boxes.get(b"stsz")
    if not chunks:
        return []
    if in_chunks is None or sizes is None:
        raise boxes.damaged(boxes.source.size)
    content = boxes.content(sizes)
    if len(content) < 12:
        raise boxes.damaged(sizes.start)
    same, count = struct.unpack_from(">II", content, 4)
    ends = [] if same else [0, *accumulate(struct.unpack_from(f">{_count(boxes, sizes, content, 8, 4)}I", content, 12))]
    content = boxes.content(in_chunks)
    runs = [
        struct.unpack_from(">II", content, 8 + 12 * number)
        for number in range(_count(boxes, in_chunks, content, 4, 12))
    ]
    found, sample, run = [], 0, 0
    for number, start in enumerate(chunks, 1):
        while run + 1 < len(runs) and runs[run + 1][0] <= number:
            run += 1
        after = min(count, sample + (runs[run][1] if runs else 0))
        found.append((start, start + (same * (after - sample) if same else ends[after] - ends[sample])))
        sample = after
    return found
