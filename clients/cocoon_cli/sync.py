"""`sync`: send what was written here, fetch what others wrote; with `--watch`, stay and show what comes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.watch import watch_groups
from cocoon_core.errors import RelayUnavailable

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, SyncReport


def add_commands(commands: Commands) -> None:
    """Add `sync`."""
    sync = commands.add(
        "sync",
        with_profile(synchronise, stays=lambda args: args.watch),
        "send and fetch; all groups, unless --group names one",
        "While --watch stays, other commands of this profile run through it. With --json, every post that comes is one "
        "JSON object on a line of its own.",
    )
    sync.add_argument("--watch", action="store_true", help="stay connected and show what comes, until Ctrl-C")


async def synchronise(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Bring every chosen group level with its relays. One unreachable group does not keep the others from it."""
    if args.watch:
        return await watch_groups(cocoon, context)
    groups = context.choose_groups(cocoon)
    reports: list[tuple[Group, SyncReport]] = []
    unreached: list[str] = []
    for group in groups:
        with context.output.progress(f"Catching up with {group.name}") as progress:
            try:
                reports.append((group, await group.sync(progress=progress)))
            except RelayUnavailable as error:
                if len(groups) == 1:
                    raise
                unreached.append(f"{group.name}: {error}")
    if unreached:
        raise RelayUnavailable(" ".join(unreached))
    return _report(reports)


def _report(reports: Sequence[tuple[Group, SyncReport]]) -> Outcome:
    named = [(group.name, report, group.alarms()) for group, report in reports]
    relays: list[dict[str, Any]] = [
        {"url": r.url, "ok": r.ok, "error": r.error, "sent": r.sent, "received": r.received, "group": str(group.id)}
        for group, report in reports
        for r in report.relays
    ]

    def draw(screen: Screen) -> None:
        for name, report, _ in named:
            screen.line((name, "bold"), f": sent {report.sent}, received {report.received}.")

    notes = [f"{relay['url']} was not reached: {relay['error']}" for relay in relays if not relay["ok"]]
    notes += [f"Warning ({name}): {alarm}" for name, _, alarms in named for alarm in alarms]
    return Outcome(
        data={
            "sent": sum(report.sent for _, report in reports),
            "received": sum(report.received for _, report in reports),
            "relays": relays,
            "alarms": [alarm for _, _, alarms in named for alarm in alarms],
        },
        draw=draw,
        notes=notes,
    )
