"""`profile backup` and `profile restore`: everything in one sealed file, and back, as a new device."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands, add_yes, file
from cocoon_cli.context import Context, confirm, with_profile
from cocoon_cli.output import Outcome
from cocoon_cli.passphrases import make_with_passphrase, read_new_passphrase, read_passphrase
from cocoon_cli.text import count, size, timestamp

if TYPE_CHECKING:
    from cocoon_core import Cocoon

VARIABLE = "COCOON_BACKUP_PASSPHRASE"
KEEP_APART = (
    "Whoever has this file and its passphrase has all your groups: keep the two apart, and not on this device alone."
)
QUESTION = (
    "What is restored takes the place of the device that the backup was made on, in every group, at its first sync. If "
    "that device still works, it can write no more from then on: then link this one with `cocoon device link` instead. "
    "Restore?"
)
FIRST_SYNC = "Next: `cocoon sync`. Until then your groups can be read and not written to."


def add_commands(commands: Commands) -> None:
    """Add `profile backup` and `profile restore`."""
    backup = commands.add(
        "backup",
        with_profile(write_backup, prepare=ask_passphrase),
        "write everything in this profile into one sealed file",
        f"Asks twice for a passphrase for the file, which need not be that of the profile; {VARIABLE} answers instead "
        "of a person. The file is read back before it has its name.",
    )
    backup.add_argument("file", type=file, metavar="FILE", help="where to write it")
    backup.add_argument("--force", action="store_true", help="replace a file that is there")
    restore = commands.add(
        "restore",
        restore_backup,
        "make a profile on this device out of such a file",
        "As a new device: the one that the backup was made on is replaced by it in every group. Its passphrase is "
        f"asked for, or taken from {VARIABLE}; the new profile is kept as by `cocoon init`.",
    )
    restore.add_argument("file", type=file, metavar="FILE", help="the backup")
    add_yes(restore)


def ask_passphrase(context: Context, args: argparse.Namespace) -> Context:
    """Get the passphrase for the file."""
    context = context.unlock()
    asked = read_new_passphrase(context, VARIABLE, "Passphrase for the backup: ")
    return replace(context, answers={"backup_passphrase": asked})


async def write_backup(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Write the file."""
    with context.output.progress("Writing") as progress:
        report = cocoon.backup(
            context.locate(args.file), context.answers["backup_passphrase"], replace=args.force, progress=progress
        )
    return Outcome(
        data={
            "path": str(report.path),
            "bytes": report.bytes,
            "groups": report.groups,
            "time": timestamp(report.time),
        },
        draw=lambda screen: screen.line(
            f"Wrote {count(report.groups, 'group')} into {report.path} ({size(report.bytes)}), and read it back."
        ),
        notes=[KEEP_APART],
    )


def restore_backup(context: Context, args: argparse.Namespace) -> Outcome:
    """Make the profile."""
    from cocoon_core import Cocoon

    confirm(context, args, QUESTION)
    asked = read_passphrase(context, VARIABLE, "Passphrase of the backup: ")
    with context.output.progress("Restoring") as progress:
        report = make_with_passphrase(
            context,
            lambda passphrase: Cocoon.restore(
                context.locate(args.file), asked, context.home, passphrase, progress=progress
            ),
        )
    notes = [FIRST_SYNC]
    if report.dropped:
        notes.append(
            f"{count(report.dropped, 'join')} or link that had not ended when the backup was made is not in it; begin "
            "again where you still want it."
        )
    return Outcome(
        data={
            "home": str(report.home),
            "groups": report.groups,
            "dropped": report.dropped,
            "time": timestamp(report.time),
        },
        draw=lambda screen: screen.line(
            f"Restored {count(report.groups, 'group')} into {report.home}, as of {timestamp(report.time)}."
        ),
        notes=notes,
    )
