"""The feed and its threads: posts and replies, chronological, the same on all devices. Spec: specs/feed.md.

A member writes in their own documents, one a month, and reads the union of all. No likes, no counters of people, no
ranking: by design. Writing is in feed_writing.py, threads in feed_threads.py, what a row says in post_rows.py.
"""

from __future__ import annotations

import builtins
from typing import Any

from cocoon_core.errors import UsageError
from cocoon_core.social.feed_writing import Attachment, Writing
from cocoon_core.social.post import Post
from cocoon_core.social.post_rows import COLUMNS, SHOWN
from cocoon_core.sync.events import GroupEvent

__all__ = ["Attachment", "Feed", "Post"]

_IS_HERE = "SELECT 1 FROM posts WHERE group_no=? AND post=?"


class Feed(Writing):
    """The feed of one group. Edits are durable when the call returns, and are sent with the next sync."""

    async def list(self, limit: int = 50, before: str | None = None) -> list[Post]:
        """The newest posts, newest first, without replies.

        Args:
            before: the id of a post; only those that stand below it.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        where, parameters = "", list[Any]([self._no])
        if before is not None:
            anchor = self._find(before)
            where = "AND (p.time_ms, p.post) < (SELECT time_ms, post FROM posts WHERE group_no=? AND post=?)"
            parameters += [self._no, anchor]
        rows = self._db.query(
            f"SELECT {COLUMNS} FROM posts p WHERE p.group_no=? AND p.parent IS NULL AND {SHOWN} {where} "
            "ORDER BY p.time_ms DESC, p.post DESC LIMIT ?",
            (*parameters, limit),
        )
        return self._posts(rows)

    async def get(self, post: str, *, reveal: bool = False) -> Post:
        """One post or reply, by id or a unique beginning of it.

        Args:
            reveal: with its text, if an admin hid it.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(post), reveal=reveal)

    async def changed(self, event: GroupEvent) -> builtins.list[Post]:
        """The posts and replies that an event of `Group.events` is about, in the order of the feed; none for others.

        Those that only moved to a next generation, because others beside them were erased, are not among them.
        """
        named = self.view.named_by(event)
        posts = [self._get(post) for post in named if self._db.query_value(_IS_HERE, (self._no, post))]
        return sorted(posts, key=lambda post: (post.time, post.id))
