"""`check`: verify everything in this profile anew, and repair what can be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context, with_profile
from cocoon_cli.output import Outcome, Screen
from cocoon_cli.text import count
from cocoon_core.errors import LocalStateError

if TYPE_CHECKING:
    from cocoon_core import CheckReport, Cocoon


def add_commands(commands: Commands) -> None:
    """Add `check`."""
    check = commands.add(
        "check",
        with_profile(check_profile),
        "verify everything in this profile anew, and repair what can be",
        "Signatures, links, heads, snapshots, documents and what is computed from them. Ends with 0 if all is sound or "
        "was made so, and with 6 if something is left.",
    )
    check.add_argument("--no-repair", action="store_true", help="only say what is wrong, and write nothing")


async def check_profile(cocoon: Cocoon, context: Context, args: argparse.Namespace) -> Outcome:
    """Check, and tell of each finding."""
    with context.output.progress("Checking") as progress:
        report = await cocoon.check(repair=not args.no_repair, progress=progress)
    return Outcome(
        data={
            "sound": report.sound,
            "checked": report.checked,
            "findings": [
                {
                    "group": finding.group,
                    "what": finding.what,
                    "where": finding.where,
                    "problem": finding.problem,
                    "repaired": finding.repaired,
                    "advice": finding.advice,
                }
                for finding in report.findings
            ],
        },
        draw=lambda screen: _draw(screen, report),
        exit_code=0 if report.sound else LocalStateError.exit_code,
    )


def _draw(screen: Screen, report: CheckReport) -> None:
    for finding in report.findings:
        group = f" of group {finding.group[:8]}" if finding.group else ""
        mark = ("repaired", "green") if finding.repaired else ("not repaired", "red")
        screen.line(mark, f"  {finding.where}{group}: {finding.problem}")
        screen.line((f"To do: {finding.advice}.", "dim"), indent=2)
    runs, documents = report.checked.get("runs", 0), report.checked.get("documents", 0)
    looked = f"Checked {count(runs, 'run')} and {count(documents, 'document')}"
    if not report.findings:
        screen.line(f"{looked}: all is sound.")
    elif report.sound:
        screen.line(f"{looked}: {count(len(report.findings), 'fault')}, all repaired.")
    else:
        left = sum(not finding.repaired for finding in report.findings)
        screen.line(f"{looked}: {count(len(report.findings), 'fault')}, {left} of them not repaired.")
