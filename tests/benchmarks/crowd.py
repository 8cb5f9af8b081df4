"""Line 16: 300 members in one process write 4 posts a second in all, through one relay; every device shows every post.

Each member has a device with a profile of its own, and all watch; the relay is a process of its own. The clock of a
post runs from the call of `feed.post` until another device has read the post out of its feed. All commits of all
devices wait for one disk, and all devices share the processors with the relay, which nobody's would in use.

COCOON_BENCH_MEMBERS, COCOON_BENCH_RATE and COCOON_BENCH_SECONDS set how many, how many posts a second, and for how
long. COCOON_BENCH_CROWD names a folder in which profiles and relay stay, so that measuring again need not have all join
again; it is for one number of members.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.table import Row
from tests.support.relay_process import RelayProcess, relay_environment

MEMBERS: Final = int(os.environ.get("COCOON_BENCH_MEMBERS", "300"))
RATE: Final = float(os.environ.get("COCOON_BENCH_RATE", "4"))
SECONDS: Final = float(os.environ.get("COCOON_BENCH_SECONDS", "120"))
# All devices have one address here, and a relay's bounds by address are for a few.
_UNBOUNDED: Final = """[limits]
address_connections = 4000
address_requests = "10000/s"
address_proofs = "10000/s"
address_reads = "10000/s"
"""


async def measure_crowd(base: Path) -> list[Row]:
    kept = os.environ.get("COCOON_BENCH_CROWD")
    folder = Path(kept) if kept else base
    folder.mkdir(parents=True, exist_ok=True)
    settings, address, joined = folder / "relay.toml", folder / "port", folder / "joined"
    settings.write_text(_UNBOUNDED)
    port = int(address.read_text()) if address.exists() else 0
    posts = round(RATE * SECONDS)
    with RelayProcess(folder / "relay", "--config", str(settings), port=port) as relay:
        address.write_text(str(relay.port))
        if not joined.exists():
            joined.write_text(json.dumps(_run("come", folder, MEMBERS, relay.url)))
        said = _run("live", folder, MEMBERS, relay.pid, posts, RATE)
    return _rows(json.loads(joined.read_text()), said, posts)


def _run(*arguments: str | Path | float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.crowd_children", *map(str, arguments)]
    done = subprocess.run(command, env=relay_environment(), stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _rows(joined: dict[str, Any], said: dict[str, Any], posts: int) -> list[Row]:
    name = f"16 {MEMBERS} members, {RATE:g} posts a second for {SECONDS:g} s"
    delays = sorted(said["delays"])
    wanted = posts * (MEMBERS - 1)
    shows_all = len(delays) == wanted and said["equal"] and said["least"] >= posts
    joins, tenth = joined["joins"], max(1, len(joined["joins"]) // 10)
    return [
        Row(
            f"{name}: posts that devices show, in one order",
            f"{len(delays):,} of {wanted:,}" + ("" if said["equal"] else ", in several orders"),
            "all",
            "",
            shows_all,
        ),
        Row(f"{name}: from post to view", " · ".join(f"{what} {_at(delays, part)}" for what, part in _PARTS)),
        Row("16 · the last post was begun after", f"{said['seconds']:.1f} s; none more than {said['late']:.2f} s late"),
        Row(
            "16 · processor time of a post at a device",
            f"{said['processor'] / wanted * 1e6:.0f} µs, and {said['relay_processor'] / wanted * 1e6:.0f} of the relay",
        ),
        Row("16 · processor time of a device that only watches", f"{said['idle'] / MEMBERS * 1e6:.0f} µs a second"),
        Row(
            "16 · memory at its peak",
            f"{said['peak'] / 1e6:,.0f} MB, {said['peak'] / 1e6 / MEMBERS:.1f} a device; "
            f"the relay {said['relay_peak'] / 1e6:.0f} MB",
        ),
        Row("16 · opened, and all level", f"{said['opened']:.1f} s, and {said['level']:.1f} s"),
        Row(
            "16 · joining, one after the other",
            f"{sum(joins[:tenth]) / tenth * 1000:.0f} ms each of the first {tenth}, "
            f"{sum(joins[-tenth:]) / tenth * 1000:.0f} of the last; {joined['settled']:.0f} s until all had all",
        ),
    ]


_PARTS: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1.0))


def _at(ordered: list[float], part: float) -> str:
    seconds = ordered[min(len(ordered) - 1, int(len(ordered) * part))]
    return f"{seconds * 1000:,.0f} ms"
