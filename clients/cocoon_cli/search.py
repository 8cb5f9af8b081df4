"""`search`: what this device holds of a group, by words, member, time and kind. No relay is asked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, duration, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, SearchResult

KINDS = ("post", "reply", "file", "photo", "video", "audio", "link", "list", "list-item", "note", "event")
MARK = "bold yellow"  # of what was sought


def add_commands(commands: Commands) -> None:
    """Add `search`."""
    search = commands.add(
        "search",
        with_group(search_group),
        "find posts, items of the vault, lists, notes and events by words, the newest last",
        "Every word has to stand in it, in any order: a word of three letters or more also inside of another one, a "
        "shorter one where a word begins. Case and accents make no difference, and nothing that is typed has another "
        "meaning. Reads what is on this device: no relay is asked. With --json the newest stands first.",
        examples=[
            "cocoon search soup",
            "cocoon search pier low tide --kind photo",
            "cocoon search --from Ben --since 7d      (all that Ben wrote and added in a week)",
            "cocoon search ladder --since 2026-01-01 --until 2026-07-01",
            "cocoon search 北京",
        ],
    )
    search.add_argument("text", metavar="WORD", nargs="*", action=JoinWords, default="", help="what to look for")
    search.add_argument("--from", dest="member", metavar="MEMBER", help="only what this member wrote or added")
    search.add_argument(
        "--since", type=moment, metavar="WHEN", help="a day, as 2026-01-31, or as long ago as 12h or 7d"
    )
    search.add_argument("--until", type=moment, metavar="WHEN", help="what came before that")
    search.add_argument("--kind", choices=KINDS, action="append", default=[], help="only such; may be given again")
    search.add_argument("--limit", type=positive, default=50, metavar="N", help="how many, the newest (50)")


def moment(value: str) -> datetime:
    """A day, from its beginning here, or how long ago."""
    try:
        return datetime.now(UTC) - duration(value)
    except (argparse.ArgumentTypeError, OverflowError):
        pass
    try:
        return datetime.strptime(value, "%Y-%m-%d").astimezone()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{value!r} is no time; write a day as 2026-01-31, or 12h or 7d") from None


def result_data(result: SearchResult) -> dict[str, Any]:
    """A result as scripts see it."""
    return {
        "id": result.id,
        "kind": result.kind,
        "text": result.text,
        "author": result.author,
        "author_id": None if result.author_id is None else str(result.author_id),
        "time": timestamp(result.time),
        "parent": result.parent,
    }


async def search_group(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """What fits: the newest first for scripts, for people the newest last."""
    if not any((args.text.strip(), args.member, args.since, args.until, args.kind)):
        raise UsageError("Say what to look for: words, or --from, --since, --until or --kind.")
    author = None if args.member is None else group.find_member(args.member)
    results = await group.search(
        args.text, author=author, since=args.since, until=args.until, kind=args.kind, limit=args.limit
    )
    notes = []
    if not results:
        notes.append("Nothing on this device fits.")
    elif len(results) == args.limit:
        notes.append("There may be more: --limit shows more of them, --until what is older.")
    if away := group.months_away():
        notes.append(f"Not looked in, since it is not on this device: {away[-1]} to {away[0]} (`cocoon months fetch`).")
    return Outcome(
        data={"results": [result_data(result) for result in results]},
        draw=lambda screen: draw_results(screen, list(reversed(results)), datetime.now(UTC)),
        notes=notes,
    )


def draw_results(screen: Screen, results: Sequence[SearchResult], now: datetime) -> None:
    """Two lines each: what it is, whose and when; below, the words with what was sought."""
    width = max((len(result.kind) for result in results), default=0)
    for result in results:
        when = age(result.time, now)
        screen.line(
            (shorten_id(result.id), "cyan"),
            (f"  {result.kind:<{width}}  ", "dim"),
            (f"{result.author}  " if result.author else "", "bold"),
            (when, "dim"),
        )
        pieces = [(words, MARK) if is_sought else words for words, is_sought in result.excerpt()]
        if pieces:
            screen.line(*pieces, indent=10, hanging=0)
