"""`export` and `import`: groups out of this profile, for people or for devices, and what others wrote into it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cocoon_cli.archive import export_archive
from cocoon_cli.arguments import Commands, file, folder
from cocoon_cli.bundle import export_bundle, import_bundle
from cocoon_cli.context import Context, with_profile
from cocoon_cli.output import Outcome
from cocoon_core.errors import UsageError

if TYPE_CHECKING:
    from cocoon_core import Cocoon


def add_commands(commands: Commands) -> None:
    """Add `export` and `import`."""
    export = commands.add(
        "export",
        with_profile(export_groups),
        "write groups out: into a folder that people can read, or sealed into a file for other members' devices",
        "A folder holds pages and JSON, is not encrypted, and is of the group that --group names, else of all. A "
        "bundle is of one group.",
        examples=[
            "cocoon export family-archive      (then open family-archive/index.html)",
            "cocoon export --bundle family.cocoon",
            "cocoon import family.cocoon       (on another device)",
        ],
    )
    export.add_argument("folder", type=folder, metavar="DIR", nargs="?", help="a new or empty folder, for an archive")
    export.add_argument(
        "--bundle",
        type=file,
        metavar="FILE",
        help="all of the group as a relay holds it, sealed, to be carried by hand",
    )
    export.add_argument(
        "--no-files", action="store_true", help="leave the files of the vault out of an archive, and name them alone"
    )
    export.add_argument("--force", action="store_true", help="replace an archive, or a file, of that name")
    taking = commands.add(
        "import",
        with_profile(import_bundle),
        "take in a file that `export --bundle` wrote",
        "Nothing is believed of a file that would not be believed of a relay. The same file again changes nothing.",
    )
    taking.add_argument("file", type=Path, metavar="FILE")


async def export_groups(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Write groups in the form that was asked for."""
    if (args.folder is None) == (args.bundle is None):
        raise UsageError("Give a folder for an archive that people can read, or --bundle FILE; not both.")
    if args.bundle is not None:
        group = context.choose_group(cocoon)
        return await export_bundle(group, context, context.locate(args.bundle), force=args.force)
    return await export_archive(cocoon, context, args.folder, force=args.force, files=not args.no_files)
