"""Reading the feed: pages of it, and what is new since this member was last here. Spec: specs/feed.md §3 and §6.

A page begins behind a place of the feed, a time and an id, and not behind so many posts: whatever is written, deleted
or erased meanwhile, no post comes twice, and none that stood below is left out. What was read is known to this device
alone, and told to nobody.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_core.social.feed_threads import order_thread, with_ancestors
from cocoon_core.social.moderating import Moderating
from cocoon_core.social.post import FeedPage, Post
from cocoon_core.social.post_rows import COLUMNS, SHOWN, Row
from cocoon_core.social.post_view import POST_ID_BYTES
from cocoon_core.social.times import time_of

# CROSS JOIN keeps the order: from what is unread to its post, never from all posts of the group.
_UNREAD_POSTS: Final = (
    "FROM unread_posts u CROSS JOIN posts p ON p.group_no=u.group_no AND p.post=u.post "
    "WHERE u.group_no=? AND NOT p.erased"
)
_MOST_NEW: Final = 1_000  # unread posts that are looked at for threads with something new
_TIME_DIGITS: Final = 12  # hex digits of the time in a place of the feed
_POST, _TIME, _UNREAD = 0, 3, 18  # places in a row


class Reading(Moderating):
    """The feed of one group, as this device shows it."""

    async def list(self, limit: int = 50, before: str | None = None) -> builtins.list[Post]:
        """The newest posts, newest first, without replies.

        Args:
            before: the id of a post, or `next` of a page; only those that stand below it.

        Raises:
            UsageError: a limit below 1.
            UnknownItemError: `before` is not here.
        """
        return self._posts(self._rows(limit, before))

    async def page(self, limit: int = 50, before: str | None = None) -> FeedPage:
        """As `list`, with where the next page begins: that holds though the last post of this one is taken back.

        Raises:
            UsageError, UnknownItemError: as `list`.
        """
        rows = self._rows(limit + 1, before)
        last = rows[limit - 1] if len(rows) > limit else None
        return FeedPage(tuple(self._posts(rows[:limit])), None if last is None else _place_of(last[_TIME], last[_POST]))

    async def get(self, post: str, *, reveal: bool = False) -> Post:
        """One post or reply, by id or a unique beginning of it.

        Args:
            reveal: with its text, if an admin hid it.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(post), reveal=reveal)

    # --- what is new

    @property
    def last_here(self) -> datetime | None:
        """When this member last said to be here, on this device; None if never."""
        visited_ms = self._db.query_value("SELECT visited_ms FROM feed_visits WHERE group_no=?", (self._no,))
        return None if visited_ms is None else time_of(visited_ms)

    async def unread(self) -> int:
        """How many posts and replies of others came since this member was last here, and were not read."""
        return int(self._db.query_value(f"SELECT count(*) {_UNREAD_POSTS}", (self._no,)))

    async def new(self, limit: int = 50) -> builtins.list[builtins.list[Post]]:
        """The threads in which something is unread, the newest first: of each the unread posts and what they answer.

        Raises:
            UsageError: a limit below 1.
        """
        _require_limit(limit)
        unread = self._db.query(
            f"SELECT p.post {_UNREAD_POSTS} ORDER BY p.time_ms DESC, p.post DESC LIMIT ?",
            (self._no, _MOST_NEW),
        )
        known: dict[bytes, bytes] = {}
        roots = builtins.list(dict.fromkeys(self._root_of(bytes(post), known) for (post,) in unread))[:limit]
        threads = []
        for root in roots:
            rows = self._below(root)
            wanted = {row[_POST] for row in rows if row[_UNREAD]}
            threads.append(order_thread(with_ancestors(rows, wanted)))
        threads.sort(key=lambda rows: (rows[0][_TIME], rows[0][_POST]), reverse=True)
        return [self._posts(rows) for rows in threads]

    async def mark_all_read(self) -> None:
        """All that is here was read, and the member is here now."""
        self._note_read(None)

    async def note_here(self, read: Iterable[str] = ()) -> None:
        """The member is here now, and has read these posts. From the first time on, what comes is new until it is read.

        Until all that others wrote before this device came was fetched, it stays as if nobody had been here: else all
        of that would be new.

        Args:
            read: posts by id, or a unique beginning of it.

        Raises:
            UnknownItemError: one is not here.
        """
        self._note_read([self._find(post) for post in read])

    def _note_read(self, read: builtins.list[bytes] | None) -> None:
        """Args:
        read: None for all.
        """
        debts = builtins.list(self._replica.debts.all())
        is_level = all(debt.is_away for debt in debts)
        old_month = max((debt.record.descriptor.period or "" for debt in debts), default="")
        with self._db.transaction():
            if read is None:
                self._db.execute("DELETE FROM unread_posts WHERE group_no=?", (self._no,))
            elif read:
                self._db.executemany(
                    "DELETE FROM unread_posts WHERE group_no=? AND post=?", [(self._no, post) for post in read]
                )
            if is_level or self.last_here is not None:
                self._db.execute(
                    "INSERT INTO feed_visits (group_no, visited_ms, old_month) VALUES (?,?,?) "
                    "ON CONFLICT DO UPDATE SET visited_ms=excluded.visited_ms",
                    (self._no, self._replica.clock(), old_month),
                )

    # --- inside

    def _rows(self, limit: int, before: str | None) -> builtins.list[Row]:
        _require_limit(limit)
        where, parameters = "", builtins.list[Any]([self._no])
        if before is not None:
            where = "AND (p.time_ms, p.post) < (?, ?)"
            parameters += self._read_place(before)
        return self._db.query(
            f"SELECT {COLUMNS} FROM posts p WHERE p.group_no=? AND p.parent IS NULL AND {SHOWN} {where} "
            "ORDER BY p.time_ms DESC, p.post DESC LIMIT ?",
            (*parameters, limit),
        )

    def _read_place(self, before: str) -> tuple[int, bytes]:
        """A place in the feed: `next` of a page, or where a post stands."""
        time_digits, sign, post_digits = before.partition("-")
        if sign and len(time_digits) == _TIME_DIGITS and len(post_digits) == 2 * POST_ID_BYTES:
            try:
                return int(time_digits, 16), bytes.fromhex(post_digits)
            except ValueError:
                pass  # then it names no post either
        post = self._find(before)
        time_ms = self._db.query_value("SELECT time_ms FROM posts WHERE group_no=? AND post=?", (self._no, post))
        return int(time_ms), post


def _place_of(time_ms: int, post: bytes) -> str:
    return f"{time_ms:0{_TIME_DIGITS}x}-{post.hex()}"


def _require_limit(limit: int) -> None:
    if limit < 1:
        raise UsageError("a limit is 1 or more")
