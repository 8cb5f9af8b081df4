"""The view of all posts. Spec: specs/feed.md.

A post is the map under a root key `post:<random>` of an owned document `feed/<month>`. How the table follows the
documents is owned_view.py's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import LABEL_POST, MAX_ATTACHMENTS, VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.protocol.primitives import make_hasher
from cocoon_core.social.owned_view import OwnedView, Said, clamp_ms

FEED_PREFIX: Final = "feed/"
POST_PREFIX: Final = "post:"
POST_ID_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 64 * 1024

_hash_post: Final = make_hasher(LABEL_POST, POST_ID_BYTES)


class PostView(OwnedView):
    """The table `posts` of one group."""

    documents: ClassVar = FEED_PREFIX
    keys: ClassVar = POST_PREFIX
    table: ClassVar = "posts"
    identity: ClassVar = "post"
    columns: ClassVar = ("text", "time_ms", "parent", "edited", "files")

    def identify(self, base: DocumentId, key: str) -> bytes:
        return post_id(base, key)

    def read(self, value: Any, identity: bytes) -> Said | None:
        if type(value) is not dict:
            return None
        text, time_ms, parent, files = value.get("text"), value.get("at"), value.get("re"), value.get("files")
        if type(text) is not str or type(time_ms) is not int:
            return None
        if type(parent) is not bytes or len(parent) != POST_ID_BYTES or parent == identity:
            parent = None
        if files is not None:
            files = _read_files(files)
        return text, clamp_ms(time_ms), parent, int(type(value.get("edited")) is int), files

    def read_tombstone(self, value: Any, identity: bytes) -> Said | None:
        if type(value) is not dict:
            return None
        return self.read({**value, "text": "", "edited": None, "files": None}, identity)


def _read_files(files: Any) -> bytes | None:
    """The ids of items behind one another, the first of them where there are too many; None where it is no such."""
    if type(files) is not bytes or not files or len(files) % VAULT_ITEM_ID_BYTES:
        return None
    return files[: MAX_ATTACHMENTS * VAULT_ITEM_ID_BYTES]


def post_id(document: DocumentId, key: str) -> bytes:
    """The id of a post: 16 bytes that name the document, in generation 0, and the key, and so the author."""
    return _hash_post(document + key.encode())
