"""The content store: the folder `vault` of a profile, one file a content, ciphertext alone. Spec: specs/vault.md §7.

The blobs of a file stand at a fixed stride, each in its place, so any of them can be written first and read alone. The
name of such a file is random and says nothing. Which blobs are there is said by rows (storage/vault_contents.py), and
never by the file: a blob counts when it is durable and its row is written. A file without a row is a leftover.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from cocoon_core.protocol.constants import CHUNK_BYTES, TAG_BYTES
from cocoon_core.storage.database import Database
from cocoon_core.storage.paths import convert_os_error, sync_descriptor, sync_directory
from cocoon_core.storage.positioned import open_descriptor, read_at, write_at
from cocoon_core.storage.vault_contents import ContentTable, held_bytes, let_go_first, places_of_all

FOLDER: Final = "vault"
STRIDE: Final = CHUNK_BYTES + TAG_BYTES
LIMIT_BYTES: Final = 8 * 1024**3  # of all that can be fetched again, unless the user sets another
_LET_GO_TOGETHER: Final = 64


class ContentFile:
    """The blobs of one content on disk. From any thread; a blob is written by one at a time."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        """Open it; where `make` is given and there is none, make it, durably."""
        self._name = f"{FOLDER}/{path.name}"
        try:
            self._descriptor = open_descriptor(path, os.O_RDWR | (os.O_CREAT if make else 0))
        except OSError as error:
            raise convert_os_error(error, self._name) from error
        if make:
            sync_directory(path.parent)

    def read(self, place: int, length: int, into: memoryview | None = None) -> memoryview:
        """What stands in a place; shorter where the file ends before.

        Args:
            into: memory of the caller's, of which the answer is then a part.
        """
        blob = memoryview(bytearray(length)) if into is None else into[:length]
        try:
            return blob[: read_at(self._descriptor, blob, place * STRIDE)]
        except OSError as error:
            raise convert_os_error(error, self._name) from error

    def write(self, place: int, blob: bytes | bytearray | memoryview) -> None:
        """Write a blob into its place; it is durable after `sync`."""
        try:
            write_at(self._descriptor, blob, place * STRIDE)
        except OSError as error:
            raise convert_os_error(error, self._name) from error

    def sync(self) -> None:
        """Have the disk keep what was written."""
        try:
            sync_descriptor(self._descriptor)
        except OSError as error:
            raise convert_os_error(error, self._name) from error

    def close(self) -> None:
        os.close(self._descriptor)


class ContentStore:
    """The contents of a profile on disk.

    Args:
        limit: bytes; what can be fetched again is let go of beyond that, the longest unused first.
    """

    def __init__(self, database: Database, limit: int = LIMIT_BYTES) -> None:
        self._db, self.limit = database, limit
        self.folder = database.folder / FOLDER
        self.busy: dict[int, int] = {}  # contents that are worked on, and how often
        self._is_ready = False

    def ready(self) -> None:
        """`prepare`, once in a process."""
        if not self._is_ready:
            self.prepare()
            self._is_ready = True

    def prepare(self) -> None:
        """Make the folder, and put right what a crash or a restored backup left: files without a row, and rows
        without a file.
        """
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            there = {one.name for one in os.scandir(self.folder)}
            sync_directory(self.folder.parent)
        except OSError as error:
            raise convert_os_error(error, FOLDER) from error
        known = places_of_all(self._db)
        for name in there - known.keys():
            self._unlink(name)
        lost = [number for place, number in known.items() if place not in there]
        if lost:
            with self._db.transaction():
                for number in lost:
                    ContentTable(self._db, 0).drop_all_blobs(number)

    def new_place(self) -> str:
        """The name of a file that is to be made, after its row."""
        return secrets.token_hex(16)

    def open(self, place: str) -> ContentFile:
        """A content's file, made if there is none."""
        path = self.folder / place
        return ContentFile(path, make=not path.exists())

    def make_room(self) -> None:
        """Let go of what can be fetched again, as far as there is more than the limit."""
        over = held_bytes(self._db) - self.limit
        while over > 0:
            free = [one for one in let_go_first(self._db, _LET_GO_TOGETHER + len(self.busy)) if one[0] not in self.busy]
            if not free:
                return
            for number, place, held in free:
                if over > 0:
                    self.remove(number, place)
                    over -= held

    def remove(self, number: int, place: str) -> None:
        """Let go of one: first the row, then the file, which is a leftover if this ends between."""
        with self._db.transaction():
            ContentTable(self._db, 0).remove(number)
        self._unlink(place)

    def hold(self, number: int) -> None:
        """It is worked on: it is not let go of until `release`."""
        self.busy[number] = self.busy.get(number, 0) + 1

    def release(self, number: int) -> None:
        self.busy[number] -= 1
        if not self.busy[number]:
            del self.busy[number]

    def _unlink(self, name: str) -> None:
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise convert_os_error(error, f"{FOLDER}/{name}") from error
