"""A file layer for SQLite that stands under the encryption, sees every call that reaches the disk, and can fail it.

`WatchedDisk` forwards to the real file system. With `fail` it answers as a full or broken disk would; with `events` it
can rebuild what a disk may hold after the power went (`after_power_loss`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import apsw

from tests.support.torn_writes import DiskEvent, apply_write, split_write

_numbers = itertools.count()


class WatchedDisk(apsw.VFS):
    """Give `vfs_name` to `Database.open`. `calls` counts every call that could fail, reads included."""

    def __init__(self) -> None:
        self.vfs_name = f"watched{next(_numbers)}"
        super().__init__(self.vfs_name, "unix")
        self.events: list[DiskEvent] = []  # of kind open, write, truncate, sync, delete or mark
        self.opened_flags: list[int] = []
        self.calls = 0
        self.fail: Callable[[int, str], Exception | None] = lambda number, kind: None

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        base = Path(text).name if text else ""
        self.note("open", base)
        self.opened_flags.append(flags[0])
        return WatchedFile(self, base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.note("delete", Path(filename).name)
        super().xDelete(filename, syncdir)

    def mark(self, data: bytes) -> None:
        """Put a mark of the test's own between the events."""
        self.events.append(DiskEvent("mark", "", 0, data))

    def note(self, kind: str, name: str, offset: int = 0, data: bytes = b"") -> None:
        number = self.calls
        self.calls += 1
        error = self.fail(number, kind)
        if error is not None:
            raise error
        if kind != "read":
            self.events.append(DiskEvent(kind, name, offset, data))


class WatchedFile(apsw.VFSFile):
    def __init__(self, disk: WatchedDisk, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk, self.base = disk, base
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self.disk.note("read", self.base, offset)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.note("write", self.base, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self.disk.note("truncate", self.base, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self.disk.note("sync", self.base)
        super().xSync(flags)


def after_power_loss(before: dict[str, bytes], events: list[DiskEvent], chance: random.Random) -> dict[str, bytes]:
    """The files that a disk may hold when the power goes after these events, which began with the files of `before`.

    What was synced is there. Of what was not, any sectors may be there and any not; a deletion may have happened or
    not.
    """
    durable = dict(before)
    waiting: dict[str, list[DiskEvent]] = {}
    for event in events:
        if event.kind == "sync":
            content = bytearray(durable.get(event.name, b""))
            for change in waiting.pop(event.name, []):
                apply_write(content, change)
            durable[event.name] = bytes(content)
        elif event.kind in ("write", "truncate"):
            waiting.setdefault(event.name, []).append(event)
        elif event.kind == "delete" and chance.random() < 0.5:
            durable.pop(event.name, None)
            waiting.pop(event.name, None)
    for name, changes in waiting.items():
        content = bytearray(durable.get(name, b""))
        for change in changes:
            for part in split_write(change):
                if chance.random() < 0.5:
                    apply_write(content, part)
        durable[name] = bytes(content)
    return durable
