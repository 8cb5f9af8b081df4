"""`init`: make the profile that holds this person's groups on this device; and `profile`, which looks after it."""

from __future__ import annotations

import argparse
import sys

from cocoon_cli import passphrase
from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context
from cocoon_cli.output import Outcome
from cocoon_cli.passphrases import ask_twice
from cocoon_core.errors import NoKeyRingError


def add_commands(commands: Commands) -> None:
    """Add `init` and `profile`."""
    commands.add(
        "init",
        initialise,
        "make a profile on this device",
        "Its key goes into the system's key ring; with COCOON_PASSPHRASE set, it is sealed under that instead.",
    )
    passphrase.add_commands(commands.nest("profile", "the profile itself: what opens it, and safe copies"))


def initialise(context: Context, args: argparse.Namespace) -> Outcome:
    """Make the profile; where there is no key ring, ask a person for a passphrase."""
    from cocoon_core import Cocoon

    try:
        Cocoon.init(context.home, passphrase=context.passphrase)
    except NoKeyRingError:
        if context.passphrase is not None or context.output.as_json or not sys.stdin.isatty():
            raise
        context.output.note("This system has no safe key ring; the profile is sealed under a passphrase instead.")
        Cocoon.init(context.home, passphrase=ask_twice("New passphrase: "))
    home = Cocoon.find_home(context.home)
    return Outcome(
        data={"home": str(home)},
        draw=lambda screen: screen.line(f"A new profile is in {home}."),
        notes=["Next: `cocoon group new NAME --name YOU --relay URL`, or `cocoon join LINK --name YOU`."],
    )
