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
    commands.add("audit", with_group(audit_relays), "what the relay knows of this group: numbers, no names, no words")


async def audit_relays(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Ask every relay of the group what it holds."""
    report = await group.audit()
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

    return Outcome(
        data={"topics": topics, "blobs": blobs},
        draw=draw,
        notes=["Beside this the relay sees connections: when they come, from which address, and how much they move."],
    )
