"""The disk under a relay's data: every call that changes it is seen, can fail, and can be undone by a power cut.

`RelayDisk` stands under SQLite (sqlite_layer) and under the files of blobs at once, so that one list of events holds
the order between a blob's bytes and its row. `DiskImage` replays them to what a disk may hold when the power goes:

- bytes of a file count once it was synced; before, any of its sectors may be there and any not;
- a name counts once its folder was synced, or the file itself, as with every journalling file system; before, it may
  be there or not;
- after a sync that failed the cache calls those bytes clean: no later sync writes them, and reads still show them.
  Names are journalled: a later sync of the folder brings them.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, BinaryIO, Final
from unittest import mock

from tests.support.sqlite_layer import watch_sqlite
from tests.support.torn_writes import DiskEvent, apply_write, split_write

_FOLDER: Final = -1  # an inode of no file
_CODES: Final = {
    "open": sqlite3.SQLITE_CANTOPEN,
    "create": sqlite3.SQLITE_CANTOPEN,
    "read": sqlite3.SQLITE_IOERR_READ,
    "write": sqlite3.SQLITE_IOERR_WRITE,
    "truncate": sqlite3.SQLITE_IOERR_TRUNCATE,
    "sync": sqlite3.SQLITE_IOERR_FSYNC,
    "delete": sqlite3.SQLITE_IOERR_DELETE,
}


@dataclass(frozen=True, slots=True)
class Event(DiskEvent):
    """One call that changed the disk. `kind` is create, write, truncate, sync, unsynced (a sync that failed), delete,
    rename, mkdir, syncdir or mark.
    """

    target: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What one call meets: an error number; of a write `keeps` of the bytes arrive all the same."""

    number: int
    keeps: float = 0.0


class RelayDisk:
    """Everything under `root`. Nothing waits for the real disk, so a test may sync as often as a relay does."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.events: list[Event] = []
        self.calls: list[str] = []  # kinds of the calls that could have failed
        self.fail: Callable[[int, str], Fault | None] = lambda number, kind: None
        self._new_logs: set[str] = set()
        self._lock = Lock()

    @contextmanager
    def watched(self) -> Iterator[RelayDisk]:
        """Within, this process reaches its files through this."""
        with watch_sqlite(self), ExitStack() as patches:
            for module, name, own in (
                (io, "open", self._open_file),
                (os, "fsync", self._fsync),
                (os, "mkdir", self._mkdir),
                (os, "replace", self._replace),
                (os, "unlink", self._unlink),
            ):
                patches.enter_context(mock.patch.object(module, name, own(getattr(module, name))))
            yield self

    def mark(self, number: int) -> None:
        """Note between the events that `number` things have been acknowledged."""
        self.events.append(Event("mark", offset=number))

    # --- under SQLite

    def called(self, kind: str, path: Path, offset: int = 0, data: bytes = b"") -> tuple[int, int]:
        name = self._name(path)
        if name is None:
            return sqlite3.SQLITE_OK, 0
        fault = self._pass(kind)
        if fault is None:
            if kind not in ("open", "read") and not name.endswith("-shm"):
                self.events.append(Event(kind, name, offset, data))
                if kind == "create" and name.endswith(("-wal", "-journal")):
                    self._new_logs.add(name)
                # SQLite syncs the folder with the first sync of a log that it has made, and with some deletions.
                if (kind == "delete" and offset) or (kind == "sync" and name in self._new_logs):
                    self._new_logs.discard(name)
                    self.events.append(Event("syncdir", os.path.dirname(name)))
            return sqlite3.SQLITE_OK, 0
        if kind == "sync":
            self.events.append(Event("unsynced", name))
        kept = int(len(data) * fault.keeps)
        if kept:
            self.events.append(Event("write", name, offset, data[:kept]))
        full = fault.number == errno.ENOSPC and kind == "write"
        return (sqlite3.SQLITE_FULL if full else _CODES[kind]), kept

    # --- under the files of blobs

    def require(self, kind: str, name: str, data: bytes = b"") -> int:
        """Note a call, or raise; how much of the data is to be written."""
        fault = self._pass(kind)
        if fault is None:
            return len(data)
        if kind == "sync":
            self.events.append(Event("unsynced", name))
        kept = int(len(data) * fault.keeps)
        if kept:
            return kept
        raise OSError(fault.number, os.strerror(fault.number), name)

    def _open_file(self, real: Any) -> Any:
        def open_file(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            name = self._name(file)
            if name is None or "r" in mode:
                return real(file, mode, *rest, **named)
            assert mode == "xb", f"{mode} is not watched"
            self.require("create", name)
            raw = _WatchedFile(self, name, os.fspath(file))
            self.events.append(Event("create", name))
            opened: BinaryIO = io.BufferedWriter(raw)
            return opened

        return open_file

    def _fsync(self, real: Any) -> Any:
        def fsync(descriptor: int) -> None:
            name = self._name(os.readlink(f"/proc/self/fd/{descriptor}"))
            if name is None:
                real(descriptor)
                return
            kind = "syncdir" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync"
            self.require(kind, name)
            self.events.append(Event(kind, name))

        return fsync

    def _mkdir(self, real: Any) -> Any:
        def mkdir(path: Any, *rest: Any, **named: Any) -> None:
            name = self._name(path)
            if name is not None and not os.path.isdir(path):
                self.require("mkdir", name)
            real(path, *rest, **named)
            if name is not None:
                self.events.append(Event("mkdir", name))

        return mkdir

    def _replace(self, real: Any) -> Any:
        def replace(source: Any, target: Any) -> None:
            name, new = self._name(source), self._name(target)
            if name is not None and new is not None:
                self.require("rename", name)
            real(source, target)
            if name is not None and new is not None:
                self.events.append(Event("rename", name, target=new))

        return replace

    def _unlink(self, real: Any) -> Any:
        def unlink(path: Any, *rest: Any, **named: Any) -> None:
            name = self._name(path)
            if name is not None and os.path.exists(path):
                self.require("delete", name)
            real(path, *rest, **named)
            if name is not None:
                self.events.append(Event("delete", name))

        return unlink

    def _pass(self, kind: str) -> Fault | None:
        with self._lock:
            self.calls.append(kind)
            return self.fail(len(self.calls) - 1, kind)

    def _name(self, path: Any) -> str | None:
        """A path below the root, which is "" itself; None elsewhere."""
        text = os.path.abspath(os.fspath(path)) if not isinstance(path, int) else ""
        if text == str(self.root):
            return ""
        prefix = f"{self.root}{os.sep}"
        return text.removeprefix(prefix) if text.startswith(prefix) else None


class _WatchedFile(io.FileIO):
    def __init__(self, disk: RelayDisk, name: str, path: str) -> None:
        super().__init__(path, "xb")
        self._disk = disk
        self._watched = name

    def write(self, data: Any) -> int:
        raw = bytes(data)
        at = self.tell()
        kept = raw[: self._disk.require("write", self._watched, raw)]
        written = super().write(kept)
        self._disk.events.append(Event("write", self._watched, at, kept))
        return written


@dataclass(slots=True)
class DiskImage:
    """What is durable after the events that it was fed, in order."""

    chance: Random
    contents: dict[int, bytes] = field(default_factory=dict)  # by inode
    waiting: dict[int, list[Event]] = field(default_factory=dict)  # what was not synced yet, by inode
    names: dict[str, int] = field(default_factory=dict)  # that are durable
    seen: dict[str, int] = field(default_factory=dict)  # that programs see
    moves: list[tuple[str, str, int]] = field(default_factory=list)  # from, to and inode of names not synced yet
    inodes: int = 0

    def feed(self, event: Event) -> None:
        path = event.name
        match event.kind:
            case "create":
                self.inodes += 1
                self.seen[path] = self.inodes
                self.moves.append(("", path, self.inodes))
            case "mkdir":
                self.seen[path] = _FOLDER
                self.moves.append(("", path, _FOLDER))
            case "write" | "truncate":
                self.waiting.setdefault(self.seen[path], []).append(event)
            case "sync":
                inode = self.seen[path]
                self.contents[inode] = _change(self.contents.get(inode, b""), self.waiting.pop(inode, []))
                self._settle(lambda name: name == path)
            case "unsynced":
                inode = self.seen[path]
                self.contents[inode] = self._fall_short(inode)
                self.waiting.pop(inode, None)
            case "rename":
                inode = self.seen.pop(path)
                self.seen[event.target] = inode
                self.moves.append((path, event.target, inode))
            case "delete":
                inode = self.seen.pop(path)
                self.moves.append((path, "", inode))
            case "syncdir":
                self._settle(lambda name: os.path.dirname(name) == path)

    def cut_power(self, into: Path) -> None:
        """Make the files that may be there if the power goes now."""
        names = dict(self.names)
        for move in self.moves:
            if self.chance.random() < 0.5:
                _move(names, move)
        into.mkdir(parents=True)
        for name, inode in sorted(names.items()):
            if not all(names.get(str(parent)) == _FOLDER for parent in Path(name).parents if str(parent) != "."):
                continue
            if inode == _FOLDER:
                (into / name).mkdir()
            else:
                (into / name).write_bytes(self._fall_short(inode))

    def _settle(self, concerns: Callable[[str], bool]) -> None:
        left = []
        for move in self.moves:
            if concerns(move[0]) or concerns(move[1]):
                _move(self.names, move)
            else:
                left.append(move)
        self.moves = left

    def _fall_short(self, inode: int) -> bytes:
        """The content of a file of which any sectors that wait are there and any not."""
        parts = [part for event in self.waiting.get(inode, []) for part in split_write(event)]
        return _change(self.contents.get(inode, b""), [part for part in parts if self.chance.random() < 0.5])


def _move(names: dict[str, int], move: tuple[str, str, int]) -> None:
    before, after, inode = move
    if before and names.get(before) == inode:
        del names[before]
    if after:
        names[after] = inode


def _change(before: bytes, events: list[Event]) -> bytes:
    content = bytearray(before)
    for event in events:
        apply_write(content, event)
    return bytes(content)
