"""What is measured in a process of its own: a fresh device, the bare floor, a watcher, a profile opened again.

`python -m tests.benchmarks.children NAME ARGUMENT…` prints one JSON object a line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cbor2

from cocoon_core import Cocoon
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.blobs import Answer
from cocoon_core.sync.http_exchange import HttpExchange
from tests.benchmarks.floor import measure_floor, measure_pages, prepare
from tests.benchmarks.split import Split
from tests.benchmarks.world import PASSPHRASE, Clock
from tests.support.relay_process import relay_environment

PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes


def command_of(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.children", name, *map(str, arguments)]


def run_child(name: str, *arguments: str | Path) -> Any:
    """Run one to its end; what it printed last."""
    done = subprocess.run(
        command_of(name, *arguments), env=relay_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _report(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _peak() -> int:
    """The most bytes that it had since `_forget_peak`. Linux only, as the two beside it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def catch_up(home: str, link: str, posts: str, how: str) -> None:
    """Join by the link on a fresh profile; the clock runs from the call to the return of `join`."""
    split = Split()
    if how == "split":
        split.install()
    async with await Cocoon.open(home, PASSPHRASE) as cocoon:
        gc.collect()
        before = _resident()
        _forget_peak()
        split.begin()
        began, processor = time.perf_counter(), time.process_time()
        group = await cocoon.join(link, member_name=f"Device {os.getpid()}")
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        steps = split.end()
        peak, after = _peak(), _resident()
        shown = group.replica.database.query_value("SELECT count(*) FROM posts")
        if shown != int(posts):
            raise RuntimeError(f"{shown} posts are shown, not {posts}")
    _report(
        seconds=seconds,
        processor=processor,
        peak=peak - before,
        after=after - before,
        steps=steps,
        missing=split.missing,
    )


async def newcomer(home: str, link: str, posts: str, now_ms: str) -> None:
    """Join by the link, show the newest posts, then read the rest; and the same pages with nothing around them."""
    fetched = 0
    ask = HttpExchange.ask

    async def count(
        self: HttpExchange, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int
    ) -> Answer:
        nonlocal fetched
        answer = await ask(self, method, path, headers, body, most)
        fetched += len(answer.body)
        return answer

    HttpExchange.ask = count  # type: ignore[method-assign]
    async with await Cocoon.open(home, PASSPHRASE, clock=Clock(int(now_ms))) as cocoon:
        gc.collect()
        before = _resident()
        _forget_peak()
        began, used = time.perf_counter(), time.process_time()
        group = await cocoon.join(link, member_name=f"Newcomer {os.getpid()}", reads_all=False)
        newest = await group.feed.list(limit=50)
        first = time.perf_counter() - began
        await group.sync()
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        peak = _peak()
        replica = group.replica
        shown = replica.database.query_value("SELECT count(*) FROM posts")
        if len(newest) != 50 or shown != int(posts) // 12 * 12:
            raise RuntimeError(f"{len(newest)} and then {shown} posts are shown")
        parts = [part for (part,) in replica.database.query("SELECT part FROM pages")]
        documents = {record.document: record.descriptor for record in replica.documents.all()}
        bare = measure_pages(parts, documents)
    _report(first=first, all=seconds, processor=processor, fetched=fetched, peak=peak - before, **bare)


def floor(data: str) -> None:
    """The bare floor over the envelopes in a file, once: as cold as the fresh device is."""
    secret, group, envelopes = cbor2.loads(Path(data).read_bytes())
    epoch = Epoch(Secret(secret))
    prepared = prepare(envelopes, epoch, GroupId(group))
    processor = time.process_time()
    seconds = measure_floor(prepared, epoch)
    _report(seconds=seconds, processor=time.process_time() - processor)


async def watch(home: str, link: str) -> None:
    """Join, stay connected, and say when each new post stands at the top of the feed."""
    async with await Cocoon.open(home, PASSPHRASE) as cocoon:
        group = await cocoon.join(link, member_name="Watcher")
        async with group.watch():
            events = group.events()
            last = None
            _report(ready=True)
            async for _ in events:
                posts = await group.feed.list(limit=1)
                now = time.monotonic_ns()
                if posts and posts[0].id != last:
                    last = posts[0].id
                    _report(id=last, at=now)


async def post_again(home: str, count: str, now_ms: str) -> None:
    """Open a profile that has posts, and write some more in the same month: seconds for opening and for each."""
    began = time.perf_counter()
    async with await Cocoon.open(home, PASSPHRASE, clock=Clock(int(now_ms))) as cocoon:
        group = cocoon.groups()[0]
        opened = time.perf_counter() - began
        seconds = []
        for number in range(int(count)):
            began = time.perf_counter()
            await group.feed.post(f"one more, number {number}".ljust(99) + ".")
            seconds.append(time.perf_counter() - began)
    _report(opened=opened, posts=seconds)


def main(arguments: Sequence[str]) -> None:
    name, *rest = arguments
    match name:
        case "catch-up":
            asyncio.run(catch_up(*rest))
        case "newcomer":
            asyncio.run(newcomer(*rest))
        case "floor":
            floor(*rest)
        case "watch":
            asyncio.run(watch(*rest))
        case "post-again":
            asyncio.run(post_again(*rest))


if __name__ == "__main__":
    main(sys.argv[1:])
