"""What notices and mutes are about, beside people: posts, events, lists and notes, looked up when they are read.

So what was erased, hidden or put aside since is not shown. Spec: specs/events.md §3 and §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import UnknownItemError
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.social.event_view import REPLIES
from cocoon_core.social.feed import Feed
from cocoon_core.social.item_view import fold
from cocoon_core.social.notice_kinds import ABOUT_EVENTS, ABOUT_POSTS, NoticeKind
from cocoon_core.social.post import Post
from cocoon_core.social.post_view import POST_ID_BYTES
from cocoon_core.social.references import find_begun
from cocoon_core.storage.notices import StoredNotice
from cocoon_core.sync.replica import Replica

EXCERPT: Final = 200  # characters of what was written that a notice shows
_TABLES: Final = (  # table, column of the id, bytes of it, what is to be found by its name
    ("posts", "post", POST_ID_BYTES, None),
    ("lists", "list", DocumentId.LENGTH, "gone_ms IS NULL"),
    ("notes", "note", DocumentId.LENGTH, "gone_ms IS NULL"),
    ("events", "event", POST_ID_BYTES, "NOT erased"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a notice shows of its subject; see `Notice`."""

    post: str | None = None
    about: str | None = None
    title: str = ""
    change: str = ""
    text: str = ""


class Subjects:
    """The posts, events, lists and notes of one group."""

    def __init__(self, replica: Replica, feed: Feed) -> None:
        self._db, self._no = replica.database, replica.record.number
        self._feed = feed

    def find(self, reference: str) -> bytes:
        """The id of a post, list, note or event that begins so; or of a list, note or event that is called so.

        Raises:
            UnknownItemError: there is none, or more than one.
        """
        found = [one for table in _TABLES for one in self._named(reference, *table)]
        found += [one for table in _TABLES for one in self._with_id(reference, *table)]
        ids = sorted({one.hex() for one in found})
        if len(ids) > 1:
            shown = ", ".join(one[: max(8, len(reference) + 4)] for one in ids[:5])
            raise UnknownItemError(f"more than one is meant by {reference[:40]!r}; say which by its id: {shown}")
        if not ids:
            raise UnknownItemError(
                f"{reference[:40]!r} is neither the beginning of the id of a post, list, note or event that is here, "
                "nor the name of a list, note or event"
            )
        return bytes.fromhex(ids[0])

    async def say(self, row: StoredNotice) -> Said:
        """What a notice shows of what it is about, as that is now."""
        kind = NoticeKind(row.kind)
        if kind in ABOUT_POSTS:
            try:
                post = await self._feed.get(row.subject.hex())
            except UnknownItemError:
                return Said()
            return Said(post=post.id, text=_excerpt_post(post))
        if kind in ABOUT_EVENTS:
            return self._say_event(kind, row)
        if kind in (NoticeKind.LIST, NoticeKind.NOTE):
            return self._say_shared(kind, row)
        return Said(text=row.words)

    # --- inside

    def _say_event(self, kind: NoticeKind, row: StoredNotice) -> Said:
        found = self._db.query_one(
            "SELECT name, about FROM events WHERE group_no=? AND event=? AND NOT erased", (self._no, row.subject)
        )
        if found is None:
            return Said(change=row.words)
        name, about = found
        if kind is not NoticeKind.EVENT_REPLY:
            return Said(about=row.subject.hex(), title=name, change=row.words, text=_excerpt(about))
        reply = self._db.query_one(
            "SELECT says, words FROM event_replies WHERE group_no=? AND event=? AND member=? AND NOT erased "
            "ORDER BY time_ms DESC, reply DESC LIMIT 1",
            (self._no, row.subject, row.member),
        )
        says, words = ("", "") if reply is None else (REPLIES[reply[0] - 1], reply[1])
        return Said(about=row.subject.hex(), title=name, change=says, text=_excerpt(words))

    def _say_shared(self, kind: NoticeKind, row: StoredNotice) -> Said:
        table, column = ("lists", "list") if kind is NoticeKind.LIST else ("notes", "note")
        name = self._db.query_value(
            f"SELECT name FROM {table} WHERE group_no=? AND {column}=?", (self._no, row.subject)
        )
        if name is None:
            return Said(change=row.words)
        return Said(about=row.subject.hex(), title=name, change=row.words)

    def _named(self, reference: str, table: str, column: str, size: int, shown: str | None) -> list[bytes]:
        if shown is None:
            return []
        wanted = fold(reference.strip())
        rows = self._db.query(f"SELECT {column}, name FROM {table} WHERE group_no=? AND {shown}", (self._no,))
        return [bytes(one) for one, name in rows if fold(name) == wanted]

    def _with_id(self, reference: str, table: str, column: str, size: int, shown: str | None) -> list[bytes]:
        def between(low: bytes, high: bytes) -> list[tuple[Any, ...]]:
            return self._db.query(
                f"SELECT {column} FROM {table} WHERE group_no=? AND {column} BETWEEN ? AND ? LIMIT 2",
                (self._no, low, high),
            )

        return find_begun(reference, between, size)


def _excerpt_post(post: Post) -> str:
    """The beginning of what a post says, on one line; nothing of what is not to be shown."""
    return "" if post.erased or post.hidden else _excerpt(post.text)


def _excerpt(words: str) -> str:
    text = " ".join(words[: 4 * EXCERPT].split())
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…"
