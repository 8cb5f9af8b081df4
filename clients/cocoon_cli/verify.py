"""`verify`: compare safety numbers with another member."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.qr import draw_qr
from cocoon_cli.text import timestamp

if TYPE_CHECKING:
    from cocoon_core import Group, SafetyInfo


def add_commands(commands: Commands) -> None:
    """Add `verify`."""
    verify = commands.add(
        "verify",
        with_group(verify_member),
        "show the safety number with a member, to be compared with theirs for you",
        "Compare it face to face, or over a call where you know the voice. The same on both sides: you both see the "
        "same devices of each other. --confirm keeps that, until one of their devices changes.",
        examples=["cocoon verify Ben", "cocoon verify Ben --confirm", "cocoon verify Ben --compare 12345…"],
    )
    verify.add_argument("member", metavar="MEMBER", help="name, id or the beginning of it")
    kind = verify.add_mutually_exclusive_group()
    kind.add_argument("--confirm", action="store_true", help="you compared it, and it is the same")
    kind.add_argument("--compare", metavar="NUMBER", help="what they see, in digits or words; if the same, confirm it")
    kind.add_argument("--forget", action="store_true", help="take the mark back")


async def verify_member(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Show the number; keep or take back the mark where that was asked for."""
    if args.forget:
        await group.forget_verification(args.member)
    if args.confirm or args.compare is not None:
        info = await group.confirm_safety_number(args.member, args.compare)
    else:
        info = group.safety_number(args.member)
    return Outcome(_data(info), lambda screen: _draw(screen, info))


def _data(info: SafetyInfo) -> dict[str, Any]:
    return {
        "id": str(info.member),
        "name": info.name,
        "words": list(info.words),
        "digits": info.digits,
        "mark": info.mark,
        "since": timestamp(info.since) if info.since else None,
        "change": info.change,
    }


def _draw(screen: Screen, info: SafetyInfo) -> None:
    screen.line("Safety number of you and ", (info.name, "bold"), ":")
    half = len(info.words) // 2
    for words in (info.words[:half], info.words[half:]):
        screen.line(("  ".join(words), "bold"), indent=3)
    for place in range(0, len(info.digits), 36):
        screen.line(info.digits[place : place + 36].rstrip(), indent=3)
    draw_qr(screen, info.digits.replace(" ", ""))
    match info.mark:
        case "verified":
            screen.line(("Verified: you compared it before, and their devices are the same.", "green"))
        case "changed":
            screen.line((f"THEIR DEVICES CHANGED since you verified them ({info.change}). Compare again.", "bold red"))
        case _:
            screen.line("Not verified yet. Compare it with them; then `--confirm`.")
