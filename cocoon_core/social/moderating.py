"""What admins do to the feed: hide a post, visibly, and pin one at the top. Spec: specs/feed.md §5.

Hiding takes nothing away: every member sees that a post is hidden, and can ask for its text. Only its author can take
it back.
"""

from __future__ import annotations

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_PINNED
from cocoon_core.social.circle_view import CIRCLE, HIDDEN, PINNED, ROOTS, CircleView
from cocoon_core.social.feed_writing import Attaching, Writing
from cocoon_core.social.post import Post
from cocoon_core.social.post_rows import COLUMNS
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.replica import Replica


class Moderating(Writing):
    """What an admin marks, and what is at the top."""

    def __init__(self, replica: Replica, items: VaultItems, attaching: Attaching) -> None:
        super().__init__(replica, items, attaching)
        self.marks = CircleView(replica)
        replica.add_view(self.marks)

    async def hide(self, *posts: str) -> list[Post]:
        """Hide posts or replies, as an admin. All members see that they are hidden, and their text on request only.

        Of two admins who hide and show a post at once, who hides prevails.

        Raises:
            UnknownItemError: one is not here.
            UsageError: this member is no admin. Nothing was hidden.
        """
        return self._mark(posts, HIDDEN, True, "hide posts")

    async def unhide(self, *posts: str) -> list[Post]:
        """Show posts again that an admin hid.

        Raises:
            UnknownItemError, UsageError: as `hide`.
        """
        return self._mark(posts, HIDDEN, False, "show hidden posts again")

    async def pin(self, *posts: str) -> list[Post]:
        """Put posts at the top of everybody's feed, as an admin: 32 at most.

        Raises:
            UnknownItemError: one is not here.
            UsageError: this member is no admin, or so many are pinned already. Nothing was pinned.
        """
        return self._mark(posts, PINNED, True, "pin posts")

    async def unpin(self, *posts: str) -> list[Post]:
        """Take posts from the top.

        Raises:
            UnknownItemError, UsageError: as `pin`.
        """
        return self._mark(posts, PINNED, False, "unpin posts")

    async def pinned(self) -> list[Post]:
        """The posts at the top that are here, the one that was pinned last first. They stand in the feed too."""
        rows = self._db.query(
            f"SELECT {COLUMNS} FROM post_marks k CROSS JOIN posts p ON p.group_no=k.group_no AND p.post=k.post "
            "WHERE k.group_no=? AND k.kind=? AND NOT p.erased ORDER BY k.time_ms DESC, k.post LIMIT ?",
            (self._no, PINNED, MAX_PINNED),
        )
        return self._posts(rows)

    def _mark(self, posts: tuple[str, ...], kind: str, wanted: bool, what: str) -> list[Post]:
        replica = self._replica
        me = replica.members.require_member(replica.keys.id)
        if not replica.members.roster.is_admin(me):
            raise UsageError(f"only an admin can {what}; you are a member")
        found = list(dict.fromkeys(self._find(post) for post in posts))
        now_ms = replica.clock()
        with replica.change(CIRCLE) as root:
            marks: MapEdit = root[ROOTS[kind]]
            for post in found:
                if wanted and post.hex() not in marks:
                    marks[post.hex()] = now_ms
                elif not wanted and post.hex() in marks:
                    del marks[post.hex()]
            if kind == PINNED and wanted and len(marks) > MAX_PINNED:
                self._drop_stale_pins(marks)
                if len(marks) > MAX_PINNED:
                    raise UsageError(f"{MAX_PINNED} posts are pinned at most; unpin one first")
        return [self._get(post) for post in found]

    def _drop_stale_pins(self, marks: MapEdit) -> None:
        """Pins of what its author took back hold no place."""
        rows = self._db.query(
            "SELECT k.post FROM post_marks k CROSS JOIN posts p ON p.group_no=k.group_no AND p.post=k.post "
            "WHERE k.group_no=? AND k.kind=? AND p.erased",
            (self._no, PINNED),
        )
        for (post,) in rows:
            if post.hex() in marks:
                del marks[post.hex()]
