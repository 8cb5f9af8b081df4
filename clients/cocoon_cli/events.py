"""`event …`: what members announce, and who comes. Times are of this machine's time zone; writing needs no relay."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, JoinWords, add_yes, file, plain_text, positive
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count, local_time, shorten_id, timestamp
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import CalendarEvent, EventReply, Group

ANSWERS = ("yes", "no", "maybe")
MOST_SHOWN = 50  # unless more are asked for
_EVENT_HELP = "an event's name, or its id or the beginning of it"
_AT_HELP = "when it begins: 2026-12-24 18:00, or 2026-12-24 for the whole day"
_UNTIL_HELP = "when it ends, alike; of whole days the last one"


def add_commands(commands: Commands) -> None:
    """Add `event` and its commands."""
    family = commands.nest(
        "event",
        "what is to take place, and who comes: show, new, reply, change, cancel, remove, export",
        bare=with_group(show_events),
        event=None,
        past=False,
        limit=MOST_SHOWN,
    )
    show = family.add(
        "show",
        with_group(show_events),
        "what is to come, the earliest first, or one event",
        examples=["cocoon event show", "cocoon event show --past --limit 10", "cocoon event show 'Summer party'"],
    )
    show.add_argument("event", metavar="EVENT", nargs="?", help=_EVENT_HELP)
    show.add_argument("--past", action="store_true", help="what is over too")
    show.add_argument("--limit", type=positive, default=MOST_SHOWN, metavar="N", help="how many (50)")
    new = family.add(
        "new",
        with_group(new_event),
        "announce an event",
        "Only you can change it. The others reply with `cocoon event reply`.",
        examples=[
            "cocoon event new 'Summer party' --at '2026-07-04 18:00' --until '2026-07-04 23:00' --place 'the pier'",
            "cocoon event new 'Moving house' --at 2026-08-01 --until 2026-08-02",
        ],
    )
    new.add_argument("name", metavar="NAME", type=plain_text, help="what it is called")
    new.add_argument("--at", type=when, required=True, metavar="WHEN", help=_AT_HELP)
    new.add_argument("--past", action="store_true", help="write down what is over already")
    reply = family.add(
        "reply",
        with_group(reply_to_event),
        "say whether you come",
        "What you replied before is taken back.",
        examples=["cocoon event reply 'Summer party' yes", "cocoon event reply 4f1c93 maybe if the train runs"],
    )
    reply.add_argument("event", metavar="EVENT", help=_EVENT_HELP)
    reply.add_argument("answer", choices=ANSWERS, help="yes, no or maybe")
    reply.add_argument("words", metavar="WORDS", nargs="*", action=JoinWords, default="", help="and a word beside it")
    change = family.add(
        "change",
        with_group(change_event),
        "change an event of your own",
        "What is not said stays. An event that begins at another time keeps its length.",
        examples=["cocoon event change 'Summer party' --at '2026-07-05 18:00'"],
    )
    change.add_argument("event", metavar="EVENT", help=_EVENT_HELP)
    change.add_argument("--name", type=plain_text, metavar="NAME", help="what it is called from now on")
    change.add_argument("--at", type=when, metavar="WHEN", help=_AT_HELP)
    for command in (new, change):
        command.add_argument("--until", type=when, metavar="WHEN", help=_UNTIL_HELP)
        command.add_argument("--place", type=plain_text, metavar="PLACE", help="where")
        command.add_argument("--about", type=plain_text, metavar="TEXT", help="more of it; - reads standard input")
    cancel = family.add(
        "cancel", with_group(cancel_event), "call an event of your own off; everybody sees that you did"
    )
    cancel.add_argument("event", metavar="EVENT", help=_EVENT_HELP)
    remove = family.add(
        "remove",
        with_group(remove_events, _ask_to_remove),
        "take events of your own out, so that nobody's list shows them",
        "What they said stays in the history that members hold; --erase lets go of that too, as `cocoon erase` does of "
        "posts.",
        examples=["cocoon event remove 4f1c93", "cocoon event remove --erase 4f1c93 --yes"],
    )
    remove.add_argument("events", metavar="EVENT", nargs="+", help=_EVENT_HELP)
    remove.add_argument("--erase", action="store_true", help="let go of its words in the history too")
    add_yes(remove)
    export = family.add(
        "export",
        with_group(export_events),
        "write events as an iCalendar file, for other calendars",
        "It is not encrypted. It says what, when and where, and names no member.",
        examples=["cocoon event export -o family.ics", "cocoon event export 'Summer party' -o party.ics"],
    )
    export.add_argument("events", metavar="EVENT", nargs="*", help=f"{_EVENT_HELP}; all if none is named")
    export.add_argument("-o", "--output", type=file, required=True, metavar="FILE", help="the file to write")
    export.add_argument("--force", action="store_true", help="replace the file if it is there")


def when(value: str) -> datetime | date:
    """A day, or a time of a day in this machine's time zone unless it names another."""
    text = value.strip()
    try:
        if len(text) == len("2026-12-24"):
            return date.fromisoformat(text)
        time = datetime.fromisoformat(text)
        return time.astimezone() if time.tzinfo is None else time
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{value[:40]!r} is no time; write '2026-12-24 18:00', or 2026-12-24 for the whole day"
        ) from None


def event_data(event: CalendarEvent) -> dict[str, Any]:
    """An event as scripts see it. Of whole days, `begins` is midnight of UTC, and `days` says how many."""
    return {
        "id": event.id,
        "name": event.name,
        "author": event.author,
        "author_id": str(event.author_id),
        "begins": timestamp(event.begins),
        "ends": None if event.ends is None else timestamp(event.ends),
        "days": event.days,
        "place": event.place,
        "about": event.about,
        "cancelled": event.cancelled,
        "time": timestamp(event.time),
        "edited": None if event.edited is None else timestamp(event.edited),
        "replies": [reply_data(reply) for reply in event.replies],
    }


def reply_data(reply: EventReply) -> dict[str, Any]:
    """A reply to an event as scripts see it."""
    return {
        "member": reply.member,
        "member_id": str(reply.member_id),
        "answer": reply.answer,
        "words": reply.words,
        "time": timestamp(reply.time),
        "before_change": reply.is_older,
    }


def draw_event(screen: Screen, event: CalendarEvent) -> None:
    """What, when, where and by whom; below, more of it and who comes."""
    marks = [describe_time(event), event.place, f"by {event.author}", "called off" if event.cancelled else ""]
    screen.line(
        (event.name, "bold strike" if event.cancelled else "bold"),
        (f"  {' · '.join(mark for mark in marks if mark)}  ", "dim"),
        (shorten_id(event.id), "cyan"),
    )
    if event.about:
        screen.body(event.about, 2)
    for answer in ANSWERS:
        replies = [reply for reply in event.replies if reply.answer == answer]
        if not replies:
            continue
        parts: list[str | tuple[str, str]] = [(f"{answer}: ", "dim")]
        for number, reply in enumerate(replies):
            said = f" ({reply.words})" if reply.words else ""
            older = "  before it was changed" if reply.is_older else ""
            parts += [", " if number else "", reply.member, (f"{said}{older}", "dim")]
        screen.line(*parts, indent=2)


def describe_time(event: CalendarEvent) -> str:
    """`Thu 24 Dec 2026, 18:00 – 20:00`, in this machine's time zone; whole days are the same everywhere."""
    if event.days:
        return _day(event.begins) + (f" – {_day(event.last_day)}" if event.days > 1 else "")
    begins = local_time(event.begins)
    shown = f"{_day(begins)}, {begins:%H:%M}"
    if event.ends is None:
        return shown
    ends = local_time(event.ends)
    return f"{shown} – {'' if ends.date() == begins.date() else f'{_day(ends)}, '}{ends:%H:%M}"


def _day(time: date) -> str:
    return f"{time:%a} {time.day} {time:%b} {time.year}"


async def show_events(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """One event, or those to come."""
    if args.event is not None:
        return _outcome(await group.calendar.get(args.event), [])
    since = datetime.fromtimestamp(0, UTC) if args.past else None
    events = await group.calendar.list(since=since, limit=args.limit)

    def draw(screen: Screen) -> None:
        for event in events:
            draw_event(screen, event)

    notes = [] if events else ["Nothing is to come; `cocoon event new NAME --at WHEN` announces something."]
    return Outcome({"events": [event_data(event) for event in events]}, draw, notes)


async def new_event(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Announce an event."""
    _require_to_come(args.until or args.at, args)
    event = await group.calendar.new(args.name, args.at, args.until, place=args.place or "", about=args.about or "")
    return await _changed(event, group, context)


def _require_to_come(last: datetime | date, args: argparse.Namespace) -> None:
    """Raises:
    UsageError: the year was mistyped, most likely.
    """
    now = datetime.now().astimezone()
    if not args.past and (last < now if isinstance(last, datetime) else last < now.date()):
        shown = f"{last:%Y-%m-%d %H:%M}" if isinstance(last, datetime) else f"{last}"
        raise UsageError(f"{shown} is over; name a time that is to come, or say --past to write down what was.")


async def reply_to_event(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Say whether one comes."""
    return await _changed(await group.calendar.reply(args.event, args.answer, args.words), group, context)


async def change_event(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Change an own event."""
    said = {"name": args.name, "begins": args.at, "ends": args.until, "place": args.place, "about": args.about}
    if all(value is None for value in said.values()):
        raise UsageError("Say what is to be changed: --name, --at, --until, --place or --about.")
    return await _changed(await group.calendar.change(args.event, **said), group, context)


async def cancel_event(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Call an own event off."""
    return await _changed(await group.calendar.cancel(args.event), group, context)


def _ask_to_remove(args: argparse.Namespace) -> str:
    return f"{'Erase' if args.erase else 'Remove'} {count(len(set(args.events)), 'event')} for everybody?"


async def remove_events(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take own events out."""
    ids = await group.calendar.remove(*args.events, erase=args.erase)
    words = f"{'Erased' if args.erase else 'Removed'} {count(len(ids), 'event')}."
    return await context.wrote(group, {"removed": ids, "erased": bool(args.erase)}, words)


async def export_events(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Write an iCalendar file."""
    text = await group.calendar.export(*args.events)
    path = context.locate(args.output)
    _write_file(path, text, replace=args.force)
    number = text.count("BEGIN:VEVENT\r\n")
    return Outcome(
        data={"path": str(path), "events": number},
        draw=lambda screen: screen.line(f"Wrote {count(number, 'event')} to {path}."),
        notes=["Whoever gets this file can read it."],
    )


def _write_file(path: Path, text: str, *, replace: bool) -> None:
    def open_for_owner(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    try:
        with open(path, "w" if replace else "x", encoding="utf-8", newline="", opener=open_for_owner) as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; take another name, or --force.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error


async def _changed(event: CalendarEvent, group: Group, context: Context) -> Outcome:
    return _outcome(event, await context.notes_on_sending(group))


def _outcome(event: CalendarEvent, notes: Sequence[str]) -> Outcome:
    return Outcome({"event": event_data(event)}, lambda screen: draw_event(screen, event), notes)
