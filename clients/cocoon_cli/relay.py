"""`relay`: run a relay here. All its options are those of `cocoon-relay serve`, which takes over this process."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context

NOTE = """options of the relay:
  --data DIR          where everything is kept (required)
  --listen HOST:PORT  where it listens (127.0.0.1:8787)

`cocoon-relay serve --help` shows the others; all of them can be given here. With --json, the line that says that it is
ready, and an error, are one JSON object."""


def add_commands(commands: Commands) -> None:
    """Add `relay`."""
    commands.add(
        "relay",
        run_relay,
        "run a relay here: the same as `cocoon-relay serve`",
        NOTE,
        passes_on=True,
    )


def run_relay(context: Context, args: argparse.Namespace) -> NoReturn:
    """Become the relay's process, so that signals reach it and its exit code is this command's."""
    sys.stdout.flush()
    words = args.passed_on[1:] if args.passed_on[:1] == ["serve"] else args.passed_on
    form = ["--json"] if context.output.as_json else []
    os.execv(sys.executable, [sys.executable, "-m", "cocoon_relay", "serve", *form, *words])
