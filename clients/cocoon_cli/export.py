"""`export` and `import`: a group out of this profile into files, and what others wrote into it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands
from cocoon_cli.bundle import export_bundle, import_bundle
from cocoon_cli.context import Context, with_group, with_profile
from cocoon_cli.output import Outcome

if TYPE_CHECKING:
    from cocoon_core import Group


def add_commands(commands: Commands) -> None:
    """Add `export` and `import`."""
    export = commands.add(
        "export",
        with_group(export_group),
        "write a group into a file: --bundle FILE is sealed, for other members' devices",
        examples=["cocoon export --bundle family.cocoon", "cocoon import family.cocoon      (on another device)"],
    )
    export.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        required=True,
        help="all of the group as a relay holds it, to be carried by hand",
    )
    export.add_argument("--force", action="store_true", help="replace a file of that name")
    taking = commands.add(
        "import",
        with_profile(import_bundle),
        "take in a file that `export --bundle` wrote",
        "Nothing is believed of a file that would not be believed of a relay. The same file again changes nothing.",
    )
    taking.add_argument("file", type=Path, metavar="FILE")


async def export_group(group: Group, context: Context, args: argparse.Namespace) -> Outcome:
    """Write the chosen group in the form that was asked for."""
    return await export_bundle(group, context, args.bundle, force=args.force)
