"""`relay`: run a relay here. All its options are those of `cocoon-relay serve`, which takes over this process."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context


def add_commands(commands: Commands) -> None:
    """Add `relay`."""
    commands.add(
        "relay",
        run_relay,
        "run a relay here: the same as `cocoon-relay serve`",
        "Takes the options of `cocoon-relay serve`, which `cocoon-relay serve --help` shows.",
        passes_on=True,
    )


def run_relay(context: Context, args: argparse.Namespace) -> NoReturn:
    """Become the relay's process, so that signals reach it and its exit code is this command's."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "cocoon_relay", "serve", *args.passed_on])
