"""Getting at the bytes of items: saving, reading from the middle, small pictures, keeping on this device. A part of
`Vault`.

What is not here is fetched from any relay that has it, as far as it is needed, and checked before it is opened. Who
wrote an item may be hostile: what a file is, is told by its bytes (specs/media.md §2).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cocoon_core.errors import DecryptionError, MalformedError, NotYetError, RelayError, UnknownItemError
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.vault.file_types import SNIFFED_BYTES, Handling, name_for_opening, type_of
from cocoon_core.vault.naming import create_new
from cocoon_core.vault.progress import Meter, Progress, Tell
from cocoon_core.vault.transfers import Transfers
from cocoon_core.vault_part import VaultPart


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file of the vault that is read where it is needed.

    Attributes:
        name: its own, with an extension of what it is.
        mime: of a fixed table, by the bytes of the file.
        inline: a browser may show it in a page: it holds no script. Else it is for saving.
    """

    name: str
    size: int
    mime: str
    inline: bool
    _files: Transfers = field(repr=False)
    _ref: FileRef = field(repr=False)

    def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, or the end, a chunk after the other. Only those chunks are fetched.

        Raises:
            RelayError: something of it is not here, and no relay can be reached.
            NotYetError: no relay that was reached has it.
            DecryptionError, MalformedError: whoever made the file broke it.
        """
        return self._files.read(self._ref, start, stop)


class Fetching(VaultPart):
    """The part of a vault that is about the bytes of items."""

    async def get(
        self,
        reference: str,
        target: str | Path = ".",
        *,
        replace: bool = False,
        fetch: bool = True,
        progress: Tell | None = None,
    ) -> Path:
        """Save the file of an item, decrypted; where it was saved. It appears whole, or not at all.

        Args:
            target: a folder, in which it gets its own name, and never takes another file's; or the file to be.
            replace: a file that has the name of the target.
            fetch: what is not here; else only what is here whole is saved.
            progress: called with how far the fetching is.

        Raises:
            UnknownItemError: the item is not here.
            UsageError: it is a link; there is a file of that name; or the folder may not be written.
            RelayError: something of it is not here, and no relay can be reached.
            NotYetError: no relay that was reached has all of it, or it is not here and not to be fetched.
            DecryptionError, MalformedError: whoever made the file broke it.
            StorageFullError: there is no room.
        """
        item, ref = self._file_of(reference)
        path = Path(target)
        if not fetch and not self._files.state(ref).is_here:
            raise NotYetError("this file is not on this device")
        if not path.is_dir():
            await self._files.write_to(ref, path, replace=replace, tell=progress)
            return path
        await self._files.fetch(ref, progress)
        made, file = create_new(path, item.name)
        file.close()
        try:
            await self._files.write_to(ref, made, replace=True)
        except BaseException:
            with suppress(OSError):
                made.unlink(missing_ok=True)
            raise
        return made

    async def open(self, reference: str) -> OpenedFile:
        """A file, to be read from anywhere in it. Its first bytes are fetched, to tell what it is.

        Raises:
            UnknownItemError, UsageError, RelayError, NotYetError, DecryptionError, MalformedError: as `get`.
        """
        item, ref = self._file_of(reference)
        head = b"".join([part async for part in self._files.read(ref, 0, SNIFFED_BYTES)])
        kind = type_of(head, item.name)
        name = name_for_opening(item.name, kind)
        return OpenedFile(name, ref.size, kind.mime, kind.handling is Handling.INLINE, self._files, ref)

    async def thumbnail(self, reference: str) -> bytes:
        """The small picture of an item: a WebP or JPEG of bounded size, whoever sent it.

        Raises:
            UnknownItemError: the item is not here, or has none.
            RelayError, NotYetError: the picture is not here, and cannot be had now.
            MalformedError, DecryptionError: whoever made it broke it.
        """
        ref = self._thumbnail_of(self.index.find(reference))
        if ref is None:
            raise UnknownItemError("this item has no small picture")
        return await self._read_thumbnail(ref)

    async def thumbnails(self, *references: str) -> dict[str, bytes]:
        """The small pictures of many items by item id, fetched together: for a page of them. An item that has none, or
        whose picture cannot be had now or is broken, is left out.

        Raises:
            UnknownItemError: an item is not here.
        """
        found = {item: self._thumbnail_of(item) for item in map(self.index.find, references)}
        refs = {item.hex(): ref for item, ref in found.items() if ref is not None}
        await self._files.fetch_all(refs.values())
        pictures = {}
        for item, ref in refs.items():
            with suppress(MalformedError, DecryptionError, RelayError, NotYetError):
                if self._files.state(ref).is_here:
                    pictures[item] = await self._read_thumbnail(ref)
        return pictures

    def _thumbnail_of(self, item: bytes) -> FileRef | None:
        from cocoon_core.vault.images import MAX_THUMB_BYTES

        ref = self.index.stored(item).thumb
        return None if ref is None or ref.size > MAX_THUMB_BYTES else ref

    async def _read_thumbnail(self, ref: FileRef) -> bytes:
        from cocoon_core.vault.images import require_thumbnail

        data = b"".join([part async for part in self._files.read(ref)])
        require_thumbnail(data)
        return data

    async def pin(self, *references: str, progress: Tell | None = None) -> None:
        """Keep files on this device, whatever the limit, and fetch what is missing of them.

        Raises:
            UnknownItemError, UsageError: as `get`. Nothing was pinned.
            RelayError, NotYetError: something cannot be had now. It is pinned all the same, and every sync tries again.
            StorageFullError: there is no room.
        """
        refs = [self._file_of(reference)[1] for reference in references]
        for ref in refs:
            self._files.pin(ref)
        meter = Meter(sum(ref.size for ref in refs), progress)
        for ref in refs:
            before = meter.done

            def tell(inner: Progress, ref: FileRef = ref, before: int = before) -> None:
                meter.add(before + inner.done * ref.size // max(inner.total, 1) - meter.done)

            await self._files.fetch(ref, tell)
            meter.add(before + ref.size - meter.done)

    async def unpin(self, *references: str) -> None:
        """Let files go when the room is needed.

        Raises:
            UnknownItemError, UsageError: as `get`. Nothing was changed.
        """
        for ref in [self._file_of(reference)[1] for reference in references]:
            self._files.pin(ref, pinned=False)
