"""Where the local socket of a profile stands, and who may use it. Implements specs/local-socket.md §1.

In the profile's home, or, where that path is too long for a socket, in a folder of its own that a file in the home
names. Whoever claims the place holds the profile's lock, so a socket that is there already is of a process that ended.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

from cocoon_core.errors import LocalStateError

SOCKET_NAME = "profile.sock"
POINTER_NAME = "profile.sock.path"  # holds the path of the socket where that cannot be in the home
MAX_PATH_BYTES = 100  # systems allow 104 to 108 with the byte that ends it
FOLDER_PREFIX = "cocoon-"


class SocketPlace:
    """A socket that others of this user can connect to, until `release`."""

    def __init__(self, listening: socket.socket, made: list[Path]) -> None:
        self.listening = listening
        self._made = made

    @classmethod
    def claim(cls, home: Path) -> SocketPlace:
        """Listen at this profile's place. Only who holds the profile may.

        Raises:
            LocalStateError: this system has no such sockets, or the file cannot be made.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise LocalStateError("this system has no local sockets that Cocoon can use")
        made: list[Path] = []
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_leftovers(home)
            path = home / SOCKET_NAME
            if not _fits(path):
                path = _make_folder(made) / SOCKET_NAME
                made.insert(0, home / POINTER_NAME)
                _write_private(home / POINTER_NAME, os.fsencode(path))
            made.insert(0, path)
            _bind(listening, path)
            return cls(listening, made)
        except OSError as error:
            listening.close()
            _remove(made)
            raise LocalStateError(f"no local socket can be made here ({type(error).__name__})") from error

    def release(self) -> None:
        """Remove what was made."""
        self.listening.close()
        _remove(self._made)


def connect(home: Path, seconds: float) -> socket.socket | None:
    """A connection to the process that holds this profile; None where none of this user listens."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    path = _read_pointer(home) or home / SOCKET_NAME
    if not _fits(path):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(os.fspath(path))
        if is_same_user(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def is_same_user(connection: socket.socket) -> bool:
    """Whether the other end is of this user, where the system tells; elsewhere the file's mode alone says so."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.geteuid())


def _bind(listening: socket.socket, path: Path) -> None:
    before = os.umask(0o177)  # the file has its mode from the moment it is made
    try:
        listening.bind(os.fspath(path))
    finally:
        os.umask(before)
    listening.listen()
    listening.setblocking(False)


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def _make_folder(made: list[Path]) -> Path:
    """A fresh folder with mode 0700 and a short path."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        if base and _fits(Path(base) / f"{FOLDER_PREFIX}12345678" / SOCKET_NAME):
            with suppress(OSError):
                folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
                made.insert(0, folder)
                return folder
    raise OSError("no folder with a short path")


def _write_private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _read_pointer(home: Path) -> Path | None:
    """The place that the pointer names, if it is a folder that only this user can use."""
    try:
        raw = (home / POINTER_NAME).read_bytes()[: MAX_PATH_BYTES + 1]
        path = Path(os.fsdecode(raw))
        status = path.parent.lstat()
    except (OSError, ValueError):
        return None
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700 and status.st_uid == os.geteuid()
    ours = path.name == SOCKET_NAME and path.parent.name.startswith(FOLDER_PREFIX)
    return path if private and ours else None


def _remove_leftovers(home: Path) -> None:
    """What a process left that was killed."""
    pointed = _read_pointer(home)
    _remove([home / SOCKET_NAME, home / POINTER_NAME] + ([pointed, pointed.parent] if pointed else []))


def _remove(made: list[Path]) -> None:
    for path in made:
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
