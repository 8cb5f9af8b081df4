"""The parsers of files and of what members say of them, for parsers.py."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

from cocoon_core.errors import MalformedError, MetadataError, PageError
from cocoon_core.vault.addresses import read_address
from cocoon_core.vault.file_types import TYPES, type_of
from cocoon_core.vault.icc import clean_profile
from cocoon_core.vault.images import make_blur, read_blur, require_thumbnail
from cocoon_core.vault.naming import clean_file_name, clean_text
from cocoon_core.vault.pages import decode_page, read_head
from cocoon_core.vault.splicing import SplicedFile
from cocoon_core.vault.stripping import strip_metadata
from tests.support.bundle_parsers import Described
from tests.support.media_files import film, heic, photo, picture, profile

_PAGE = (
    b"<!DOCTYPE html><head><meta charset=koi8-r><title>a &amp; b</title><script>'<b>'</script><!-- x -->"
    b"<meta property='og:image' content=\"/x.png\"><meta name=description content=words></head><body>"
)
# By type, the files to begin from.
_FILES: dict[str, Callable[[], tuple[bytes, ...]]] = {
    "image/jpeg": lambda: (photo("jpg"), photo("progressive.jpg")),
    "image/png": lambda: (photo("png"),),
    "image/webp": lambda: (photo("webp"), photo("animated.webp")),
    "image/gif": lambda: (photo("gif"),),
    "image/heic": lambda: (heic(), photo("avif"), photo("heic")),
    "video/mp4": lambda: (film("mp4", 2), film("fragmented.mp4", 2)),
    "video/webm": lambda: (film("webm", 2), film("live.webm", 2)),
    "audio/ogg": lambda: (film("opus", 2), film("flac.ogg", 1)),
    "audio/mpeg": lambda: (film("mp3", 1),),
    "audio/flac": lambda: (film("flac", 1),),
    "audio/wav": lambda: (film("wav", 1),),
}


def _strip(mime: str, raw: bytes) -> bytes:
    """All that is read of what is left; it is never longer than a little more than the file."""
    stripped = strip_metadata(io.BytesIO(raw), TYPES[mime])
    left = SplicedFile(io.BytesIO(raw), stripped.pieces).read()
    assert len(left) == stripped.size <= len(raw) + 1000
    return left


def _name(raw: bytes) -> object:
    text = raw.decode("utf-8", "surrogateescape")
    return clean_file_name(text), clean_text(text, 100), type_of(raw, text)


def media_parsers() -> list[Described]:
    return [
        *((f"strip {mime}", partial(_strip, mime), make(), (MetadataError,), False) for mime, make in _FILES.items()),
        ("require_thumbnail", require_thumbnail, (photo("webp"), photo("jpg")), (MalformedError,), False),
        ("read_blur", read_blur, (make_blur(picture()),), (MalformedError,), False),
        ("clean_profile", clean_profile, (profile(),), (), False),
        ("read_head", lambda raw: read_head(decode_page(raw, None)), (_PAGE,), (), False),
        (
            "read_address",
            lambda raw: read_address(raw.decode("utf-8", "surrogateescape")),
            (b"https://example.com:8443/a?b#c", b"http://[2606:4700::1111]/"),
            (PageError,),
            False,
        ),
        ("clean_file_name", _name, ("../größe\u202e.jpg".encode(), b"CON.txt"), (), False),
    ]
