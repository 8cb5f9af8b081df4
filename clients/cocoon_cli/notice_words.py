"""What a notice says, in a few words for people: in a terminal and on the desktop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cocoon_core import Notice

_SAYINGS = {
    "post": "wrote",
    "reply": "replied",
    "mention": "mentioned you",
    "call": "calls the circle",
    "question": "asks",
    "answer": "answered",
    "solved": "marked your answer",
    "newcomer": "is a member now",
}


def say(notice: Notice) -> str:
    """What happened, in a few words without those of a post."""
    name = notice.name or ""
    match str(notice.kind):
        case "removal":
            who = "You are" if notice.me else f"{name} is"
            return f"{who} no longer a member{f': {notice.text}' if notice.text else ''}"
        case "keys":
            return f"{'Your' if notice.me else f'{name}’s'} devices changed ({notice.text})"
        case "request":
            return f"{notice.text} asks to be let in"
        case "alarm":
            return f"Warning: {notice.text}"
        case kind:
            return f"{name} {_SAYINGS.get(kind, kind)}"


def shows_text(notice: Notice) -> bool:
    """Whether its text is a post's, which stands below what happened."""
    return notice.post is not None and bool(notice.text)
