"""From a content to a file, or to a part of one: every chunk named, opened and written. Implements specs/vault.md §5.

A file appears under its name whole and durable, or not at all. Where the system allows it has no name until then, so a
process that dies leaves no plaintext behind. A blob that the disk damaged is told apart from a file that is broken: it
is forgotten here, and can be fetched again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from cocoon_core.errors import DecryptionError, LocalStateError, UsageError
from cocoon_core.protocol.constants import CHUNK_BYTES
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.vault_file import FileRef, chunk_key, data_length, open_chunk
from cocoon_core.storage.paths import convert_os_error, sync_descriptor, sync_directory
from cocoon_core.storage.positioned import open_descriptor, write_at
from cocoon_core.vault.content import ContentFile
from cocoon_core.vault.places import length_at
from cocoon_core.vault.progress import Meter, Tell
from cocoon_core.vault.threads import Beside, buffers, in_lots, in_thread, work_through

LOT: Final = 32  # chunks between two looks at whether to go on
_TEMPORARY: Final = getattr(os, "O_TMPFILE", 0)  # a file without a name, on Linux


class DamagedError(LocalStateError):
    """Some of this file was damaged on this device's disk; it is fetched again."""

    code = "content_damaged"

    def __init__(self, places: list[int]) -> None:
        super().__init__(f"{len(places)} chunks of this file were damaged on this device's disk")
        self.places = places


class Opener:
    """Opens the chunks of one content, all of which are here."""

    def __init__(self, ref: FileRef, names: Sequence[BlobHash], file: ContentFile) -> None:
        self._ref, self._names, self._file = ref, names, file
        self._key: Secret = chunk_key(ref.key)

    def open(self, place: int) -> memoryview:
        """The bytes of one chunk. From any thread, whose memory they are in until it opens another.

        Raises:
            DamagedError: the disk has not what it was given.
            DecryptionError, MalformedError: whoever made the file broke it.
        """
        size, name = self._ref.size, self._names[place]
        data, room = buffers()
        blob = self._file.read(place, length_at(size, place), room)
        if len(blob) != length_at(size, place):
            raise DamagedError([place])
        try:
            return open_chunk(self._key, size, place, blob, name, data)
        except DecryptionError:
            if sha256(blob) != name:
                raise DamagedError([place]) from None
            raise

    def _copy(self, place: int) -> bytes:
        return bytes(self.open(place))

    async def write_to(self, target: Path, *, replace: bool = False, tell: Tell | None = None) -> None:
        """Write the file.

        Raises:
            UsageError: there is one, and it is not to be replaced.
            StorageFullError: the disk is full; nothing is left of it there.
            DamagedError, DecryptionError, MalformedError: as `open`.
        """
        size = self._ref.size
        meter = Meter(size, tell)
        output = _Output(target, replace=replace)
        pushing = Beside()  # the disk writes while the next chunks are opened
        try:

            def write(place: int) -> None:
                output.write(place * CHUNK_BYTES, self.open(place))

            for lot in in_lots(range(self._ref.chunks), LOT):
                await work_through(lot, write)
                meter.add(sum(data_length(size, place) for place in lot))
                await pushing.done()
                pushing.begin(asyncio.to_thread(output.push))
            await pushing.done()
            await in_thread(output.finish)
        finally:
            await pushing.ended()
            output.close()

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, chunk by chunk; those behind the end are none."""
        stop = min(stop, self._ref.size)
        while start < stop:
            place = start // CHUNK_BYTES
            data = await in_thread(partial(self._copy, place))
            first = place * CHUNK_BYTES
            yield data[start - first : stop - first]
            start = first + len(data)


def chunks_between(size: int, start: int, stop: int) -> range:
    """The places of the chunks that hold the bytes from `start` to before `stop`."""
    stop = min(stop, size)
    return range(start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES + 1) if 0 <= start < stop else range(0)


class _Output:
    """A file that gets its name when it is whole."""

    def __init__(self, target: Path, *, replace: bool) -> None:
        self._target, self._replace = target, replace
        self._beside: Path | None = None
        if target.is_dir():
            raise UsageError(f"{target} is a folder; name a file in it")
        if target.exists() and not replace:
            raise UsageError(f"{target} is there already; say so if it is to be replaced")
        try:
            self._descriptor = self._make()
        except OSError as error:
            raise convert_os_error(error, str(target)) from error

    def _make(self) -> int:
        if _TEMPORARY:
            with suppress(OSError):  # not every file system has them
                return open_descriptor(self._target.parent, os.O_RDWR | _TEMPORARY, 0o666)
        self._beside = self._name_beside()
        return open_descriptor(self._beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def _name_beside(self) -> Path:
        return self._target.with_name(f".{secrets.token_hex(8)}.cocoon-part")

    def write(self, start: int, data: memoryview) -> None:
        try:
            write_at(self._descriptor, data, start)
        except OSError as error:
            raise convert_os_error(error, str(self._target)) from error

    def push(self) -> None:
        """Let the disk take what was written, so that little is left to do at the end. What it says of a fault is said
        once, so it counts here."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise convert_os_error(error, str(self._target)) from error

    def finish(self) -> None:
        """Have it durable, and name it."""
        try:
            sync_descriptor(self._descriptor)
            if self._beside is None:
                self._beside = self._name_beside() if self._replace else None
                self._give_name(self._beside or self._target)
            else:
                self._let_go()  # Windows renames no open file
            if self._beside is not None:
                self._rename(self._beside)
            sync_directory(self._target.parent)
        except FileExistsError as error:
            raise UsageError(f"{self._target} is there already; say so if it is to be replaced") from error
        except OSError as error:
            raise convert_os_error(error, str(self._target)) from error

    def _rename(self, beside: Path) -> None:
        if not self._replace:
            try:
                os.link(beside, self._target)  # unlike a rename it takes nobody's place
                return
            except FileExistsError:
                raise
            except OSError:  # a file system without links, as FAT: the name is taken first
                os.close(open_descriptor(self._target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        beside.replace(self._target)
        self._beside = None

    def _give_name(self, name: Path) -> None:
        folder = os.open(name.parent, os.O_RDONLY)
        try:  # only with a folder's descriptor does this follow the link that /proc has for the file
            os.link(f"/proc/self/fd/{self._descriptor}", name.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        self._let_go()
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink(missing_ok=True)
