"""Adding to the vault: files, folders and links, and what a post attaches. A part of `Vault`.

A file is sealed first, and counts when its item is written, in one transaction with what is to be sent. What is broken
off between leaves sealed blobs, from which the next adding of the same file goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cocoon_core.errors import CocoonError, LocalStateError, PageError, UsageError
from cocoon_core.protocol.constants import MAX_ALBUM_BYTES, MAX_CAPTION_BYTES
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item import Item
from cocoon_core.social.item_view import LINK, pack_ref, read_url
from cocoon_core.vault.adding import SealedFile, Sealer, find_files
from cocoon_core.vault.addresses import read_address
from cocoon_core.vault.file_types import Kind
from cocoon_core.vault.naming import clean_text
from cocoon_core.vault.preparing import prepare
from cocoon_core.vault.progress import Meter, Progress, Tell
from cocoon_core.vault.sources import BytesSource
from cocoon_core.vault.threads import in_thread
from cocoon_core.vault_part import VaultPart, require_texts, say_texts

FileLike = str | Path
PICTURE_NAME: Final = "picture.webp"  # of an item that was made for a profile


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far the adding of several files is. `number` of `of` is being sealed; `progress` is of all bytes."""

    path: Path
    number: int
    of: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that was added.

    Attributes:
        existed: the same file was there under this name and album, added by the own member, and was left as it is.
        removed: what was taken out of it, in words: location, device, …
        left: what this format may hold of its maker, and was not looked for.
        note: why there is no small picture, where one was to be expected.
    """

    path: Path
    item: Item
    existed: bool
    removed: tuple[str, ...]
    left: tuple[str, ...]
    note: str | None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """One that was not added, and why."""

    path: Path
    error: CocoonError


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of several files."""

    added: tuple[AddedFile, ...]
    skipped: tuple[SkippedFile, ...]


class Adding(VaultPart):
    """The part of a vault that is about what comes into it."""

    async def add(
        self,
        path: FileLike,
        *,
        caption: str = "",
        album: str | None = None,
        keep_metadata: bool = False,
        progress: Tell | None = None,
    ) -> Item:
        """Add a file. It is on this device, sealed, when this returns, and is sent with the next sync.

        What photos, films and sound say of where, when and with what they were made is taken out of what is added; the
        file itself is not changed. The same file under the same album, added again, is the item that is there.

        Args:
            progress: called with how far the sealing is.

        Raises:
            UsageError: there is no such file, or it cannot be read, or was changed meanwhile.
            MetadataError: what it says of its maker cannot be taken out; with `keep_metadata` it is added as it is.
            StorageFullError: there is no room here; what was sealed is gone on from when it is added again.
        """
        sealer = self._sealer(keep_metadata)
        sealed = await sealer.seal(Path(path), progress)
        return self._add_sealed(sealed, caption, album)[1]

    async def add_all(
        self,
        paths: Sequence[FileLike],
        *,
        caption: str = "",
        album: str | None = None,
        keep_metadata: bool = False,
        progress: Callable[[AddProgress], None] | None = None,
        on_file: Callable[[AddedFile | SkippedFile], None] | None = None,
    ) -> AddReport:
        """Add files, and all files in folders; one that cannot be added keeps no other from it.

        Each counts when it is done: what is broken off is gone on with by the same call. Hidden files, and what systems
        leave in folders, are passed by; links to folders or files are not followed.

        Args:
            album: for all of them; else those of a folder stand in one of its name, and others in none.
            on_file: called with what became of each.

        Raises:
            UsageError: there is nothing under a name that was given, or a folder cannot be read.
            StorageFullError: there is no room here. What was added by then stays.
        """
        found = await in_thread(lambda: list(find_files([Path(path) for path in paths])))
        sizes = await in_thread(lambda: [_size_of(one.path) for one in found])
        sealer = self._sealer(keep_metadata)
        every = _AllFiles(sizes, progress)
        added: list[AddedFile] = []
        skipped: list[SkippedFile] = []
        tell_file = on_file or (lambda _: None)
        for number, one in enumerate(found, start=1):
            every.begin(number, one.path)
            try:
                sealed = await sealer.seal(one.path, every.told)
                existed, item = self._add_sealed(sealed, caption, one.album if album is None else album)
            except LocalStateError:
                raise
            except CocoonError as error:
                skipped.append(SkippedFile(one.path, error))
                tell_file(skipped[-1])
            else:
                content = sealed.prepared.content
                added.append(AddedFile(one.path, item, existed, content.removed, content.left, sealed.prepared.note))
                tell_file(added[-1])
            every.end()
        return AddReport(tuple(added), tuple(skipped))

    async def attach(
        self, things: Sequence[FileLike | Item], progress: Tell | None = None
    ) -> Callable[[], Sequence[bytes]]:
        """For the feed: seals files, and gives what writes their items, inside the transaction that writes the post."""
        sealer = self._sealer(keep_metadata=False)
        parts: list[SealedFile | bytes] = []
        for thing in things:
            if isinstance(thing, Item):
                parts.append(bytes.fromhex(self.index.get(thing.id).id))
            else:
                parts.append(await sealer.seal(Path(thing), progress))

        def write() -> Sequence[bytes]:
            ids = []
            for part in parts:
                if isinstance(part, bytes):
                    ids.append(part)
                else:
                    known = self.index.own_copies(part.refs[0].id())
                    ids.append(known[0][0] if known else self._write(part, {}))
            return list(dict.fromkeys(ids))

        return write

    async def attach_picture(self, path: FileLike) -> Callable[[], bytes]:
        """For profiles: seals a small picture made of a photo, and gives what writes its item, inside a transaction.

        Raises:
            UsageError: there is no such file, or it is no photo that can be made small.
            StorageFullError: there is no room here.
        """
        self._replica.require_writable()
        # Nothing of the file itself goes into the vault: the picture is drawn anew, without its metadata.
        prepared = await in_thread(partial(prepare, path, keep_metadata=True))
        if prepared.thumb is None or prepared.thumb_size is None or prepared.type.kind is not Kind.PHOTO:
            raise UsageError(f"{prepared.name} cannot be used as a picture: {prepared.note or 'it is no photo'}")
        ref = await self._files.seal(BytesSource(prepared.thumb))
        width, height = prepared.thumb_size
        item: dict[str, Any] = {"kind": "photo", "name": PICTURE_NAME, "type": "image/webp", **ref.to_value()}
        item |= {"width": width, "height": height, "thumb": pack_ref(ref)}
        item |= {} if prepared.blur is None else {"blur": prepared.blur}

        def write() -> bytes:
            (identity,) = self.index.write([item])
            self._files.send(ref)
            return identity

        return write

    async def add_link(
        self, url: str, *, title: str = "", note: str = "", album: str | None = None, preview: bool = False
    ) -> Item:
        """Add a link.

        Args:
            title: what it is called; the host, if nothing is said.
            preview: fetch the page, from this device alone, for its title and description, and a small picture. Whoever
                runs the page learns this device's address. Nobody else's device ever fetches it.

        Raises:
            PageError: this is no address of the web, or it cannot be previewed. Nothing was added.
        """
        require_texts(note, album)
        address = str(read_address(url))
        if read_url(address) is None:
            raise PageError("this is not an address of a page; one begins with https://")
        item: dict[str, Any] = {"kind": LINK, "url": address} | say_texts(note, album)
        picture: FileRef | None = None
        if preview:
            from cocoon_core.vault.links import fetch_preview

            seen = await fetch_preview(url)
            title = title.strip() or seen.title
            item |= {"site": seen.host, "about": clean_text(seen.description, MAX_CAPTION_BYTES, lines=True)}
            if seen.picture is not None:
                picture = await self._files.seal(BytesSource(seen.picture.thumb))
                item |= {"thumb": pack_ref(picture), "blur": seen.picture.blur}
        if title.strip():
            item["name"] = clean_text(title, MAX_ALBUM_BYTES)
        with self._replica.changing():
            (identity,) = self.index.write([item])
            if picture is not None:
                self._files.send(picture)
        return self.index.of(identity)

    def _add_sealed(self, sealed: SealedFile, caption: str, album: str | None) -> tuple[bool, Item]:
        """Write the item of a sealed file; whether it was there."""
        require_texts(caption, album)
        texts = say_texts(caption, album)
        wanted = sealed.item["name"], texts.get("album")
        for identity, *named in self.index.own_copies(sealed.refs[0].id()):
            if tuple(named) == wanted:
                return True, self.index.of(identity)
        with self._replica.changing():
            identity = self._write(sealed, texts)
        self._files.make_room()
        return False, self.index.of(identity)

    def _write(self, sealed: SealedFile, texts: dict[str, str]) -> bytes:
        """Inside a transaction: the item, and what is to be sent."""
        (identity,) = self.index.write([sealed.item | texts])
        for ref in sealed.refs:
            self._files.send(ref)
        return identity

    def _sealer(self, keep_metadata: bool) -> Sealer:
        self._replica.require_writable()
        return Sealer(self._files, self.index, self._replica.group, keep_metadata)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it is told when it is its turn


class _AllFiles:
    """How far the adding of several files is, while one of them after the other tells how far it is."""

    def __init__(self, sizes: Sequence[int], progress: Callable[[AddProgress], None] | None) -> None:
        self._sizes, self._progress = sizes, progress
        self._meter = Meter(sum(sizes), None if progress is None else self._tell)
        self._number, self._path, self._before = 0, Path(), 0

    def begin(self, number: int, path: Path) -> None:
        self._number, self._path, self._before = number, path, self._meter.done

    def told(self, inner: Progress) -> None:
        self._meter.add(self._before + inner.done - self._meter.done)

    def end(self) -> None:
        """It is done, or was passed by: what was taken out of it counts as done too."""
        self._meter.add(self._before + self._sizes[self._number - 1] - self._meter.done)

    def _tell(self, progress: Progress) -> None:
        assert self._progress is not None, "nobody is told otherwise"
        self._progress(AddProgress(self._path, self._number, len(self._sizes), progress))
