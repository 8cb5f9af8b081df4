"""The kinds of notices. Spec: specs/events.md §3."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class NoticeKind(StrEnum):
    """What a notice is about."""

    POST = "post"  # somebody wrote a post
    REPLY = "reply"  # to a post of one's own, or in a thread that one began
    MENTION = "mention"  # of oneself
    CALL = "call"  # asks everybody to act
    QUESTION = "question"  # asks whether anybody knows
    ANSWER = "answer"  # to a call or question of one's own
    SOLVED = "solved"  # a reply of one's own was marked as what answers a question
    EVENT = "event"  # somebody announced one
    EVENT_CHANGE = "event-change"  # who announced it moved it, or called it off
    EVENT_REPLY = "event-reply"  # to an event of one's own
    LIST = "list"  # somebody began or changed one
    NOTE = "note"  # the same
    REQUEST = "request"  # somebody asks to be let in
    NEWCOMER = "newcomer"
    REMOVAL = "removal"  # somebody was removed or left; oneself too
    KEYS = "keys"  # the devices of a member are others now
    ALARM = "alarm"


ABOUT_POSTS: Final = frozenset(
    {
        *(NoticeKind.POST, NoticeKind.REPLY, NoticeKind.MENTION, NoticeKind.CALL),
        *(NoticeKind.QUESTION, NoticeKind.ANSWER, NoticeKind.SOLVED),
    }
)
ABOUT_EVENTS: Final = frozenset({NoticeKind.EVENT, NoticeKind.EVENT_CHANGE, NoticeKind.EVENT_REPLY})
ABOUT_TOGETHER: Final = ABOUT_EVENTS | {NoticeKind.LIST, NoticeKind.NOTE}
SAFETY: Final = frozenset({NoticeKind.REMOVAL, NoticeKind.KEYS, NoticeKind.ALARM})  # that no mute holds back
