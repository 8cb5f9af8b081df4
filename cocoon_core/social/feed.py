"""The feed and its threads: posts and replies, chronological, the same on all devices. Spec: specs/feed.md.

A member writes in their own documents, one a month, and reads the union of all. No likes, no counters of people, no
ranking: by design. One part builds on the other: post_rows (what a row says), feed_threads, feed_changing (one's own
posts), feed_writing, moderating (what admins hide and pin), feed_reading (pages, what is new), feed_asking (calls
and questions), drafts.
"""

from __future__ import annotations

import builtins
from typing import Final

from cocoon_core.social.drafts import Drafts
from cocoon_core.social.feed_asking import Asking
from cocoon_core.social.feed_writing import Attaching, Attachment
from cocoon_core.social.post import FeedPage, Post, Quoted
from cocoon_core.social.vault_items import VaultItems
from cocoon_core.sync.events import GroupEvent, PostsMarked
from cocoon_core.sync.replica import Replica

__all__ = ["Attachment", "Feed", "FeedPage", "Post", "Quoted"]

_IS_HERE: Final = "SELECT 1 FROM posts WHERE group_no=? AND post=?"


class Feed(Asking):
    """The feed of one group. Edits are durable when the call returns, and are sent with the next sync.

    Attributes:
        drafts: what this member began to write, on this device alone.
    """

    def __init__(self, replica: Replica, items: VaultItems, attaching: Attaching) -> None:
        super().__init__(replica, items, attaching)
        self.drafts = Drafts(replica, self._find)

    async def send_draft(self, reply_to: str | None = None) -> Post:
        """Post what was begun, and drop the draft with the same step: it is posted once, whatever happens.

        Args:
            reply_to: the post that it answers; None for a new one.

        Raises:
            UnknownItemError: there is no such draft, or what it answers or quotes is not here.
        """
        draft = self.drafts.require(reply_to)
        parent = None if draft.reply_to is None else self._find(draft.reply_to)
        more = self._said(draft.text, draft.quote, ())
        return await self.write(draft.text, parent, more=more, beside=lambda: self.drafts.forget(parent))

    async def changed(self, event: GroupEvent) -> builtins.list[Post]:
        """The posts and replies that an event of `Group.events` is about, in the order of the feed; none for others.

        Those that only moved to a next generation, because others beside them were erased, are not among them. Those
        that admins marked otherwise are: of `PostsMarked`.
        """
        named = self.view.named_by(event)
        if isinstance(event, PostsMarked):
            marked = event.hidden | event.shown | event.pinned | event.unpinned
            named = [bytes.fromhex(post) for post in sorted(marked)]
        posts = [self._get(post) for post in named if self._db.query_value(_IS_HERE, (self._no, post))]
        return sorted(posts, key=lambda post: (post.time, post.id))
