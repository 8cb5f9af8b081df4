"""Reading and writing an open file at a place, from several threads at once.

Where the system has no such calls, as Windows, one place is sought at a time, under a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

_KIND: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_SEEKING: Final = Lock()


def open_descriptor(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file of bytes that no child process inherits."""
    return os.open(path, flags | _KIND, mode)


def read_at(descriptor: int, into: memoryview, start: int) -> int:
    """Fill memory with what stands at `start`; how many bytes, which are fewer only where the file ends.

    Raises:
        OSError: it cannot be read.
    """
    left = into
    while left and (count := _read(descriptor, left, start)):
        left, start = left[count:], start + count
    return len(into) - len(left)


def write_at(descriptor: int, data: bytes | bytearray | memoryview, start: int) -> None:
    """Write all of it there. It is durable after a sync.

    Raises:
        OSError: the disk does not take it; some of it may be written.
    """
    left = memoryview(data)
    while left:
        count = _write(descriptor, left, start)
        left, start = left[count:], start + count


def _seek_and_read(descriptor: int, into: memoryview, start: int) -> int:
    with _SEEKING:
        os.lseek(descriptor, start, os.SEEK_SET)
        data = os.read(descriptor, len(into))
    into[: len(data)] = data
    return len(data)


def _seek_and_write(descriptor: int, data: memoryview, start: int) -> int:
    with _SEEKING:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.write(descriptor, data)


def _read_in_place(descriptor: int, into: memoryview, start: int) -> int:
    return os.preadv(descriptor, [into], start)


_read: Callable[[int, memoryview, int], int] = _read_in_place if hasattr(os, "preadv") else _seek_and_read
_write: Callable[[int, memoryview, int], int] = getattr(os, "pwrite", _seek_and_write)
