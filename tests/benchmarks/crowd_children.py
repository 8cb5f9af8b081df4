"""What line 16 measures in a process of its own: a crowd that comes in, and one that is there.

`python -m tests.benchmarks.crowd_children NAME ARGUMENT…` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cocoon_core import Cocoon
from tests.benchmarks.feed_children import use_ring
from tests.benchmarks.world import SEED, wait_for_disk
from tests.support.crowd import Crowd

IDLE_SECONDS: Final = 20.0
PATIENCE: Final = 20  # times as long as it takes to write them, until every device must show all posts
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second


@asynccontextmanager
async def _opened(folder: Path, members: int, *, waits: bool) -> AsyncIterator[Crowd]:
    """The crowd whose profiles lie in a folder.

    Args:
        waits: whether commits wait for the disk, as in use.
    """
    _raise_file_limit()
    use_ring(folder / "ring")
    async with AsyncExitStack() as stack:
        cocoons = []
        for number in range(members):
            home = folder / f"member-{number}"
            if not home.exists():
                Cocoon.init(home)
            cocoons.append(await stack.enter_async_context(await Cocoon.open(home)))
            wait_for_disk(cocoons[-1]._profile.database, waits)
        yield Crowd(cocoons)


async def come(folder: Path, members: int, url: str) -> None:
    """Make the group and let all in."""
    async with _opened(folder, members, waits=False) as crowd:
        taken = await crowd.found(url)
        began = time.perf_counter()
        await crowd.settle()
    _report(joins=taken, settled=time.perf_counter() - began)


async def live(folder: Path, members: int, relay: int, posts: int, rate: float) -> None:
    """Watch, all of them, write, and see.

    Args:
        relay: the process of the relay.
    """
    async with _opened(folder, members, waits=True) as crowd:
        began = time.perf_counter()
        crowd.open()
        opened = time.perf_counter() - began
        began = time.perf_counter()
        async with crowd.watching():
            level = time.perf_counter() - began
            before = time.process_time()
            await asyncio.sleep(IDLE_SECONDS)
            idle = (time.process_time() - before) / IDLE_SECONDS
            before, relay_before = time.process_time(), _processor_of(relay)
            async with asyncio.timeout(PATIENCE * posts / rate):
                told = await crowd.write(posts, rate, SEED)
            used, relay_used = time.process_time() - before, _processor_of(relay) - relay_before
            feeds = await crowd.feeds()
        _report(
            opened=opened,
            level=level,
            idle=idle,
            seconds=told.seconds,
            late=told.late,
            delays=told.delays,
            processor=used,
            relay_processor=relay_used,
            equal=all(feed == feeds[0] for feed in feeds),
            least=min(map(len, feeds)),
            peak=_memory_of(os.getpid()),
            relay_peak=_memory_of(relay),
        )


def _raise_file_limit() -> None:
    """Three files and two sockets a device are more than some systems give unasked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft != hard else (soft, hard))


def _processor_of(process: int) -> float:
    """Seconds of processor time that a process has used. Linux only, as the one below."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_of(process: int) -> int:
    """The most bytes of memory that a process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _report(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main(arguments: list[str]) -> None:
    name, folder, members, *rest = arguments
    if name == "come":
        asyncio.run(come(Path(folder), int(members), rest[0]))
    else:
        asyncio.run(live(Path(folder), int(members), int(rest[0]), int(rest[1]), float(rest[2])))


if __name__ == "__main__":
    main(sys.argv[1:])
