"""`mute` and `quiet`: what one wants to be told nothing of, and when nothing at all (specs/events.md §6)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, duration
from cocoon_cli.context import Context, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import local_time, shorten_id, timestamp
from cocoon_core.errors import UnknownItemError, UsageError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, Mute, QuietHours

_HOURS = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?-([0-9]{1,2})(?::([0-9]{2}))?", re.ASCII)


def add_commands(commands: Commands) -> None:
    """Add `mute` and `quiet`."""
    mute = commands.add(
        "mute",
        with_profile(change_mutes),
        "be told nothing more of a thread, list, note, event, member or the group; without options, what is muted",
        "Nobody else learns of it. What happens is kept, and is shown again with --off. That somebody was removed, "
        "that keys changed, and alarms are told all the same.",
        examples=[
            "cocoon mute --thread 4f1c93 --for 1d",
            "cocoon mute --thread Shopping              (a list, a note or an event, by its name or id)",
            "cocoon mute --person Ben",
            "cocoon mute --everything --for 8h",
            "cocoon mute --person Ben --off",
        ],
    )
    what = mute.add_mutually_exclusive_group()
    what.add_argument("--thread", metavar="ID", help="any post of it, or a list, note or event, by id or its beginning")
    what.add_argument("--person", metavar="MEMBER", help="name, id or the beginning of it")
    what.add_argument("--everything", action="store_true", help="the whole group")
    mute.add_argument("--for", dest="length", type=duration, metavar="TIME", help="30m, 8h, 7d; else until --off")
    mute.add_argument("--off", action="store_true", help="take it back")
    quiet = commands.add(
        "quiet",
        with_profile(change_quiet_hours),
        "the hours in which nothing is told on the desktop or to an app; without an argument, which they are",
        "By the clock of this device, for all groups. What happens meanwhile is told when they end, and "
        "`cocoon notices` shows it at any time.",
        examples=["cocoon quiet 22:00-07:00", "cocoon quiet off"],
    )
    quiet.add_argument("hours", metavar="HOURS", nargs="?", type=_hours, help="22:00-07:00, or off")


async def change_mutes(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Set or take back one mute, or show all."""
    if not (args.thread or args.person or args.everything):
        if args.off or args.length:
            raise UsageError("Say what: --thread ID, --person MEMBER or --everything.")
        return await _show_mutes(context.choose_groups(cocoon))
    group = context.choose_group(cocoon)
    member = group.find_member(args.person) if args.person else None
    if args.off:
        if args.length:
            raise UsageError("--off takes no time: it ends the mute now.")
        found = await group.notices.unmute(thread=args.thread, member=member)
        return await _show_mutes([group], "Not muted any more." if found else "That was not muted.")
    until = None if args.length is None else datetime.now(UTC) + args.length
    await group.notices.mute(thread=args.thread, member=member, until=until)
    return await _show_mutes([group])


async def _show_mutes(groups: Sequence[Group], note: str | None = None) -> Outcome:
    shown = [(group, mute, await _describe(group, mute)) for group in groups for mute in group.notices.mutes()]
    data = {"mutes": [_mute_data(group, mute, name) for group, mute, name in shown]}

    def draw(screen: Screen) -> None:
        rows = [(group.name, name, _until(mute)) for group, mute, name in shown]
        if rows:
            screen.table(("GROUP", "MUTED", "UNTIL"), rows)

    notes = ([note] if note else []) or ([] if shown else ["Nothing is muted."])
    return Outcome(data, draw, notes)


def _mute_data(group: Group, mute: Mute, name: str) -> dict[str, Any]:
    until = None if mute.until is None else timestamp(mute.until)
    return {"group": str(group.id), "kind": mute.kind, "id": mute.subject, "name": name, "until": until}


async def _describe(group: Group, mute: Mute) -> str:
    """What is muted, for people."""
    if mute.subject is None:
        return "everything"
    if mute.kind == "member":
        people = {str(former.id): former.name for former in group.former_members()}
        people |= {str(member.id): member.name for member in group.members()}
        return people.get(mute.subject, shorten_id(mute.subject))
    with suppress(UnknownItemError):
        post = await group.feed.get(mute.subject)
        return f"the thread {shorten_id(post.id)} of {post.author}"
    with suppress(UnknownItemError):
        return f"the event {(await group.calendar.get(mute.subject)).name}"
    with suppress(UnknownItemError):
        return f"the list {(await group.lists.get(mute.subject)).name}"
    with suppress(UnknownItemError):
        return f"the note {(await group.notes.get(mute.subject)).name}"
    return f"the thread {shorten_id(mute.subject)}"


def _until(mute: Mute) -> str:
    return "for good" if mute.until is None else f"{local_time(mute.until):%d %b %H:%M}"


async def change_quiet_hours(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Set the quiet hours or have none, or show them."""
    if args.hours is not None:
        from cocoon_core import QuietHours  # loads the core, which a mistake does without

        await cocoon.set_quiet_hours(QuietHours(*args.hours) if args.hours else None)
    hours = cocoon.quiet_hours
    data = None if hours is None else {"from": f"{hours.start:%H:%M}", "to": f"{hours.end:%H:%M}"}
    return Outcome({"quiet": data}, lambda screen: screen.line(_say_hours(hours)))


def _say_hours(hours: QuietHours | None) -> str:
    return "No quiet hours." if hours is None else f"Quiet from {hours.start:%H:%M} to {hours.end:%H:%M}."


def _hours(value: str) -> tuple[time, ...]:
    """Two times of the day such as 22:00-07:00; none for `off`."""
    if value == "off":
        return ()
    found = _HOURS.fullmatch(value.strip())
    try:
        if found is None:
            raise ValueError
        start, end = time(int(found[1]), int(found[2] or 0)), time(int(found[3]), int(found[4] or 0))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not two times of the day; write 22:00-07:00, or off") from None
    return start, end
