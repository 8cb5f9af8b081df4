"""WebM and Matroska without their metadata: elements that do not play the film become void, in their places.

Spec: specs/media.md §5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.splicing import Piece, Source, Zeros, patch
from cocoon_core.vault.stripped import Findings, Stripped

_MOST_ELEMENTS: Final = 1_000_000  # that are looked at; a day of a live recording has as many blocks
_HEADER, _SEGMENT, _SEEK, _INFO, _TRACKS, _CLUSTER, _CUES, _CHAPTERS = (
    0x1A45DFA3, 0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1043A770,
)  # fmt: skip
_VOID, _CRC, _ENTRY, _VIDEO, _SCALE, _DURATION, _WIDTH, _HEIGHT = 0xEC, 0xBF, 0xAE, 0xE0, 0x2AD7B1, 0x4489, 0xB0, 0xBA
_APPLICATIONS: Final = frozenset((0x4D80, 0x5741))  # mandatory: what it was muxed and written by
_IN_CLUSTER: Final = frozenset((0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF))
_INFO_KEPT: Final = frozenset((_SCALE, _DURATION)) | _APPLICATIONS
_ENTRY_DROPPED: Final = frozenset((0x536E, 0x258688, 0x3A9697, 0x26B240, _CRC))  # names of tracks and codecs, settings
_WORDS: Final = {0x1254C367: "tags and places", 0x1941A469: "attachments"}


@dataclass(frozen=True, slots=True)
class _Element:
    number: int
    start: int
    inner: int
    end: int
    open_ended: bool  # it says no length: it ends where its parent does, or at the next of its kind


@dataclass(slots=True)
class _Film:
    source: Source
    found: Findings
    patches: list[tuple[int, Piece]]
    seen: int = 0
    scale: int = 1_000_000

    def inside(self, start: int, end: int) -> Iterator[_Element]:
        """The elements between two places. Those of one without a length are given after it, as if beside it."""
        at = start
        while at < end:
            self.seen += 1
            if self.seen > _MOST_ELEMENTS:
                raise MetadataError(f"this film has over {_MOST_ELEMENTS:,} elements")
            head = self.source.up_to(at, min(12, end - at))
            marker = _width(head, 0, 4, at)
            width = _width(head, marker, 8, at)
            number = int.from_bytes(head[:marker])
            length = int.from_bytes(head[marker : marker + width]) & (1 << 7 * width) - 1
            inner = at + marker + width
            open_ended = length == (1 << 7 * width) - 1
            if open_ended and number not in (_SEGMENT, _CLUSTER):
                raise _damaged(at)
            stop = end if open_ended else inner + length
            if stop > end:
                raise _damaged(at)
            yield _Element(number, at, inner, stop, open_ended)
            at = inner if open_ended else stop

    def drop(self, element: _Element) -> None:
        """Make it a void one of the same length."""
        whole = element.end - element.start
        if whole < 9:
            self.patches.append((element.start, bytes((_VOID, 0x80 | (whole - 2))) + bytes(whole - 2)))
        else:
            self.patches.append((element.start, bytes((_VOID, 1)) + (whole - 9).to_bytes(7)))
            self.patches.append((element.start + 9, Zeros(whole - 9)))


def strip_matroska(source: Source) -> Stripped:
    """Raises MetadataError: it is not a whole file of elements."""
    film = _Film(source, Findings(), [])
    has_tracks = False
    for element in film.inside(0, source.size):
        if element.number in (_HEADER, _SEGMENT):
            if element.number == _SEGMENT and not element.open_ended:
                has_tracks |= _strip_segment(film, element.inner, element.end)
        else:
            has_tracks |= _strip_one(film, element)
    if not has_tracks:
        raise MetadataError("this film names no tracks: it is damaged")
    film.found.left.add("what the encoder wrote into the stream itself")
    film.found.splice = patch(source.size, film.patches)
    return film.found.finish()


def _strip_segment(film: _Film, start: int, end: int) -> bool:
    return any([_strip_one(film, element) for element in film.inside(start, end)])


def _strip_one(film: _Film, element: _Element) -> bool:
    """One element of a segment; whether it names the tracks."""
    if element.number == _INFO:
        _strip_info(film, element)
    elif element.number == _TRACKS:
        _strip_tracks(film, element)
    elif element.number == _VOID:
        if element.end > element.inner:
            film.patches.append((element.inner, Zeros(element.end - element.inner)))
    elif element.number == _CHAPTERS:
        film.found.left.add("chapters")
    elif element.number not in (_SEEK, _CLUSTER, _CUES, _CRC) and element.number not in _IN_CLUSTER:
        film.drop(element)
        film.found.removed.add(_WORDS.get(element.number, "data of programs and cameras"))
    return element.number == _TRACKS


def _strip_info(film: _Film, info: _Element) -> None:
    length = 0.0
    for element in film.inside(info.inner, info.end):
        content = film.source.up_to(element.inner, min(8, element.end - element.inner))
        if element.number == _SCALE:
            film.scale = int.from_bytes(content)
        elif element.number == _DURATION and len(content) in (4, 8):
            (length,) = struct.unpack(">f" if len(content) == 4 else ">d", content)
        elif element.number in _APPLICATIONS:
            size = min(element.end - element.inner, 1 << 16)
            film.patches.append((element.inner, b" " * size))
            if element.end - element.inner > size:
                film.patches.append((element.inner + size, Zeros(element.end - element.inner - size)))
        elif element.number not in _INFO_KEPT:
            film.drop(element)
            film.found.removed.add("times and names")
    if 0 < length * film.scale < 1 << 70:
        film.found.duration_ms = min(int(length * film.scale / 1_000_000), 1 << 53)


def _strip_tracks(film: _Film, tracks: _Element) -> None:
    for entry in film.inside(tracks.inner, tracks.end):
        if entry.number != _ENTRY:
            film.drop(entry)
            continue
        for element in film.inside(entry.inner, entry.end):
            if element.number in _ENTRY_DROPPED:
                film.drop(element)
            elif element.number == _VIDEO and film.found.width is None:
                for size in film.inside(element.inner, element.end):
                    if size.number in (_WIDTH, _HEIGHT):
                        value = int.from_bytes(film.source.up_to(size.inner, min(4, size.end - size.inner)))
                        if size.number == _WIDTH:
                            film.found.width = value
                        else:
                            film.found.height = value


def _width(head: bytes, at: int, most: int, place: int) -> int:
    """How many bytes a number of variable width has, by its first one."""
    if at >= len(head) or not head[at]:
        raise _damaged(place)
    width = 9 - head[at].bit_length()
    if width > most or at + width > len(head):
        raise _damaged(place)
    return width


def _damaged(at: int) -> MetadataError:
    return MetadataError(f"this film is damaged at byte {at:,}")
