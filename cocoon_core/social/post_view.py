"""The view of all posts. Spec: specs/feed.md.

A post is the map under a root key `post:<random>` of an owned document `feed/<month>`. Everything in it was written by
somebody who may be hostile: what is odd is as if absent. How the table follows the documents is owned_view.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import (
    LABEL_POST,
    MAX_ATTACHMENTS,
    MAX_MENTIONS,
    MAX_SOLVING,
    VAULT_ITEM_ID_BYTES,
)
from cocoon_core.protocol.ids import DocumentId, MemberId
from cocoon_core.protocol.primitives import make_hasher
from cocoon_core.social.owned_view import OwnedView, Row, Said, clamp_ms
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable

FEED_PREFIX: Final = "feed/"
POST_PREFIX: Final = "post:"
POST_ID_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 64 * 1024
CALL, QUESTION = 1, 2  # what `ask` says
YES, NO = 1, 2  # what `answer` says

_hash_post: Final = make_hasher(LABEL_POST, POST_ID_BYTES)
_PLAIN: Final = {"at", "text", "re", "files", "edited"}  # the keys that most posts have, at most
_ERASED: Final = -2  # its place in a row
_NOTHING: Final = (None,) * 6  # of quote, mentions, ask, until_ms, answer and solved, as most posts say


class PostView(OwnedView):
    """The table `posts` of one group."""

    documents: ClassVar = FEED_PREFIX
    keys: ClassVar = POST_PREFIX
    table: ClassVar = "posts"
    identity: ClassVar = "post"
    columns: ClassVar = (
        *("text", "time_ms", "parent", "edited", "files"),
        *("quote", "mentions", "ask", "until_ms", "answer", "solved", "deleted"),
    )
    deletes: ClassVar = True

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self._known: set[bytes] | None = set()  # posts that are no news though the table lacks them; None for all

    def identify(self, base: DocumentId, key: str) -> bytes:
        return post_id(base, key)

    def read(self, value: Any, identity: bytes) -> Said | None:
        return read_post(value, identity)

    def read_tombstone(self, value: Any, identity: bytes, generation: int) -> Said | None:
        return read_post_tombstone(value, identity, generation)

    # --- what is new (unread_posts)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if not self.is_mine(record):
            return
        rows = self._db.query("SELECT post FROM posts WHERE document_no=?", (record.number,))
        with self._knowing({bytes(post) for (post,) in rows}):
            super().rebuilt(record, document)

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        # of a later generation it cannot be told what is new, and what was copied when others were erased
        with self._knowing(None if record.descriptor.generation else set()):
            super().adopted(record, document)

    def let_go(self, record: DocumentRecord) -> None:
        """What was here and comes back is not new."""
        super().let_go(record)
        if self.is_mine(record):
            self._db.execute(
                "UPDATE feed_visits SET old_month=max(old_month, ?) WHERE group_no=?",
                (record.descriptor.period or "", self._no),
            )

    def arriving(self, record: DocumentRecord, rows: Sequence[Row]) -> None:
        """Note others' posts that are new here, once the member was at the feed."""
        known, member = self._known, record.descriptor.member
        old_month = self._db.query_value("SELECT old_month FROM feed_visits WHERE group_no=?", (self._no,))
        if old_month is None or known is None or (record.descriptor.period or "") <= old_month:
            return
        if member == self._replica.members.member_of(self._replica.keys.id):
            return
        fresh = [row[:2] for row in rows if row[1] not in known and not row[_ERASED]]
        stood = "SELECT 1 FROM posts WHERE group_no=? AND post=?"
        self._db.executemany(
            "INSERT OR IGNORE INTO unread_posts (group_no, post) VALUES (?,?)",
            [post for post in fresh if self._db.query_value(stood, post) is None],
        )

    @contextmanager
    def _knowing(self, known: set[bytes] | None) -> Iterator[None]:
        self._known = known
        try:
            yield
        finally:
            self._known = set()


def read_post(value: Any, identity: bytes) -> Said | None:
    """What a map says, in the order of `PostView.columns`; None where it is no post.

    Args:
        identity: the post's own id, which it can neither answer nor quote.
    """
    if type(value) is not dict:
        return None
    get = value.get
    text, time_ms = get("text"), get("at")
    if type(text) is not str or type(time_ms) is not int:
        return None
    parent = _read_post_id(get("re"), identity)
    edited_ms = get("edited")
    edited = max(clamp_ms(edited_ms), 1) if type(edited_ms) is int else 0
    files = _read_ids(get("files"), VAULT_ITEM_ID_BYTES, MAX_ATTACHMENTS)
    rest = _NOTHING if value.keys() <= _PLAIN else _read_rest(value, identity, parent is not None)
    return text, clamp_ms(time_ms), parent, edited, files, *rest, 0


def read_post_tombstone(value: Any, identity: bytes, generation: int) -> Said | None:
    """What is left of a post that was erased or deleted, in the same order; None where it is no tombstone."""
    if type(value) is not dict:
        return None
    deleted = type(value.get("deleted")) is int
    said = read_post({"text": "", "at": value.get("at"), "re": value.get("re")}, identity)
    if said is None or not (generation or deleted):  # in the first generation nothing can have been erased
        return None
    return *said[:-1], int(deleted)


def _read_rest(value: dict[str, Any], identity: bytes, is_reply: bool) -> tuple[Any, ...]:
    """Quote, mentions, ask, until_ms, answer and solved."""
    get = value.get
    ask = None if is_reply else _read_choice(get("ask"), CALL, QUESTION)
    until_ms = get("until")
    return (
        _read_post_id(get("quote"), identity),
        _read_ids(get("mentions"), MemberId.LENGTH, MAX_MENTIONS),
        ask,
        clamp_ms(until_ms) if ask == CALL and type(until_ms) is int else None,
        _read_choice(get("answer"), YES, NO) if is_reply else None,
        _read_ids(get("solved"), POST_ID_BYTES, MAX_SOLVING) if ask == QUESTION else None,
    )


def _read_post_id(value: Any, identity: bytes) -> bytes | None:
    """The id of another post."""
    return value if type(value) is bytes and len(value) == POST_ID_BYTES and value != identity else None


def _read_ids(value: Any, size: int, most: int) -> bytes | None:
    """Ids behind one another, the first of them where there are too many; None where it is no such."""
    if type(value) is not bytes or not value or len(value) % size:
        return None
    return value[: most * size]


def _read_choice(value: Any, *choices: int) -> int | None:
    return value if type(value) is int and value in choices else None


def split_ids(ids: bytes | None, size: int) -> list[bytes]:
    """The ids that stand behind one another in a column, each once, in their order."""
    return list(dict.fromkeys(ids[at : at + size] for at in range(0, len(ids), size))) if ids else []


def post_id(document: DocumentId, key: str) -> bytes:
    """The id of a post: 16 bytes that name the document, in generation 0, and the key, and so the author."""
    return _hash_post(document + key.encode())
