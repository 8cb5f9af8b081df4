"""`post`, `reply`, `feed`, `thread`: what members write. Writing needs no relay; `cocoon sync` sends it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands, JoinWords, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.post_drawing import draw_posts, post_data
from cocoon_cli.text import count, shorten_id
from cocoon_core.errors import LocalStateError, UnknownItemError, UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, Post, VaultItem

_FIRST_LOOK = "The first look: from now on, what comes is new. `cocoon feed` shows what is here."
_TEXT_HELP = "what to say, in one or many words; - reads it from standard input"
_READ_HELP = "what is shown counts as read (for people it always does)"


def add_commands(commands: Commands) -> None:
    """Add the commands about posts."""
    post = commands.add(
        "post",
        with_group(write_post),
        "write a post",
        "`@Name` mentions a member. What is attached is sealed, and stands in the vault too; what a photo, film or "
        "sound says of place, device and maker is taken out of it.",
        examples=[
            "cocoon post Who has the ladder?",
            "cocoon post '@Ben can you come?' --quote 4f1c93",
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
        writing.add_argument("--quote", metavar="ID", help="a post that is shown with it")
    feed = commands.add(
        "feed",
        with_group(show_feed),
        "the newest posts, the newest last",
        "What came since you were last here is marked with a dot. What is shown counts as read from then on, on this "
        "device; with --json only if --read is given.",
        examples=[
            "cocoon feed",
            "cocoon feed --new                (only what is new, with what it answers)",
            "cocoon feed --limit 20 --before 4f1c93",
        ],
    )
    feed.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (50)")
    feed.add_argument("--before", metavar="ID", help="only what stands before this post, or `next` of a page")
    feed.add_argument("--new", action="store_true", help="only what is new since you were last here")
    feed.add_argument("--read", action="store_true", help=_READ_HELP)
    thread = commands.add("thread", with_group(show_thread), "one post and all that was answered to it")
    thread.add_argument("post", metavar="ID", help="the id of a post or reply, or the beginning of it")
    thread.add_argument("--hidden", action="store_true", help="with the text of what an admin hid")
    thread.add_argument("--read", action="store_true", help=_READ_HELP)


async def write_post(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Write a post."""
    things = await _attached(group, context, args)
    text = _require_words(args.text, bare=bool(things))
    with context.output.byte_progress("Sealing") as bar:
        post = await group.feed.post(text, things, lambda far: bar(far.done, far.total), quote=args.quote)
    return await written(post, group, context)


async def write_reply(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Answer a post."""
    things = await _attached(group, context, args)
    text = _require_words(args.text, bare=bool(things))
    with context.output.byte_progress("Sealing") as bar:
        post = await group.feed.reply(args.post, text, things, lambda far: bar(far.done, far.total), quote=args.quote)
    return await written(post, group, context)


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


async def written(post: Post, group: Group, context: Context) -> Outcome:
    """What is said of a post that was written just now."""
    return await context.wrote(group, {"id": post.id}, f"Written as {shorten_id(post.id)}.")


async def show_feed(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """The newest posts, the newest first for scripts; for people the newest last, each with its thread."""
    if args.new:
        return await _show_new(group, context, args)
    feed, as_json = group.feed, context.output.as_json
    page = await feed.page(limit=args.limit, before=args.before)
    pinned = await feed.pinned() if args.before is None else []
    threads = [] if as_json else [await feed.thread(post.id) for post in reversed(page.posts)]
    shown = [post for thread in threads for post in thread] or list(page.posts)
    await _note_read(group, context, args, shown)
    notes = [f"Warning: {alarm}" for alarm in group.alarms()]
    if len(page.posts) < args.limit and (away := group.months_away()):
        notes.append(f"Older posts are not on this device ({away[-1]} to {away[0]}): `cocoon months fetch {away[0]}`.")
    elif not page.posts:
        notes.append("Nothing here yet; `cocoon post TEXT` writes, `cocoon sync` fetches.")
    return Outcome(
        data={
            "posts": [post_data(post) for post in page.posts],
            "next": page.next,
            "pinned": [post_data(post) for post in pinned],
        },
        draw=lambda screen: _draw_feed(screen, pinned, shown),
        notes=notes,
    )


def _draw_feed(screen: Screen, pinned: list[Post], shown: list[Post]) -> None:
    """What is pinned and would not be seen otherwise stands above."""
    here = {post.id for post in shown}
    draw_posts(screen, [post for post in pinned if post.id not in here])
    draw_posts(screen, shown)


async def _show_new(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """What is new since this member was last here, with what it answers."""
    is_first = group.feed.last_here is None
    threads = list(reversed(await group.feed.new(limit=args.limit)))
    posts = [post for thread in threads for post in thread]
    total = await group.feed.unread()
    left = total - sum(post.unread for post in posts)
    await _note_read(group, context, args, posts)
    notes = [] if posts else [_FIRST_LOOK if is_first else "Nothing new."]
    if left:
        notes.append(f"{count(left, 'post')} more: `cocoon feed --new` again shows the next.")
    return Outcome(
        data={"posts": [post_data(post) for post in posts], "unread": total},
        draw=lambda screen: draw_posts(screen, posts),
        notes=notes,
    )


async def show_thread(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """A root post and its replies."""
    posts = await group.feed.thread(args.post, reveal=args.hidden)
    await _note_read(group, context, args, posts)
    hint = f"`cocoon thread {args.post} --hidden` shows what an admin hid."
    return Outcome(
        data={"posts": [post_data(post) for post in posts]},
        draw=lambda screen: draw_posts(screen, posts),
        notes=[hint] if not args.hidden and any(post.hidden for post in posts) else [],
    )


async def _note_read(group: Group, context: Context, args: argparse.Namespace, posts: Sequence[Post]) -> None:
    """What people are shown counts as read, and its authors are told if the member wishes that. Where that cannot be
    kept, they are shown it all the same.
    """
    if context.output.as_json and not args.read:
        return
    with suppress(LocalStateError):
        await group.feed.note_here(post.id for post in posts if post.unread)
        await group.seen.mark(*(post.id for post in posts if not post.hidden))
