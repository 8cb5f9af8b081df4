"""What the writers of an archive share: files for their owner alone, harmless names, times as text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

_FILE_MODE: Final = 0o600


def stamp(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def slug(name: str) -> str:
    """A part of a file's name that is harmless on every system."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(filter(None, letters.split("-")))[:40].strip("-") or "unnamed"


def month_title(month: str) -> str:
    """`September 2026`."""
    return f"{datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC):%B} {int(month[:4])}"


def open_private(path: Path) -> TextIO:
    """A new file for its owner alone, to be written to."""

    def open_for_owner(name: str, flags: int) -> int:
        return os.open(name, flags, _FILE_MODE)

    return open(path, "x", encoding="utf-8", errors="replace", newline="\n", opener=open_for_owner)


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    with open_private(path) as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """A whole file, for its owner alone."""
    with writing(path) as file:
        file.write(text)
