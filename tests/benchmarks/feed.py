"""Line 15: the feed of a group with 100,000 posts, from cold and page by page, and searching it.

Cold means a process that is started for it, with all that it imports; the key comes from a key ring. Modules are read
as bytecode, as an installed copy has them: a first, uncounted run writes it, also where the environment forbids that.
COCOON_BENCH_FEED names a folder in which the profile stays, so that measuring again need not write it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from cocoon_core.storage.profile import Profile
from tests.benchmarks.feed_children import use_ring
from tests.benchmarks.newcomer import MEMBERS, _open, _write_years
from tests.benchmarks.table import Row, Samples
from tests.benchmarks.world import PASSPHRASE, Clock
from tests.support.relay_process import REPOSITORY, RelayProcess, relay_environment

POSTS: Final = 100_000
ROUNDS: Final = 7
COLD_MS: Final = 1_000.0
PAGE_MS: Final = 30.0
SEARCH_MS: Final = 50.0
MOST_MB: Final = 200.0


async def measure_feed(base: Path, posts: int = POSTS) -> list[Row]:
    kept = os.environ.get("COCOON_BENCH_FEED")
    folder = Path(kept) if kept else base
    home, ring = folder / "member-0", folder / "ring"
    if not ring.exists():
        folder.mkdir(parents=True, exist_ok=True)
        await _fill(folder, posts)
        use_ring(ring)
        with Profile.open(home, PASSPHRASE) as profile:
            profile.change_passphrase(None)
    _type(ring, home, "feed", "--limit", "50")
    feed = [_type(ring, home, "feed", "--limit", "50") for _ in range(ROUNDS)]
    session = _run("session", ring, home)
    _type(ring, home, "search", "the")
    said = json.loads(session.stdout)
    sought = [_type(ring, home, "search", "the") for _ in range(ROUNDS)]
    ordered = sorted(said["searches"])
    p95 = ordered[int(len(ordered) * 0.95)]
    name = f"15 {posts:,} posts of {MEMBERS} members"
    peak = max(peak for _, peak in feed) / 1e6
    return [
        _within(f"{name}: the first 50, from cold", [ms for ms, _ in feed], COLD_MS),
        _within(f"{name}: the next 50", said["pages"], PAGE_MS),
        Row(
            f"{name}: {len(ordered)} searches, {said['found']} of them with results",
            f"{p95:.3g} ms at p95 ({ordered[0]:.3g}–{ordered[-1]:.3g}), {Samples(ordered, 'ms').median:.3g} at p50",
            f"≤ {SEARCH_MS:g} ms",
            f"{p95 / SEARCH_MS:.2f}×",
            p95 <= SEARCH_MS,
        ),
        Row(f"{name}: memory of the first", f"{peak:.0f} MB", f"< {MOST_MB:.0f} MB", "", peak < MOST_MB),
        Row(
            f"{name}: memory of a session that searches",
            f"{said['peak'] / 1e6:.0f} MB",
            f"< {MOST_MB:.0f} MB",
            "",
            said["peak"] < MOST_MB * 1e6,
        ),
        Row("15 · a search, from cold", str(Samples([ms for ms, _ in sought], "ms"))),
        Row("15 · the first search, which takes all in", f"{said['taken_in']:.2f} s"),
        Row("15 · the index and its texts", f"{said['index'] / 1e6:.1f} MB"),
    ]


async def _fill(folder: Path, posts: int) -> None:
    clock = Clock()
    with RelayProcess(folder / "relay") as relay:
        async with AsyncExitStack() as stack:
            cocoons = [await _open(stack, folder / f"member-{number}", clock) for number in range(MEMBERS)]
            await _write_years(cocoons, clock, relay.url, posts)


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = relay_environment()
    environment["PYTHONPATH"] += os.pathsep + str(REPOSITORY / "clients")
    environment.pop("COCOON_PASSPHRASE", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(Path(arguments[1]).parent / "bytecode")  # beside the ring
    command = [sys.executable, "-m", "tests.benchmarks.feed_children", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def _type(ring: Path, home: Path, *words: str) -> tuple[float, int]:
    """ms that a command takes from before its process is started until after its end, and the most bytes it had."""
    began = time.perf_counter()
    done = _run("cold", ring, "--home", home, "--json", *words)
    taken = (time.perf_counter() - began) * 1000
    shown: dict[str, list[Any]] = json.loads(done.stdout)
    if len(shown.get("posts") or shown.get("results") or []) != 50:
        raise RuntimeError(f"{words} did not show 50")
    return taken, json.loads(done.stderr.splitlines()[-1])["peak"]


def _within(line: str, values: list[float], most: float) -> Row:
    samples = Samples(values, "ms")
    return Row(line, str(samples), f"≤ {most:g} ms", f"{samples.median / most:.2f}×", samples.median <= most)
