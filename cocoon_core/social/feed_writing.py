"""Writing posts and replies, and changing one's own. Spec: specs/feed.md §2 and §4.

A member writes in their own documents, one a month, so nobody else can change or take away a word.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_ATTACHMENTS
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.social.erasing import POSTS, erase, finish_erasing
from cocoon_core.social.feed_threads import Threads
from cocoon_core.social.item import Item
from cocoon_core.social.post import Post
from cocoon_core.social.post_view import MAX_TEXT_BYTES, POST_PREFIX, PostView, post_id
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.progress import Tell

Attachment = str | Path | Item  # a file, by its path, or what is in the vault
# Seals files; what it gives puts their items into this member's documents, inside a transaction, and gives all ids.
Attaching = Callable[[Sequence[Attachment], Tell | None], Awaitable[Callable[[], Sequence[bytes]]]]

_NOTHING: Final[Mapping[str, Any]] = {}


class Writing(Threads):
    """What a member writes. Durable when the call returns, and sent with the next sync."""

    def __init__(self, replica: Replica, items: VaultItems, attaching: Attaching) -> None:
        super().__init__(replica, items)
        self._attaching = attaching
        self.view = PostView(replica)
        replica.add_view(self.view)
        replica.chores.append(lambda: finish_erasing(replica, POSTS))

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
        return await self.write(text, None, attachments, progress)

    async def reply(
        self, post: str, text: str, attachments: Sequence[Attachment] = (), progress: Tell | None = None
    ) -> Post:
        """Reply to a post or to another reply, named by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
            UsageError: as `post`.
        """
        return await self.write(text, self._find(post), attachments, progress)

    async def erase(self, *posts: str) -> list[Post]:
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

    # --- for the modules of this package

    async def write(
        self,
        text: str,
        parent: bytes | None,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        more: Mapping[str, Any] = _NOTHING,
    ) -> Post:
        """Write a post or a reply.

        Args:
            parent: the id of the post that it answers.
            more: what else its map says (specs/feed.md §2), such as `ask` and `until`.

        Raises:
            UsageError, UnknownItemError: as `post`.
        """
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
        value.update(more)
        if attached is None:
            with replica.change(descriptor) as root:
                root[key] = value
        else:
            replica.debts.require_read(descriptor)
            with replica.changing():  # the items and the post, or nothing
                value["files"] = b"".join(attached())
                replica.change_inside(descriptor, lambda root: root.__setitem__(key, value))
        return self._get(post_id(descriptor.at(0).document_id(replica.group), key))

    def change_own(self, post: bytes, write: Callable[[MapEdit], None]) -> None:
        """Change what an own post says, with one change.

        Args:
            write: is given the post's map.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's.
        """
        descriptor, key = self.place_of_own(post, "change")
        with self._replica.change(descriptor) as root:
            value = root.get(key)
            if not isinstance(value, MapEdit):
                raise UnknownItemError("this post is not here any more")
            write(value)

    def place_of_own(self, post: bytes, act: str) -> tuple[Descriptor, str]:
        """The document and root key of an own post.

        Args:
            act: what only its author can do, for the error.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's.
        """
        replica = self._replica
        row = self._db.query_one(
            "SELECT document_no, key, member, erased FROM posts WHERE group_no=? AND post=?", (self._no, post)
        )
        if row is None:
            raise UnknownItemError("this post is not here any more")
        document_no, key, member, erased = row
        if member != replica.members.member_of(replica.keys.id):
            raise UsageError(f"only its author can {act} a post")
        if erased:
            raise UnknownItemError("this post was taken away by its author")
        return replica.documents.get(document_no).descriptor, key


def _require_text(text: str, *, bare: bool) -> None:
    """Args:
    bare: there are attachments, and it may be empty.
    """
    size = len(text.encode(errors="replace"))
    if not (text.strip() or bare) or size > MAX_TEXT_BYTES:
        raise UsageError(f"a post is 1 to {MAX_TEXT_BYTES} bytes of text, not {size}")
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("this text has half a character in it (a lone surrogate), which UTF-8 cannot hold")
