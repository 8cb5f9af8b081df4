"""The table of posts, read: rows become what members see. Spec: specs/feed.md §2 and §5.

No document is opened for it. Of a hidden post the text is given only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from cocoon_core.errors import UnknownItemError
from cocoon_core.protocol.constants import VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.post import Post, Quoted
from cocoon_core.social.post_view import CALL, NO, POST_ID_BYTES, QUESTION, YES, split_ids
from cocoon_core.social.references import find_reference
from cocoon_core.social.times import time_of
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.replica import Replica

FUTURE_MS: Final = 3_600_000  # ahead of this device's clock: more is told
ASKS: Final = {CALL: "call", QUESTION: "question"}
ANSWERS: Final = {YES: "yes", NO: "no"}

_HERE: Final = "m.group_no=p.group_no AND m.post=p.post"
COLUMNS: Final = (
    "p.post, p.member, p.text, p.time_ms, p.parent, p.edited, p.erased, p.files, p.quote, p.mentions, p.ask, "
    "p.until_ms, p.answer, p.solved, p.deleted, "
    "(SELECT count(*) FROM posts r WHERE r.group_no=p.group_no AND r.parent=p.post) - "
    "(SELECT count(*) FROM posts r INDEXED BY posts_deleted "
    "WHERE r.group_no=p.group_no AND r.parent=p.post AND r.deleted), "
    f"EXISTS (SELECT 1 FROM post_marks m WHERE m.kind='hidden' AND {_HERE}), "
    f"EXISTS (SELECT 1 FROM post_marks m WHERE m.kind='pinned' AND {_HERE}), "
    f"EXISTS (SELECT 1 FROM unread_posts m WHERE {_HERE})"
)
# One that was deleted is shown only where something that stands answers it, or what answers it, and so on.
SHOWN: Final = (
    "(NOT p.deleted OR EXISTS (WITH RECURSIVE under(post) AS (SELECT p.post UNION SELECT r.post FROM under "
    "CROSS JOIN posts r ON r.group_no=p.group_no AND r.parent=under.post) SELECT 1 FROM under CROSS JOIN posts s "
    "ON s.group_no=p.group_no AND s.post=under.post WHERE NOT s.deleted))"
)

Row = tuple[Any, ...]


class PostRows:
    """The posts of one group, by id and as rows of the view."""

    def __init__(self, replica: Replica, items: VaultItems) -> None:
        self._replica, self._items = replica, items
        self._db, self._no = replica.database, replica.record.number

    def _get(self, post: bytes, *, reveal: bool = False) -> Post:
        row = self._db.query_one(f"SELECT {COLUMNS} FROM posts p WHERE p.group_no=? AND p.post=?", (self._no, post))
        if row is None:
            raise UnknownItemError
        return self._posts([row], reveal=reveal)[0]

    def _find(self, reference: str) -> bytes:
        """The id that a hex string or a unique beginning of one names."""

        def between(low: bytes, high: bytes) -> list[Row]:
            statement = "SELECT post FROM posts WHERE group_no=? AND post BETWEEN ? AND ? LIMIT 2"
            return self._db.query(statement, (self._no, low, high))

        return find_reference(reference, between, size=POST_ID_BYTES, word="post", whose="a post", where="here")

    def _posts(self, rows: Iterable[Row], *, reveal: bool = False) -> list[Post]:
        """Args:
        reveal: with the text of those that are hidden.
        """
        ahead_ms = self._replica.clock() + FUTURE_MS
        return [self._post(row, ahead_ms, reveal=reveal) for row in rows]

    def _post(self, row: Row, ahead_ms: int, *, reveal: bool) -> Post:
        (
            post, member, text, time_ms, parent, edited, erased, files, quote, mentions, ask,
            until_ms, answer, solved, deleted, replies, hidden, pinned, unread,
        ) = row  # fmt: skip
        is_silent = bool(hidden) and not reveal
        named = [] if is_silent else split_ids(files, VAULT_ITEM_ID_BYTES)
        attachments = tuple(self._items.among(named)) if named else ()
        author, author_id = self._author(member)
        return Post(
            id=post.hex(),
            author=author,
            author_id=author_id,
            text="" if is_silent else text,
            time=time_of(time_ms),
            edited=bool(edited),
            hidden=bool(hidden),
            attachments=attachments,
            replies=replies,
            parent=parent.hex() if parent is not None else None,
            erased=bool(erased) and not deleted,
            missing=len(named) - len(attachments),
            deleted=bool(deleted),
            edited_at=time_of(edited) if edited else None,
            quoted=self._quoted(quote) if quote is not None and not is_silent else None,
            mentions=() if mentions is None or is_silent else self._known(mentions),
            ask=ASKS.get(ask),
            until=time_of(until_ms) if until_ms is not None else None,
            answer=ANSWERS.get(answer),
            solved=tuple(reply.hex() for reply in split_ids(solved, POST_ID_BYTES)),
            pinned=bool(pinned),
            unread=bool(unread),
            future=time_ms > ahead_ms,
        )

    def _author(self, member: bytes) -> tuple[str, MemberId]:
        author, roster = MemberId(member), self._replica.members.roster
        known = roster.members.get(author) or roster.former_members.get(author)
        return (known.shown_name if known else member.hex()[:12]), author

    def _known(self, mentions: bytes) -> tuple[MemberId, ...]:
        """Those who are members, or were."""
        roster = self._replica.members.roster
        ids = map(MemberId, split_ids(mentions, MemberId.LENGTH))
        return tuple(one for one in ids if one in roster.members or one in roster.former_members)

    def _quoted(self, quote: bytes) -> Quoted:
        row = self._db.query_one(
            "SELECT p.member, p.text, p.time_ms, p.erased, "
            f"EXISTS (SELECT 1 FROM post_marks m WHERE m.kind='hidden' AND {_HERE}) "
            "FROM posts p WHERE p.group_no=? AND p.post=?",
            (self._no, quote),
        )
        if row is None:
            return Quoted(quote.hex())
        member, text, time_ms, erased, hidden = row
        shown = "" if hidden else text
        return Quoted(quote.hex(), True, *self._author(member), time_of(time_ms), shown, bool(hidden), bool(erased))
