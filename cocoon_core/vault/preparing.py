"""One file of this device made ready to be added: name, type, size, what is taken out of it, and small pictures.

Nothing is written to the disk: what is added is read through `Prepared.open`, with the metadata left out on the way.
Spec: specs/media.md §3.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from cocoon_core.errors import MalformedError, MissingLibraryError, UsageError
from cocoon_core.vault.file_types import SNIFFED_BYTES, FileType, Kind, type_of
from cocoon_core.vault.images import Preview, make_preview
from cocoon_core.vault.naming import local_file_name
from cocoon_core.vault.posters import make_poster
from cocoon_core.vault.sources import explain_unread
from cocoon_core.vault.splicing import SplicedFile
from cocoon_core.vault.stripped import Stripped
from cocoon_core.vault.stripping import strip_metadata

_Mark = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file as it will be added.

    `content.size` is what is added, in bytes; `content.removed` and `content.left` are for the user to read. `thumb` is
    a WebP; it and `blur` are None where no small picture could be made, and `note` says why.
    """

    path: Path
    name: str
    type: FileType
    content: Stripped
    thumb: bytes | None
    thumb_size: tuple[int, int] | None
    blur: bytes | None
    note: str | None
    mark: _Mark  # device, inode, size and time of change, by which the file is known again

    def open(self) -> BinaryIO:
        """The bytes to add, from their beginning; seekable, and the same each time.

        Raises:
            UsageError: the file was changed since it was looked at, or is gone.
        """
        file = _open(self.path)
        if _mark(file) != self.mark:
            file.close()
            raise UsageError(f"{self.name} was changed while it was added; add it again")
        return cast(BinaryIO, io.BufferedReader(SplicedFile(file, self.content.pieces), 1 << 18))


def prepare(path: str | os.PathLike[str], *, keep_metadata: bool = False) -> Prepared:
    """Look at a file of one's own, and say what will be added of it. Blocks: call it in a thread.

    Raises:
        UsageError: there is no such file, or it is a folder or a device, or may not be read.
        MetadataError: what it says of its maker cannot be taken out; with `keep_metadata` it is added as it is.
    """
    file = _open(path)
    try:
        with file:
            mark = _mark(file)
            name = local_file_name(path)
            file_type = type_of(file.read(SNIFFED_BYTES), name)
            content = strip_metadata(file, file_type, keep=keep_metadata)
            preview, note = _preview(file, file_type, content)
            thumb, blur = (preview.thumb, preview.blur) if preview else (None, None)
            size = (preview.width, preview.height) if preview else None
            return Prepared(Path(path), name, file_type, content, thumb, size, blur, note, mark)
    except OSError as error:
        raise explain_unread(error, local_file_name(path)) from error


def _preview(file: BinaryIO, file_type: FileType, content: Stripped) -> tuple[Preview | None, str | None]:
    """The small picture of a photo or film, or why a photo has none."""
    try:
        if file_type.kind is Kind.VIDEO:
            return make_poster(file, file_type, content), None
        if file_type.kind is not Kind.PHOTO:
            return None, None
        preview = make_preview(file, file_type, content)
        return preview, None if preview else "small pictures of this type are not made"
    except (MissingLibraryError, MalformedError) as error:
        return None, str(error)


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """A plain file, for reading: never a pipe that nobody fills or a device."""
    shown = local_file_name(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"this is not a file: {shown}")
        return open(path, "rb")
    except OSError as error:
        raise explain_unread(error, shown) from error
    except ValueError as error:
        raise UsageError(f"this file cannot be read: {shown}") from error


def _mark(file: BinaryIO) -> _Mark:
    known = os.fstat(file.fileno())
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns
