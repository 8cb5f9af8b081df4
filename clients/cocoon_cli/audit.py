"""`audit`: what the relay can show about this group to whoever runs it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_group
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count, shorten_id, size

if TYPE_CHECKING:
    from cocoon_core import Group


def add_commands(commands: Commands) -> None:
    """Add `audit`."""
    audit = commands.add(
        "audit", with_group(audit_relays), "what the relay knows of this group: numbers, no names, no words"
    )
    audit.add_argument(
        "--probe", action="store_true", help="also try to append to every topic that has ended: the relay must refuse"
    )


async def audit_relays(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Ask every relay of the group what it holds."""
    report = await group.audit()
    probes = await group.probe_ended() if args.probe else []
    taken = {probe.topic for probe in probes if not probe.refused}
    topics: list[dict[str, Any]] = [
        {"id": identifier, "entries": entries, "bytes": stored, "relay": relay.url}
        for relay in report.relays
        for identifier, entries, stored in relay.topics
    ]
    blobs = sum(relay.blobs for relay in report.relays)

    def draw(screen: Screen) -> None:
        for relay in report.relays:
            screen.line((relay.url, "bold"))
            rows = [[f"{shorten_id(name)}…", str(entries), size(stored)] for name, entries, stored in relay.topics]
            if rows:
                screen.table(["TOPIC", "ENVELOPES", "SIZE"], rows)
            screen.line(count(relay.blobs, "blob"))
        for probe in probes:
            said = f"refused: {probe.reason}" if probe.refused else "TAKEN, which it should not be"
            screen.line(f"append to {shorten_id(probe.topic)}…, which has ended: {said}")

    data: dict[str, Any] = {"topics": topics, "blobs": blobs}
    if args.probe:
        data["probes"] = [
            {"id": probe.topic, "relay": probe.url, "refused": probe.refused, "reason": probe.reason}
            for probe in probes
        ]
    return Outcome(
        data=data,
        draw=draw,
        exit_code=1 if taken else 0,
        notes=["Beside this the relay sees connections: when they come, from which address, and how much they move."],
    )
