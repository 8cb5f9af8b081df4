"""`draft`: what was begun and not posted. It stays on this device, and is sent to nobody."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cocoon_core import Draft, Group


def add_commands(commands: Commands) -> None:
    """Add `draft`."""
    draft = commands.add(
        "draft",
        with_group(run_draft),
        "keep a text that is not finished, list what is kept, post it or drop it",
        "There is one draft for each post that you answer, and one for a new post. Drafts stay on this device.",
        examples=[
            "cocoon draft The new greenhouse is",
            "cocoon draft --reply 4f1c93 Not sure yet",
            "cocoon draft                       (lists them)",
            "cocoon draft --send --reply 4f1c93",
        ],
    )
    draft.add_argument(
        "text", metavar="TEXT", nargs="*", action=JoinWords, default="", help="the text; - reads standard input"
    )
    draft.add_argument("--reply", metavar="ID", help="the post that it answers")
    draft.add_argument("--quote", metavar="ID", help="a post that is shown with it")
    ending = draft.add_mutually_exclusive_group()
    ending.add_argument("--send", action="store_true", help="post it")
    ending.add_argument("--drop", action="store_true", help="drop it")


async def run_draft(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Keep, list, post or drop."""
    has_text = bool(args.text.strip())
    if (args.send or args.drop) and (has_text or args.quote is not None):
        raise UsageError("With --send or --drop there is nothing else to say: it is what was kept.")
    if args.send:
        post = await group.feed.send_draft(args.reply)
        return Outcome(
            data={"id": post.id},
            draw=lambda screen: screen.line(f"Written as {shorten_id(post.id)}."),
            notes=await context.notes_on_sending(group),
        )
    if args.drop:
        dropped = await group.feed.drafts.drop(args.reply)
        return Outcome(data={"dropped": draft_data(dropped)}, draw=lambda screen: screen.line("Dropped the draft."))
    if has_text:
        kept = await group.feed.drafts.save(args.text, args.reply, args.quote)
        how = "`cocoon draft --send" + (f" --reply {shorten_id(kept.reply_to)}`" if kept.reply_to else "`")
        return Outcome(
            data={"draft": draft_data(kept)}, draw=lambda screen: screen.line(f"Kept on this device; {how} posts it.")
        )
    if args.reply is not None or args.quote is not None:
        raise UsageError("There is nothing in it: a draft needs at least one word.")
    drafts = await group.feed.drafts.list()
    return Outcome(
        data={"drafts": [draft_data(one) for one in drafts]},
        draw=lambda screen: _draw_drafts(screen, drafts),
        notes=[] if drafts else ["No drafts."],
    )


def draft_data(draft: Draft) -> dict[str, Any]:
    """A draft as scripts see it."""
    return {
        "text": draft.text,
        "reply_to": draft.reply_to,
        "quote": draft.quote,
        "saved": timestamp(draft.saved),
    }


def _draw_drafts(screen: Screen, drafts: Sequence[Draft]) -> None:
    now = datetime.now(UTC)
    for draft in drafts:
        what = f"reply to {shorten_id(draft.reply_to)}" if draft.reply_to else "new post"
        quote = f" · quotes {shorten_id(draft.quote)}" if draft.quote else ""
        screen.line((what, "bold"), (f"  {age(draft.saved, now)}{quote}", "dim"))
        screen.body(draft.text, 2)
