"""`notices`: what happened that one should know, from the stream that outlives a restart (specs/events.md)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, positive
from cocoon_cli.context import Context, with_profile
from cocoon_cli.desktop import add_desktop, desktop_of, require_watch
from cocoon_cli.events import describe_time
from cocoon_cli.notice_words import say, shows_text
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, timestamp
from cocoon_cli.watch import watch_groups
from cocoon_core.errors import UnknownItemError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, Notice


def add_commands(commands: Commands) -> None:
    """Add `notices`."""
    notices = commands.add(
        "notices",
        with_profile(show_notices, stays=lambda args: args.watch),
        "what happened that you should know, the newest last; of all groups, unless --group names one",
        "Posts, replies to you, mentions, calls, answers, events and who comes to yours, lists and notes that others "
        "changed, who came and went, changed devices and alarms. What stands after a ● was not marked as read yet; "
        "--read marks it. Scripts read on with --after and the token that they got last: nothing is left out, and "
        "after a crash nothing is lost.",
        examples=[
            "cocoon notices --unread",
            "cocoon notices --read",
            "cocoon notices --watch",
            "cocoon --json --group Family notices --after 17.5f0c21aa",
        ],
    )
    notices.add_argument("--limit", type=positive, default=20, metavar="N", help="how many of each group (20)")
    notices.add_argument("--unread", action="store_true", help="only what was not marked as read")
    notices.add_argument("--muted", action="store_true", help="also what is muted (`cocoon mute`)")
    notices.add_argument("--read", action="store_true", help="mark all of them as read")
    notices.add_argument("--after", metavar="TOKEN", help="what came behind this token, the oldest first; of one group")
    notices.add_argument("--watch", action="store_true", help="stay connected and show each as it comes, until Ctrl-C")
    add_desktop(notices)


async def show_notices(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Show the newest ones, those behind a token, or each as it comes."""
    if args.watch:
        show = partial(tell_notices, context)
        beside = desktop_of(context.output, args)
        return await watch_groups(cocoon, context, away=True, show=show, beside=beside)
    require_watch(args)
    if args.after is not None:
        return await _show_after(context.choose_group(cocoon), args)
    groups = context.choose_groups(cocoon)
    found = [(group, await group.notices.list(args.limit, unread=args.unread, muted=args.muted)) for group in groups]
    unread = sum(group.notices.unread() for group in groups)
    if args.read:
        for group in groups:
            await group.notices.mark_read()
    below = {} if context.output.as_json else await _say_events(found)
    data = {
        "notices": [notice_data(group, notice) for group, notices in found for notice in notices],
        "unread": unread,
        "tokens": {str(group.id): group.notices.newest for group in groups},
    }
    return Outcome(data, lambda screen: _draw(screen, found, below), _notes(found, unread, args))


async def _say_events(found: Sequence[tuple[Group, Sequence[Notice]]]) -> dict[str, str]:
    """When and where the events are that are announced or changed, by the tokens of their notices."""
    said = {}
    for group, notices in found:
        for notice in notices:
            if str(notice.kind) in ("event", "event-change") and notice.about is not None:
                with suppress(UnknownItemError):
                    event = await group.calendar.get(notice.about)
                    said[notice.token] = " · ".join(filter(None, (describe_time(event), event.place)))
    return said


async def _show_after(group: Group, args: argparse.Namespace) -> Outcome:
    page = await group.notices.after(args.after, args.limit, muted=args.muted)
    if args.read:
        await group.notices.mark_read(upto=page.token)
    data = {
        "notices": [notice_data(group, notice) for notice in page.notices],
        "token": page.token,
        "missed": page.missed,
        "more": page.more,
    }
    found = [(group, page.notices[::-1])]
    below = await _say_events(found)
    notes = [f"Go on with --after {page.token}."]
    if page.missed:
        notes.insert(0, "Some that came before these are not kept any more.")
    return Outcome(data, lambda screen: _draw(screen, found, below), notes)


def _notes(found: Sequence[tuple[Group, Sequence[Notice]]], unread: int, args: argparse.Namespace) -> list[str]:
    if not any(notices for _, notices in found):
        return ["Nothing new." if args.unread else "Nothing happened yet; `cocoon sync` looks."]
    if args.read and unread:
        return [f"Marked {unread} as read."]
    return [f"{unread} not marked as read; --read does it."] if unread else []


def notice_data(group: Group, notice: Notice) -> dict[str, Any]:
    """A notice as scripts see it."""
    return {
        "group": str(group.id),
        "number": notice.number,
        "kind": str(notice.kind),
        "time": timestamp(notice.time),
        "member": None if notice.member is None else str(notice.member),
        "name": notice.name,
        "me": notice.me,
        "post": notice.post,
        "about": notice.about,
        "title": notice.title,
        "change": notice.change,
        "text": notice.text,
        "read": notice.read,
        "token": notice.token,
    }


async def tell_notices(context: Context, groups: Sequence[Group], group: Group) -> None:
    """Show each notice of a group as it comes, for ever.

    Args:
        groups: all that are watched; the name of one stands before its notices where there are several.
    """
    output = context.output
    screen = None if output.as_json else output.screen()
    async for notice in group.notices.stream(group.notices.newest):
        if screen is None:
            output.emit({"group": str(group.id), "notice": notice_data(group, notice)})
            continue
        if len(groups) > 1:
            screen.line((group.name, "dim"))
        below = await _say_events([(group, [notice])])
        _draw_notice(screen, notice, datetime.now(UTC), below.get(notice.token, ""))
        output.out.flush()


def _draw(screen: Screen, found: Sequence[tuple[Group, Sequence[Notice]]], below: Mapping[str, str]) -> None:
    """The oldest first, each group under its name where there are several."""
    now = datetime.now(UTC)
    shown = [(group, notices) for group, notices in found if notices]
    for group, notices in shown:
        if len(found) > 1:
            screen.line((group.name, "bold"), ("  " + count(len(notices), "notice"), "dim"))
        for notice in reversed(notices):
            _draw_notice(screen, notice, now, below.get(notice.token, ""))


def _draw_notice(screen: Screen, notice: Notice, now: datetime, below: str) -> None:
    style = "bold red" if str(notice.kind) == "alarm" else "bold"
    screen.line(
        ("  " if notice.read else "● ", "cyan"),
        (say(notice), style),
        (f"  {age(notice.time, now)}  ", "dim"),
        (shorten_id(notice.post or notice.about or ""), "cyan"),
    )
    if below:
        screen.line((below, "dim"), indent=4, hanging=0)
    if shows_text(notice):
        screen.body(notice.text, 4)
