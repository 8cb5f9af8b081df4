"""`members`, `role`, `remove`, `leave`, `rotate`: who is in the group, and who no longer is."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, add_yes
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import hour_age, shorten_id, timestamp

if TYPE_CHECKING:
    from cocoon_core import FormerMemberInfo, Group, MemberInfo

_MEMBER_HELP = "name, id or the beginning of it"


def add_commands(commands: Commands) -> None:
    """Add the commands about members."""
    members = commands.add("members", with_group(list_members), "who is in the group, and when they last signed on")
    members.add_argument("--former", action="store_true", help="also those who were removed or left")
    role = commands.add("role", with_group(set_role), "make a member an admin, or an admin a member again")
    role.add_argument("member", metavar="MEMBER", help=_MEMBER_HELP)
    role.add_argument("role", choices=["admin", "member"])
    remove = commands.add(
        "remove",
        with_group(remove_member, lambda args: f"Remove {args.member} from the group for good?"),
        "put a member out for good; admins only",
        "They can read nothing that is written afterwards, and what they write counts for nobody. What they already "
        "have stays theirs. Their open invites are closed.",
        examples=["cocoon remove Ben", "cocoon remove 4f1c --yes"],
    )
    remove.add_argument("member", metavar="MEMBER", help=_MEMBER_HELP)
    add_yes(remove)
    leave = commands.add(
        "leave",
        with_group(leave_group, lambda args: "Leave the group for good?"),
        "go, with all your devices; what you wrote stays",
        "`cocoon sync` tells the others. `cocoon group forget` deletes the group from this device.",
        examples=["cocoon leave", "cocoon --group Band leave --yes"],
    )
    add_yes(leave)
    commands.add(
        "rotate",
        with_group(rotate_epoch),
        "give the group a fresh key at once",
        "It gets one by itself when somebody goes, when an invite closes, and with time.",
    )


def member_data(member: MemberInfo) -> dict[str, Any]:
    """A member as scripts see one."""
    return {
        "id": str(member.id),
        "name": member.name,
        "role": member.role,
        "devices": member.devices,
        "last_seen": timestamp(member.last_seen) if member.last_seen else None,
        "me": member.me,
        "confirmed": member.confirmed,
        "verified": member.verified,
        "keys_changed": member.keys_changed,
        "quiet": member.quiet,
    }


def former_data(former: FormerMemberInfo) -> dict[str, Any]:
    """Somebody who is out, as scripts see one."""
    return {"id": str(former.id), "name": former.name, "left": former.left}


def describe_member(member: MemberInfo) -> str:
    """The name and what is to be known beside it."""
    marks = [
        mark
        for mark, holds in (
            ("you", member.me),
            ("verified", member.verified),
            ("DEVICES CHANGED since you verified them", member.keys_changed),
            ("not confirmed yet", not member.confirmed),
        )
        if holds
    ]
    return f"{member.name} ({', '.join(marks)})" if marks else member.name


async def list_members(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Who is in the group."""
    members = group.members()
    former = group.former_members() if args.former else []
    now = datetime.now(UTC)
    data: dict[str, Any] = {"members": [member_data(member) for member in members]}
    if args.former:
        data["former"] = [former_data(gone) for gone in former]

    def draw(screen: Screen) -> None:
        rows = [
            [
                shorten_id(str(member.id)),
                describe_member(member),
                member.role,
                str(member.devices),
                _last_seen(member, now),
            ]
            for member in members
        ]
        screen.table(["ID", "NAME", "ROLE", "DEVICES", "LAST SEEN"], rows)
        if former:
            screen.line()
            rows = [[shorten_id(str(gone.id)), gone.name, "left" if gone.left else "removed"] for gone in former]
            screen.table(["ID", "NAME", "NO LONGER A MEMBER"], rows)

    notes = ["Nobody was removed or left."] if args.former and not former else []
    for one in group.withheld():
        entries = "An entry" if one.count == 1 else f"{one.count} entries"
        notes.append(f"{entries} of {one.member_name or one.device} did not come: `cocoon sync` says more.")
    return Outcome(data=data, draw=draw, notes=notes)


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


async def remove_member(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put a member out."""
    gone = await group.remove_member(args.member)
    return Outcome(
        data=former_data(gone),
        draw=lambda screen: screen.line(f"{gone.name} is no longer a member."),
        notes=[
            f"What {gone.name} already has stays theirs; what is written from now on they cannot read.",
            *await context.notes_on_sending(group),
        ],
    )


async def leave_group(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Go."""
    await group.leave()
    data = {"id": str(group.id), "name": group.name}
    return Outcome(
        data=data,
        draw=lambda screen: screen.line("You left ", (data["name"], "bold"), "."),
        notes=[
            *await context.notes_on_sending(group),
            "What you have of it stays readable here until `cocoon group forget` deletes it.",
        ],
    )


async def rotate_epoch(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Begin a fresh epoch."""
    await group.rotate()
    return await context.wrote(
        group, {"id": str(group.id), "rotated": True}, "The group has a fresh key: whoever is no member cannot read on."
    )


def _last_seen(member: MemberInfo, now: datetime) -> str:
    if member.quiet:
        return "not shown"
    return "never" if member.last_seen is None else hour_age(member.last_seen, now)
