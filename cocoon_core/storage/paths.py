"""Where a profile lives, and the careful handling of its small files. Implements specs/storage.md §1.

Decides the home directory, the names in it and their permissions, and turns the system's errors into ours. What the
files say is left to `keyfile`, `lock` and `database`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from cocoon_core.errors import LocalStateError, ProfileDamagedError, StorageFullError, UsageError

HOME_VARIABLE: Final = "COCOON_HOME"
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


@dataclass(frozen=True, slots=True)
class ProfilePaths:
    """The files of the profile in one home directory."""

    home: Path

    @property
    def database(self) -> Path:
        return self.home / "profile.db"

    @property
    def database_new(self) -> Path:
        """A database whose profile is still being made."""
        return self.home / "profile.db.new"

    @property
    def key(self) -> Path:
        """How the database key is kept. The profile exists if and only if this file does."""
        return self.home / "profile.key"

    @property
    def lock(self) -> Path:
        return self.home / "profile.lock"


def resolve_home(home: str | os.PathLike[str] | None = None) -> Path:
    """The home directory: the argument, else COCOON_HOME, else the platform's directory for a user's data."""
    chosen = home if home is not None else os.environ.get(HOME_VARIABLE) or None
    if chosen is None:
        return platformdirs.user_data_path("cocoon", appauthor=False)
    return Path(chosen).expanduser().absolute()


def require_not_of_profile(home: Path, path: Path) -> None:
    """What a user has written out never takes the place of a file of the profile, whatever they say.

    Raises:
        UsageError: it has the name of one.
    """
    if home.resolve() / "vault" in path.resolve().parents:
        raise UsageError(f"{path} is where this profile keeps its files encrypted; take another folder")
    if path.name.casefold().startswith("profile.") and path.parent.resolve() == home.resolve():
        raise UsageError(f"{path} is where this profile itself is kept; take another folder")


def make_home(home: Path) -> None:
    """Make the home directory, for its owner alone. One that already holds other things keeps its mode.

    Raises:
        StorageFullError, LocalStateError: it cannot be made.
    """
    try:
        home.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        if not any(home.iterdir()):
            home.chmod(_DIRECTORY_MODE)
    except OSError as error:
        raise convert_os_error(error, "the home directory") from error


def open_for_owner(path: str, flags: int) -> int:
    """What `open` is given to make files that only their owner may read, with the flags that it knows to be needed."""
    return os.open(path, flags, _FILE_MODE)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner may read; there must be none yet."""
    try:
        open(path, "xb", opener=open_for_owner).close()
    except OSError as error:
        raise convert_os_error(error, path.name) from error


def write_private(path: Path, data: bytes) -> None:
    """Replace a file whole, for its owner alone: after a crash it holds the old bytes or the new ones, durably."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        with open(fresh, "xb", opener=open_for_owner) as file:
            file.write(data)
            file.flush()
            sync_descriptor(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise convert_os_error(error, path.name) from error
    rename(fresh, path)


def read_private(path: Path, max_bytes: int) -> bytes:
    """Read a small file.

    Raises:
        ProfileDamagedError: it is larger than it can be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise convert_os_error(error, path.name) from error
    if len(data) > max_bytes:
        raise ProfileDamagedError(f"{path.name} is over {max_bytes} bytes")
    return data


def rename(source: Path, target: Path) -> None:
    """Rename within the home directory, durably."""
    try:
        source.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise convert_os_error(error, target.name) from error


def remove(path: Path) -> None:
    """Remove a file, if there is one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise convert_os_error(error, path.name) from error


def exists(path: Path) -> bool:
    """Whether there is such a file. A directory that may not be searched is an error, not an absence."""
    return measure(path) >= 0


def measure(path: Path) -> int:
    """The size of a file in bytes, or -1 if there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError as error:
        raise convert_os_error(error, path.name) from error


def convert_os_error(error: OSError, what: str) -> LocalStateError:
    """Our error for one of the system: StorageFullError where the disk is full or cannot be written."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    if error.errno in _CANNOT_WRITE:
        return StorageFullError(f"{what}: the disk is read-only or full ({name}); nothing was changed")
    return LocalStateError(f"{what} cannot be used ({name})")


def sync_descriptor(descriptor: int) -> None:
    """Have the disk itself keep what was written to an open file."""
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS leaves the bytes in the drive's own cache.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Have the disk itself keep the names in a directory."""
    if sys.platform == "win32":
        return  # a directory has no handle to flush there; NTFS journals its names
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)
