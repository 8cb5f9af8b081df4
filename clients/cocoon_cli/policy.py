"""`policy show|set`: the rules of a group."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, positive, relay_token, relay_url, whole
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Group, Policy


def add_commands(commands: Commands) -> None:
    """Add `policy` and its commands."""
    policy = commands.nest("policy", "the rules of the group")
    policy.add("show", with_group(show_policy), "how many may be in it, who lets in whom, which relays")
    change = policy.add(
        "set",
        with_group(set_policy),
        "change rules; admins only",
        examples=[
            "cocoon policy set --vouches 1          a member lets each newcomer in",
            "cocoon policy set --max-members 80 --inviters admin",
            "cocoon policy set --relay wss://a.example --relay wss://b.example",
        ],
    )
    change.add_argument("--max-members", type=positive, metavar="N", help="members and open uses of invites together")
    change.add_argument("--inviters", choices=["member", "admin"], help="the least role that may invite")
    change.add_argument(
        "--vouches",
        type=whole,
        metavar="N",
        help="members who must want a newcomer: 0, a link lets in; 1, a member does; more, others vouch before",
    )
    change.add_argument("--epoch-days", type=positive, metavar="N", help="days after which the group gets a fresh key")
    change.add_argument(
        "--relay",
        action="append",
        type=relay_url,
        metavar="URL",
        help="where the group syncs, repeated for each; as `cocoon relays move`, which brings everything there at once",
    )
    change.add_argument("--force", action="store_true", help="also where a new relay cannot be reached from here")
    change.add_argument(
        "--token",
        action="append",
        type=relay_token,
        metavar="URL=TOKEN",
        help="the access token that a relay asks for; all members get to know it",
    )


def policy_data(policy: Policy) -> dict[str, Any]:
    """The rules as scripts see them; of access tokens only for which relays there are some."""
    return {
        "max_members": policy.max_members,
        "inviters": str(policy.inviters),
        "vouches": policy.vouches,
        "epoch_days": policy.epoch_days,
        "relays": list(policy.relays),
        "tokens": [url for url, _ in policy.tokens],
    }


def draw_policy(screen: Screen, policy: Policy) -> None:
    """The rules for people."""
    screen.line(f"size       up to {count(policy.max_members, 'member')}")
    screen.line(f"invites    by {'admins' if policy.inviters == 'admin' else 'all members'}")
    screen.line(f"newcomers  {_describe_vouches(policy.vouches)}")
    screen.line(f"fresh key  every {count(policy.epoch_days, 'day')}")
    tokens = dict(policy.tokens)
    for url in policy.relays:
        screen.line(f"relay      {url}", (", with an access token" if url in tokens else "", "dim"))


def _describe_vouches(vouches: int) -> str:
    if vouches == 0:
        return "come in by a link alone"
    if vouches == 1:
        return "ask, and a member lets them in"
    return f"ask, and {vouches} members must want them"


async def show_policy(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """The rules that hold now."""
    policy = group.policy
    return Outcome(policy_data(policy), lambda screen: draw_policy(screen, policy))


async def set_policy(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Change the rules that were given."""
    given = (args.max_members, args.inviters, args.vouches, args.epoch_days, args.relay, args.token)
    if all(value is None for value in given):
        raise UsageError("Say which rule to change; `cocoon policy set --help` shows them.")
    before = group.policy
    policy = await group.set_policy(
        max_members=args.max_members,
        inviters=args.inviters,
        vouches=args.vouches,
        epoch_days=args.epoch_days,
        relays=args.relay,
        tokens=None if args.token is None else dict(args.token),
        force=args.force,
    )
    notes = await context.notes_on_sending(group) if policy != before else ["That is so already."]
    if policy.vouches > before.vouches and args.vouches is None:
        notes.insert(0, "In a group of that size a member lets each newcomer in; --vouches 0 changes that.")
    return Outcome(policy_data(policy), lambda screen: draw_policy(screen, policy), notes)
