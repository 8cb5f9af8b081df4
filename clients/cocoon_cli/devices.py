"""`device link`, `device accept`, `device list`, `device remove`: more than one device for one person.

While two devices link, what a person needs meanwhile (code, words, question) goes to standard error, as JSON objects on
lines of their own where --json was given; standard output has the one outcome.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands, add_yes, duration, plain_text, relay_url
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.dialogue import ask_yes
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.qr import draw_qr
from cocoon_cli.text import age, count, shorten_id, timestamp

if TYPE_CHECKING:
    from cocoon_core import Cocoon, DeviceInfo, Group

_COMPARE_HELP = "take the words as compared, for scripts that do it themselves"
_TIME_HELP = "how long the other device may be silent: 30m, 1h (10m)"


def add_commands(commands: Commands) -> None:
    """Add the commands about devices."""
    device = commands.nest("device", "your devices: link a new one, list them, remove one")
    link = device.add(
        "link",
        with_profile(link_device, stays=lambda args: True),
        "on a new device: show a code that your old device accepts",
        "Both devices then show the same words. Whoever sees the code can try to answer it first; the words tell.",
        examples=["cocoon device link --relay wss://relay.example", "cocoon device link"],
    )
    link.add_argument(
        "--relay", type=relay_url, action="append", default=[], metavar="URL", help="where the two devices meet"
    )
    _add_patience(link)
    accept = device.add(
        "accept",
        with_profile(accept_device, stays=lambda args: True),
        "on your old device: let the device that shows CODE into your groups",
        "It gets all groups, unless --groups names some, with everything in them.",
        examples=["cocoon device accept cocoon-device:…", "cocoon device accept cocoon-device:… --groups Family Band"],
    )
    accept.add_argument("code", metavar="CODE", type=plain_text, help="what the new device shows")
    accept.add_argument("--groups", nargs="+", metavar="G", default=[], help="names or beginnings of ids (all)")
    _add_patience(accept)
    listed = device.add("list", with_group(list_devices), "your devices in a group")
    listed.add_argument("--all", action="store_true", help="those of every member")
    remove = device.add(
        "remove",
        with_group(remove_device, lambda args: f"Remove the device {args.device} for good?"),
        "put a device out for good: one of yours, or as an admin anybody's",
        "It can read nothing that is written afterwards, and what it writes counts for nobody. What it has, it keeps.",
        examples=["cocoon device remove 4f1c09aa"],
    )
    remove.add_argument("device", metavar="ID", help="its id or the beginning of it; `cocoon device list` shows them")
    add_yes(remove)


def _add_patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help=_COMPARE_HELP)
    parser.add_argument("--wait", type=duration, default=duration("10m"), metavar="TIME", help=_TIME_HELP)


class Dialogue:
    """What is said and asked while two devices link."""

    def __init__(self, context: Context, other: str, sure: bool) -> None:
        self._context, self._other, self._sure = context, other, sure
        self.words: tuple[str, ...] = ()

    def show_code(self, code: str) -> None:
        """The code, as text and to be scanned."""
        if self._context.output.as_json:
            self._tell({"code": code})
            return
        screen = Screen(sys.stderr)
        draw_qr(screen, code)
        screen.line("On your old device, type:")
        screen.line(f"cocoon device accept {code}")
        screen.line("Waiting for it; Ctrl-C ends it. Nobody but you should see this code.")

    async def confirm(self, words: tuple[str, ...]) -> bool:
        """Show the words and ask whether the other device shows them too."""
        self.words = words
        if self._context.output.as_json:
            self._tell({"words": list(words)})
        else:
            screen = Screen(sys.stderr)
            screen.line("")
            screen.line(("   " + "  ".join(words), "bold"))
            screen.line("")
        if self._sure:
            return True
        return await ask_yes("" if self._context.output.as_json else f"Does {self._other} show the same words?")

    def _tell(self, data: dict[str, Any]) -> None:
        sys.stderr.write(json.dumps(data) + "\n")
        sys.stderr.flush()


async def link_device(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Show a code and come into the groups of whoever accepts it."""
    finished = await cocoon.finish_linking()
    if finished:
        return _linked(finished, (), "An earlier linking came about after all.")
    dialogue = Dialogue(context, "your old device", args.yes)
    groups = await cocoon.link_device(
        args.relay, show_code=dialogue.show_code, confirm=dialogue.confirm, patience=args.wait.total_seconds()
    )
    return _linked(groups, dialogue.words, "")


def _linked(groups: Sequence[Group], words: Sequence[str], note: str) -> Outcome:
    names = ", ".join(group.name for group in groups)
    data = {"groups": [_group_data(group) for group in groups], "words": list(words)}
    sentence = f"This device is in {count(len(groups), 'group')} now: {names}." if groups else "No group was added."
    waiting = [group.name for group in groups if group.me is None]
    notes = [note] if note else []
    if waiting:
        notes.append(f"Not here yet, `cocoon sync` brings it: {', '.join(waiting)}.")
    return Outcome(data, lambda screen: screen.line(sentence), notes)


async def accept_device(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Let the device that shows a code into the chosen groups."""
    references = args.groups or ([context.group] if context.group is not None else [])
    dialogue = Dialogue(context, "the new device", args.yes)
    report = await cocoon.accept_device(
        args.code,
        confirm=dialogue.confirm,
        groups=[cocoon.group(reference) for reference in references],
        patience=args.wait.total_seconds(),
    )
    names = ", ".join(group.name for group in report.added)
    sentence = f"The new device is in {count(len(report.added), 'group')}: {names}." if report.added else "Nothing new."
    notes = [f"It was in {group.name} already." for group in report.left_out]
    notes += [f"Not added to {group.hex()[:8]}: {why}." for group, why in report.failed.items()]
    if not report.told:
        notes.append("It could not be told; run `cocoon device link` on it again, and it looks.")
    notes += [f"Not sent yet for {group.name}: `cocoon sync` sends it." for group in report.added if group.unsent()]
    data = {
        "groups": [_group_data(group) for group in report.added],
        "left_out": [_group_data(group) for group in report.left_out],
        "failed": {str(group): why for group, why in report.failed.items()},
        "told": report.told,
        "words": list(dialogue.words),
    }
    return Outcome(data, lambda screen: screen.line(sentence), notes, 1 if report.failed else 0)


def _group_data(group: Group) -> dict[str, Any]:
    return {"id": str(group.id), "name": group.name}


def device_data(device: DeviceInfo) -> dict[str, Any]:
    """A device as scripts see one."""
    return {
        "id": str(device.id),
        "member": str(device.member),
        "member_name": device.member_name,
        "mine": device.mine,
        "this": device.this,
        "last_seen": timestamp(device.last_seen) if device.last_seen else None,
    }


async def list_devices(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """The devices of this member, or of all."""
    devices = [device for device in group.devices() if device.mine or args.all]
    now = datetime.now(UTC)

    def draw(screen: Screen) -> None:
        rows = [
            [
                shorten_id(str(device.id)),
                f"{device.member_name} (this device)" if device.this else device.member_name,
                age(device.last_seen, now) if device.last_seen else "never, or not shown",
            ]
            for device in devices
        ]
        screen.table(["ID", "WHOSE", "LAST SEEN"], rows)

    return Outcome({"devices": [device_data(device) for device in devices]}, draw)


async def remove_device(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Put a device out."""
    device = await group.remove_device(args.device)
    whose = "Your" if device.mine else f"{device.member_name}'s"
    return Outcome(
        device_data(device),
        lambda screen: screen.line(f"{whose} device {shorten_id(str(device.id))} is out."),
        await context.notes_on_sending(group),
    )
