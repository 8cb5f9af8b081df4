"""Lines 2 and 5: what one durable post costs over its bare parts, and whether it grows with the posts already there."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cocoon_core import Cocoon, Group
from tests.benchmarks.children import run_child
from tests.benchmarks.floor import ENVELOPE_BYTES, BarePost, commit_bare, open_bare
from tests.benchmarks.table import Row, Samples, Stopwatch, compare, compare_freely
from tests.benchmarks.text import Writer
from tests.benchmarks.world import SEED, Clock, dial_memory, found_group, open_device, wait_for_disk
from tests.support.memory_relay import MemoryRelay

HISTORY: Final = 1_000  # posts that are there already
ROUNDS: Final = 600
MOST_RATIO: Final = 3
STEPS: Final = (1_000, 10_000, 100_000)
STEP_ROUNDS: Final = 300
SYNC_EVERY: Final = 5_000  # posts
MOST_GROWTH: Final = 1.5
AGAIN: Final = 20  # posts in a process that has just opened the profile


async def measure_posting(base: Path) -> list[Row]:
    """Line 2: a post and a bare post take turns on the same disk, both with 1,000 posts behind them."""
    writer, memory, clock = Writer(SEED), MemoryRelay(), Clock()
    async with open_device(base / "writer", dial_memory(memory), clock) as cocoon:
        group, _ = await found_group(cocoon, memory.url)
        await _write_posts(group, HISTORY, writer, clock)
        database = open_bare(base / "bare.db")
        bare = BarePost(database, group.replica.epoch)
        for _ in range(HISTORY):
            bare.post(writer.write_post(), durable=False)
        wait_for_disk(group.replica.database, True)
        posts, floors, commits = Stopwatch(), Stopwatch(), Stopwatch()
        for _ in range(ROUNDS):
            clock.now_ms += 1
            text = writer.write_post()
            with posts:
                await group.feed.post(text)
            with floors:
                bare.post(text)
            with commits:
                commit_bare(database, bytes(ENVELOPE_BYTES))
        database.close()
    return [
        compare("2 a durable post", posts.wall, floors.wall, MOST_RATIO, "bare"),
        compare_freely("2 · processor time", posts.processor, floors.processor, "bare"),
        Row("2 · bare: seal, sign, automerge edit, one commit", str(floors.wall)),
        Row("2 · one commit", str(commits.wall)),
    ]


@dataclass(frozen=True, slots=True)
class _Profile:
    """One that has `count` posts of one month."""

    count: int
    home: Path
    cocoon: Cocoon
    group: Group
    clock: Clock
    cost: Stopwatch


async def measure_growth(base: Path) -> list[Row]:
    """Line 5: three profiles with 1k, 10k and 100k posts of one month take turns in writing one more."""
    writer, rng = Writer(SEED), random.Random(SEED)
    async with AsyncExitStack() as stack:
        profiles = [await _make_profile(stack, base / f"{count}", count, writer) for count in STEPS]
        for _ in range(STEP_ROUNDS):
            for profile in rng.sample(profiles, len(profiles)):
                profile.clock.now_ms += 1
                text = writer.write_post()
                with profile.cost:
                    await profile.group.feed.post(text)
        ends = [await _end(profile) for profile in profiles]
    return [*_compare_costs(profiles), *ends, *map(_open_anew, profiles)]


async def _make_profile(stack: AsyncExitStack, home: Path, count: int, writer: Writer) -> _Profile:
    memory, clock = MemoryRelay(), Clock()
    cocoon = await stack.enter_async_context(open_device(home, dial_memory(memory), clock))
    group, _ = await found_group(cocoon, memory.url)
    await _write_posts(group, count, writer, clock)
    wait_for_disk(group.replica.database, True)
    return _Profile(count, home, cocoon, group, clock, Stopwatch())


def _compare_costs(profiles: list[_Profile]) -> list[Row]:
    least, *others = profiles
    name = f"after {least.count:,}:"
    rows = [Row(f"5 one more post after {least.count:,}", str(least.cost.wall))]
    for profile in others:
        line = f"5 one more post after {profile.count:,}"
        rows.append(compare(line, profile.cost.wall, least.cost.wall, MOST_GROWTH, name))
        rows.append(compare_freely("5 · processor time", profile.cost.processor, least.cost.processor, name))
    return rows


async def _end(profile: _Profile) -> Row:
    syncing, closing = Stopwatch(), Stopwatch()
    with syncing:
        await profile.group.sync()
    with closing:
        await profile.cocoon.close()
    both = f"{syncing.wall.median:.0f} ms, then closing {closing.wall.median:.0f} ms"
    return Row(f"5 · sync of {STEP_ROUNDS} posts after {profile.count:,}", both)


def _open_anew(profile: _Profile) -> Row:
    again = run_child("post-again", profile.home, str(AGAIN), str(profile.clock.now_ms))
    opened, (first, *others) = again["opened"] * 1000, again["posts"]
    rest = Samples([value * 1000 for value in others], "ms")
    times = f"open {opened:.0f} ms, first {first * 1000:.0f} ms, then {rest}"
    return Row(f"5 · opened anew after {profile.count:,}", times)


async def _write_posts(group: Group, count: int, writer: Writer, clock: Clock) -> None:
    """Posts of one month, synced from time to time, none of them left to be sent."""
    for number in range(count):
        clock.now_ms += 20
        await group.feed.post(writer.write_post())
        if (number + 1) % SYNC_EVERY == 0:
            await group.sync()
    await group.sync()
