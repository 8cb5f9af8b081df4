"""The feed and its threads: posts and replies, chronological, the same on all devices. Spec: specs/feed.md.

A member writes in their own documents, one a month, and reads the union of all. No likes, no counters of people, no
ranking: by design. Order is by the time shown (a reply's is never before its parent's), then by id; no clock of this
device plays a part.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_ATTACHMENTS, VAULT_ITEM_ID_BYTES
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.erasing import POSTS, erase, finish_erasing
from cocoon_core.social.item import Item
from cocoon_core.social.post_view import (
    MAX_TEXT_BYTES,
    POST_ID_BYTES,
    POST_PREFIX,
    PostView,
    post_id,
)
from cocoon_core.social.references import find_reference
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.events import GroupEvent
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.progress import Tell

_COLUMNS = (
    "p.post, p.member, p.text, p.time_ms, p.parent, p.edited, p.erased, p.files, "
    "(SELECT count(*) FROM posts r WHERE r.group_no=p.group_no AND r.parent=p.post)"
)

Attachment = str | Path | Item  # a file, by its path, or what is in the vault
# Seals files; what it gives puts their items into this member's documents, inside a transaction, and gives all ids.
Attaching = Callable[[Sequence[Attachment], Tell | None], Awaitable[Callable[[], Sequence[bytes]]]]

_IS_HERE = "SELECT 1 FROM posts WHERE group_no=? AND post=?"


@dataclass(frozen=True, slots=True)
class Post:
    """A post or a reply. Of one that its author erased, everything is left but the text and what was attached.

    Attributes:
        time: what its author's device said, in UTC.
        replies: how many direct replies are here.
        attachments: items of the vault, as far as they are here.
        missing: how many more were attached, and are not here: removed, or not read yet.
    """

    id: str
    author: str
    author_id: MemberId
    text: str
    time: datetime
    edited: bool
    hidden: bool
    attachments: tuple[Item, ...]
    replies: int
    parent: str | None
    erased: bool = False
    missing: int = 0


class Feed:
    """The feed of one group. Edits are durable when the call returns, and are sent with the next sync."""

    def __init__(self, replica: Replica, items: VaultItems, attaching: Attaching) -> None:
        self._replica, self._items, self._attaching = replica, items, attaching
        self._db, self._no = replica.database, replica.record.number
        self.view = PostView(replica)
        replica.add_view(self.view)
        replica.chores.append(lambda: finish_erasing(replica, POSTS))

    # --- writing

    async def post(self, text: str, attachments: Sequence[Attachment] = (), progress: Tell | None = None) -> Post:
        """Write a post.

        Args:
            attachments: files, which are added to the vault, or items that are in it. Beside one the text may be empty.
            progress: called with how far the sealing of the files is.

        Raises:
            UsageError: the text is empty or over 64 KiB of UTF-8, there are more than 32 attachments, or a file cannot
                be read. Nothing was posted.
            UnknownItemError: an item is not here.
        """
        return await self._write(text, None, attachments, progress)

    async def reply(
        self, post: str, text: str, attachments: Sequence[Attachment] = (), progress: Tell | None = None
    ) -> Post:
        """Reply to a post or to another reply, named by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
            UsageError: as `post`.
        """
        return await self._write(text, self._find(post), attachments, progress)

    async def erase(self, *posts: str) -> builtins.list[Post]:
        """Erase own posts and replies, named by id or a unique beginning of it: their texts and all earlier versions.

        They are shown as erased from now on. The text itself leaves a member's device with the first rotation that it
        follows after this (`Group.rotate`), and a relay when the leases of the old topic and its blobs end. What
        somebody copied, backed up or wrote down stays; so does what a device holds that never syncs again.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's. Nothing was erased.
        """
        found = [self._find(post) for post in posts]
        erase(self._replica, POSTS, found)
        return [self._get(post) for post in found]

    async def _write(
        self, text: str, parent: bytes | None, attachments: Sequence[Attachment], progress: Tell | None
    ) -> Post:
        _require_text(text, bare=bool(attachments))
        if len(attachments) > MAX_ATTACHMENTS:
            raise UsageError(f"a post has at most {MAX_ATTACHMENTS} attachments, not {len(attachments)}")
        replica = self._replica
        replica.members.require_member(replica.keys.id)
        attached = await self._attaching(attachments, progress) if attachments else None
        now_ms = replica.clock()
        descriptor = self.view.document_at(now_ms)
        key = POST_PREFIX + secrets.token_hex(8)
        value: dict[str, Any] = {"at": now_ms, "text": text}
        if parent is not None:
            value["re"] = parent
        if attached is None:
            with replica.change(descriptor) as root:
                root[key] = value
        else:
            replica.debts.require_read(descriptor)
            with replica.changing():  # the items and the post, or nothing
                value["files"] = b"".join(attached())
                replica.change_inside(descriptor, lambda root: root.__setitem__(key, value))
        return self._get(post_id(descriptor.at(0).document_id(replica.group), key))

    # --- reading

    async def list(self, limit: int = 50, before: str | None = None) -> list[Post]:
        """The newest posts, newest first, without replies.

        Args:
            before: the id of a post; only those that stand below it.
        """
        if limit < 1:
            raise UsageError("a limit is 1 or more")
        where, parameters = "", [self._no]
        if before is not None:
            anchor = self._find(before)
            where = "AND (p.time_ms, p.post) < (SELECT time_ms, post FROM posts WHERE group_no=? AND post=?)"
            parameters += [self._no, anchor]  # type: ignore[list-item]
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM posts p WHERE p.group_no=? AND p.parent IS NULL {where} "
            "ORDER BY p.time_ms DESC, p.post DESC LIMIT ?",
            (*parameters, limit),
        )
        return [self._post(row) for row in rows]

    async def thread(self, post: str) -> builtins.list[Post]:
        """The whole thread that a post or reply belongs to: its root first, then all replies in the order shown.

        Raises:
            UnknownItemError: it is not here.
        """
        posts = self._below(self._root_of(self._find(post)))
        return [self._post(row) for row in _order_thread(posts)]

    async def get(self, post: str) -> Post:
        """One post or reply, by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(post))

    # --- all of it, for an archive

    def months(self) -> builtins.list[str]:
        """The months, as YYYY-MM of UTC, in which a thread that is here begins; the oldest first."""
        found = {_month_of(time_ms) for time_ms, _ in self._stray_roots()}
        after = -1
        while True:
            time_ms = self._db.query_value(
                "SELECT min(time_ms) FROM posts WHERE group_no=? AND parent IS NULL AND time_ms>?", (self._no, after)
            )
            if time_ms is None:
                return sorted(found)
            found.add(_month_of(time_ms))
            after = _month_span(_month_of(time_ms))[1] - 1

    def threads(self, month: str) -> Iterator[builtins.list[Post]]:
        """Every thread that begins in that month, each as `thread` gives it, by the time and id of its first post.

        A reply whose parent is not here begins a thread of its own, so with all months every post that is here comes
        once. What is held at a time is one thread, and the ids of the month's.
        """
        first, end = _month_span(month)
        roots = self._db.query(
            "SELECT time_ms, post FROM posts WHERE group_no=? AND parent IS NULL AND time_ms>=? AND time_ms<?",
            (self._no, first, end),
        )
        strays = [root for root in self._stray_roots() if first <= root[0] < end]
        for _, root in sorted([*roots, *strays]):
            rows = self._below(root)
            if rows:  # it may have been deleted meanwhile
                yield [self._post(row) for row in _order_thread(rows)]

    def _stray_roots(self) -> builtins.list[tuple[int, bytes]]:
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
        for root in {self._root_of(bytes(post)) for (post,) in circles}:
            orphans += self._db.query("SELECT time_ms, post FROM posts WHERE group_no=? AND post=?", (self._no, root))
        return [(int(time_ms), bytes(post)) for time_ms, post in orphans]

    async def changed(self, event: GroupEvent) -> builtins.list[Post]:
        """The posts and replies that an event of `Group.events` is about, in the order of the feed; none for others.

        Those that only moved to a next generation, because others beside them were erased, are not among them.
        """
        named = self.view.named_by(event)
        posts = [self._get(post) for post in named if self._db.query_value(_IS_HERE, (self._no, post))]
        return sorted(posts, key=lambda post: (post.time, post.id))

    # --- inside

    def _get(self, post: bytes) -> Post:
        row = self._db.query_one(f"SELECT {_COLUMNS} FROM posts p WHERE p.group_no=? AND p.post=?", (self._no, post))
        if row is None:
            raise UnknownItemError
        return self._post(row)

    def _root_of(self, post: bytes) -> bytes:
        """The topmost post above this one that is here; of a circle of replies (only malice makes one) the least id."""
        path = [post]
        while True:
            parent = self._db.query_value(
                "SELECT q.post FROM posts p JOIN posts q ON q.group_no=p.group_no AND q.post=p.parent "
                "WHERE p.group_no=? AND p.post=?",
                (self._no, path[-1]),
            )
            if not isinstance(parent, bytes):
                return path[-1]
            if parent in path:
                return min(path[path.index(parent) :])
            path.append(parent)

    def _below(self, root: bytes) -> builtins.list[tuple[Any, ...]]:
        """The rows of a post and of all replies below it, the root first."""
        return self._db.query(
            # CROSS JOIN keeps the order: from what was found down to its replies, never from all posts of the group.
            "WITH RECURSIVE down(post) AS (SELECT :p UNION SELECT r.post FROM down CROSS JOIN posts r "
            "ON r.group_no=:g AND r.parent=down.post) "
            f"SELECT {_COLUMNS} FROM down CROSS JOIN posts p ON p.group_no=:g AND p.post=down.post ORDER BY p.post!=:p",
            {"g": self._no, "p": root},
        )

    def _find(self, reference: str) -> bytes:
        """The id that a hex string or a unique beginning of one names."""

        def between(low: bytes, high: bytes) -> builtins.list[tuple[Any, ...]]:
            statement = "SELECT post FROM posts WHERE group_no=? AND post BETWEEN ? AND ? LIMIT 2"
            return self._db.query(statement, (self._no, low, high))

        return find_reference(reference, between, size=POST_ID_BYTES, word="post", whose="a post", where="here")

    def _post(self, row: tuple[Any, ...]) -> Post:
        post, member, text, time_ms, parent, edited, erased, files, replies = row
        named = [] if files is None else [files[at : at + VAULT_ITEM_ID_BYTES] for at in _places(files)]
        attachments = tuple(self._items.among(list(dict.fromkeys(named)))) if named else ()
        author = self._replica.members.roster.members.get(MemberId(member))
        return Post(
            id=post.hex(),
            author=author.shown_name if author else member.hex()[:12],
            author_id=MemberId(member),
            text=text,
            time=datetime.fromtimestamp(time_ms / 1000, UTC),
            edited=bool(edited),
            hidden=False,
            attachments=attachments,
            replies=replies,
            parent=parent.hex() if parent is not None else None,
            erased=bool(erased),
            missing=len(set(named)) - len(attachments),
        )


def _require_text(text: str, *, bare: bool) -> None:
    """Args:
    bare: there are attachments, and it may be empty.
    """
    size = len(text.encode(errors="replace"))
    if not (text.strip() or bare) or size > MAX_TEXT_BYTES:
        raise UsageError(f"a post is 1 to {MAX_TEXT_BYTES} bytes of text, not {size}")
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("this text has half a character in it (a lone surrogate), which UTF-8 cannot hold")


def _places(files: bytes) -> range:
    return range(0, len(files), VAULT_ITEM_ID_BYTES)


def _month_of(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m")


def _month_span(month: str) -> tuple[int, int]:
    """The first ms of a month, and of the one after it."""
    year, number = int(month[:4]), int(month[5:])
    first = datetime(year, number, 1, tzinfo=UTC)
    if month == "9999-12":
        return int(first.timestamp() * 1000), 1 << 62
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp() * 1000), int(end.timestamp() * 1000)


def _order_thread(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The root, then every reply by the time shown, max(own time, parent's time shown), then by id."""
    times = {row[0]: row[3] for row in rows}
    parents = {row[0]: row[4] for row in rows}
    root = rows[0][0]
    shown: dict[bytes, int] = {root: times[root]}

    def show(post: bytes) -> int:
        path = [post]
        while path[-1] not in shown:
            path.append(parents[path[-1]])
        for below in reversed(path[:-1]):
            shown[below] = max(times[below], shown[parents[below]])
        return shown[post]

    return [rows[0], *sorted(rows[1:], key=lambda row: (show(row[0]), row[0]))]
