"""Metadata is taken out of a file before it is added: by which module for which type, and what is told of the rest.

What cannot be taken out is said, and not pretended: `Stripped.left` and `Stripped.clean`. Spec: specs/media.md §3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, Final

from cocoon_core.errors import MetadataError
from cocoon_core.vault.chunked_images import strip_gif, strip_png, strip_webp
from cocoon_core.vault.file_types import FileType, Kind
from cocoon_core.vault.films import strip_film
from cocoon_core.vault.heif import strip_heif
from cocoon_core.vault.jpeg import strip_jpeg
from cocoon_core.vault.matroska import strip_matroska
from cocoon_core.vault.ogg import strip_ogg
from cocoon_core.vault.sound import strip_flac, strip_frames, strip_wav
from cocoon_core.vault.splicing import Source, Span
from cocoon_core.vault.stripped import Stripped

_STRIPPERS: Final[dict[str, Callable[[Source], Stripped]]] = {
    "image/jpeg": strip_jpeg,
    "image/png": strip_png,
    "image/webp": strip_webp,
    "image/gif": strip_gif,
    "image/heic": strip_heif,
    "image/avif": strip_heif,
    "video/mp4": strip_film,
    "video/quicktime": strip_film,
    "video/3gpp": strip_film,
    "audio/mp4": strip_film,
    "video/webm": strip_matroska,
    "video/x-matroska": strip_matroska,
    "audio/mpeg": strip_frames,
    "audio/aac": strip_frames,
    "audio/flac": strip_flac,
    "audio/wav": strip_wav,
    "audio/ogg": strip_ogg,
}
_PLAIN: Final = frozenset(("text/plain", "text/markdown", "text/csv", "application/json"))


def strip_metadata(file: BinaryIO, file_type: FileType, *, keep: bool = False) -> Stripped:
    """The pieces of a file without its metadata; with `keep`, the whole of it, and what is known of its size.

    Reads the file and changes nothing. Nothing is decoded: the picture, the film and the sound stay as they are.

    Raises:
        MetadataError: the file is damaged, or so unusual that what it says of its maker cannot be taken out. With
            `keep`, never.
        OSError: the file cannot be read.
    """
    source = Source(file)
    strip = _STRIPPERS.get(file_type.mime)
    if strip is None:
        return _as_it_is(source, file_type)
    try:
        stripped = strip(source)
    except MetadataError:
        if keep:
            return replace(_as_it_is(source, file_type), left=())
        raise
    if keep:
        return replace(stripped, pieces=_whole(source), size=source.size, removed=(), left=(), clean=False)
    return stripped


def _as_it_is(source: Source, file_type: FileType) -> Stripped:
    left: tuple[str, ...] = ()
    if file_type.kind is not Kind.FILE:
        left = ("everything that this kind of file says of its maker",)
    elif file_type.mime not in _PLAIN:
        left = ("names, times and places that documents hold",)
    return Stripped(_whole(source), source.size, left=left, clean=False)


def _whole(source: Source) -> tuple[Span, ...]:
    return (Span(0, source.size),) if source.size else ()
