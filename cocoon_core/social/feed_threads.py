"""Threads: a post and all that was answered to it, in the order shown. Spec: specs/feed.md §3.

Order is by the time shown (a reply's is never before its parent's), then by id; no clock of this device plays a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cocoon_core.social.post import Post
from cocoon_core.social.post_rows import COLUMNS, PostRows, Row
from cocoon_core.social.times import month_of

_POST, _TIME, _PARENT, _DELETED = 0, 3, 4, 14  # places in a row


class Threads(PostRows):
    """The threads of one group."""

    async def thread(self, post: str, *, reveal: bool = False) -> list[Post]:
        """The whole thread that a post or reply belongs to: its root first, then all replies in the order shown.

        Args:
            reveal: with the text of posts that an admin hid.

        Raises:
            UnknownItemError: it is not here.
        """
        found = self._find(post)
        rows = _without_loose_ends(self._below(self._root_of(found)), found)
        return self._posts(order_thread(rows), reveal=reveal)

    # --- all of it, for an archive

    def months(self) -> list[str]:
        """The months, as YYYY-MM of UTC, in which a thread that is here begins; the oldest first."""
        found = {month_of(time_ms) for time_ms, _ in self._stray_roots()}
        after = -1
        while True:
            time_ms = self._db.query_value(
                "SELECT min(time_ms) FROM posts WHERE group_no=? AND parent IS NULL AND time_ms>?", (self._no, after)
            )
            if time_ms is None:
                return sorted(found)
            found.add(month_of(time_ms))
            after = _month_span(month_of(time_ms))[1] - 1

    def threads(self, month: str) -> Iterator[list[Post]]:
        """Every thread that begins in that month, each as `thread` gives it, by the time and id of its first post.

        A reply whose parent is not here begins a thread of its own, so with all months every post that stands comes
        once; hidden ones come with their text. What is held at a time is one thread, and the ids of the month's.
        """
        first, end = _month_span(month)
        roots = self._db.query(
            "SELECT time_ms, post FROM posts WHERE group_no=? AND parent IS NULL AND time_ms>=? AND time_ms<?",
            (self._no, first, end),
        )
        strays = [root for root in self._stray_roots() if first <= root[0] < end]
        for _, root in sorted([*roots, *strays]):
            rows = _without_loose_ends(self._below(root))
            if rows:  # nothing may stand in it
                yield self._posts(order_thread(rows), reveal=True)

    def _stray_roots(self) -> list[tuple[int, bytes]]:
        """(time, id) of replies that stand above all others which are here: their parent is not, or is below them."""
        orphans = self._db.query(
            "SELECT p.time_ms, p.post FROM posts p WHERE p.group_no=? AND p.parent IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM posts q WHERE q.group_no=p.group_no AND q.post=p.parent)",
            (self._no,),
        )
        circles = self._db.query(
            "WITH RECURSIVE down(post) AS (SELECT p.post FROM posts p WHERE p.group_no=:g AND NOT EXISTS "
            "(SELECT 1 FROM posts q WHERE q.group_no=p.group_no AND q.post=p.parent) "
            "UNION SELECT r.post FROM down CROSS JOIN posts r ON r.group_no=:g AND r.parent=down.post) "
            "SELECT post FROM posts WHERE group_no=:g AND parent IS NOT NULL AND post NOT IN (SELECT post FROM down)",
            {"g": self._no},
        )
        known: dict[bytes, bytes] = {}
        for root in {self._root_of(bytes(post), known) for (post,) in circles}:
            orphans += self._db.query("SELECT time_ms, post FROM posts WHERE group_no=? AND post=?", (self._no, root))
        return [(int(time_ms), bytes(post)) for time_ms, post in orphans]

    # --- inside

    def _root_of(self, post: bytes, known: dict[bytes, bytes] | None = None) -> bytes:
        """The topmost post above this one that is here; of a circle of replies (only malice makes one) the least id.

        Args:
            known: the roots of posts that were gone through before, to which these are added: where many are asked for,
                each way up is gone once.
        """
        known = {} if known is None else known
        places: dict[bytes, int] = {}  # in the way up
        root = post
        while root not in known and root not in places:
            places[root] = len(places)
            parent = self._db.query_value(
                "SELECT q.post FROM posts p JOIN posts q ON q.group_no=p.group_no AND q.post=p.parent "
                "WHERE p.group_no=? AND p.post=?",
                (self._no, root),
            )
            if not isinstance(parent, bytes):
                break
            root = parent
        if root in known:
            root = known[root]
        elif places[root] < len(places) - 1:  # the way led back to it
            root = min([*places][places[root] :])
        known |= dict.fromkeys(places, root)
        return root

    def _below(self, root: bytes) -> list[Row]:
        """The rows of a post and of all replies below it, the root first."""
        return self._db.query(
            # CROSS JOIN keeps the order: from what was found down to its replies, never from all posts of the group.
            "WITH RECURSIVE down(post) AS (SELECT :p UNION SELECT r.post FROM down CROSS JOIN posts r "
            "ON r.group_no=:g AND r.parent=down.post) "
            f"SELECT {COLUMNS} FROM down CROSS JOIN posts p ON p.group_no=:g AND p.post=down.post ORDER BY p.post!=:p",
            {"g": self._no, "p": root},
        )


def _without_loose_ends(rows: list[Row], asked: bytes | None = None) -> list[Row]:
    """Without the deleted posts under which nothing stands any more; the one that was asked for stays."""
    return with_ancestors(rows, {row[_POST] for row in rows if not row[_DELETED] or row[_POST] == asked})


def with_ancestors(rows: list[Row], wanted: set[bytes]) -> list[Row]:
    """Of the rows of a thread those of some posts, and of all that stand above them."""
    parents = {row[_POST]: row[_PARENT] for row in rows}
    kept: set[bytes] = set()
    for lowest in wanted:
        post = lowest
        while post in parents and post not in kept:
            kept.add(post)
            post = parents[post]
    return [row for row in rows if row[_POST] in kept]


def order_thread(rows: list[Row]) -> list[Row]:
    """The root, then every reply by the time shown, max(own time, parent's time shown), then by id."""
    times = {row[_POST]: row[_TIME] for row in rows}
    parents = {row[_POST]: row[_PARENT] for row in rows}
    root = rows[0][_POST]
    shown: dict[bytes, int] = {root: times[root]}

    def show(post: bytes) -> int:
        path = [post]
        while path[-1] not in shown:
            path.append(parents[path[-1]])
        for below in reversed(path[:-1]):
            shown[below] = max(times[below], shown[parents[below]])
        return shown[post]

    return [rows[0], *sorted(rows[1:], key=lambda row: (show(row[_POST]), row[_POST]))]


def _month_span(month: str) -> tuple[int, int]:
    """The first ms of a month, and of the one after it."""
    year, number = int(month[:4]), int(month[5:])
    first = datetime(year, number, 1, tzinfo=UTC)
    if month == "9999-12":
        return int(first.timestamp() * 1000), 1 << 62
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp() * 1000), int(end.timestamp() * 1000)
