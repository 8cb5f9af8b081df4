"""A file of one's own that is sealed without its metadata: a `Source` over the pieces that are left of it.

No copy of it is written anywhere: each read finds its pieces in the file itself. Like every source it is read by
several threads at once and says where it was changed meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from cocoon_core.protocol.primitives import sha256
from cocoon_core.vault.preparing import Prepared
from cocoon_core.vault.sources import FileSource
from cocoon_core.vault.splicing import Piece, Span, Zeros, length_of


class SplicedSource:
    """The bytes of a prepared file. Close it.

    Raises:
        UsageError: it is gone, or is no file any more.
        FileChangedError: it was changed since it was prepared.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._file = FileSource(prepared.path)
        self._pieces = prepared.content.pieces
        self._ends = list(accumulate(map(length_of, self._pieces)))
        try:
            prepared.open().close()  # is it still what was looked at?
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def identity(self) -> bytes:
        """Of the file, and of how it is cut: another version of Cocoon may leave out something else."""
        return self._file.identity + sha256(repr(self._pieces).encode())

    def read(self, start: int, length: int) -> bytes:
        parts, at, end = [], start, start + length
        while at < end:
            number = bisect_right(self._ends, at)
            if number == len(self._pieces):
                break
            piece = self._pieces[number]
            inside = at - (self._ends[number] - length_of(piece))
            part = self._read_piece(piece, inside, min(end - at, length_of(piece) - inside))
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_piece(self, piece: Piece, inside: int, length: int) -> bytes:
        if isinstance(piece, Span):
            return self._file.read(piece.start + inside, length)
        return bytes(length) if isinstance(piece, Zeros) else piece[inside : inside + length]

    def require_unchanged(self) -> None:
        self._file.require_unchanged()

    def close(self) -> None:
        self._file.close()
