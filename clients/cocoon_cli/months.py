"""`months list|keep|fetch`: how much of a group stays on this device, and bringing older months back."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group


def add_commands(commands: Commands) -> None:
    """Add `months` and its commands."""
    months = commands.nest("months", "how many months of posts stay on this device: list, keep, fetch")
    months.add("list", with_group(list_months), "what is kept, and what is not on this device")
    keep = months.add(
        "keep",
        with_group(keep_months),
        "keep only the newest months here, or all",
        "What is older goes from this device where a relay says that it has it, and comes back with `months fetch`. "
        "Somebody in the group should keep everything: a relay can be lost.",
        examples=["cocoon months keep 12", "cocoon months keep all"],
    )
    keep.add_argument("months", metavar="N|all", help="how many, this month among them")
    fetch = months.add(
        "fetch",
        with_group(fetch_months),
        "bring months back, for a day at least",
        examples=["cocoon months fetch 2025-12", "cocoon months fetch 2025-11 2025-12"],
    )
    fetch.add_argument("month", metavar="YYYY-MM", nargs="+")


def _outcome(group: Group, notes: list[str]) -> Outcome:
    kept, away = group.kept_months, group.months_away()
    lines = [f"Kept here: {'everything' if kept is None else count(kept, 'month')}."]
    if away:
        lines.append(f"Not on this device: {count(len(away), 'month')}, {away[-1]} to {away[0]}.")

    def draw(screen: Screen) -> None:
        for line in lines:
            screen.line(line)

    return Outcome({"kept": kept, "away": away}, draw, notes)


async def list_months(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """What is kept, and what is away."""
    return _outcome(group, [])


async def keep_months(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Keep so many months, or all."""
    if args.months != "all" and not args.months.isdecimal():
        raise UsageError(f"keep a number of months, or all, not {args.months!r}")
    gone = await group.keep_months(None if args.months == "all" else int(args.months))
    notes = []
    if args.months == "all" and group.months_away() == []:
        notes.append("What is missing comes with the next `cocoon sync`.")
    elif args.months != "all":
        notes.append(f"Let go: {count(gone, 'document')} of older months. What was written lately to them follows.")
    return _outcome(group, notes)


async def fetch_months(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Bring months back."""
    with context.output.progress("Fetching") as progress:
        await group.fetch_months(args.month, progress)
    return _outcome(group, [])
