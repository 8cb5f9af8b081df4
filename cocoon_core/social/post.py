"""A post as a member sees it, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.item import Item


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a post quotes, as it stands now. Of what is not here only the id is known, and nothing else is set.

    Attributes:
        is_here: it is on this device.
        hidden, gone: an admin hid it, or its author took it away: there is no text then.
    """

    id: str
    is_here: bool = False
    author: str | None = None
    author_id: MemberId | None = None
    time: datetime | None = None
    text: str = ""
    hidden: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """A post or a reply. Of one that its author erased or deleted, everything is left but what it said and attached.

    Attributes:
        text: what it says; empty if it is `hidden`, unless that was asked for.
        time: what its author's device said, in UTC.
        edited_at: when it was last edited, by its author's clock.
        hidden: an admin hid it.
        replies: how many direct replies are here, without deleted ones.
        attachments: items of the vault, as far as they are here.
        missing: how many more were attached, and are not here: removed, or not read yet.
        erased: its author took it back for good, with its history.
        deleted: its author took it back; it stands in the history of the author's month until that is erased.
        mentions: whom it speaks to. Who is, or was, no member is left out.
        ask: "call" asks everybody to act, "question" asks who knows; None of any other.
        until: by when a call wants to be answered.
        answer: "yes" or "no", in a reply to a call.
        solved: ids of the replies that the asker of a question marked as its answers.
        pinned: an admin put it at the top.
        unread: it came since this member was last here, on this device.
        future: its time is more than an hour ahead of this device's clock.
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
    deleted: bool = False
    edited_at: datetime | None = None
    quoted: Quoted | None = None
    mentions: tuple[MemberId, ...] = ()
    ask: str | None = None
    until: datetime | None = None
    answer: str | None = None
    solved: tuple[str, ...] = ()
    pinned: bool = False
    unread: bool = field(default=False, compare=False)
    future: bool = field(default=False, compare=False)

    @property
    def quote(self) -> str | None:
        """The id of the post that it quotes."""
        return self.quoted.id if self.quoted is not None else None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Some posts of the feed, the newest first.

    Attributes:
        next: where the next page begins, for `before`; None if there is none. It holds whatever is written, deleted or
            erased meanwhile.
    """

    posts: tuple[Post, ...]
    next: str | None
