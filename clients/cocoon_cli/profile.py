"""`init`: make the profile that holds this person's groups on this device; and `profile`, which looks after it."""

from __future__ import annotations

import argparse

from cocoon_cli import backup, passphrase
from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context
from cocoon_cli.output import Outcome
from cocoon_cli.passphrases import make_with_passphrase


def add_commands(commands: Commands) -> None:
    """Add `init` and `profile`."""
    commands.add(
        "init",
        initialise,
        "make a profile on this device",
        "Its key goes into the system's key ring; with COCOON_PASSPHRASE set, it is sealed under that instead.",
    )
    keeping = commands.nest("profile", "the profile itself: what opens it, and safe copies")
    passphrase.add_commands(keeping)
    backup.add_commands(keeping)


def initialise(context: Context, args: argparse.Namespace) -> Outcome:
    """Make the profile."""
    from cocoon_core import Cocoon

    make_with_passphrase(context, lambda passphrase: Cocoon.init(context.home, passphrase=passphrase))
    home = Cocoon.find_home(context.home)
    return Outcome(
        data={"home": str(home)},
        draw=lambda screen: screen.line(f"A new profile is in {home}."),
        notes=["Next: `cocoon group new NAME --name YOU --relay URL`, or `cocoon join LINK --name YOU`."],
    )
