"""One process at a time holds a profile. Implements specs/storage.md §1.

The lock is the system's, on `profile.lock`: it goes with the process, however that ends. The file stays, with the
number of the process that held it last, for the message alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from cocoon_core.errors import LocalStateError, ProfileLockedError
from cocoon_core.storage.paths import convert_os_error

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE: Final = 1 << 20  # Windows bars others from a locked byte; beyond the text, they can still read that
_MAX_TEXT: Final = 32  # bytes


class ProfileLock:
    """The right to use one profile, held from `acquire` to `release`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path) -> ProfileLock:
        """Take the lock at once or not at all.

        Raises:
            ProfileLockedError: another process has it, or this one has it already.
            LocalStateError: the file cannot be made, or its file system has no locks.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise convert_os_error(error, path.name) from error
        try:
            if not _try_lock(descriptor):
                raise ProfileLockedError(_describe_holder(descriptor))
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            os.close(descriptor)
            raise convert_os_error(error, path.name) from error
        except LocalStateError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    try:
        # flock, not lockf: it also keeps out a second use within this process, and closing some other handle of the
        # file does not drop it.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe_holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, _MAX_TEXT).strip()
    if not text.isdigit():
        return "another process has this profile open; end it, or use another --home"
    if int(text) == os.getpid():
        return "this process has this profile open already"
    return f"process {int(text)} has this profile open; end it, or use another --home"
