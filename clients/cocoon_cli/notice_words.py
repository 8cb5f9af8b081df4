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
REPLIES = {"yes": "comes to", "no": "does not come to", "maybe": "may come to"}


def say(notice: Notice) -> str:
    """What happened, in a few words without those of a post."""
    name = notice.name or ""
    match str(notice.kind):
        case "event":
            return f"{name} announced {notice.title or 'an event'}"
        case "event-change":
            return _say_change(notice)
        case "event-reply":
            return f"{name} {REPLIES.get(notice.change, 'replied to')} {notice.title or 'your event'}"
        case "list" | "note" as kind:
            return _say_together(notice, kind)
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


def _say_change(notice: Notice) -> str:
    what = notice.title or "an event"
    changes = notice.change.split(", ")
    others = " and ".join(change for change in changes if change in ("time", "place", "name"))
    others = f": another {others}" if others else ""
    if "called off" in changes:
        return f"{notice.name} called off {what}"
    if "on again" in changes:
        return f"{notice.name} lets {what} take place after all{others}"
    return f"{notice.name} changed {what}{others}"


def _say_together(notice: Notice, kind: str) -> str:
    who, what = notice.name or "Several", f"the {kind} {notice.title}" if notice.title else f"a {kind}"
    match notice.change:
        case "new":
            return f"{who} began {what}"
        case "put aside":
            return f"{who} put {what} aside"
        case "taken out":
            return f"{who} took {what} out again"
        case _:
            return f"{who} changed {what}"


def shows_text(notice: Notice) -> bool:
    """Whether its text is what somebody wrote, which stands below what happened."""
    return (notice.post is not None or notice.about is not None) and bool(notice.text)
