"""The boxes that MP4, MOV, M4A, 3GP, HEIC and AVIF files are made of. Spec: specs/media.md §5."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.icc import clean_profile
from cocoon_core.vault.splicing import Piece, Source, Zeros

MOST_BOXES: Final = 200_000  # in one file; an hour of a fragmented film has some thousands


@dataclass(frozen=True, slots=True)
class Box:
    """One box by its places in the file: of its first byte, of its content, and behind its end."""

    name: bytes
    start: int
    inner: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.inner


@dataclass(slots=True)
class Boxes:
    """A file of boxes, what was blanked in it so far, and how many boxes were seen."""

    source: Source
    patches: list[tuple[int, Piece]] = field(default_factory=list)
    seen: int = 0

    def inside(self, start: int, end: int, *, whole_file: bool = False) -> Iterator[Box]:
        """The boxes between two places, in order.

        Raises:
            MetadataError: one is longer than what holds it, or there are too many.
        """
        at = start
        while at < end:
            self.seen += 1
            if self.seen > MOST_BOXES:
                raise MetadataError(f"this file has over {MOST_BOXES:,} boxes")
            head = self.source.up_to(at, min(16, end - at))
            if not whole_file and head in (bytes(4), bytes(8)) and end - at == len(head):
                return  # QuickTime ends some lists with a zero
            if len(head) < 8:
                raise self.damaged(at)
            size, name = struct.unpack_from(">I4s", head)
            inner = at + 8
            if size == 1 and len(head) == 16:
                (size,) = struct.unpack_from(">Q", head, 8)
                inner = at + 16
            elif size == 0 and whole_file:
                size = end - at
            if size < inner - at or at + size > end:
                raise self.damaged(at)
            yield Box(name, at, inner, at + size)
            at += size

    def content(self, box: Box) -> bytes:
        return self.source.at(box.inner, box.length)

    def blank(self, box: Box) -> None:
        """Make a box one of free space: nothing moves, nothing is left in it."""
        self.patches.append((box.start + 4, b"free"))
        self.zero(box.inner, box.end)

    def zero(self, start: int, end: int) -> None:
        if end > start:
            self.patches.append((start, Zeros(end - start)))

    def clean_colours(self, box: Box) -> None:
        """Put the same colours in the place of a profile, without its maker; free space where that has no room."""
        content = self.content(box)
        if content[:4] in (b"prof", b"rICC"):
            profile = clean_profile(content[4:])
            if profile is None or len(profile) > box.length - 4:
                self.blank(box)
            else:
                self.patches.append((box.inner + 4, profile + bytes(box.length - 4 - len(profile))))

    def damaged(self, at: int) -> MetadataError:
        return MetadataError(f"this file is damaged at byte {at:,}")
