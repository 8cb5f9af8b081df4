"""Line 1: a fresh device catches up with 10,000 posts of five members; what that costs over the bare floor.

Every run has a process of its own: the fresh device (real profile, real relay over loopback, gate, store and view)
and the floor take turns. Time by step comes from one more run whose functions are wrapped (split.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cbor2

from cocoon_core import Cocoon
from cocoon_core.documents.gate import Gate
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.heads import DeviceHeads, advance_heads
from cocoon_core.protocol.ids import DeviceId, DocumentId
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, verify_run
from tests.benchmarks.children import run_child
from tests.benchmarks.table import Row, Samples, compare, compare_freely
from tests.benchmarks.world import NAMES, PASSPHRASE, Clock, Written, dial_memory, open_device, put_all, write_group
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_process import RelayProcess, relay_environment

POSTS: Final = 10_000
PER_RUN: Final = 20  # posts in one envelope
ROUNDS: Final = 7
COLD_STARTS: Final = 5
MOST_RATIO: Final = 4
MOST_RSS_MB: Final = 120


@dataclass(frozen=True, slots=True)
class History:
    """The written group, where a relay serves it, and a file of it for the floor."""

    written: Written
    url: str
    data: Path


async def measure_catching_up(base: Path) -> list[Row]:
    """Lines 1 and the parts of line 6 that use the same data."""
    clock = Clock()
    with RelayProcess(base / "relay") as relay:
        memory = MemoryRelay(relay.url)
        async with AsyncExitStack() as stack:
            cocoons = [
                await stack.enter_async_context(open_device(base / name, dial_memory(memory), clock)) for name in NAMES
            ]
            written = await write_group(cocoons, clock, memory, POSTS, PER_RUN)
            await put_all(written, relay.url)
            data = base / "envelopes"
            epoch = written.group.replica.epoch
            data.write_bytes(cbor2.dumps([epoch.secret.reveal(), bytes(written.group.id), written.topics[epoch.topic]]))
            history = History(written, relay.url, data)
            rows = [*_measure_fresh_devices(base, history), *_measure_parts(history)]
    return [*rows, _measure_cold_start(base / "fresh-0")]


def _measure_fresh_devices(base: Path, history: History) -> list[Row]:
    fresh, floors = [], []
    for number in range(ROUNDS):
        home = base / f"fresh-{number}"
        Cocoon.init(home, PASSPHRASE)
        floors.append(run_child("floor", history.data))
        fresh.append(run_child("catch-up", home, history.written.link, str(POSTS), "plain"))
    whole, floor = _per_post(fresh, "seconds"), _per_post(floors, "seconds")
    peak = Samples([done["peak"] / 1e6 for done in fresh], "MB")
    return [
        compare(f"1 catching up with {POSTS:,} posts", whole, floor, MOST_RATIO, "floor"),
        compare_freely("1 · processor time", _per_post(fresh, "processor"), _per_post(floors, "processor"), "floor"),
        Row("1 memory it takes, at its peak", str(peak), f"< {MOST_RSS_MB} MB", "", max(peak.values) < MOST_RSS_MB),
        Row("1 · memory it still has after", str(Samples([done["after"] / 1e6 for done in fresh], "MB"))),
        *_split_fresh_device(base, history, whole.median),
    ]


def _per_post(runs: list[Any], what: str) -> Samples:
    return Samples([run[what] / POSTS * 1e6 for run in runs], "µs a post")


def _split_fresh_device(base: Path, history: History, plain: float) -> list[Row]:
    home = base / "split"
    Cocoon.init(home, PASSPHRASE)
    done = run_child("catch-up", home, history.written.link, str(POSTS), "split")
    total = done["seconds"]
    rows = [
        Row(f"1 · of it {step}", f"{seconds / POSTS * 1e6:.1f} µs a post", "", f"{seconds / total:.0%}")
        for step, seconds in sorted(done["steps"].items(), key=lambda item: -item[1])
    ]
    if done["missing"]:
        rows.append(Row("1 · not found, so in other steps", ", ".join(done["missing"])))
    whole = total / POSTS * 1e6
    return [*rows, Row("1 · of it all, with the wrapping", f"{whole:.1f} µs a post", "", f"{whole / plain:.2f}×")]


# --- parts of it, alone (line 6)


def _measure_parts(history: History) -> list[Row]:
    epoch, group = history.written.group.replica.epoch, history.written.group.id
    envelopes = history.written.topics[epoch.topic]
    opening, parsing, gating = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        values = [open_envelope(envelope, epoch) for envelope in envelopes]
        opened = time.perf_counter()
        parsed = [parse_run(value, group) for value in values]
        split = time.perf_counter()
        _follow_heads(parsed)
        opening.append((time.perf_counter() - began) / POSTS * 1e6)
        parsing.append((split - opened) / POSTS * 1e6)
        gating.append(_pass_gates([run.stored() for run in parsed], history.written))
    return [
        Row("6 open: AEAD, run, ids, heads, 1 signature a device", str(Samples(opening, "µs a post"))),
        Row("6 · of it parse_run", str(Samples(parsing, "µs a post"))),
        Row("6 gate", str(Samples(gating, "µs a change"))),
    ]


def _follow_heads(parsed: list[UnverifiedRun]) -> None:
    heads: dict[DeviceId, DeviceHeads] = {}
    last: dict[DeviceId, UnverifiedRun] = {}
    for unverified in parsed:
        run = unverified.stored()
        known = heads.setdefault(run.device, DeviceHeads())
        for entry in run.entries:
            advance_heads(known, entry.changes)
        if known.digest() != run.heads_digest:
            raise RuntimeError("a run does not carry the heads of its device")
        last[run.device] = unverified
    for unverified in last.values():
        verify_run(unverified)


def _pass_gates(runs: list[Run], written: Written) -> float:
    """µs for one change, over all."""
    members = written.group.replica.members
    gates: dict[DocumentId, Gate] = {}
    queued = []
    for run in runs:
        member = members.member_of(run.device)
        if member is None:
            raise RuntimeError("a device of nobody")
        for document, descriptor in run.descriptors.items():
            if document not in gates:
                gates[document] = Gate(descriptor, document)
        for entry in run.entries:
            queued += [(gates[change.document], change.raw, run.device, member) for change in entry.changes]
    began = time.perf_counter()
    for gate, raw, device, member in queued:
        gate.admit(raw, device, member)
    return (time.perf_counter() - began) / len(queued) * 1e6


# --- a cold start (line 6)


def _measure_cold_start(home: Path) -> Row:
    environment = relay_environment()
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).resolve().parents[2] / "clients")
    environment["COCOON_PASSPHRASE"] = PASSPHRASE
    seconds = []
    for _ in range(COLD_STARTS):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "cocoon_cli", "--home", str(home), "feed"],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    return Row(
        f"6 `cocoon feed` from nothing, {POSTS:,} posts", str(Samples([value * 1000 for value in seconds], "ms"))
    )
