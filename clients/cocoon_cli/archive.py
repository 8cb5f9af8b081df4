"""`export DIR`: groups as pages and JSON, for people to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_cli.context import Context
from cocoon_cli.output import Outcome
from cocoon_cli.text import count, size

if TYPE_CHECKING:
    from cocoon_core import Cocoon

OPEN_TO_ALL = "It is not encrypted: everybody who gets this folder can read all of it."


def _absent(number: int) -> str:
    return f"The files of {count(number, 'item')} could not be had; the pages say why."


async def export_archive(cocoon: Cocoon, context: Context, folder: Path, *, force: bool, files: bool) -> Outcome:
    """Write the group that was named, else all there are."""
    groups = context.choose_groups(cocoon)
    with context.output.progress("Writing") as progress:
        report = await cocoon.export(context.locate(folder), groups, replace=force, files=files, progress=progress)
    return Outcome(
        data={
            "path": str(report.path),
            "index": str(report.path / "index.html"),
            "groups": [{"id": str(group.id), "name": group.name} for group in groups],
            "posts": report.posts,
            "items": report.items,
            "absent": report.absent,
            "files": report.files,
            "bytes": report.bytes,
        },
        draw=lambda screen: screen.line(
            f"Wrote {count(report.groups, 'group')} with {count(report.posts, 'post')} and "
            f"{count(report.items, 'item')} of the vault into {report.path} ({size(report.bytes)}); "
            f"open {report.path / 'index.html'}."
        ),
        notes=[OPEN_TO_ALL, *([_absent(report.absent)] if report.absent and files else [])],
    )
