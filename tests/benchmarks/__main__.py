"""`python -m tests.benchmarks [LINE…]`: measure, and print one table. Nothing is asserted; the exit code is 0.

Targets are ratios to what is measured beside them in the same run, so that they mean the same on every machine.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.benchmarks.catching_up import measure_catching_up
from tests.benchmarks.crowd import measure_crowd
from tests.benchmarks.delivering import measure_delivering
from tests.benchmarks.feed import measure_feed
from tests.benchmarks.gaps import measure_gaps
from tests.benchmarks.newcomer import measure_compaction, measure_newcomers
from tests.benchmarks.posting import measure_growth, measure_posting
from tests.benchmarks.roster import measure_rosters
from tests.benchmarks.rotating_relay import measure_rotating_relay
from tests.benchmarks.sizes import measure_sizes
from tests.benchmarks.table import Row, print_rows
from tests.benchmarks.vault import measure_vault
from tests.benchmarks.vault_index import measure_vault_index
from tests.benchmarks.wrapping import measure_wrapping

Measure = Callable[[Path], Awaitable[list[Row]]]

LINES: dict[str, Measure] = {
    "1": measure_catching_up,
    "2": measure_posting,
    "3": measure_delivering,
    "4": measure_sizes,
    "5": measure_growth,
    "7": measure_rotating_relay,
    "8": measure_wrapping,
    "9": measure_rosters,
    "10": measure_newcomers,
    "11": measure_compaction,
    "12": measure_gaps,
    "13": measure_vault,
    "14": measure_vault_index,
    "15": measure_feed,
    "16": measure_crowd,
}


def main(wanted: list[str]) -> None:
    """Measure the lines that are named, or all; line 1 brings line 6 with it. For relays: `make bench-relay`."""
    rows: list[Row] = []
    for line in wanted or LINES:
        measure = LINES.get(line)
        if measure is None:
            print(f"there is no line {line}; there are {', '.join(LINES)}", file=sys.stderr)
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="bench-") as base:
            rows += asyncio.run(_measure(measure, Path(base)))
        print(f"line {line}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} processors"
    print(f"Python {platform.python_version()}, {machine}; profiles in {tempfile.gettempdir()}")
    print_rows(sorted(rows, key=lambda row: int(row.line.split()[0])))


async def _measure(measure: Measure, base: Path) -> list[Row]:
    return await measure(base)


if __name__ == "__main__":
    main(sys.argv[1:])
