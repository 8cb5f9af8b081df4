"""A blob on its way in: written to a file of its own while it is hashed, and not a blob before the hash was checked.

So a slow or lying client costs a file and no memory, whatever the blob store is. Implements specs/relay.md §6.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final

from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.refusal import Refusal

_NO_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE}


def refuse_disk(error: OSError) -> Refusal:
    """What a client is told when the disk did not take its bytes."""
    if error.errno in _NO_DESCRIPTORS:
        return Refusal(ErrorCode.BUSY, "the relay has too many files open", retry_after_ms=5_000)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
    return Refusal(ErrorCode.FULL, "the relay's disk cannot be written", retry_after_ms=60_000)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that is there after a power cut: what is durable in it has a name. Blocks."""
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    # Also where it was there: whoever made it may have died before this.
    with suppress(PermissionError):  # of a parent that is not ours, which somebody else has made
        sync_path(folder.parent)


def sync_path(path: Path) -> None:
    """Make a file's bytes durable, or the names in a folder. Blocks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Upload:
    """One upload on its way to the blob store, removed unless it was taken over. Its methods block.

    Attributes:
        is_taken: the file has become the blob, and nothing is left to be discarded.
    """

    def __init__(self, path: Path, *, synced: bool) -> None:
        self.path = path
        self._synced = synced  # whether the file itself is to become the blob
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.size = 0
        self.is_taken = False

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            Refusal: the disk did not take them.
        """
        try:
            if self._file is None:
                self._file = self.path.open("xb")
            self._file.write(chunk)
        except OSError as error:
            raise refuse_disk(error) from error
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self, blob: BlobHash) -> None:
        """Check that the file is the blob it claims to be, whole and, if that matters, on the disk.

        Raises:
            Refusal: it is not, or the disk did not take it.
        """
        if self._hash.digest() != blob or self._file is None:
            raise Refusal(ErrorCode.BAD_HASH, "the bytes are not those that the name commits to")
        try:
            self._file.flush()
            if self._synced:
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise refuse_disk(error) from error

    def discard(self) -> None:
        """Let go of the file, and remove it if nobody took it over."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class Incoming:
    """The folder of uploads in progress. Its methods block."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self.folder = folder
        self._synced = synced

    def prepare(self, *, alone: bool) -> None:
        """Make the folder; if no other process uses it, remove what a former one left."""
        make_folder(self.folder)
        if alone:
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)

    def begin(self) -> Upload:
        return Upload(self.folder / token_hex(16), synced=self._synced)

    def sweep(self, before: float) -> None:
        """Remove uploads that nobody finished and that were last written before `before`, seconds since 1970."""
        for path in self.folder.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
