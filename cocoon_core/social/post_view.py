"""The view of all posts: a table computed from everybody's feed documents, so that reading needs no document. Spec:
specs/feed.md.

A post is the map under a root key `post:<random>` of an owned document `feed/<month>`; its author is the document's
owner, so nobody can write, change or delete another's post. Its id is a hash of document and key. Of several
generations of a document, which are there together for a moment or by a fault, the newest that names a post says what
it is; where it says both, the post was erased.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cocoon_core.protocol.constants import LABEL_POST
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import DocumentId, GroupId
from cocoon_core.protocol.primitives import make_hasher
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable

FEED_PREFIX: Final = "feed/"
POST_PREFIX: Final = "post:"
POST_ID_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 64 * 1024
MOST_COPIES: Final = 10_000  # that are kept in mind
_LAST_MS: Final = 253_402_300_799_000  # the end of the year 9999, as far as a date can be shown

_Row = tuple[int, bytes, int, str, bytes, str, int, bytes | None, int, int, int, int]

_Said = tuple[str, int, bytes | None, int]  # what a post says: text, time, parent, whether it was edited
_hash_post: Final = make_hasher(LABEL_POST, POST_ID_BYTES)

_INSERT: Final = """
INSERT INTO posts (group_no, post, document_no, key, member, text, time_ms, parent, edited, generation, erased, lingers)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
"""
_UPSERT: Final = f"""{_INSERT}
ON CONFLICT DO UPDATE SET document_no=excluded.document_no, key=excluded.key, member=excluded.member,
text=excluded.text, time_ms=excluded.time_ms, parent=excluded.parent, edited=excluded.edited,
generation=excluded.generation, erased=excluded.erased, lingers=excluded.lingers
WHERE excluded.generation>=generation
"""
# for the first generation of a document of which nothing is shown: whatever stands there is of a later one. An insert
# that never updates costs SQLite half, since it need not be able to undo a row
_ADD: Final = f"{_INSERT} ON CONFLICT DO NOTHING"


class PostView:
    """Keeps the table `posts` of one group level with its documents. Implements `sync.shelf.View`.

    Attributes:
        copies: posts that came lately with a next generation and are as they were.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica, self._group = replica, replica.group
        self._db, self._no = replica.database, replica.record.number
        self.copies: dict[bytes, None] = {}

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if _is_feed(record):
            self._update(record, document, touched)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if _is_feed(record):
            stood = self._db.query("SELECT key FROM posts WHERE document_no=?", (record.number,))
            self._db.execute("DELETE FROM posts WHERE document_no=?", (record.number,))
            self._update(record, document, {*document.root_keys(), *(key for (key,) in stood)})

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        if _is_feed(record):
            sql = _UPSERT if record.descriptor.generation else _ADD
            self._update(record, document, document.root_keys(), sql)

    def _update(self, record: DocumentRecord, document: Readable, keys: Iterable[str], sql: str = _UPSERT) -> None:
        generation, member = record.descriptor.generation, record.descriptor.member
        assert member is not None, "a feed document is owned"
        base = base_of(record.descriptor, record.document, self._group)
        if generation:
            keys = dict.fromkeys(key.removeprefix(GONE_PREFIX) for key in keys)
        group_no, number, author = self._no, record.number, bytes(member)
        rows: list[_Row] = []
        gone: list[tuple[int, bytes, int]] = []
        lost: list[str] = []
        for key in keys:
            if not key.startswith(POST_PREFIX):
                continue
            post = post_id(base, key)
            said = _read_post(document.plain(key), post)
            erased = lingers = 0
            if generation:  # a tombstone goes before what stands beside it
                tombstone = _read_tombstone(document.plain(GONE_PREFIX + key), post)
                if tombstone is not None:
                    said, erased, lingers = tombstone, 1, int(said is not None)
            if said is None:
                gone.append((group_no, post, number))
                lost.append(key)
            else:
                rows.append((group_no, post, number, key, author, *said, generation, erased, lingers))
        if gone:
            self._db.executemany("DELETE FROM posts WHERE group_no=? AND post=? AND document_no=?", gone)
        if generation:
            self._note_copies(rows)
        if rows:
            self._db.executemany(sql, rows)
        if lost and generation:
            self._look_below(record.descriptor, lost)

    def _note_copies(self, rows: Iterable[_Row]) -> None:
        """Tell what only moved to this generation from what is new or other in it."""
        for row in rows:
            stood = self._db.query_one(
                "SELECT text, time_ms, parent, edited, erased FROM posts WHERE group_no=? AND post=?", row[:2]
            )
            self.copies.pop(row[1], None)
            if stood == (*row[5:9], row[10]):
                self.copies[row[1]] = None
        while len(self.copies) > MOST_COPIES:
            del self.copies[next(iter(self.copies))]

    def _look_below(self, descriptor: Descriptor, keys: list[str]) -> None:
        """What a generation names no more, an earlier one may still, if it goes on."""
        earlier = [
            record
            for record in self._replica.documents.all()
            if record.descriptor.generation < descriptor.generation
            and record.descriptor.at(0) == descriptor.at(0)
            and not self._replica.members.is_retired(record.descriptor)
        ]
        if earlier:
            record = max(earlier, key=lambda one: one.descriptor.generation)
            self._update(record, self._replica.shelf.get(record.descriptor), keys)


def _read_post(value: Any, post: bytes) -> _Said | None:
    """What a map says, or None where it is no post; what is odd in it is made harmless."""
    if type(value) is not dict:
        return None
    text, time_ms, parent = value.get("text"), value.get("at"), value.get("re")
    if type(text) is not str or type(time_ms) is not int:
        return None
    if not 0 <= time_ms <= _LAST_MS:
        time_ms = min(max(time_ms, 0), _LAST_MS)
    if type(parent) is not bytes or len(parent) != POST_ID_BYTES or parent == post:
        parent = None
    return text, time_ms, parent, int(type(value.get("edited")) is int)


def _read_tombstone(value: Any, post: bytes) -> _Said | None:
    return _read_post({**value, "text": "", "edited": None}, post) if type(value) is dict else None


def base_of(descriptor: Descriptor, document: DocumentId, group: GroupId) -> DocumentId:
    """The id of a document's generation 0, by which its posts are named in all of them."""
    return document if not descriptor.generation else descriptor.at(0).document_id(group)


def post_id(document: DocumentId, key: str) -> bytes:
    """The id of a post: 16 bytes that name the document, in generation 0, and the key, and so the author."""
    return _hash_post(document + key.encode())


def _is_feed(record: DocumentRecord) -> bool:
    return record.descriptor.kind is DocumentKind.OWNED and record.descriptor.name.startswith(FEED_PREFIX)
