"""Line 13: durable puts a second of ten publishers in ten topics: on SQLite, on PostgreSQL, and on two nodes of it.

The publishers are processes of their own, so that what is measured is the relay. PostgreSQL syncs before it answers, as
SQLite does, and stands on the same disk; its own processes take their share of the same processors.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.serving import put_many
from tests.benchmarks.table import Row, Samples
from tests.support.relay_process import RelayProcess, relay_environment
from tests.support.servers import PostgresServer

ROUNDS: Final = 3
PUBLISHERS: Final = 10
WINDOWS: Final = {1: 150, 64: 1_500}  # puts on their way at once: puts of each publisher


async def measure_nodes(base: Path) -> list[Row]:
    server = PostgresServer(durable=True)
    try:
        database = await server.make_database()
        rows: dict[tuple[str, int], list[float]] = {}
        with (
            RelayProcess(base / "sqlite") as sqlite,
            RelayProcess(base / "one", "--database", database) as one,
            RelayProcess(base / "two", "--database", database) as two,
        ):
            forms = {"SQLite": [sqlite.url], "PostgreSQL": [one.url], "PostgreSQL, two nodes": [one.url, two.url]}
            for _ in range(ROUNDS):
                for form, urls in forms.items():
                    for window, count in WINDOWS.items():
                        rows.setdefault((form, window), []).append(await _publish(urls, window, count))
    finally:
        server.remove()
    return [
        Row(f"13 {form}, 10 topics, {window} on their way", str(Samples(rates, "a second")))
        for (form, window), rates in rows.items()
    ]


async def _publish(urls: Sequence[str], window: int, count: int) -> float:
    """Two processes with half of the publishers each; the sum of what they got acknowledged a second."""
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.nodes", str(window), str(count), *urls,
            stdout=asyncio.subprocess.PIPE, env=relay_environment(),
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [await child.communicate() for child in children]
    return sum(float(output) for output, _ in outputs)


async def _be_publishers(window: int, count: int, urls: Sequence[str]) -> float:
    half = PUBLISHERS // 2
    rates = await asyncio.gather(*(put_many(urls[at % len(urls)], window, count) for at in range(half)))
    return sum(rates)


if __name__ == "__main__":
    print(asyncio.run(_be_publishers(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
    sys.exit(0)
