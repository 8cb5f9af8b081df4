"""`relays list|add|remove|move|use`: where a group syncs. `relay`, without the s, runs one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, relay_token, relay_url
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count
from cocoon_core.errors import RelayError, RelayRefused, RelayUnavailable

if TYPE_CHECKING:
    from cocoon_core import Group, RelayInfo

NOT_TOLD = (
    "{url} was not reached ({error}): members who know it alone are not told there where the group is. Their devices "
    "look elsewhere with `cocoon relays use URL`."
)


def add_commands(commands: Commands) -> None:
    """Add `relays` and its commands."""
    relays = commands.nest("relays", "the relays that a group uses: list, add, remove, move")
    relays.add("list", with_group(list_relays), "the group's relays, and what each still lacks")
    add = relays.add(
        "add",
        with_group(add_relay),
        "use one more relay; admins only",
        "Everything is sent to all relays and taken from any, so the group survives the loss of each.",
    )
    _add_url(add, force=True)
    remove = relays.add("remove", with_group(remove_relay), "use a relay no more; admins only")
    remove.add_argument("url", metavar="URL", type=relay_url, help="one of the group's relays")
    move = relays.add(
        "move",
        with_group(move_relays),
        "use other relays and no more those of now; admins only",
        "Brings everything there. The old relay, if it can be reached, keeps a sign for members who come months later.",
        examples=["cocoon relays move wss://new.example", "cocoon relays move wss://a.example wss://b.example"],
    )
    move.add_argument("url", metavar="URL", type=relay_url, nargs="+", help="the relays from now on")
    _add_options(move)
    use = relays.add(
        "use",
        with_group(use_relay),
        "look for the group at a relay that somebody told you",
        "For a device whose relays are gone, or ask for a new access token that it has not learned. Nothing is sent to"
        " another relay until it has proved to be the group's.",
    )
    _add_url(use, force=False)


def _add_url(parser: argparse.ArgumentParser, *, force: bool) -> None:
    parser.add_argument("url", metavar="URL", type=relay_url, help="ws://… or wss://…")
    parser.add_argument(
        "--token", metavar="TOKEN", help="the access token that it asks for; all members get to know it"
    )
    if force:
        _add_force(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token",
        action="append",
        default=[],
        type=relay_token,
        metavar="URL=TOKEN",
        help="the access token that a relay asks for; all members get to know it",
    )
    _add_force(parser)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="also where a relay cannot be reached from here")


def relays_data(relays: Sequence[RelayInfo]) -> list[dict[str, Any]]:
    """The relays as scripts see them."""
    return [
        {"url": relay.url, "standing": str(relay.standing), "unsent": relay.unsent, "token": relay.has_token}
        for relay in relays
    ]


def _outcome(group: Group, data: dict[str, Any], notes: Sequence[str] = ()) -> Outcome:
    relays = group.list_relays()
    return Outcome(data | {"relays": relays_data(relays)}, lambda screen: _draw(screen, relays), list(notes))


def _draw(screen: Screen, relays: Sequence[RelayInfo]) -> None:
    for relay in relays:
        words = "" if relay.standing == "used" else ", being left"
        words += ", with an access token" if relay.has_token else ""
        words += f", lacks {count(relay.unsent, 'message')}" if relay.unsent and relay.standing == "used" else ""
        screen.line(relay.url, (words, "dim"))


async def list_relays(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Where the group syncs."""
    return _outcome(group, {})


async def add_relay(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Use one more relay, and bring everything there."""
    try:
        await group.add_relay(args.url, token=args.token, force=args.force)
    except (RelayUnavailable, RelayRefused) as error:
        raise _unusable(error) from error
    return await _carry_out(group, context)


async def remove_relay(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Use a relay no more."""
    await group.remove_relay(args.url)
    return await _carry_out(group, context)


async def move_relays(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Use other relays, and bring everything there."""
    try:
        await group.move_relays(args.url, tokens=dict(args.token), force=args.force)
    except (RelayUnavailable, RelayRefused) as error:
        raise _unusable(error) from error
    return await _carry_out(group, context)


def _unusable(error: RelayError) -> RelayError:
    return type(error)(f"{str(error).rstrip('.')}. Nothing was changed; --force names the relay all the same.")


async def _carry_out(group: Group, context: Context) -> Outcome:
    """Send what was decided, unless a watch does that by itself."""
    notes: list[str] = []
    unreached: list[dict[str, Any]] = []
    if context.watched:
        notes = await context.notes_on_sending(group)
    else:
        try:
            with context.output.progress(f"Bringing {group.name} there") as progress:
                report = await group.sync(progress=progress)
            lost = {relay.url: relay.error for relay in report.relays if not relay.ok}
        except RelayUnavailable as error:
            lost = {relay.url: str(error) for relay in group.list_relays()}
        unreached = [{"url": url, "error": error} for url, error in lost.items()]
        notes = _notes(group, lost)
    return _outcome(group, {"unreached": unreached, "unsent": group.unsent()}, notes)


def _notes(group: Group, lost: dict[str, str | None]) -> list[str]:
    """What is still to be done, for people."""
    used = [relay for relay in group.list_relays() if relay.standing == "used"]
    notes = [NOT_TOLD.format(url=url, error=error) for url, error in lost.items() if url not in [r.url for r in used]]
    waiting = [relay.url for relay in used if relay.url in lost or relay.unsent]
    if waiting:
        notes.append(f"Not everything is at {', '.join(waiting)} yet: `cocoon sync` goes on.")
    return notes


async def use_relay(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Look for the group at a relay."""
    with context.output.progress(f"Looking for {group.name}") as progress:
        found = await group.use_relay(args.url, token=args.token, progress=progress)
    missing = f"Nothing at {args.url} shows that {group.name} is there; it is not used."
    return _outcome(group, {"found": found}, [f"{group.name} is there." if found else missing])
