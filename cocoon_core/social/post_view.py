"""The view of all posts: a table computed from everybody's feed documents, so that reading needs no document. Spec:
specs/feed.md.

A post is the map under a root key `post:<random>` of an owned document `feed/<month>`; its author is the document's
owner, so nobody can write, change or delete another's post. Its id is a hash of document and key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cocoon_core.protocol.constants import LABEL_POST
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.storage.database import Database
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.shelf import Readable

FEED_PREFIX: Final = "feed/"
POST_PREFIX: Final = "post:"
POST_ID_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 64 * 1024
_LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999, as far as a date can be shown

_Row = tuple[int, bytes, int, str, bytes, str, int, bytes | None, int]

_UPSERT: Final = """
INSERT INTO posts (group_no, post, document_no, key, member, text, time_ms, parent, edited)
VALUES (?,?,?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET document_no=excluded.document_no, key=excluded.key, member=excluded.member,
text=excluded.text, time_ms=excluded.time_ms, parent=excluded.parent, edited=excluded.edited
"""


class PostView:
    """Keeps the table `posts` of one group level with its documents. Implements `sync.shelf.View`."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if _is_feed(record):
            self._update(record, document, touched)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if _is_feed(record):
            self._db.execute("DELETE FROM posts WHERE document_no=?", (record.number,))
            self._update(record, document, document.root_keys())

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        if _is_feed(record):
            self._update(record, document, document.root_keys())

    def _update(self, record: DocumentRecord, document: Readable, keys: Iterable[str]) -> None:
        rows: list[_Row] = []
        gone: list[tuple[int, bytes]] = []
        for key in keys:
            if not key.startswith(POST_PREFIX):
                continue
            post = post_id(record.document, key)
            row = self._row(record, key, post, document.plain(key))
            if row is None:
                gone.append((self._no, post))
            else:
                rows.append(row)
        if gone:
            self._db.executemany("DELETE FROM posts WHERE group_no=? AND post=?", gone)
        if rows:
            self._db.executemany(_UPSERT, rows)

    def _row(self, record: DocumentRecord, key: str, post: bytes, value: Any) -> _Row | None:
        """A post's row, or None where the value is not a post; what is odd in it is made harmless."""
        if not isinstance(value, dict):
            return None
        text, time_ms, parent = value.get("text"), value.get("at"), value.get("re")
        if not isinstance(text, str) or type(time_ms) is not int:
            return None
        time_ms = min(max(time_ms, 0), _LAST_MS)
        if not isinstance(parent, bytes) or len(parent) != POST_ID_BYTES or parent == post:
            parent = None
        member = record.descriptor.member
        assert member is not None, "a feed document is owned"
        edited = int(type(value.get("edited")) is int)
        return (self._no, post, record.number, key, bytes(member), text, time_ms, parent, edited)


def post_id(document: DocumentId, key: str) -> bytes:
    """The id of a post: 16 bytes that name document and key, and so the author."""
    return hash_bytes(LABEL_POST, document + key.encode(), POST_ID_BYTES)


def _is_feed(record: DocumentRecord) -> bool:
    return record.descriptor.kind is DocumentKind.OWNED and record.descriptor.name.startswith(FEED_PREFIX)
