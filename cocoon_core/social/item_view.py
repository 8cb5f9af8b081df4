"""The view of the vault: which items members put there. Spec: specs/vault-items.md.

An item is the map under a root key `item:<random>` of an owned document `vault/<month>`. Everything in it was written
by somebody who may be hostile: names, types and texts are made harmless here, once, and nothing shows others. How the
table follows the documents is owned_view.py's; asking it is vault_items.py's.
"""

from __future__ import annotations

import unicodedata
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_VAULT_FILE,
    LABEL_VAULT_ITEM,
    MAX_ALBUM_BYTES,
    MAX_BLUR_BYTES,
    MAX_CAPTION_BYTES,
    MAX_ITEM_URL,
    VAULT_DIGEST_BYTES,
    VAULT_ITEM_ID_BYTES,
)
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.protocol.marks import bound_marks
from cocoon_core.protocol.primitives import hash_bytes, make_hasher
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.owned_view import OwnedView, Said, clamp_ms
from cocoon_core.vault.file_types import claimed_type
from cocoon_core.vault.naming import clean_file_name, clean_text

VAULT_PREFIX: Final = "vault/"
ITEM_PREFIX: Final = "item:"
LINK: Final = "link"
KINDS: Final = ("file", "photo", "video", "audio", LINK)
MAX_SIDE: Final = 1_000_000  # pixels that a width or height says
MAX_DURATION_MS: Final = 10**12
MAX_REF_BYTES: Final = 16 * 1024  # of a packed reference; 256 names are 8 KiB

# What the table has of an item that was erased, beside its time; the rest is null.
_ERASED: Final[dict[str, Any]] = {
    **{"kind": "file", "size": 0, "has_thumb": 0},
    **dict.fromkeys(("name", "type", "caption", "site", "about", "sought"), ""),
}

_hash_item: Final = make_hasher(LABEL_VAULT_ITEM, VAULT_ITEM_ID_BYTES)


class ItemView(OwnedView):
    """The table `vault_items` of one group."""

    documents: ClassVar = VAULT_PREFIX
    keys: ClassVar = ITEM_PREFIX
    table: ClassVar = "vault_items"
    stays: ClassVar = True  # what is known of files says which leases to renew, however old the month
    identity: ClassVar = "item"
    columns: ClassVar = (
        *("kind", "time_ms", "name", "type", "size", "width", "height", "duration", "album", "caption", "url"),
        *("digest", "has_thumb", "blur", "site", "about", "sought", "file_id", "thumb_id", "thumb", "file"),
    )

    def identify(self, base: DocumentId, key: str) -> bytes:
        return item_id(base, key)

    def read(self, value: Any, identity: bytes) -> Said | None:
        return read_item(value)

    def read_tombstone(self, value: Any, identity: bytes, generation: int) -> Said | None:
        if type(value) is not dict or type(value.get("at")) is not int:
            return None
        said = _ERASED | {"time_ms": clamp_ms(value["at"])}
        return tuple(said.get(column) for column in self.columns)


def read_item(value: Any) -> Said | None:
    """What a map says, in the order of `ItemView.columns`; None where it is no item."""
    if type(value) is not dict:
        return None
    get = value.get
    kind, time_ms = get("kind"), get("at")
    if type(time_ms) is not int or type(kind) is not str:
        return None
    url: str | None = None
    file = thumb = None
    size, mime = 0, ""
    if kind == LINK:
        url = read_url(get("url"))
        if url is None:
            return None
    else:
        ref = _read_ref(value)
        if ref is None:
            return None
        file, size = pack_ref(ref), ref.size
        mime = claimed_type(get("type")).mime
        kind = kind if kind in KINDS else "file"
    small = get("thumb")
    picture = unpack_ref(small) if type(small) is bytes else None
    if picture is not None:
        thumb = pack_ref(picture)
    name = _read_name(get("name"), url)
    caption = _read_text(get("caption"), MAX_CAPTION_BYTES, lines=True)
    album = _read_text(get("album"), MAX_ALBUM_BYTES) or None
    about = _read_text(get("about"), MAX_CAPTION_BYTES, lines=True) if kind == LINK else ""
    site = _read_text(get("site"), MAX_ALBUM_BYTES) if kind == LINK else ""
    return (
        kind,
        clamp_ms(time_ms),
        name,
        mime,
        size,
        _read_number(get("width"), MAX_SIDE),
        _read_number(get("height"), MAX_SIDE),
        _read_number(get("duration"), MAX_DURATION_MS),
        album,
        caption,
        url,
        _read_bytes(get("digest"), VAULT_DIGEST_BYTES, VAULT_DIGEST_BYTES),
        int(thumb is not None),
        _read_bytes(get("blur"), 1, MAX_BLUR_BYTES),
        site,
        about,
        fold("\n".join(part for part in (name, caption, url or "") if part)),
        None if file is None else hash_bytes(LABEL_VAULT_FILE, file),
        None if thumb is None else hash_bytes(LABEL_VAULT_FILE, thumb),
        thumb,
        file,
    )


def read_url(value: Any) -> str | None:
    """An address of the web as it may be shown and opened: one that has a host and holds nothing that does not show."""
    if type(value) is not str or not 0 < len(value) <= MAX_ITEM_URL or not value.isascii():
        return None
    if not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and host and "@" not in parts.netloc else None


def fold(text: str) -> str:
    """A text as it is sought: letters of either case, wide and composed forms are alike."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", bound_marks(text).casefold())


def item_id(document: DocumentId, key: str) -> bytes:
    """The id of an item: 16 bytes that name the document, in generation 0, and the key, and so the member."""
    return _hash_item(document + key.encode())


def pack_ref(ref: FileRef) -> bytes:
    """A reference as one byte string: CBOR of the map that `FileRef.to_value` gives."""
    return encoding.encode(ref.to_value())


def unpack_ref(raw: bytes) -> FileRef | None:
    """Undo `pack_ref`; None where that is no reference."""
    if len(raw) > MAX_REF_BYTES:
        return None
    try:
        return _read_ref(encoding.decode(raw))
    except MalformedError:
        return None


def _read_ref(value: Any) -> FileRef | None:
    try:
        return FileRef.from_value(value) if type(value) is dict else None
    except MalformedError:
        return None


def _read_name(value: Any, url: str | None) -> str:
    """What an item is called; a file's is a plain file name."""
    text = value if type(value) is str else ""
    if url is None:
        return clean_file_name(text)
    return clean_text(text, MAX_ALBUM_BYTES) or urlsplit(url).hostname or url


def _read_text(value: Any, most: int, *, lines: bool = False) -> str:
    return clean_text(value, most, lines=lines) if type(value) is str and value else ""


def _read_number(value: Any, most: int) -> int | None:
    return value if type(value) is int and 0 < value <= most else None


def _read_bytes(value: Any, least: int, most: int) -> bytes | None:
    return value if type(value) is bytes and least <= len(value) <= most else None
