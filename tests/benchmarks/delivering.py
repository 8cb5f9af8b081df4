"""Line 3: from a post on A to the view on B through a real relay over loopback, each in a process of its own.

Both are durable and both are connected. The clock runs from the call of `feed.post` on A until `feed.list` on B,
called after B's event, has the post on top. Between two posts A waits until its outbox is empty, and makes one bare
commit.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from cocoon_core import Cocoon, Group
from tests.benchmarks.children import command_of
from tests.benchmarks.floor import ENVELOPE_BYTES, commit_bare, open_bare
from tests.benchmarks.table import Row, Samples, Stopwatch
from tests.benchmarks.text import Writer
from tests.benchmarks.world import NAMES, PASSPHRASE, SEED
from tests.support.relay_process import RelayProcess, relay_environment

WARM_UP: Final = 30  # posts before those that count
ROUNDS: Final = 300
MOST_COMMITS: Final = 4
PLUS_MS: Final = 3


async def measure_delivering(base: Path) -> list[Row]:
    Cocoon.init(base / "a", PASSPHRASE)
    Cocoon.init(base / "b", PASSPHRASE)
    with RelayProcess(base / "relay") as relay:
        async with await Cocoon.open(base / "a", PASSPHRASE) as cocoon:
            group = await cocoon.create_group("Bench", member_name=NAMES[0], relays=[relay.url])
            link = await group.invite(expires_in=timedelta(days=1))
            await group.sync()
            watcher = await asyncio.create_subprocess_exec(
                *command_of("watch", base / "b", link), env=relay_environment(), stdout=asyncio.subprocess.PIPE
            )
            try:
                delay, commit = await _exchange(group, relay.url, watcher, base)
            finally:
                with suppress(ProcessLookupError):
                    watcher.terminate()
                await watcher.wait()
    limit = MOST_COMMITS * commit.median + PLUS_MS
    return [
        Row(
            "3 post on A to view on B, two processes",
            str(delay),
            f"≤ {MOST_COMMITS} × commit + {PLUS_MS} ms = {limit:.3g} ms",
            f"{delay.median / limit:.2f} of it",
            delay.median <= limit,
        ),
        Row("3 · one commit, between the posts", str(commit)),
    ]


async def _exchange(group: Group, url: str, watcher: asyncio.subprocess.Process, base: Path) -> tuple[Samples, Samples]:
    writer = Writer(SEED)
    database = open_bare(base / "bare.db")
    stdout = watcher.stdout
    assert stdout is not None
    await stdout.readline()
    delays, commits = [], Stopwatch()
    async with group.watch():
        for number in range(WARM_UP + ROUNDS):
            text = writer.write_post()
            with commits if number >= WARM_UP else nullcontext():
                commit_bare(database, bytes(ENVELOPE_BYTES))
            began = time.monotonic_ns()
            post = await group.feed.post(text)
            seen = json.loads(await stdout.readline())
            while seen["id"] != post.id:
                seen = json.loads(await stdout.readline())
            while group.replica.log.outbox_size(url):
                await asyncio.sleep(0.001)
            if number >= WARM_UP:
                delays.append((seen["at"] - began) / 1e6)
    database.close()
    return Samples(delays, "ms"), commits.wall
