"""What people, not scripts, are reminded of beside a command's notes: to write down a phrase. Once a day at most."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from cocoon_cli.output import Outcome

if TYPE_CHECKING:
    from cocoon_cli.context import Context
    from cocoon_core import Cocoon

HINTED = frozenset({"post", "reply", "sync"})


def add_hint(outcome: Outcome, cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """The outcome with the hint among its notes, where one is due after this command."""
    if context.output.as_json or context.watched or args.command not in HINTED or outcome.exit_code:
        return outcome
    hint = cocoon.take_recovery_hint()
    return outcome if hint is None else replace(outcome, notes=[*outcome.notes, hint])
