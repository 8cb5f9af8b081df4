"""`invite`, `revoke`, `join`, `members`, `role`: who is in the group."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, duration, name, positive
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import age, count, shorten_id, timestamp

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, InviteInfo, MemberInfo


def add_commands(commands: Commands) -> None:
    """Add the commands about members."""
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
    join = commands.add("join", with_profile(join_group), "enter a group with a link; its relay must be reachable")
    join.add_argument("link", metavar="LINK", help="what the inviter sent, from cocoon: to its end")
    join.add_argument("--name", required=True, type=name, metavar="YOU", help="your name in this group")
    commands.add("members", with_group(list_members), "who is in the group, and when they last signed on")
    role = commands.add("role", with_group(set_role), "make a member an admin, or an admin a member again")
    role.add_argument("member", metavar="MEMBER", help="name, id or the beginning of it")
    role.add_argument("role", choices=["admin", "member"])


def member_data(member: MemberInfo) -> dict[str, Any]:
    """A member as scripts see one."""
    return {
        "id": str(member.id),
        "name": member.name,
        "role": member.role,
        "devices": member.devices,
        "last_seen": timestamp(member.last_seen) if member.last_seen else None,
        "me": member.me,
    }


async def invite_member(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Make an invite and show its link once; nobody can show it again."""
    if args.list:
        return _list_invites(group)
    link = await group.invite(uses=args.uses, expires_in=args.expires)
    one = args.uses == 1
    who, until = ("one person", "it is used") if one else (f"up to {args.uses} people", "all of them have joined")
    return Outcome(
        data={"link": link},
        draw=lambda screen: screen.line(link),
        notes=[
            f"It lets {who} in, until {until} or {_passed(args.expires)}.",
            "Whoever has this link can read the whole group: send it over a way you trust. "
            "In this version that holds even after it was used or closed.",
            "It works once the group has been sent: "
            + ("the `cocoon sync --watch` that runs does that." if context.watched else "`cocoon sync`."),
        ],
    )


def _list_invites(group: Group) -> Outcome:
    invites = group.invites()
    now = datetime.now(UTC)

    def draw(screen: Screen) -> None:
        if invites:
            rows = [[shorten_id(str(i.id)), f"{i.used} of {i.uses}", _state(i, now)] for i in invites]
            screen.table(["ID", "USED", "STATE"], rows)

    data = [
        {"id": str(i.id), "uses": i.uses, "used": i.used, "expires": timestamp(i.expires), "open": i.open}
        for i in invites
    ]
    return Outcome(data={"invites": data}, draw=draw, notes=[] if invites else ["There are no invites."])


def _state(invite: InviteInfo, now: datetime) -> str:
    if not invite.open:
        return "closed"
    return f"open for {_span(invite.expires - now)}" if invite.expires > now else "expired"


async def revoke_invite(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Close an invite."""
    await group.revoke_invite(args.invite)
    return Outcome(
        data={"id": args.invite},
        draw=lambda screen: screen.line("The invite is closed: nobody joins with its link any more."),
        notes=[
            "In this version, whoever kept the link can still read the group.",
            *await context.notes_on_sending(group),
        ],
    )


async def join_group(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Enter a group and fetch what is in it."""
    with context.output.progress("Catching up") as progress:
        group = await cocoon.join(args.link, member_name=args.name, progress=progress)
    data = {"id": str(group.id), "name": group.name}
    members = count(len(group.members()), "member")
    return Outcome(
        data=data,
        draw=lambda screen: screen.line("Joined ", (data["name"], "bold"), f" with {members}."),
        notes=["Next: `cocoon feed` shows what was written, `cocoon post TEXT` says hello."],
    )


async def list_members(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Who is in the group."""
    members = group.members()
    now = datetime.now(UTC)

    def draw(screen: Screen) -> None:
        rows = [
            [
                shorten_id(str(member.id)),
                f"{member.name} (you)" if member.me else member.name,
                member.role,
                str(member.devices),
                _last_seen(member, now),
            ]
            for member in members
        ]
        screen.table(["ID", "NAME", "ROLE", "DEVICES", "LAST SEEN"], rows)

    return Outcome(data={"members": [member_data(member) for member in members]}, draw=draw)


async def set_role(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Give or take the rights of an admin."""
    before = {member.id: member.role for member in group.members()}
    member = await group.set_role(args.member, args.role)
    article = "an admin" if member.role == "admin" else "a member"
    changed = before.get(member.id) != member.role
    when = "now" if changed else "already"
    return Outcome(
        data=member_data(member),
        draw=lambda screen: screen.line(f"{member.name} is {article} {when}."),
        notes=await context.notes_on_sending(group) if changed else [],
    )


def _last_seen(member: MemberInfo, now: datetime) -> str:
    """Known to the hour only, so nothing finer is said."""
    if member.last_seen is None:
        return "never"
    if timedelta(0) <= now - member.last_seen < timedelta(hours=1):
        return "this hour"
    return age(member.last_seen, now)


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
