"""`edit`, `versions`, `delete`, `erase`, `hide`, `unhide`, `pin`, `unpin`: what becomes of a post after it was written.

Its author edits, deletes and erases; an admin hides it, visibly, and pins it at the top.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, add_yes
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cocoon_core import Group, Post, PostVersion

_ID_HELP = "the id of a post or reply, or the beginning of it"
_TEXT_HELP = "what to say, in one or many words; - reads it from standard input"


def add_commands(commands: Commands) -> None:
    """Add the commands that change posts."""
    edit = commands.add(
        "edit",
        with_group(edit_post),
        "say something else in a post or reply of your own",
        "It is shown as edited. What it said before stays in its history, and every member can see that: "
        "`cocoon versions ID`.",
        examples=["cocoon edit 4f1c93 Soup at eight, not seven", "cocoon edit 4f1c93 - < better.txt"],
    )
    edit.add_argument("post", metavar="ID", help=_ID_HELP)
    edit.add_argument("text", metavar="TEXT", nargs="+", action=JoinWords, help=_TEXT_HELP)
    versions = commands.add("versions", with_group(show_versions), "what a post said before it was edited")
    versions.add_argument("post", metavar="ID", help=_ID_HELP)
    versions.add_argument("--hidden", action="store_true", help="also of a post that an admin hid")
    delete = commands.add(
        "delete",
        with_group(delete_posts, _ask_to_delete),
        "take back posts and replies of your own",
        "Nobody is shown the text any more; where something answers it, they see that you deleted it. The text stays "
        "in the history that every device holds, where who looks for it finds it. To take it from there too: "
        "`cocoon erase`.",
        examples=["cocoon delete 4f1c93"],
    )
    delete.add_argument("posts", metavar="ID", nargs="+", help=_ID_HELP)
    add_yes(delete)
    erase = commands.add(
        "erase",
        with_group(erase_posts, _ask_to_erase),
        "erase posts and replies of your own, for good",
        "Everybody then sees that you erased it, and no text. The text itself leaves a member's device with the next "
        "rotation that it follows (--now begins one), and the relay when it next clears out what is old. What somebody "
        "copied, backed up or wrote down stays; so does what is on a device that never syncs again. The earlier "
        "versions of all you edited or deleted in that month go with it.",
        examples=["cocoon erase 4f1c93", "cocoon erase 4f1c93 a07bd2 --now --yes"],
    )
    erase.add_argument("posts", metavar="ID", nargs="+", help=_ID_HELP)
    erase.add_argument("--now", action="store_true", help="rotate at once, so that the text leaves every device soon")
    add_yes(erase)
    marking: tuple[tuple[str, Callable[..., Awaitable[Outcome]], str, str], ...] = (
        (
            "hide",
            hide_posts,
            "hide posts or replies, as an admin; everybody sees that they are hidden",
            "It takes nothing away: who wants to read it can (`cocoon thread ID --hidden`). Only its author can take a "
            "post back.",
        ),
        ("unhide", unhide_posts, "show posts again that an admin hid", ""),
        ("pin", pin_posts, "put posts at the top of everybody's feed, as an admin", ""),
        ("unpin", unpin_posts, "take posts from the top", ""),
    )
    for name, handler, help_, note in marking:
        command = commands.add(name, with_group(handler), help_, note or None)
        command.add_argument("posts", metavar="ID", nargs="+", help=_ID_HELP)


async def edit_post(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Say something else in an own post."""
    post = await group.feed.edit(args.post, args.text)
    return await context.wrote(group, {"id": post.id, "edited": post.edited}, f"Edited {shorten_id(post.id)}.")


async def show_versions(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """What a post said, the oldest version first."""
    versions = await group.feed.versions(args.post, reveal=args.hidden)
    return Outcome(
        data={"versions": [_version_data(one) for one in versions]},
        draw=lambda screen: _draw_versions(screen, versions),
    )


def _version_data(version: PostVersion) -> dict[str, Any]:
    return {"text": version.text, "time": timestamp(version.time), "current": version.is_current}


def _draw_versions(screen: Screen, versions: Sequence[PostVersion]) -> None:
    now = datetime.now(UTC)
    for version in versions:
        screen.line((age(version.time, now) + (" · what it says now" if version.is_current else ""), "dim"))
        screen.body(version.text, 2)


def _ask_to_delete(args: argparse.Namespace) -> str:
    return f"Delete {count(len(set(args.posts)), 'post')}?"


async def delete_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take back own posts."""
    deleted = await group.feed.delete(*args.posts)
    ids = [post.id for post in deleted]
    kept = "The text stays in the history that devices hold; `cocoon erase` takes it from there too."
    return Outcome(
        data={"deleted": ids},
        draw=lambda screen: screen.line(f"Deleted {count(len(ids), 'post')}."),
        notes=[] if context.output.as_json else [kept, *await context.notes_on_sending(group)],
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


async def hide_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Hide posts, as an admin."""
    return await _marked(await group.feed.hide(*args.posts), "hidden", "Hid", group, context)


async def unhide_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Show hidden posts again."""
    return await _marked(await group.feed.unhide(*args.posts), "shown", "Shown again:", group, context)


async def pin_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put posts at the top, as an admin."""
    return await _marked(await group.feed.pin(*args.posts), "pinned", "Pinned", group, context)


async def unpin_posts(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take posts from the top."""
    return await _marked(await group.feed.unpin(*args.posts), "unpinned", "Unpinned", group, context)


async def _marked(posts: Sequence[Post], key: str, words: str, group: Group, context: Context) -> Outcome:
    return await context.wrote(group, {key: [post.id for post in posts]}, f"{words} {count(len(posts), 'post')}.")
