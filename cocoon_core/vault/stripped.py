"""What taking metadata out of a file comes to: the value that every format's module gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from cocoon_core.vault.exif import UPRIGHT, is_turned
from cocoon_core.vault.splicing import Piece, Splice


@dataclass(frozen=True, slots=True)
class Stripped:
    """The pieces of a file without its metadata, and what was seen on the way.

    `width` and `height` are as shown, `duration_ms` of films and sound; None where they are not known. `removed` and
    `left` are sorted words for people: what was taken out, and what this format may hold that was not. `clean` is False
    where nothing was looked into at all.
    """

    pieces: tuple[Piece, ...]
    size: int
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    orientation: int = UPRIGHT
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    clean: bool = True


@dataclass(slots=True)
class Findings:
    """A `Stripped` while it is being made."""

    splice: Splice = field(default_factory=Splice)
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    orientation: int = UPRIGHT
    removed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)

    def finish(self) -> Stripped:
        width, height = (self.height, self.width) if is_turned(self.orientation) else (self.width, self.height)
        return Stripped(
            tuple(self.splice.pieces),
            self.splice.size,
            width or None,
            height or None,
            self.duration_ms,
            self.orientation,
            tuple(sorted(self.removed)),
            tuple(sorted(self.left)),
        )
