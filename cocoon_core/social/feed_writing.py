"""Writing posts and replies. Spec: specs/feed.md §2.

A member writes in their own documents, one a month, so nobody else can change or take away a word.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_ATTACHMENTS
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.erasing import POSTS, finish_erasing
from cocoon_core.social.feed_changing import Changing, require_text
from cocoon_core.social.item import Item
from cocoon_core.social.mentions import pack_mentions
from cocoon_core.social.post import Post
from cocoon_core.social.post_view import POST_PREFIX, PostView, post_id
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.progress import Tell

Attachment = str | Path | Item  # a file, by its path, or what is in the vault
# Seals files; what it gives puts their items into this member's documents, inside a transaction, and gives all ids.
Attaching = Callable[[Sequence[Attachment], Tell | None], Awaitable[Callable[[], Sequence[bytes]]]]

_NOTHING: Final[Mapping[str, Any]] = {}
_MOMENT_MS: Final = 1_000


class Writing(Changing):
    """What a member writes. Durable when the call returns, and sent with the next sync."""

    def __init__(self, replica: Replica, items: VaultItems, attaching: Attaching) -> None:
        super().__init__(replica, items)
        self._attaching = attaching
        self._written_ms = 0  # when the newest post of this process was, by its own word
        self.view = PostView(replica)
        replica.add_view(self.view)
        replica.chores.append(lambda: finish_erasing(replica, POSTS))

    async def post(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        *,
        quote: str | None = None,
        mentions: Iterable[MemberId] = (),
    ) -> Post:
        """Write a post.

        Args:
            attachments: files, which are added to the vault, or items that are in it. Beside one the text may be empty.
            progress: called with how far the sealing of the files is.
            quote: a post that is shown with it, named by id or a unique beginning of it.
            mentions: whom it speaks to, besides those whom the text names with `@`.

        Raises:
            UsageError: the text is empty or over 64 KiB of UTF-8, there are more than 32 attachments or 64 mentions, or
                a file cannot be read. Nothing was posted.
            UnknownItemError: an item, or the quoted post, is not here.
            UnknownMemberError: somebody who was mentioned is no member.
        """
        more = self._said(text, quote, mentions)
        return await self.write(text, None, attachments, progress, more)

    async def reply(
        self,
        post: str,
        text: str,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        *,
        quote: str | None = None,
        mentions: Iterable[MemberId] = (),
    ) -> Post:
        """Reply to a post or to another reply, named by id or a unique beginning of it.

        Raises:
            UnknownItemError: it is not here.
            UsageError, UnknownMemberError: as `post`.
        """
        more = self._said(text, quote, mentions)
        return await self.write(text, self._find(post), attachments, progress, more)

    def _said(self, text: str, quote: str | None, mentions: Iterable[MemberId]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if quote is not None:
            said["quote"] = self._find(quote)
        named = pack_mentions(text, mentions, self._replica.members.roster)
        return said | {"mentions": named} if named else said

    # --- for the modules of this package

    async def write(
        self,
        text: str,
        parent: bytes | None,
        attachments: Sequence[Attachment] = (),
        progress: Tell | None = None,
        more: Mapping[str, Any] = _NOTHING,
        beside: Callable[[], None] | None = None,
    ) -> Post:
        """Write a post or a reply.

        Args:
            parent: the id of the post that it answers.
            more: what else its map says (specs/feed.md §2), such as `ask` and `until`.
            beside: done in the transaction that stores the post.

        Raises:
            UsageError, UnknownItemError: as `post`.
        """
        require_text(text, bare=bool(attachments))
        if len(attachments) > MAX_ATTACHMENTS:
            raise UsageError(f"a post has at most {MAX_ATTACHMENTS} attachments, not {len(attachments)}")
        replica = self._replica
        replica.members.require_member(replica.keys.id)
        attached = await self._attaching(attachments, progress) if attachments else None
        now_ms = self._now_ms()
        descriptor = self.view.document_at(now_ms)
        key = POST_PREFIX + secrets.token_hex(8)
        value: dict[str, Any] = {"at": now_ms, "text": text}
        if parent is not None:
            value["re"] = parent
        value.update(more)
        if attached is None and beside is None:
            with replica.change(descriptor) as root:
                root[key] = value
        else:
            replica.debts.require_read(descriptor)
            with replica.changing():  # the items and the post, or nothing
                if attached is not None:
                    value["files"] = b"".join(attached())
                replica.change_inside(descriptor, lambda root: root.__setitem__(key, value))
                if beside is not None:
                    beside()
        return self._get(post_id(descriptor.at(0).document_id(replica.group), key))

    def _now_ms(self) -> int:
        """By the clock, but later than what was written a moment ago: posts of one millisecond stand by their ids."""
        now_ms = self._replica.clock()
        if now_ms <= self._written_ms < now_ms + _MOMENT_MS:  # a clock that was set back further is followed
            now_ms = self._written_ms + 1
        self._written_ms = now_ms
        return now_ms
