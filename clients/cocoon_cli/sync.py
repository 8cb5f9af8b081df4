"""`sync`: send what was written here, fetch what others wrote; with `--watch`, stay and show what comes."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.bars import ByteProgress
from cocoon_cli.context import Context, with_profile
from cocoon_cli.desktop import add_desktop, desktop_of, require_watch
from cocoon_cli.network import sync_network
from cocoon_cli.output import Outcome, Progress, Screen
from cocoon_cli.text import count, shorten_id, timestamp
from cocoon_cli.watch import watch_groups
from cocoon_core.errors import OF_THE_PROFILE, CocoonError, LocalStateError, RelayUnavailable

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, SyncReport, Transfer, WithheldInfo


def add_commands(commands: Commands) -> None:
    """Add `sync`."""
    sync = commands.add(
        "sync",
        with_profile(synchronise, stays=lambda args: args.watch),
        "send and fetch; all groups, unless --group names one",
        "While --watch stays, other commands of this profile run through it. With --json, every post, item or "
        "alarm that comes is one JSON object on a line of its own.",
        broken_off="Broken off. What was sent and what came stays; the next `cocoon sync` goes on.",
    )
    sync.add_argument("--watch", action="store_true", help="stay connected and show what comes, until Ctrl-C")
    sync.add_argument("--away", action="store_true", help="with --watch: do not show others that you are here")
    sync.add_argument(
        "--beacon",
        action="store_true",
        help="tell the others now what has reached this device, so that they notice what is withheld; else about daily",
    )
    sync.add_argument(
        "--lan", action="store_true", help="with devices on this network, in place of relays; with --watch, beside them"
    )
    add_desktop(sync)
    sync.add_argument("--lan-listen", action="append", default=[], metavar="ADDRESS", help=argparse.SUPPRESS)


async def synchronise(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Bring every chosen group level with its relays. One that is stopped or not reached keeps no other from it."""
    if args.watch:
        network = args.lan_listen if args.lan else None
        return await watch_groups(cocoon, context, network, away=args.away, beside=desktop_of(context.output, args))
    require_watch(args)
    if args.lan:
        return await sync_network(cocoon, context, args.lan_listen)
    entered = [*await cocoon.finish_joins(), *await cocoon.finish_lost_requests()]
    waiting = [pending.group_name for pending in cocoon.pending_joins()]
    waits = waiting or cocoon.lost_requests()
    groups = context.choose_groups(cocoon) if cocoon.groups() or not waits else []
    results: list[Result] = []
    for group in groups:
        with (
            context.output.progress(f"Catching up with {group.name}") as progress,
            context.output.byte_progress("") as bar,
        ):
            try:
                tell = partial(_tell_transfer, group, progress, bar)
                report = await group.sync(progress=progress, beacon=args.beacon, on_transfer=tell)
                results.append(Result(group, report))
            except (RelayUnavailable, LocalStateError) as error:
                if len(groups) == 1 or isinstance(error, OF_THE_PROFILE):
                    raise
                results.append(Result(group, error))
    return _report(results, [group.name for group in entered], waiting)


def _tell_transfer(group: Group, before: Progress, bar: ByteProgress, one: Transfer) -> None:
    """Show how far a file is, in the place of the bar before it."""
    before.end()
    name = group.vault.name_of(one.file) or "a small picture"
    what = f"{'Sending' if one.up else 'Fetching'} {name}"
    far = one.progress
    bar(far.done, far.total, what, part=(one.relay, one.file), is_moving=far.rate > 0)


def files_data(reports: Sequence[SyncReport]) -> dict[str, Any]:
    """What was done with files of the vault, as scripts see it."""
    return {
        "sent": sum(report.files.sent for report in reports),
        "fetched": sum(report.files.fetched for report in reports),
        "renewed": sum(report.files.renewed for report in reports),
        "lost": sum(report.files.lost for report in reports),
        "errors": [error for report in reports for error in report.files.errors],
    }


@dataclass(frozen=True, slots=True)
class Result:
    """A group, and what its sync did or why it could do nothing."""

    group: Group
    report: SyncReport | RelayUnavailable | LocalStateError

    def relay_data(self) -> list[dict[str, Any]]:
        """Each relay of the group as scripts see it."""
        group = str(self.group.id)
        if isinstance(self.report, CocoonError):
            lost = {"ok": False, "error": str(self.report), "sent": 0, "received": 0, "group": group}
            return [{"url": url, **lost} for url in self.group.relays]
        return [
            {"url": r.url, "ok": r.ok, "error": r.error, "sent": r.sent, "received": r.received, "group": group}
            for r in self.report.relays
        ]


def withheld_data(one: WithheldInfo) -> dict[str, Any]:
    """What is known to exist and did not come, as scripts see it."""
    return {
        "member": one.member,
        "name": one.member_name,
        "device": one.device,
        "first": one.first,
        "last": one.last,
        "entries": one.count,
        "since": timestamp(one.since),
        "relays": list(one.relays),
        "had_by": list(one.had_by),
    }


def _report(results: Sequence[Result], entered: Sequence[str], waiting: Sequence[str]) -> Outcome:
    """One line for each group; its id beside the name where another one is called alike.

    Args:
        entered: names of groups that let this profile in just now.
        waiting: names of those that it asked and that have not answered.
    """
    names = Counter(result.group.name for result in results)
    lines: list[tuple[str, str]] = []
    reached: list[SyncReport] = []
    failed: list[CocoonError] = []
    notes: list[str] = [f"Members of {name} let you in." for name in entered]
    notes += [f"{name} has not let you in yet; `cocoon sync` looks again." for name in waiting]
    alarms: list[str] = []
    withheld: list[dict[str, Any]] = []
    for result in results:
        group, report = result.group, result.report
        title = group.name if names[group.name] == 1 else f"{group.name} ({shorten_id(str(group.id))})"
        if isinstance(report, CocoonError):
            what = "not reached" if isinstance(report, RelayUnavailable) else "not in sync"
            lines.append((title, f": {what}: {str(report).rstrip('.')}."))
            failed.append(report)
        else:
            reached.append(report)
            moved = [(report.files.sent, "sent"), (report.files.fetched, "fetched")]
            files = "".join(f" {count(number, 'file')} {what}." for number, what in moved if number)
            lines.append((title, f": sent {report.sent}, received {report.received}.{files}"))
            notes += [f"Not all files of {title} were moved: {error}." for error in dict.fromkeys(report.files.errors)]
            if report.files.lost:
                lost = count(report.files.lost, "file")
                notes.append(f"Of {lost} of {title} parts are nowhere in reach; `cocoon vault check` says more.")
            unsent = group.vault.status().waiting_files
            if unsent:
                notes.append(f"{count(unsent, 'file')} of {title} still to be sent: the next `cocoon sync` goes on.")
            notes += [f"{relay.url} was not reached: {relay.error}" for relay in report.relays if not relay.ok]
            asking = sum(not request.vouched for request in group.requests())
            if asking:
                who = "One asks" if asking == 1 else f"{asking} ask"
                notes.append(f"{who} to be let into {title}: `cocoon requests` shows who.")
            if report.unread:
                what = "One document" if report.unread == 1 else f"{report.unread} documents"
                notes.append(
                    f"{what} of {title} cannot be read yet: no relay in reach has the pages. They come when a device "
                    "that has them syncs."
                )
        alarms += group.alarms()
        withheld += [withheld_data(one) | {"group": str(group.id)} for one in group.withheld()]
        notes += [f"Warning ({title}): {alarm}" for alarm in group.alarms()]
    data: dict[str, Any] = {
        "sent": sum(report.sent for report in reached),
        "received": sum(report.received for report in reached),
        "relays": [relay for result in results for relay in result.relay_data()],
        "alarms": alarms,
        "withheld": withheld,
        "files": files_data(reached),
        "unread": sum(report.unread for report in reached),
        "entered": list(entered),
        "waiting": list(waiting),
    }
    worst = next((error for error in failed if not isinstance(error, RelayUnavailable)), None)
    if results and not reached:
        message = "No group reached a relay; nothing is lost, `cocoon sync` sends it later."
        data["error"] = {
            "code": RelayUnavailable.code if worst is None else worst.code,
            "message": message if worst is None else str(worst),
        }

    def draw(screen: Screen) -> None:
        for title, words in lines:
            screen.line((title, "bold"), words)

    code = worst.exit_code if worst is not None else RelayUnavailable.exit_code
    return Outcome(data, draw, notes, code if failed else 0)
