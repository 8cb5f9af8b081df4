"""From files of this device to what an item says of them: prepare → look for the same file → seal → describe.

What is written into documents, and when, is for the façade (vaulting.py); here nothing is told to anybody. Spec:
specs/media.md §3, specs/vault.md §6, specs/vault-items.md §2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item_view import pack_ref
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.vault.naming import clean_text
from cocoon_core.vault.preparing import Prepared, prepare
from cocoon_core.vault.progress import Tell
from cocoon_core.vault.sources import BytesSource, digest_source
from cocoon_core.vault.spliced_source import SplicedSource
from cocoon_core.vault.threads import in_thread
from cocoon_core.vault.transfers import Transfers

PASSED_BY: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})  # what systems leave in folders


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that is to be added. `album` is that of the folder that was named; None for one that was named itself."""

    path: Path
    album: str | None


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file whose blobs are all on this device.

    Attributes:
        item: what its item says, without `at`, caption and album.
        refs: what is to be sent: the file, and its small picture.
    """

    prepared: Prepared
    item: dict[str, Any]
    refs: tuple[FileRef, ...]


def find_files(paths: Iterable[Path]) -> Iterator[FoundFile]:
    """The files that these paths name; of folders all in them, in order, but hidden ones, and none through links.

    Raises:
        UsageError: there is nothing of such a name, or a folder cannot be read.
    """
    for path in paths:
        if path.is_dir():
            album = clean_text(path.absolute().name, 128) or None
            yield from (FoundFile(found, album) for found in _files_below(path))
        else:
            yield FoundFile(path, None)


def _files_below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise UsageError(f"the folder {error.filename} cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not _is_passed_by(name))
        for name in sorted(files):
            path = Path(place, name)
            if not _is_passed_by(name) and path.is_file() and not path.is_symlink():
                yield path


def _is_passed_by(name: str) -> bool:
    return name.startswith(".") or name.casefold() in PASSED_BY


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals files of one group's members into the content store."""

    transfers: Transfers
    index: VaultItems
    group: GroupId
    keep_metadata: bool = False

    async def seal(self, path: Path, tell: Tell | None = None) -> SealedFile:
        """Seal one file, without its metadata.

        Raises:
            UsageError: there is no such file, it cannot be read, or was changed meanwhile; MetadataError where what it
                says of its maker cannot be taken out.
            StorageFullError, LocalStateError: it cannot be kept here.
        """
        prepared = await in_thread(partial(prepare, path, keep_metadata=self.keep_metadata))
        source = await in_thread(partial(SplicedSource, prepared))
        try:
            digest = await in_thread(partial(digest_source, self.group, source))
            alike = {one.file: one.thumb for one in self.index.with_digest(digest) if one.file is not None}
            candidates = [ref for ref in alike if ref.size == source.size]
            ref = await self.transfers.seal(source, candidates, tell)
        finally:
            source.close()
        picture = alike.get(ref)
        if prepared.thumb is None:
            picture = None
        elif picture is None:
            picture = await self.transfers.seal(BytesSource(prepared.thumb))
        refs = (ref,) if picture is None else (ref, picture)
        return SealedFile(prepared, _describe(prepared, ref, picture, digest), refs)


def _describe(prepared: Prepared, ref: FileRef, picture: FileRef | None, digest: bytes) -> dict[str, Any]:
    """What the item says of a file."""
    content = prepared.content
    item: dict[str, Any] = {
        "kind": prepared.type.kind.value,
        "name": prepared.name,
        "type": prepared.type.mime,
        **ref.to_value(),
        "digest": digest,
    }
    measures = (("width", content.width), ("height", content.height), ("duration", content.duration_ms))
    item |= {name: number for name, number in measures if number}
    if picture is not None:
        item |= {"thumb": pack_ref(picture)} | ({} if prepared.blur is None else {"blur": prepared.blur})
    return item
