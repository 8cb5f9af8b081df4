"""Bundles: a group in one file that any stick or letter can carry, sealed as it is at a relay."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoon_cli.context import Context
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count, shorten_id, size

if TYPE_CHECKING:
    from cocoon_core import Cocoon, Group

PUBLIC = "Whoever finds it sees what a relay sees: how much there is, no name and no word."


async def export_bundle(group: Group, context: Context, path: Path, *, force: bool) -> Outcome:
    """Write a group's bundle."""
    place = context.locate(path)
    done = await group.export_bundle(place, replaces=force)
    notes = [f"`cocoon import {path}` takes it in on another member's device. {PUBLIC}"]
    if done.rotated:
        notes.append(
            "A new epoch was begun, since parts of the last one are at a relay alone and none could be reached: "
            "`cocoon sync` sends it."
        )
    if done.lacking:
        notes.append(
            f"{count(done.lacking, 'part')} of the group's history could not be had: the file brings members level who "
            "have most of it; others need a relay, or another member's file."
        )

    def draw(screen: Screen) -> None:
        screen.line("Written: ", (str(path), "bold"), f" ({size(done.size)}).")

    data = {
        "path": str(place),
        "bytes": done.size,
        "topics": done.topics,
        "envelopes": done.envelopes,
        "blobs": done.blobs,
        "rotated": done.rotated,
        "lacking": done.lacking,
    }
    return Outcome(data, draw, notes)


async def import_bundle(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Take in a bundle, for every group of the profile that it is of."""
    with context.output.progress("Checking the file") as progress:
        report = await cocoon.import_bundle(context.locate(args.file), progress)
    groups = {group.id: group for group in cocoon.groups()}
    names = Counter(group.name for group in groups.values())
    lines: list[tuple[str, str]] = []
    notes: list[str] = []
    data: list[dict[str, Any]] = []
    for identifier, done in report.groups.items():
        group = groups[identifier]
        title = group.name if names[group.name] == 1 else f"{group.name} ({shorten_id(str(identifier))})"
        lines.append((title, f": received {done.received}."))
        if done.unknown_to_author:
            number = done.unknown_to_author
            some = "1 entry is" if number == 1 else f"{number} entries are"
            notes.append(
                f"{title}: {some} here that the file's author did not have; `cocoon export --bundle FILE` writes one "
                "to take back."
            )
        notes += [f"Warning ({title}): {alarm}" for alarm in group.alarms()]
        if group.unsent() and done.received:
            notes.append(f"{title}: `cocoon sync` sends on what came.")
        data.append(
            {
                "group": str(identifier),
                "received": done.received,
                "unknown_to_author": done.unknown_to_author,
                "error": None,
            }
        )
    for identifier, error in report.failed.items():
        lines.append((groups[identifier].name, f": not taken in: {error}"))
        data.append({"group": str(identifier), "received": 0, "unknown_to_author": 0, "error": str(error)})

    def draw(screen: Screen) -> None:
        for title, words in lines:
            screen.line((title, "bold"), words)

    first_error = next(iter(report.failed.values()), None)
    return Outcome(
        {"received": sum(done.received for done in report.groups.values()), "groups": data},
        draw,
        notes,
        0 if first_error is None else first_error.exit_code,
    )
