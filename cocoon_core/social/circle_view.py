"""What admins mark of the feed: posts that are hidden, and posts that stand at the top. Spec: specs/feed.md §5.

It stands in the admin document `circle`, so only what an admin wrote counts, and by whom and when is known to all.
`post_marks` is computed from it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, ClassVar, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.social.owned_view import clamp_ms
from cocoon_core.social.post_view import POST_ID_BYTES
from cocoon_core.social.stale import compute_if_stale
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.events import PostsMarked
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable

CIRCLE: Final = Descriptor(DocumentKind.ADMIN, "circle", None, (("about", "map"), ("hidden", "map"), ("pins", "map")))
HIDDEN, PINNED = "hidden", "pinned"
ROOTS: Final = {HIDDEN: "hidden", PINNED: "pins"}  # the root key of each kind of mark

_Marks = dict[tuple[str, bytes], int]


class CircleView:
    """The table `post_marks` of one group. Implements `sync.shelf.View`."""

    table: ClassVar = "post_marks"

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        self._document = CIRCLE.document_id(replica.group)

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if self.is_mine(record) and not touched.isdisjoint(ROOTS.values()):
            self._update(record, document)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if self.is_mine(record):
            self._update(record, document)

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        self.rebuilt(record, document)

    def let_go(self, record: DocumentRecord) -> None:
        """It is of no month, and stays."""

    def is_mine(self, record: DocumentRecord) -> bool:
        """Whether it is the group's document of marks."""
        return record.document == self._document

    def catch_up(self) -> None:
        compute_if_stale(self._replica, self)

    def _update(self, record: DocumentRecord, document: Readable) -> None:
        """Write what differs: a document with many marks is changed one by one."""
        wanted = read_marks({kind: document.plain(root) for kind, root in ROOTS.items()})
        rows = self._db.query("SELECT kind, post, time_ms FROM post_marks WHERE group_no=?", (self._no,))
        stood = {(str(kind), bytes(post)): int(time_ms) for kind, post, time_ms in rows}
        gone = [(self._no, *mark) for mark in stood.keys() - wanted.keys()]
        fresh = [
            (self._no, *mark, record.number, time_ms) for mark, time_ms in wanted.items() if stood.get(mark) != time_ms
        ]
        self._tell(stood.keys(), wanted.keys())
        if gone:
            self._db.executemany("DELETE FROM post_marks WHERE group_no=? AND kind=? AND post=?", gone)
        if fresh:
            self._db.executemany(
                "INSERT OR REPLACE INTO post_marks (group_no, kind, post, document_no, time_ms) VALUES (?,?,?,?,?)",
                fresh,
            )

    def _tell(self, stood: Set[tuple[str, bytes]], wanted: Set[tuple[str, bytes]]) -> None:
        """Which posts are marked otherwise now."""
        come, gone = wanted - stood, stood - wanted
        if come or gone:
            sides = [(come, HIDDEN), (gone, HIDDEN), (come, PINNED), (gone, PINNED)]
            posts = (frozenset(post.hex() for kind, post in side if kind == wished) for side, wished in sides)
            self._replica.tell(PostsMarked(*posts))


def read_marks(maps: dict[str, Any]) -> _Marks:
    """The marks in the maps of the document, by kind; what is odd is as if absent."""
    found: _Marks = {}
    for kind, marked in maps.items():
        if type(marked) is not dict:
            continue
        for key, time_ms in marked.items():
            post = _read_key(key)
            if post is not None and type(time_ms) is int:
                found[kind, post] = clamp_ms(time_ms)
    return found


def _read_key(key: str) -> bytes | None:
    """A post's id as it is written here: lower-case hex digits and nothing else."""
    if len(key) != 2 * POST_ID_BYTES or not key.isascii():
        return None
    try:
        post = bytes.fromhex(key)
    except ValueError:
        return None
    return post if post.hex() == key else None
