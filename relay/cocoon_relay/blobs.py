"""Blobs as files: one for each ciphertext, whole or not there at all. The blob store of a relay with a disk.

An upload is written under `incoming/`, checked against its name, synced, renamed into `blobs/` and its folder synced;
only then does its row count. A file's name is the blob's hash and a suffix of its own; files
of the database's first form have none. Implements specs/relay.md §6 behind the interface of store.py.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Final

from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.store import StoredBlob
from cocoon_relay.uploads import Incoming, Upload, make_folder, refuse_disk, sync_path

_PORTION: Final = 1_000  # places of one portion
_LOOK_SECONDS: Final = 1.0


class FileBlobs:
    """The folders `blobs/` and `incoming/` of a data directory."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._blobs = data / "blobs"
        self._incoming = Incoming(data / "incoming", synced=True)
        self._named: set[Path] = set()  # folders of which the disk keeps the names
        self._looks_again = -1.0  # when the disk is asked again how much is free
        self._free = self._begun = 0  # bytes that it said, and of uploads that began since

    def prepare(self, *, alone: bool) -> None:
        """Make the folders; `alone` says that no other process serves them, so what a former one left half-uploaded
        can go. Blocks.
        """
        make_folder(self._blobs)
        self._incoming.prepare(alone=alone)

    def begin_upload(self, size: int) -> Upload:
        self._begun += size
        return self._incoming.begin()

    async def keep(self, blob: BlobHash, upload: Upload) -> str:
        place = f"{blob.hex()}.{token_hex(8)}"
        await asyncio.to_thread(self._install, blob, upload, self._path_of(place))
        upload.is_taken = True
        return place

    async def open(self, stored: StoredBlob) -> Path | None:
        path = self._path_of(stored.place)
        return path if await asyncio.to_thread(path.is_file) else None

    async def list_gone(self, stored: Sequence[StoredBlob]) -> set[str]:
        return await asyncio.to_thread(lambda: {one.place for one in stored if not self._path_of(one.place).is_file()})

    async def remove(self, places: Sequence[str]) -> None:
        def remove() -> None:
            for place in places:
                self._path_of(place).unlink(missing_ok=True)

        await asyncio.to_thread(remove)

    async def list_old(self, before: float) -> AsyncIterator[list[str]]:
        walk = self._walk(before)
        while portion := await asyncio.to_thread(lambda: list(islice(walk, _PORTION))):
            yield portion

    async def sweep_uploads(self, before: float) -> None:
        await asyncio.to_thread(self._incoming.sweep, before)

    async def free_bytes(self) -> int:
        """As the disk said in the last second, less what was begun since."""
        now = time.monotonic()
        if now >= self._looks_again:
            self._looks_again, self._begun = now + _LOOK_SECONDS, 0
            self._free = shutil.disk_usage(self._data).free  # quicker than a thread's turn
        return self._free - self._begun

    async def close(self) -> None:
        """Nothing is held."""

    # --- in a thread

    def _path_of(self, place: str) -> Path:
        return self._blobs / place[:2] / place

    def _install(self, blob: BlobHash, upload: Upload, target: Path) -> None:
        upload.finish(blob)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            upload.path.replace(target)
            sync_path(target.parent)
            if target.parent not in self._named:  # also where it was there: whoever made it may have died before this
                sync_path(self._blobs)
                self._named.add(target.parent)
        except OSError as error:
            raise refuse_disk(error) from error

    def _walk(self, before: float) -> Iterator[str]:
        for folder in sorted(self._blobs.iterdir()):
            for path in sorted(folder.iterdir()):
                with suppress(OSError):
                    if path.stat().st_mtime < before:
                        yield path.name
