"""`python -m tests.benchmarks.relay [--full] [LINE…]`: measure the relay, and print one table. The exit code is 0.

Every row stands beside its ceiling, measured in the same run and in turn with it: the bare loop (bare), or a server
that people would run instead (peers). The server has one processor, the load the others. Lines are fan, pace, puts,
fresh, idle, topics, entries and nodes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.relay.peers import NotInstalledError, serve_hocuspocus, serve_mosquitto
from tests.benchmarks.relay.serving import SERVER_PROCESSOR, Server, measure, serve_bare, serve_relay
from tests.benchmarks.relay.speaking import ENTRY_BYTES
from tests.benchmarks.relay.stored import write_store
from tests.benchmarks.table import Row, Samples, compare, compare_at_least, compare_freely, print_rows

READERS: Final = 11
PUBLISHERS: Final = 10
ACTIVE: Final = 100  # topics that are put into where the others only stand there
_TEXT_OF_300: Final = 280  # characters; what Yjs adds makes it 300 bytes
_UPDATES: Final = 500  # of one Yjs document: hocuspocus takes the longer for one the more there are


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 5
    fan: int = 20_000
    window: int = 1_024
    paced: int = 2_000
    single: int = 500  # puts of each publisher at a window of 1
    windowed: int = 3_000  # and of 64
    stored: int = 10_000
    idle: int = 1_000
    topics: tuple[int, ...] = (100, 10_000, 100_000)
    entries: tuple[int, ...] = (1_000, 1_000_000)
    cost: int = 200  # puts into each active topic


FULL: Final = Sizes(topics=(100, 10_000, 1_000_000), entries=(1_000, 10_000_000))
QUICK: Final = Sizes(1, 300, 64, 50, 20, 100, 500, 40, (100, 1_000), (1_000, 10_000), 20)


@dataclass(slots=True)
class Bench:
    """One run: its folder, its sizes, and what the load and the servers were busy with."""

    base: Path
    sizes: Sizes
    notes: list[str] = field(default_factory=list)
    _topics: Iterator[int] = field(default_factory=lambda: count(1_000_000, 1_000))
    _folders: Iterator[int] = field(default_factory=count)
    _load_busy: list[float] = field(default_factory=list)
    _server_busy: list[float] = field(default_factory=list)

    def folder(self) -> Path:
        return self.base / str(next(self._folders))

    def topic(self) -> int:
        """A fresh one, and a thousand after it."""
        return next(self._topics)

    def measure(self, server: Server, what: str, **given: Any) -> dict[str, Any]:
        result = measure(server, what, **given)
        if what in ("fan_out", "acked"):
            self._load_busy.append(result["busy"])
            self._server_busy.append(result["server_used"] / result["seconds"])
        return result

    def sample(self, servers: Sequence[Server], key: str, unit: str, what: str, **given: Any) -> list[Samples]:
        """Each server in turn, `rounds` times; the first round is not counted if there are more."""
        values: list[list[float]] = [[] for _ in servers]
        for number in range(self.sizes.rounds + (self.sizes.rounds > 1)):
            for server, place in zip(servers, values, strict=True):
                topic = self.topic()
                fresh = {name: (value(topic, server) if callable(value) else value) for name, value in given.items()}
                result = self.measure(server, what, **fresh)[key]
                if number or self.sizes.rounds == 1:
                    place.append(result)
        return [Samples(place, unit) for place in values]

    def say_busy(self) -> str:
        load, server = sorted(self._load_busy), sorted(self._server_busy)
        if not load:
            return ""
        return (
            f"the load was busy {load[len(load) // 2]:.0%} of the time (at most {load[-1]:.0%}), the servers"
            f" {server[len(server) // 2]:.0%} of their processor: the load was the bottleneck nowhere it is below 90 %"
        )


def _own(topic: int, _server: Server) -> int:
    return topic


def _ten(topic: int, _server: Server) -> list[int]:
    return list(range(topic, topic + PUBLISHERS))


@contextmanager
def _pair(bench: Bench) -> Iterator[list[Server]]:
    with serve_relay(bench.folder()) as relay, serve_bare(bench.folder()) as bare:
        yield [relay, bare]


def measure_fan_out(bench: Bench) -> list[Row]:
    """One publisher, eleven subscribers: relay, bare loop, and the peers that can be had."""
    sizes = bench.sizes
    rows: list[Row] = []
    line = f"fan-out 1 to {READERS}, {ENTRY_BYTES} bytes"
    missing: list[Row] = []
    with ExitStack() as stack:
        servers = [*stack.enter_context(_pair(bench))]
        peers: list[tuple[str, float]] = []
        kinds: list[tuple[str, float, Callable[[Path], AbstractContextManager[Server]]]] = [
            ("mosquitto QoS 1", 3.0, serve_mosquitto),
            ("hocuspocus", 5.0, partial(serve_hocuspocus, updates=_UPDATES + 20, size=_TEXT_OF_300)),
        ]
        for name, least, serve in kinds:
            try:
                servers.append(stack.enter_context(serve(bench.folder())))
                peers.append((name, least))
            except NotInstalledError as error:
                missing.append(Row(f"{line}, {name}", f"not installed: {error}", f"≥ {least:g} × {name}"))
        relay, bare, *others = bench.sample(
            servers, "rate", "deliveries/s", "fan_out",
            topic=_own, readers=READERS, window=sizes.window,
            count=lambda _, server: min(_UPDATES, sizes.fan) if server.name == "hocuspocus" else sizes.fan,
        )  # fmt: skip
        rows.append(compare_at_least(line, relay, bare, 0.6, "bare loop"))
        for (name, least), peer in zip(peers, others, strict=True):
            rows.append(compare_at_least(f"{line}, synced first; {name} is not", relay, peer, least, name))
    return rows + missing


def measure_pace(bench: Bench) -> list[Row]:
    with _pair(bench) as servers:
        relay, bare = bench.sample(
            servers, "p50", "ms", "paced", topic=_own, readers=READERS, count=bench.sizes.paced, rate=500
        )
        return [compare("p50 of a delivery at 500 puts/s", relay, bare, 2.0, "bare loop")]


def measure_puts(bench: Bench) -> list[Row]:
    rows = []
    with _pair(bench) as servers:
        for window, number in ((1, bench.sizes.single), (64, bench.sizes.windowed)):
            relay, bare = bench.sample(servers, "rate", "puts/s", "acked", topics=_ten, count=number, window=window)
            line = f"durable acked puts, {PUBLISHERS} topics, window {window}"
            rows.append(compare_at_least(line, relay, bare, 0.6, "bare loop"))
    return rows


def measure_fresh(bench: Bench) -> list[Row]:
    stored = bench.sizes.stored
    with _pair(bench) as servers:
        for server in servers:
            bench.measure(server, "fill", topic=7, count=stored)
        relay, bare = bench.sample(servers, "ms", "ms", "fresh", topic=7, count=stored)
        return [compare(f"{stored:,} stored entries to a fresh subscriber", relay, bare, 2.0, "bare loop")]


def measure_idle(bench: Bench) -> list[Row]:
    """A server of its own for each sample: memory that was used once is used again."""
    found: list[list[float]] = [[], []]
    for _ in range(min(3, bench.sizes.rounds)):
        with _pair(bench) as servers:
            for server, place in zip(servers, found, strict=True):
                result = bench.measure(
                    server, "idle", pid=server.pids[0], connections=bench.sizes.idle, group=10, first=bench.topic()
                )
                place.append(result["bytes"] / 1024)
    relay, bare = (Samples(place, "KiB") for place in found)
    return [compare("idle connection with a topic open, 10 to a topic", relay, bare, 1.5, "bare aiohttp")]


def measure_stored(bench: Bench, what: str) -> list[Row]:
    """What a put costs on a relay that holds little, and on one that holds much."""
    sizes = bench.sizes
    amounts = sizes.topics if what == "topics" else sizes.entries
    active = list(range(1, ACTIVE + 1))
    with ExitStack() as stack:
        servers = []
        for amount in amounts:
            folder = bench.folder()
            began = time.perf_counter()
            topics, entries = (amount, amount) if what == "topics" else (ACTIVE, amount)
            write_store(folder / "data", topics=topics, entries=entries, active=active)
            _say(f"a store of {amount:,} {what}: {time.perf_counter() - began:.0f} s")
            servers.append(stack.enter_context(serve_relay(folder)))
        rates = bench.sample(servers, "rate", "puts/s", "acked", topics=active, count=sizes.cost, window=8)
    costs = [Samples([1e6 / value for value in rate.values], "µs") for rate in rates]
    return [
        compare(f"a put into {ACTIVE} topics, {amount:,} {what} stored", cost, costs[0], 1.5, f"with {amounts[0]:,}")
        for amount, cost in zip(amounts[1:], costs[1:], strict=True)
    ]


def measure_nodes(bench: Bench) -> list[Row]:
    """PostgreSQL instead of SQLite: one node, and two that share the topics."""
    import asyncio

    try:
        from tests.support.servers import PostgresServer

        postgres = PostgresServer(durable=True)
    except (ImportError, AssertionError) as error:
        return [Row("PostgreSQL", f"not installed: {error}")]
    sizes = bench.sizes
    rows = []
    try:
        url = asyncio.run(postgres.make_database())
        origin = ("--database", url)
        with ExitStack() as stack:
            sqlite = stack.enter_context(serve_relay(bench.folder()))
            one = stack.enter_context(serve_relay(bench.folder(), *origin))
            second = 1 if (os.cpu_count() or 1) > 1 else SERVER_PROCESSOR
            other = stack.enter_context(serve_relay(bench.folder(), *origin, processor=second))
            two = Server("relay", one.pids + other.pids, one.ports + other.ports, {"one_node_each": True})
            at_sqlite, at_one = bench.sample(
                [sqlite, one], "rate", "deliveries/s", "fan_out",
                topic=_own, readers=READERS, count=sizes.fan // 4, window=sizes.window,
            )  # fmt: skip
            rows.append(compare_freely(f"PostgreSQL, one node: fan-out 1 to {READERS}", at_one, at_sqlite, "SQLite"))
            for window, number in ((1, sizes.single), (64, sizes.windowed // 3)):
                at_sqlite, at_one, at_two = bench.sample(
                    [sqlite, one, two], "rate", "puts/s", "acked", topics=_ten, count=number, window=window
                )
                line = f"durable acked puts, {PUBLISHERS} topics, window {window}"
                rows.append(compare_freely(f"PostgreSQL, one node: {line}", at_one, at_sqlite, "SQLite"))
                rows.append(compare_at_least(f"PostgreSQL, two nodes: {line}", at_two, at_one, 1.5, "one node"))
    finally:
        postgres.remove()
    return rows


LINES: Final[dict[str, Callable[[Bench], list[Row]]]] = {
    "fan": measure_fan_out,
    "pace": measure_pace,
    "puts": measure_puts,
    "fresh": measure_fresh,
    "idle": measure_idle,
    "topics": lambda bench: measure_stored(bench, "topics"),
    "entries": lambda bench: measure_stored(bench, "entries"),
    "nodes": measure_nodes,
}


def run(base: Path, sizes: Sizes, lines: Sequence[str]) -> tuple[list[Row], str]:
    """The rows of these lines, and how busy who was."""
    bench = Bench(base, sizes)
    rows: list[Row] = []
    for line in lines:
        began = time.perf_counter()
        rows += LINES[line](bench)
        _say(f"{line}: {time.perf_counter() - began:.0f} s")
    return rows, bench.say_busy()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench-relay", description="measure the relay")
    parser.add_argument("--full", action="store_true", help="1,000,000 topics, 10,000,000 entries: minutes and 10 GB")
    parser.add_argument("--quick", action="store_true", help="small: to see that it runs")
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"some of {', '.join(LINES)}; else all")
    options = parser.parse_args(words)
    unknown = set(options.lines) - LINES.keys()
    if unknown:
        parser.error(f"there is no line {', '.join(sorted(unknown))}")
    sizes = FULL if options.full else QUICK if options.quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="bench-relay-") as base:
        rows, busy = run(Path(base), sizes, options.lines or list(LINES))
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}, {os.cpu_count()} processors,"
        f" load {load:.1f}; stores in {tempfile.gettempdir()}"
    )
    if sizes.topics[-1] < FULL.topics[-1]:
        print("smaller stores than the targets name: --full takes 1,000,000 topics and 10,000,000 entries")
    print_rows(rows)
    if busy:
        print(busy)


if __name__ == "__main__":
    main(sys.argv[1:])
