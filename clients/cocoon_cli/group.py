"""`group new|list|show|forget`: the groups of this profile."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, add_yes, name, positive, relay_token, relay_url
from cocoon_cli.context import Context, with_profile
from cocoon_cli.members import describe_member, member_data
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.policy import draw_policy, policy_data
from cocoon_cli.text import shorten_id

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group


def add_commands(commands: Commands) -> None:
    """Add `group` and its commands."""
    groups = commands.nest("group", "make, list or show groups")
    new = groups.add("new", with_profile(create_group), "make a group and be its first member")
    new.add_argument("title", metavar="NAME", type=name, help="the group's name")
    new.add_argument(
        "--relay",
        action="append",
        required=True,
        type=relay_url,
        metavar="URL",
        help="ws://… or wss://…; repeatable",
    )
    new.add_argument("--name", type=name, metavar="YOU", help="your name in it (else that of your account here)")
    new.add_argument(
        "--max-members",
        type=positive,
        metavar="N",
        help="how many may be in it (12); beyond 50, members let newcomers in, and a link alone does not",
    )
    new.add_argument(
        "--token",
        action="append",
        default=[],
        type=relay_token,
        metavar="URL=TOKEN",
        help="the access token that a relay asks for; all members get to know it",
    )
    groups.add("list", with_profile(list_groups), "the groups of this profile")
    show = groups.add("show", with_profile(show_group), "one group: id, members, relays")
    show.add_argument("title", metavar="NAME", nargs="?", help="its name or the beginning of its id, as with --group")
    forget = groups.add(
        "forget",
        with_profile(forget_group, question=lambda args: f"Delete what this device holds of {args.title}?"),
        "delete a group from this device that you left or were removed from",
    )
    forget.add_argument("title", metavar="NAME", help="its name or the beginning of its id")
    add_yes(forget)


def group_data(group: Group) -> dict[str, Any]:
    """A group as scripts see it."""
    return {
        "id": str(group.id),
        "name": group.name,
        "members": [member_data(member) for member in group.members()],
        "relays": list(group.relays),
    }


async def create_group(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Make a group. Needs no relay at hand: it gets to know of the group with the first sync."""
    group = await cocoon.create_group(
        args.title,
        member_name=args.name or _own_name(),
        relays=args.relay,
        max_members=args.max_members,
        tokens=dict(args.token),
    )
    data = group_data(group)
    return Outcome(
        data=data,
        draw=lambda screen: screen.line("Made group ", (data["name"], "bold"), f" ({shorten_id(data['id'])})."),
        notes=["Next: `cocoon invite` makes a link for one more member."],
    )


async def list_groups(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """All groups, by name."""
    groups = sorted(map(group_data, cocoon.groups()), key=lambda group: (group["name"].casefold(), group["id"]))

    def draw(screen: Screen) -> None:
        if groups:
            rows = [
                [shorten_id(group["id"]), group["name"], str(len(group["members"])), ", ".join(group["relays"])]
                for group in groups
            ]
            screen.table(["ID", "NAME", "MEMBERS", "RELAYS"], rows)

    notes = [f"Asked to be admitted to {p.group_name}; `cocoon sync` looks." for p in cocoon.pending_joins()]
    if not groups and not notes:
        notes = ["This profile is in no group yet."]
    return Outcome(data={"groups": groups}, draw=draw, notes=notes)


async def show_group(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """One group and who is in it."""
    group = context.choose_group(cocoon) if args.title is None else cocoon.group(args.title)
    members, policy = group.members(), group.policy
    data = group_data(group) | {"policy": policy_data(policy), "me": str(group.me) if group.me else None}

    def draw(screen: Screen) -> None:
        screen.line((data["name"], "bold"))
        screen.line(f"id         {data['id']}")
        draw_policy(screen, policy)
        for relay in data["relays"]:
            if relay not in policy.relays:
                screen.line(f"relay      {relay}", (", being left", "dim"))
        for member in members:
            screen.line("member     ", describe_member(member), (f"  {member.role}", "dim"))

    notes = [f"Warning: {alarm}" for alarm in group.alarms()]
    if group.me is None:
        notes.insert(0, "You are not a member of it any more; `cocoon group forget` deletes it from this device.")
    return Outcome(data=data, draw=draw, notes=notes)


async def forget_group(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Delete what is here of a group that this device is no longer in."""
    group = cocoon.group(args.title)
    data = {"id": str(group.id), "name": group.name}
    cocoon.forget_group(str(group.id))
    return Outcome(data, lambda screen: screen.line((data["name"], "bold"), " is deleted from this device."))


def _own_name() -> str:
    import getpass

    return getpass.getuser().capitalize()
