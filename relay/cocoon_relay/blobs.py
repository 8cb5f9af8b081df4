"""Blobs as files: one file for each ciphertext, named by its SHA-256, whole or not there at all.

An upload is written under `incoming/`, checked against its name, synced, renamed into `blobs/` and its folder synced;
only then does its row count (sqlite_store). Implements specs/relay.md §6.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
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


class BlobFiles:
    """The folders `blobs/` and `incoming/` of a data directory. All methods block: call them from a thread."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._blobs = data / "blobs"
        self._incoming = data / "incoming"

    def prepare(self) -> None:
        """Make the folders."""
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)

    def clear_incoming(self) -> None:
        """Remove uploads that a former process left; call only while no other process serves this directory."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)

    def sweep_incoming(self, older_than: float) -> None:
        """Remove uploads that nobody finished and that were last written before `older_than`, seconds since 1970."""
        for path in self._incoming.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < older_than:
                    path.unlink()

    def path_of(self, blob: BlobHash) -> Path:
        name = blob.hex()
        return self._blobs / name[:2] / name

    def new_upload(self) -> Path:
        return self._incoming / token_hex(16)

    def free_bytes(self) -> int:
        """Bytes that the disk has left."""
        return shutil.disk_usage(self._data).free

    def install(self, upload: Path, blob: BlobHash) -> None:
        """Give a checked and synced upload its name, durably.

        Raises:
            Refusal: the disk did not take it; the upload is left for its owner to remove.
        """
        target = self.path_of(blob)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            upload.replace(target)
            _sync_folder(target.parent)
            _sync_folder(self._blobs)
        except OSError as error:
            raise refuse_disk(error) from error

    def remove(self, blob: BlobHash) -> None:
        self.path_of(blob).unlink(missing_ok=True)

    def exists(self, blob: BlobHash) -> bool:
        return self.path_of(blob).is_file()

    def walk(self, older_than: float) -> Iterator[tuple[BlobHash, Path]]:
        """Files of blobs that were last written before `older_than`, seconds since 1970."""
        for folder in sorted(self._blobs.iterdir()):
            for path in sorted(folder.iterdir()):
                with suppress(OSError, ValueError):
                    if path.stat().st_mtime < older_than:
                        yield BlobHash(bytes.fromhex(path.name)), path


class Upload:
    """One upload on its way to disk: hashed while it is written, removed unless it was taken over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.size = 0

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
        """Sync the file and check that it is the blob it claims to be.

        Raises:
            Refusal: it is not, or the disk did not take it.
        """
        if self._hash.digest() != blob or self._file is None:
            raise Refusal(ErrorCode.BAD_HASH, "the bytes are not those that the name commits to")
        try:
            self._file.flush()
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
