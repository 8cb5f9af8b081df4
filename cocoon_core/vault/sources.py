"""What a file is sealed from: a file on disk, or bytes in memory.

A file is read by several threads at once and in any order, and may change while it is: whoever seals asks at the end of
each part whether it did.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from cocoon_core.errors import FileChangedError, LocalStateError, UsageError
from cocoon_core.protocol.constants import MAX_FILE_BYTES
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.vault_file import digest_file, digest_places
from cocoon_core.storage.paths import convert_os_error
from cocoon_core.storage.positioned import open_descriptor, read_at

NOWHERE: Final = b""  # the identity of what is gone with this process
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Source(Protocol):
    """Bytes that stay as they are until they were sealed, or say that they did not.

    Attributes:
        identity: the same for the same bytes when the process runs again, so that sealing goes on; `NOWHERE` if it
            cannot.
    """

    @property
    def size(self) -> int: ...

    @property
    def identity(self) -> bytes: ...

    def read(self, start: int, length: int) -> bytes:
        """Exactly so many bytes from there on. From any thread.

        Raises:
            FileChangedError: there are fewer.
            UsageError: it cannot be read.
        """
        ...

    def require_unchanged(self) -> None:
        """Raises:
        FileChangedError: it is not what it was when it was opened.
        """
        ...

    def close(self) -> None: ...


class BytesSource:
    """Bytes in memory, for example of an image whose metadata was stripped."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def identity(self) -> bytes:
        return NOWHERE

    def read(self, start: int, length: int) -> bytes:
        return self._data[start : start + length]

    def require_unchanged(self) -> None:
        pass

    def close(self) -> None:
        pass


class FileSource:
    """A file on disk. Its identity is where it is, what it is, its size and when it was changed.

    Raises:
        UsageError: it is no regular file, too large, or cannot be read.
        LocalStateError: this process can open no more files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        try:
            # Not to wait for a writer where it is a pipe: that is refused below.
            self._descriptor = open_descriptor(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise explain_unread(error, str(path)) from error
        try:
            self._seen = self._look()
            if not stat.S_ISREG(self._seen.st_mode):
                raise UsageError(f"this is not a file: {path}")
            if self._seen.st_size > MAX_FILE_BYTES:
                raise UsageError(f"{path} has {self._seen.st_size} bytes; {MAX_FILE_BYTES} are the most")
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def size(self) -> int:
        return self._seen.st_size

    @property
    def identity(self) -> bytes:
        seen = self._seen
        times = [seen.st_mtime_ns, seen.st_ctime_ns]
        return encode([os.fsencode(self._path), seen.st_size, *times, seen.st_dev % 2**63, seen.st_ino % 2**63])

    def read(self, start: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(start, memoryview(data))
        return bytes(data)

    def read_into(self, start: int, into: memoryview) -> None:
        """`read` into memory that the caller has."""
        try:
            if read_at(self._descriptor, into, start) < len(into):
                raise self._changed()
        except OSError as error:
            raise explain_unread(error, str(self._path)) from error

    def require_unchanged(self) -> None:
        now, seen = self._look(), self._seen
        if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns):
            raise self._changed()

    def close(self) -> None:
        os.close(self._descriptor)

    def _look(self) -> os.stat_result:
        try:
            return os.fstat(self._descriptor)
        except OSError as error:
            raise explain_unread(error, str(self._path)) from error

    def _changed(self) -> FileChangedError:
        return FileChangedError(f"{self._path} was changed while it was read; add it again when nothing writes to it")


def explain_unread(error: OSError, name: str) -> UsageError | LocalStateError:
    """Our error for what the system says of a file of the user's: that keeps no other file from being added.

    Only where this process or machine is at its end is it one of this device.
    """
    if error.errno in _EXHAUSTED:
        return convert_os_error(error, name)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return UsageError(f"there is no file {name}")
    if isinstance(error, PermissionError):
        return UsageError(f"this file may not be read: {name}")
    return UsageError(f"this file cannot be read ({error.strerror or type(error).__name__}): {name}")


def read_into(source: Source, start: int, into: memoryview) -> None:
    """Fill memory with the bytes from there on. Raises as `Source.read`."""
    if isinstance(source, FileSource):
        source.read_into(start, into)
    else:
        into[:] = source.read(start, len(into))


def digest_source(group: GroupId, source: Source) -> bytes:
    """The digest by which the same file is found again in this group. Reads a mebibyte at most."""
    sample = b"".join(source.read(start, length) for start, length in digest_places(source.size))
    return digest_file(group, source.size, sample)
