"""A file seen with parts left out, put in or blanked, read without writing a copy of it anywhere.

Taking metadata out of a file gives a list of pieces: spans of the file itself, new bytes, zeros. A `SplicedFile` reads
as what they make together, so the sealing reads a stripped film of any size in bounded memory, and no plain copy of it
ever lies on the disk. What to leave out is decided by the modules of each format. Spec: specs/media.md §3.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO, Final

from cocoon_core.errors import MetadataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_PART_BYTES: Final = 64 * 1024 * 1024  # of a file that are looked at in one go; no honest header is as long


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the source, from `start` on."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Zeros:
    length: int


Piece = Span | Zeros | bytes


class Source:
    """A file of this device that is looked at in small parts, by their places."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def at(self, start: int, length: int) -> bytes:
        """Exactly these bytes.

        Raises:
            MetadataError: the file ends before, or nobody reads so much at once.
        """
        if start < 0 or not 0 <= length <= MAX_PART_BYTES:
            raise MetadataError(f"a part of {length:,} bytes at byte {start:,} is longer than any that is known")
        part = self.up_to(start, length)
        if len(part) != length:
            raise MetadataError(f"this file is damaged: it ends in the middle of a part, at byte {self.size:,}")
        return part

    def up_to(self, start: int, length: int) -> bytes:
        """These bytes, or those of them that there are."""
        if start >= self.size:
            return b""
        self._file.seek(start)
        return self._file.read(min(length, self.size - start))


def length_of(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.length


@dataclass(slots=True)
class Splice:
    """The pieces of a file, put together from its beginning to its end."""

    pieces: list[Piece] = field(default_factory=list)
    size: int = 0

    def keep(self, start: int, end: int) -> None:
        """Bytes of the source from `start` up to `end`, which continue the span before where they can."""
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, Span) and last.start + last.length == start:
            self.pieces[-1] = Span(last.start, last.length + end - start)
        elif end > start:
            self.pieces.append(Span(start, end - start))
        self.size += max(0, end - start)

    def put(self, new: bytes) -> None:
        if new:
            self.pieces.append(new)
        self.size += len(new)

    def blank(self, length: int) -> None:
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, Zeros):
            self.pieces[-1] = Zeros(last.length + length)
        elif length > 0:
            self.pieces.append(Zeros(length))
        self.size += max(0, length)

    def extend(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Span):
                self.keep(piece.start, piece.start + piece.length)
            elif isinstance(piece, Zeros):
                self.blank(piece.length)
            else:
                self.put(piece)


def patch(size: int, patches: Iterable[tuple[int, Piece]]) -> Splice:
    """A file of `size` bytes with parts of it replaced in their places, so that nothing moves.

    Raises:
        MetadataError: two of them overlap, or one lies outside: the file says two things of the same bytes.
    """
    splice = Splice()
    at = 0
    for start, piece in sorted(patches, key=lambda one: one[0]):
        if start < at or start + length_of(piece) > size:
            raise MetadataError(f"this file is damaged: two parts of it overlap, at byte {start:,}")
        splice.keep(at, start)
        splice.extend([piece])
        at = start + length_of(piece)
    splice.keep(at, size)
    return splice


class SplicedFile(io.RawIOBase):
    """The pieces of a source as one readable, seekable file. It closes the source with itself."""

    def __init__(self, source: BinaryIO, pieces: Iterable[Piece]) -> None:
        super().__init__()
        self._source = source
        self._pieces = list(pieces)
        self._ends = list(accumulate(map(length_of, self._pieces)))
        self.size = self._ends[-1] if self._ends else 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer as far as there are bytes.

        Raises:
            OSError: the source has become shorter meanwhile.
        """
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self.size:
            number = bisect_right(self._ends, self._at)
            piece = self._pieces[number]
            inside = self._at - (self._ends[number] - length_of(piece))
            wanted = min(len(view) - filled, length_of(piece) - inside)
            if isinstance(piece, Span):
                self._source.seek(piece.start + inside)
                part = self._source.read(wanted)
                if not part:
                    raise OSError("the file was changed while it was read")
            else:
                part = bytes(wanted) if isinstance(piece, Zeros) else piece[inside : inside + wanted]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
