"""`recovery new|use`: a phrase for paper. `recovery guardians|help|request|vouch|object`: coming back by one's friends.

The phrase is read from standard input and never from the command line, which shells keep and other users can see.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, add_yes, duration, plain_text, positive, relay_token, relay_url
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.dialogue import read_line
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.qr import draw_qr
from cocoon_cli.text import count, shorten_id, timestamp
from cocoon_core.errors import NotYetError, UsageError

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group, LostRequestInfo, RecoveredGroup, RecoveryInfo, RecoveryRequestInfo

WORDS = 12
PAPER = (
    "Write these words on paper, in this order, with the address of your relay beside them. Keep the paper where you "
    "keep what you must not lose; no photo and no file, for whoever has the words has all your groups.",
    "They are shown this once and kept nowhere: lost words are lost, and `cocoon recovery new --replace` makes others.",
)


def add_commands(commands: Commands) -> None:
    """Add `recovery` and its commands."""
    recovery = commands.nest("recovery", "come back after losing every device: a phrase on paper, or your guardians")
    new = recovery.add(
        "new",
        with_profile(make_phrase),
        "make a phrase that brings all your groups back, to be written on paper",
        "It covers the groups that you make or join later, too.",
        examples=["cocoon recovery new", "cocoon recovery new --replace"],
    )
    new.add_argument("--replace", action="store_true", help="even if there is one, which stops working")
    use = recovery.add(
        "use",
        with_profile(use_phrase, stays=lambda args: True),
        "on a new device: bring all your groups back, with everything in them",
        "The twelve words are read from standard input.",
        examples=["cocoon recovery use --relay wss://relay.example"],
    )
    use.add_argument(
        "--relay", type=relay_url, action="append", required=True, metavar="URL", help="a relay of your groups"
    )
    use.add_argument(
        "--token", type=relay_token, action="append", default=[], metavar="URL=TOKEN", help="where a relay asks for one"
    )
    _add_guardians(recovery.nest("guardians", "who can bring you back into a group together"))
    _add_circle(recovery)


def _add_guardians(guardians: Commands) -> None:
    choose = guardians.add(
        "set",
        with_group(set_guardians),
        "choose members who can bring you back together, if you lose every device",
        "As many as --threshold says must agree; then their devices wait three days, in which you can object.",
        examples=["cocoon recovery guardians set Ben Chi Dee --threshold 2"],
    )
    choose.add_argument("members", nargs="+", metavar="MEMBER", help="name, id or the beginning of it")
    choose.add_argument("--threshold", type=positive, required=True, metavar="K", help="how many of them it takes")
    guardians.add("show", with_group(show_recovery), "how you come back, and who asks to")


def _add_circle(recovery: Commands) -> None:
    helping = recovery.add(
        "help",
        with_group(help_member),
        "for a member who lost every device: make the code with which they ask",
        examples=["cocoon recovery help Chi"],
    )
    helping.add_argument("member", metavar="MEMBER", help="name, id or the beginning of it")
    request = recovery.add(
        "request",
        with_profile(ask_guardians),
        "on a new device: ask your guardians to bring you back; without CODE, see whether they have",
        examples=["cocoon recovery request cocoon-help:…", "cocoon recovery request"],
    )
    request.add_argument("code", nargs="?", metavar="CODE", type=plain_text, help="what a guardian's `help` showed")
    vouch = recovery.add(
        "vouch",
        with_group(vouch_for_lost),
        "as a guardian: say that a member lost every device, and that this request is theirs",
        "Let them read their six words to you, in person or by phone, and type what you hear: if the code was changed "
        "on its way, the words differ. Everybody is told, and nothing happens before the delay has passed.",
        examples=["cocoon recovery vouch cocoon-circle:…"],
    )
    vouch.add_argument("code", metavar="CODE", type=plain_text, help="what the lost member's device shows")
    vouch.add_argument("--words", metavar="WORDS", type=plain_text, help="the six words, if not to be asked for them")
    vouch.add_argument(
        "--delay", type=duration, default=duration("72h"), metavar="TIME", help="how long this device waits (72h)"
    )
    objecting = recovery.add(
        "object",
        with_group(object_to_recovery, lambda args: "Take your guardians their power?"),
        "stop your guardians from replacing your devices, if you did not ask for it",
    )
    add_yes(objecting)


# --- the phrase


async def make_phrase(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Make a phrase and show it once."""
    if cocoon.has_recovery_phrase and not args.replace:
        raise UsageError(
            "You have a phrase, on paper. `cocoon recovery new --replace` makes another one; the words that you have "
            "stop working then."
        )
    made = await cocoon.new_recovery_phrase()
    words = made.phrase.split()
    relays = sorted({relay for group in cocoon.groups() for relay in group.relays})

    def draw(screen: Screen) -> None:
        for row in range(0, WORDS, 3):
            cells = [f"{place + 1:2}. {words[place]:<10}" for place in range(row, row + 3)]
            screen.line("  ".join(cells).rstrip())

    notes = [*PAPER]
    notes += [f"Relay: {relay}" for relay in relays]
    notes += [f"“{name}” is not covered: this device cannot write there." for name in made.left_out]
    notes.append("The words work once every group was sent: `cocoon sync`.")
    data = {"phrase": made.phrase, "groups": list(made.covered), "left_out": list(made.left_out), "relays": relays}
    return Outcome(data, draw, notes)


async def use_phrase(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Come back into every group that the phrase covers."""
    phrase = await _read_phrase(context)
    with context.output.progress("Bringing your groups back") as progress:
        found = await cocoon.use_recovery_phrase(phrase, args.relay, tokens=dict(args.token), progress=progress)
    back = [one for one in found if one.group is not None]
    if not back:
        reasons = "; ".join(f"{one.name}: {one.error}" for one in found)
        raise NotYetError(f"The phrase was found, and no group could be entered. {reasons}")
    lost = [one for one in found if one.group is None]
    others = sum(_other_devices(one.group) for one in back if one.group is not None)

    def draw(screen: Screen) -> None:
        for one in back:
            screen.line("Back in ", (one.name, "bold"), f" ({shorten_id(str(one.id))}).")

    notes = [f"Not back in {one.name}: {one.error}" for one in lost]
    if others:
        notes.append(
            f"Your lost {'device is' if others == 1 else 'devices are'} still in: `cocoon device list` shows, "
            "`cocoon device remove ID` puts out."
        )
    notes.append("The words go on working; nobody else may have seen them.")
    return Outcome(
        {"groups": [_recovered_data(one) for one in found]}, draw, notes, 0 if not lost else NotYetError.exit_code
    )


async def _read_phrase(context: Context) -> str:
    """The words from standard input: all of it, or from a person as many lines as it takes."""
    if context.output.as_json or not sys.stdin.isatty():
        return context.stdin.read().decode("utf-8", "replace")
    context.output.note(f"Type your {WORDS} words, with spaces between them:")
    words: list[str] = []
    while len(words) < WORDS and (line := await read_line()).strip():
        words += line.split()
    return " ".join(words)


def _other_devices(group: Group) -> int:
    return sum(device.mine and not device.this for device in group.devices())


def _recovered_data(one: RecoveredGroup) -> dict[str, Any]:
    error = None if one.error is None else {"code": one.error.code, "message": str(one.error)}
    return {"id": str(one.id), "name": one.name, "ok": one.group is not None, "error": error}


# --- guardians


async def set_guardians(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Choose who can bring one back."""
    info = await group.set_guardians([group.find_member(member) for member in args.members], args.threshold)
    return Outcome(
        data=_recovery_data(group),
        draw=lambda screen: screen.line(_say_guardians(info)),
        notes=["Everybody in the group can see that.", *await context.notes_on_sending(group)],
    )


async def show_recovery(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """How one comes back into the group, and the requests of others."""
    info, requests = group.recovery(), group.recovery_requests()

    def draw(screen: Screen) -> None:
        screen.line("A phrase on paper covers you here." if info.phrase else "No phrase covers you here.")
        screen.line(_say_guardians(info))
        for request in requests:
            screen.line(_say_request(request))

    return Outcome(data=_recovery_data(group), draw=draw)


async def object_to_recovery(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Take the guardians their power."""
    await group.object_to_recovery()
    return Outcome(
        data=_recovery_data(group),
        draw=lambda screen: screen.line("Your guardians can no longer replace your devices."),
        notes=[
            "Send it before their delay has passed; choose new ones with `cocoon recovery guardians set`.",
            *await context.notes_on_sending(group),
        ],
    )


def _recovery_data(group: Group) -> dict[str, Any]:
    info = group.recovery()
    return {
        "phrase": info.phrase,
        "guardians": list(info.guardians),
        "threshold": info.threshold,
        "requests": [_request_data(request) for request in group.recovery_requests()],
    }


def _request_data(request: RecoveryRequestInfo) -> dict[str, Any]:
    return {
        "id": str(request.id),
        "member": str(request.member),
        "name": request.name,
        "vouchers": list(request.vouchers),
        "wanted": request.wanted,
        "granted": request.granted,
        "at": timestamp(request.at) if request.at is not None else None,
    }


def _say_guardians(info: RecoveryInfo) -> str:
    if not info.guardians:
        return "You have no guardians here."
    names = ", ".join(info.guardians)
    if info.threshold == 1:
        return f"Any one of {names} can bring you back."
    return f"Any {info.threshold} of {names} can bring you back together."


def _say_request(request: RecoveryRequestInfo) -> str:
    who = ", ".join(request.vouchers) or "nobody"
    state = "granted" if request.granted else f"{len(request.vouchers)} of {request.wanted} vouched: {who}"
    return f"{request.name} asks to come back ({state})."


# --- the circle


async def help_member(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Show the code with which a lost member asks."""
    code = group.write_help_code(group.find_member(args.member))
    return Outcome(
        data={"code": code},
        draw=lambda screen: screen.line(code),
        notes=["Send it to them; it is no secret. On their new device: `cocoon init`, `cocoon recovery request CODE`."],
    )


async def ask_guardians(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Ask to come back, or see whether the guardians have agreed."""
    if args.code is not None:
        return _asked(await cocoon.ask_guardians(args.code))
    waiting = cocoon.lost_requests()
    if not waiting:
        raise UsageError(
            "You asked no guardians. One of them makes the code to begin with: `cocoon recovery help YOU`."
        )
    entered = await cocoon.finish_lost_requests()
    left = cocoon.lost_requests()

    def draw(screen: Screen) -> None:
        for group in entered:
            screen.line("Back in ", (group.name, "bold"), ".")
        for lost in left:
            screen.line(
                f"Group {shorten_id(str(lost.group))}: your guardians have not agreed yet, or their delay runs."
            )

    data = {
        "groups": [{"id": str(group.id), "name": group.name} for group in entered],
        "waiting": [_lost_data(lost) for lost in left],
    }
    return Outcome(data, draw, [] if not left else ["`cocoon sync` looks again."])


def _asked(lost: LostRequestInfo) -> Outcome:
    def draw(screen: Screen) -> None:
        draw_qr(screen, lost.code)
        screen.line(lost.code)
        screen.line("")
        screen.line(("   " + lost.words, "bold"))
        screen.line("")

    return Outcome(
        _lost_data(lost),
        draw,
        [
            "Give the code to your guardians, by any way, and read them the six words yourself, in person or by phone.",
            "Each of them: `cocoon recovery vouch CODE`. Then `cocoon sync` here brings the group, after their delay.",
        ],
    )


def _lost_data(lost: LostRequestInfo) -> dict[str, Any]:
    return {"group": str(lost.group), "code": lost.code, "words": lost.words, "since": timestamp(lost.since)}


async def vouch_for_lost(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Vouch for a lost member, after comparing words."""
    words = args.words
    if words is None:
        request = await group.read_circle_code(args.code)
        if context.output.as_json or context.watched or not sys.stdin.isatty():
            raise UsageError("Give the six words that the lost member reads to you, with --words.")
        context.output.note(
            f"{request.name} asks to come back with a new device, in the place of all others. Speak with them, and "
            "type the six words that they read to you:"
        )
        words = await read_line()
    info = await group.vouch_for_lost(args.code, words, args.delay)
    missing = info.wanted - len(info.vouchers)
    more = f"{count(missing, 'more guardian')} must vouch" if missing > 0 else "enough guardians have vouched"
    return Outcome(
        data=_request_data(info),
        draw=lambda screen: screen.line(f"You vouched for {info.name}; {more}."),
        notes=[
            f"This device lets them in {_when(info.at)}, unless they object; it must be online for that.",
            *await context.notes_on_sending(group),
        ],
    )


def _when(at: datetime | None) -> str:
    return f"from {at.astimezone():%Y-%m-%d %H:%M} on" if at is not None else "in time"
