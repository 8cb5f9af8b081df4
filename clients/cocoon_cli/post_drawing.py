"""Posts and threads as scripts and as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.output import Screen
from cocoon_cli.text import age, count, moment, shorten_id, size, timestamp

if TYPE_CHECKING:
    from cocoon_core import Post, Quoted, VaultItem

INDENT = 4  # columns for each step of a thread
DEEPEST = 6  # steps; deeper replies stand no further in
QUOTED = 100  # characters of a quoted post


def post_data(post: Post) -> dict[str, Any]:
    """A post as scripts see it: the same on every device of the group, but for `unread` and `future`."""
    return {
        "id": post.id,
        "author": post.author,
        "author_id": str(post.author_id),
        "text": post.text,
        "time": timestamp(post.time),
        "edited": post.edited,
        "edited_at": _timestamp(post.edited_at),
        "hidden": post.hidden,
        "pinned": post.pinned,
        "attachments": [attachment_data(item) for item in post.attachments],
        "missing": post.missing,
        "quote": None if post.quoted is None else quoted_data(post.quoted),
        "mentions": [str(member) for member in post.mentions],
        "ask": post.ask,
        "until": _timestamp(post.until),
        "answer": post.answer,
        "solved": list(post.solved),
        "replies": post.replies,
        "parent": post.parent,
        "deleted": post.deleted,
        "erased": post.erased,
        "unread": post.unread,
        "future": post.future,
    }


def attachment_data(item: VaultItem) -> dict[str, Any]:
    """What is attached to a post as scripts see it; `vault list` says more."""
    return {"id": item.id, "name": item.name, "kind": item.kind, "size": item.size, "mime": item.mime}


def quoted_data(quoted: Quoted) -> dict[str, Any]:
    """What a post quotes as scripts see it; of what is not here all but the id is empty."""
    return {
        "id": quoted.id,
        "here": quoted.is_here,
        "author": quoted.author,
        "author_id": None if quoted.author_id is None else str(quoted.author_id),
        "time": _timestamp(quoted.time),
        "text": quoted.text,
        "hidden": quoted.hidden,
        "gone": quoted.gone,
    }


def draw_posts(screen: Screen, posts: Sequence[Post]) -> None:
    """Threads one after another in the order of their first post, each reply under what it answers."""
    now = datetime.now(UTC)
    shown = {post.id for post in posts}
    answers: dict[str, list[Post]] = {}
    for post in posts:
        if post.parent in shown:
            answers.setdefault(str(post.parent), []).append(post)
    todo = [(post, 0) for post in reversed(posts) if post.parent not in shown]
    while todo:
        post, depth = todo.pop()
        draw_post(screen, post, depth, now, elsewhere=post.parent is not None and post.parent not in shown)
        todo.extend((answer, depth + 1) for answer in reversed(answers.get(post.id, [])))


def draw_post(screen: Screen, post: Post, depth: int, now: datetime, elsewhere: bool) -> None:
    """One post: who, when and its id; below, further in, the words."""
    indent = INDENT * min(depth, DEEPEST)
    who = "↳ " if depth or elsewhere else ""
    screen.line(
        ("● " if post.unread else "", "yellow"),
        (who, "dim"),
        (post.author, "bold"),
        (f"  {' · '.join(_marks(post, now, elsewhere))}  ", "dim"),
        (shorten_id(post.id), "cyan"),
        indent=indent,
    )
    if post.quoted is not None:
        screen.line(("│ ", "dim"), (_quoted_line(post.quoted), "dim"), indent=indent + 2)
    if post.text:
        screen.body(post.text, indent + 2)
    for item in post.attachments:
        extent = "" if item.kind == "link" else f", {size(item.size)}"
        screen.line(
            ("⎘ ", "dim"),
            item.name,
            (f"  {item.kind}{extent}  ", "dim"),
            (shorten_id(item.id), "cyan"),
            indent=indent + 2,
        )
    if post.missing:
        screen.line(
            (f"⎘ {count(post.missing, 'attachment')} not here: removed, or not yet read", "dim"), indent=indent + 2
        )


def _marks(post: Post, now: datetime, elsewhere: bool) -> list[str]:
    marks = [age(post.time, now)]
    if post.pinned:
        marks.append("pinned")
    if post.ask == "call":
        marks.append("calls everybody" + (f", until {moment(post.until)}" if post.until is not None else ""))
    elif post.ask == "question":
        marks.append("question, answered" if post.solved else "question")
    if post.answer is not None:
        marks.append(post.answer)
    if post.edited:
        marks.append("edited")
    if post.deleted:
        marks.append("deleted by its author")
    if post.erased:
        marks.append("erased by its author")
    if post.hidden and not (post.deleted or post.erased):
        marks.append("hidden by an admin")
    if elsewhere:
        marks.append(f"answers {shorten_id(str(post.parent))}")
    if post.replies:
        marks.append(count(post.replies, "reply"))
    return marks


def _quoted_line(quoted: Quoted) -> str:
    """What is quoted, on one line."""
    if not quoted.is_here:
        return f"{shorten_id(quoted.id)}, which is not here"
    if quoted.gone or quoted.hidden:
        return f"{quoted.author}: " + ("taken back by its author" if quoted.gone else "hidden by an admin")
    words = " ".join(quoted.text.split())
    return f"{quoted.author}: " + (words if len(words) <= QUOTED else f"{words[: QUOTED - 1]}…")


def _timestamp(time: datetime | None) -> str | None:
    return None if time is None else timestamp(time)
