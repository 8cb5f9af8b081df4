"""Pages: what is too large for an envelope, sealed as blobs under a key of its own. Implements specs/manifest.md §2.

    page n = ChaCha20-Poly1305(key, nonce = n as 12 bytes, ad = label ‖ 0 ‖ context, pad(data))      its name = SHA-256

The key is drawn at random for one list of pages and stands, with the names, where only members read it. So a relay sees
lengths alone, and a page opens in its own place and nowhere else. The caller sees to it that one key never seals two
lists.
"""

from __future__ import annotations

from cocoon_core.errors import DecryptionError, UsageError
from cocoon_core.protocol.constants import MAX_PAGE_BYTES, TAG_BYTES
from cocoon_core.protocol.envelope import pad, padded_size, unpad
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret, open_bulk, seal_bulk, sha256


def seal_page(data: bytes, key: Secret, place: int, label: str, context: bytes) -> bytes:
    """Seal one page (at most 1 MiB as a blob). It shows its length class and nothing else.

    Args:
        key: fresh for this list of pages.
        place: the page's number in the list.
        context: what the list belongs to; it opens for no other.

    Raises:
        UsageError: the data is over MAX_PAGE_BYTES.
    """
    if len(data) > MAX_PAGE_BYTES:
        raise UsageError(f"a page of {len(data)} bytes is over {MAX_PAGE_BYTES}")
    return seal_bulk(key, place.to_bytes(12), pad(data), _ad(label, context))


def open_page(blob: bytes, name: BlobHash, key: Secret, place: int, label: str, context: bytes) -> bytes:
    """Undo `seal_page`.

    Raises:
        DecryptionError: another blob than the one named, another key, place or context.
        MalformedError: the padding is not the one permitted.
    """
    if name_page(blob) != name:
        raise DecryptionError("a blob is not the page that was named")
    if len(blob) > padded_size(MAX_PAGE_BYTES) + TAG_BYTES:
        raise DecryptionError(f"a page is not {len(blob)} bytes")
    return unpad(open_bulk(key, place.to_bytes(12), blob, _ad(label, context)))


def name_page(blob: bytes) -> BlobHash:
    """The name of a sealed page at the relay."""
    return BlobHash(sha256(blob))


def _ad(label: str, context: bytes) -> bytes:
    return label.encode() + b"\0" + context
