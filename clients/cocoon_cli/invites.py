"""`invite`, `revoke`, `join`, `requests`, `vouch`, `admit`: how people come in."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, duration, name, positive
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, timestamp
from cocoon_core.errors import AwaitingAdmissionError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, InviteInfo, RequestInfo

_REQUEST_HELP = "the id of the request or the beginning of it, or the name in it; `cocoon requests` shows them"


def add_commands(commands: Commands) -> None:
    """Add the commands about coming in."""
    invite = commands.add("invite", with_group(invite_member), "make a link that lets someone in, or list invites")
    invite.add_argument("--uses", type=positive, default=1, metavar="N", help="how many may join with it (1)")
    invite.add_argument(
        "--expires",
        type=duration,
        default=timedelta(days=7),
        metavar="TIME",
        help="how long it lets people in: 30m, 12h, 7d or 2w (7d)",
    )
    invite.add_argument("--list", action="store_true", help="list the invites of the group instead")
    revoke = commands.add("revoke", with_group(revoke_invite), "close an invite before it is used up")
    revoke.add_argument("invite", metavar="ID", help="its id or the beginning of it; `cocoon invite --list` shows them")
    join = commands.add(
        "join",
        with_profile(join_group),
        "enter a group with a link; its relay must be reachable",
        "Where members let newcomers in, it asks them; `cocoon sync` looks for the answer.",
        examples=['cocoon join "cocoon:…" --name Ben'],
    )
    join.add_argument("link", metavar="LINK", help="what the inviter sent, from cocoon: to its end")
    join.add_argument("--name", required=True, type=name, metavar="YOU", help="your name in this group")
    commands.add("requests", with_group(list_requests), "who asks to be let in; `cocoon sync` fetches them")
    vouch = commands.add(
        "vouch",
        with_group(vouch_request),
        "tell the others that you want someone in",
        examples=["cocoon vouch Dora", "cocoon vouch 4f1c"],
    )
    vouch.add_argument("request", metavar="ID", help=_REQUEST_HELP)
    admit = commands.add(
        "admit",
        with_group(admit_request),
        "let someone in who asks",
        "The rules of the group say how many members must want it: you, and those who vouched before.",
        examples=["cocoon admit Dora", "cocoon admit 4f1c"],
    )
    admit.add_argument("request", metavar="ID", help=_REQUEST_HELP)


async def invite_member(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Make an invite and show its link once; nobody can show it again."""
    if args.list:
        return _list_invites(group)
    link = await group.invite(uses=args.uses, expires_in=args.expires)
    one = args.uses == 1
    who, until = ("one person", "it is used") if one else (f"up to {args.uses} people", "all of them have joined")
    works = "It works once the group has been sent: " + (
        "the `cocoon sync --watch` that runs does that." if context.watched else "`cocoon sync`."
    )
    if group.policy.vouches:
        notes = [
            f"By it {who} can ask to be let in, until {until} or {_passed(args.expires)}.",
            "Nobody reads anything by the link alone: `cocoon requests` shows who asks, `cocoon admit` lets them in.",
            works,
        ]
    else:
        notes = [
            f"It lets {who} in, until {until} or {_passed(args.expires)}.",
            "Whoever has this link can read the whole group until then: send it over a way you trust.",
            works,
        ]
    return Outcome(data={"link": link}, draw=lambda screen: screen.line(link), notes=notes)


def _list_invites(group: Group) -> Outcome:
    invites = group.invites()
    now = datetime.now(UTC)

    def draw(screen: Screen) -> None:
        if invites:
            rows = [[shorten_id(str(i.id)), f"{i.used} of {i.uses}", _state(i, now)] for i in invites]
            screen.table(["ID", "USED", "STATE"], rows)

    data = [
        {
            "id": str(i.id),
            "uses": i.uses,
            "used": i.used,
            "expires": timestamp(i.expires),
            "open": i.open,
            "by_request": i.by_request,
        }
        for i in invites
    ]
    return Outcome(data={"invites": data}, draw=draw, notes=[] if invites else ["There are no invites."])


def _state(invite: InviteInfo, now: datetime) -> str:
    if not invite.open:
        return "closed"
    asking = ", to ask" if invite.by_request else ""
    return f"open for {_span(invite.expires - now)}{asking}" if invite.expires > now else "expired"


async def revoke_invite(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Close an invite."""
    await group.revoke_invite(args.invite)
    return Outcome(
        data={"id": args.invite},
        draw=lambda screen: screen.line("The invite is closed: nobody joins with its link any more."),
        notes=[
            "Whoever kept the link has what was written until now, and reads nothing that is written afterwards.",
            *await context.notes_on_sending(group),
        ],
    )


async def join_group(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Enter a group and fetch what is in it; or ask to be let in."""
    before = {pending.group for pending in cocoon.pending_joins()}
    try:
        with context.output.progress("Catching up") as progress:
            group = await cocoon.join(args.link, member_name=args.name, progress=progress)
    except AwaitingAdmissionError as waiting:
        return _asked(cocoon, before, waiting)
    data = {"id": str(group.id), "name": group.name, "pending": False}
    members = count(len(group.members()), "member")
    return Outcome(
        data=data,
        draw=lambda screen: screen.line("Joined ", (group.name, "bold"), f" with {members}."),
        notes=["Next: `cocoon feed` shows what was written, `cocoon post TEXT` says hello."],
    )


def _asked(cocoon: Cocoon, before: set[Any], waiting: AwaitingAdmissionError) -> Outcome:
    """The request is made, which is what could be done."""
    pending = next((p for p in cocoon.pending_joins() if p.group == waiting.group), None)
    if pending is None:
        raise waiting
    first = "Asked" if pending.group not in before else "Still asking"
    return Outcome(
        data={"id": str(pending.group), "name": pending.group_name, "pending": True},
        draw=lambda screen: screen.line(f"{first} to be admitted to ", (pending.group_name, "bold"), "."),
        notes=["Once a member has let you in, `cocoon sync` brings the group."],
    )


# --- requests


def request_data(group: Group, request: RequestInfo) -> dict[str, Any]:
    """A request as scripts see one."""
    return {
        "id": str(request.id),
        "name": request.name,
        "vouchers": [str(member) for member in request.vouchers],
        "needed": request.needed,
        "vouched": request.vouched,
        "since": timestamp(request.since) if request.since else None,
    }


async def list_requests(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Who asks to be let in."""
    requests = group.requests()
    names = {member.id: member.name for member in group.members()}
    now = datetime.now(UTC)

    def draw(screen: Screen) -> None:
        if requests:
            rows = [
                [
                    shorten_id(str(request.id)),
                    request.name,
                    age(request.since, now) if request.since else "",
                    f"{len(request.vouchers)} of {request.needed}",
                    ", ".join(names.get(member, "?") for member in request.vouchers),
                ]
                for request in requests
            ]
            screen.table(["ID", "NAME", "ASKED", "WANTED BY", ""], rows)

    notes = [
        "`cocoon admit ID` lets one in. A name is what they typed: ask whoever sent the link whether it is they."
        if requests
        else "Nobody asks to be let in."
    ]
    return Outcome({"requests": [request_data(group, request) for request in requests]}, draw, notes)


async def vouch_request(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Say that somebody is wanted."""
    request = await group.vouch(args.request)
    lacking = request.needed - len(request.vouchers)
    after = "any member can `cocoon admit` them" if lacking <= 0 else f"{count(lacking, 'member')} must still want it"
    return await context.wrote(group, request_data(group, request), f"You vouched for {request.name}; {after}.")


async def admit_request(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Let somebody in."""
    member = await group.admit(args.request)
    info = next(info for info in group.members() if info.id == member)
    return Outcome(
        data={"id": str(info.id), "name": info.name},
        draw=lambda screen: screen.line(f"{info.name} is a member now."),
        notes=[*await context.notes_on_sending(group), f"{info.name} is in with the next `cocoon sync` over there."],
    )


def _passed(length: timedelta) -> str:
    span = _span(length)
    return f"{span} {'has' if span.startswith('1 ') else 'have'} passed"


def _span(length: timedelta) -> str:
    hours = round(length.total_seconds() / 3600)
    if hours >= 48:
        return count(round(hours / 24), "day")
    if hours >= 1:
        return count(hours, "hour")
    return count(max(1, round(length.total_seconds() / 60)), "minute")
