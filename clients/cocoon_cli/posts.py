"""`post`, `reply`, `erase`, `feed`, `thread`: what members write. Writing needs no relay; `cocoon sync` sends it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, add_yes, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, size, timestamp
from cocoon_core.errors import UnknownItemError, UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, Post, VaultItem

INDENT = 4  # columns for each step of a thread
DEEPEST = 6  # steps; deeper replies stand no further in
_TEXT_HELP = "what to say, in one or many words; - reads it from standard input"


def add_commands(commands: Commands) -> None:
    """Add the commands about posts."""
    post = commands.add(
        "post",
        with_group(write_post),
        "write a post",
        "What is attached is sealed, and stands in the vault too; what a photo, film or sound says of place, device "
        "and maker is taken out of it.",
        examples=[
            "cocoon post Who has the ladder?",
            "cocoon post 'The new greenhouse' --attach roof.jpg --attach plan.pdf",
            "cocoon post --attach 4f1c93      (an item of the vault, without words)",
        ],
    )
    post.add_argument("text", metavar="TEXT", nargs="*", action=JoinWords, default="", help=_TEXT_HELP)
    reply = commands.add("reply", with_group(write_reply), "answer a post or a reply")
    reply.add_argument("post", metavar="ID", help="the id of what you answer, or the beginning of it")
    reply.add_argument("text", metavar="TEXT", nargs="*", action=JoinWords, default="", help=_TEXT_HELP)
    for writing in (post, reply):
        writing.add_argument(
            "--attach",
            action="append",
            default=[],
            metavar="PATH|ID",
            help="attach a file, which is added to the vault, or an item that is in it; may be given more than once",
        )
    erase = commands.add(
        "erase",
        with_group(erase_posts, _ask_to_erase),
        "erase posts and replies of your own, for good",
        "Everybody then sees that you erased it, and no text. The text itself leaves a member's device with the next "
        "rotation that it follows (--now begins one), and the relay when it next clears out what is old. What somebody "
        "copied, backed up or wrote down stays; so does what is on a device that never syncs again.",
        examples=["cocoon erase 4f1c93", "cocoon erase 4f1c93 a07bd2 --now --yes"],
    )
    erase.add_argument("posts", metavar="ID", nargs="+", help="the id of a post or reply, or the beginning of it")
    erase.add_argument("--now", action="store_true", help="rotate at once, so that the text leaves every device soon")
    add_yes(erase)
    feed = commands.add("feed", with_group(show_feed), "the newest posts, the newest last")
    feed.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (50)")
    feed.add_argument("--before", metavar="ID", help="only what stands before this post")
    thread = commands.add("thread", with_group(show_thread), "one post and all that was answered to it")
    thread.add_argument("post", metavar="ID", help="the id of a post or reply, or the beginning of it")


def post_data(post: Post) -> dict[str, Any]:
    """A post as scripts see it: the same on every device of the group."""
    return {
        "id": post.id,
        "author": post.author,
        "author_id": str(post.author_id),
        "text": post.text,
        "time": timestamp(post.time),
        "edited": post.edited,
        "hidden": post.hidden,
        "attachments": [attachment_data(item) for item in post.attachments],
        "missing": post.missing,
        "replies": post.replies,
        "parent": post.parent,
        "erased": post.erased,
    }


def attachment_data(item: VaultItem) -> dict[str, Any]:
    """What is attached to a post as scripts see it; `vault list` says more."""
    return {"id": item.id, "name": item.name, "kind": item.kind, "size": item.size, "mime": item.mime}


async def write_post(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Write a post."""
    things = await _attached(group, context, args)
    text = _require_words(args.text, bare=bool(things))
    with context.output.byte_progress("Sealing") as bar:
        post = await group.feed.post(text, things, lambda far: bar(far.done, far.total))
    return await _written(post, group, context)


async def write_reply(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Answer a post."""
    things = await _attached(group, context, args)
    text = _require_words(args.text, bare=bool(things))
    with context.output.byte_progress("Sealing") as bar:
        post = await group.feed.reply(args.post, text, things, lambda far: bar(far.done, far.total))
    return await _written(post, group, context)


def _require_words(text: str, *, bare: bool) -> str:
    """Args:
    bare: something is attached, which may speak for itself.
    """
    if not text.strip() and not bare:
        raise UsageError("There is nothing in it: a post needs at least one word, or something that is attached.")
    return text


async def _attached(group: Group, context: Context, args: argparse.Namespace) -> list[Path | VaultItem]:
    """What was named: a file where there is one, else an item of the vault."""
    found: list[Path | VaultItem] = []
    for thing in args.attach:
        path = context.locate(Path(thing))
        if path.exists():
            found.append(path)
            continue
        try:
            found.append(await group.vault.item(thing))
        except UnknownItemError:
            raise UsageError(f"There is no file {thing!r} here, and no such item in the vault.") from None
    return found


async def _written(post: Post, group: Group, context: Context) -> Outcome:
    return Outcome(
        data={"id": post.id},
        draw=lambda screen: screen.line(f"Written as {shorten_id(post.id)}."),
        notes=await context.notes_on_sending(group),
    )


def _ask_to_erase(args: argparse.Namespace) -> str:
    return f"Erase {count(len(set(args.posts)), 'post')} for good?"


async def erase_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Erase own posts, and rotate at once where that was asked for."""
    erased = await group.feed.erase(*args.posts)
    if args.now:
        await group.rotate()
    ids = list(dict.fromkeys(post.id for post in erased))
    when = "this" if args.now else "the next"
    notes = [
        f"The text leaves the others' devices when they follow {when} rotation"
        + (", as soon as they sync." if args.now else "; `cocoon rotate` begins one at once."),
        "What somebody copied or backed up stays.",
    ]
    return Outcome(
        data={"erased": ids, "rotated": bool(args.now)},
        draw=lambda screen: screen.line(f"Erased {count(len(ids), 'post')}."),
        notes=[] if context.output.as_json else [*notes, *await context.notes_on_sending(group)],
    )


async def show_feed(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """The newest posts, the newest first for scripts; for people the newest last, each with its thread."""
    posts = await group.feed.list(limit=args.limit, before=args.before)
    threads = [] if context.output.as_json else [await group.feed.thread(post.id) for post in reversed(posts)]
    notes = [f"Warning: {alarm}" for alarm in group.alarms()]
    if len(posts) < args.limit and (away := group.months_away()):
        notes.append(f"Older posts are not on this device ({away[-1]} to {away[0]}): `cocoon months fetch {away[0]}`.")
    elif not posts:
        notes.append("Nothing here yet; `cocoon post TEXT` writes, `cocoon sync` fetches.")
    return Outcome(
        data={"posts": [post_data(post) for post in posts]},
        draw=lambda screen: draw_posts(screen, [post for thread in threads for post in thread]),
        notes=notes,
    )


async def show_thread(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """A root post and its replies."""
    posts = await group.feed.thread(args.post)
    return Outcome(
        data={"posts": [post_data(post) for post in posts]},
        draw=lambda screen: draw_posts(screen, posts),
    )


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
    marks = [age(post.time, now)]
    if post.edited:
        marks.append("edited")
    if post.erased:
        marks.append("erased by its author")
    if post.hidden:
        marks.append("hidden by an admin")
    if elsewhere:
        marks.append(f"answers {shorten_id(str(post.parent))}")
    if post.replies:
        marks.append(count(post.replies, "reply"))
    who = "↳ " if depth or elsewhere else ""
    screen.line(
        (who, "dim"),
        (post.author, "bold"),
        (f"  {' · '.join(marks)}  ", "dim"),
        (shorten_id(post.id), "cyan"),
        indent=indent,
    )
    if not post.erased:
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
