"""Line 10: a newcomer to a group with years of posts: the first screen, all of it, memory, and bytes over the wire.

Twelve members write for three years, one after the other, and one of them rotates; the relay is real. The newcomer
runs in a process of its own. Beside it, in that process, the same pages: unpacked, passed through the gate and applied,
with nothing around it; and applied alone.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

from cocoon_core import Cocoon, Group
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.manifest import decode_manifest
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.epochs import StoredEpoch
from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.manifest_blobs import blobs_of_epoch
from tests.benchmarks.children import run_child
from tests.benchmarks.table import Row, Samples, compare
from tests.benchmarks.text import Writer
from tests.benchmarks.world import PASSPHRASE, SEED, Clock, wait_for_disk
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_process import RelayProcess

POSTS: Final = 100_000
MEMBERS: Final = 12
MONTHS: Final = 36
FLUSHED: Final = 20  # posts in one envelope
ROUNDS: Final = 3
FIRST_SECONDS: Final = 1.0  # until the newest 50 posts can be shown
MOST_OVER_BARE: Final = 2.5
MOST_OVER_APPLY: Final = 6
MOST_FETCHED: Final = 1.2  # bytes, over the compacted bytes
LEAST_SHRUNK_ALONE: Final = 8
LEAST_SHRUNK_FLUSHED: Final = 4
SHRUNK_POSTS: Final = 10_000


async def measure_newcomers(base: Path, posts: int = POSTS) -> list[Row]:
    clock = Clock()
    with RelayProcess(base / "relay") as relay:
        async with AsyncExitStack() as stack:
            cocoons = [await _open(stack, base / f"member-{number}", clock) for number in range(MEMBERS)]
            link = await _write_years(cocoons, clock, relay.url, posts)
            group = cocoons[0].groups()[0]
            compacted = await _compacted_bytes(group, relay.url)
            rows = _measure_joins(base, link, posts, compacted, clock.now_ms)
    return rows


async def _open(stack: AsyncExitStack, home: Path, clock: Clock) -> Cocoon:
    Cocoon.init(home, PASSPHRASE)
    cocoon = await stack.enter_async_context(await Cocoon.open(home, PASSPHRASE, clock=clock))
    wait_for_disk(cocoon._profile.database, False)
    return cocoon


async def _write_years(cocoons: list[Cocoon], clock: Clock, url: str, posts: int) -> str:
    """Every member writes what is theirs, month by month, and sends it; then the first one reads it all and rotates.

    Returns:
        A link for newcomers.
    """
    first = await cocoons[0].create_group("Years", member_name="Member 0", relays=[url], max_members=50)
    link = await first.invite(uses=MEMBERS - 1, expires_in=timedelta(days=20_000))
    await first.sync()
    groups = [first]
    for number, cocoon in enumerate(cocoons[1:], 1):
        groups.append(await cocoon.join(link, member_name=f"Member {number}"))
    began = clock.now_ms
    step_ms = MONTHS * 30 * 86_400_000 // (posts // MEMBERS)
    for number, group in enumerate(groups):
        await _write(group, clock, began, step_ms, posts // MEMBERS, SEED + number)
        await group.sync()
    await first.sync()
    await first.rotate()
    link = await first.invite(uses=ROUNDS, expires_in=timedelta(days=20_000))
    await first.sync()
    return link


async def _write(group: Group, clock: Clock, began: int, step_ms: int, posts: int, seed: int) -> None:
    rng, writer = random.Random(seed), Writer(seed)
    known: list[str] = []
    for place in range(posts):
        clock.now_ms = began + place * step_ms
        text = writer.write_post()
        if place % 2 and known:
            post = await group.feed.reply(rng.choice(known[-100:]), text)
        else:
            post = await group.feed.post(text)
        known.append(post.id)
        if place % FLUSHED == FLUSHED - 1:
            group.replica.form_runs()


async def _compacted_bytes(group: Group, url: str) -> int:
    """What stands at the relay for whoever comes anew: the blobs of the manifest, and what its topic holds."""
    replica = group.replica
    stored: StoredEpoch = replica.epochs.held[replica.epoch.topic]
    store: BlobStore = dial_blobs(url)
    try:
        sizes = [len(await store.get_blob(stored.epoch, name)) for name in blobs_of_epoch(replica, stored)]
    finally:
        await store.close()
    return sum(sizes) + len(stored.manifest or b"")


def _measure_joins(base: Path, link: str, posts: int, compacted: int, now_ms: int) -> list[Row]:
    done = []
    for number in range(ROUNDS):
        home = base / f"newcomer-{number}"
        Cocoon.init(home, PASSPHRASE)
        done.append(run_child("newcomer", home, link, str(posts), str(now_ms)))
    shown = Samples([one["first"] for one in done], "s")
    whole, used, bare, bare_used, applied = (
        Samples([one[what] / posts * 1e6 for one in done], "µs a post")
        for what in ("all", "processor", "bare", "bare_processor", "apply_processor")
    )
    fetched = max(one["fetched"] for one in done)
    largest = max(one["largest"] for one in done)
    peak = Samples([one["peak"] / 1e6 for one in done], "MB")
    name = f"10 newcomer, {posts:,} posts of {MEMBERS} members"
    return [
        Row(f"{name}: the newest 50", str(shown), f"< {FIRST_SECONDS:.0f} s", "", shown.median < FIRST_SECONDS),
        compare(f"{name}: all", whole, bare, MOST_OVER_BARE, "unpack, gate, apply"),
        compare(f"{name}: all, processor time", used, bare_used, MOST_OVER_BARE, "unpack, gate, apply"),
        compare(f"{name}: all, processor time", used, applied, MOST_OVER_APPLY, "apply alone"),
        Row(
            f"{name}: bytes fetched",
            f"{fetched / 1e6:.2f} MB of {compacted / 1e6:.2f}",
            f"≤ {MOST_FETCHED}",
            f"{fetched / compacted:.2f}×",
            fetched <= MOST_FETCHED * compacted,
        ),
        Row(f"{name}: memory at its peak", f"{peak}; the largest document has {largest / 1e6:.2f} MB of changes"),
    ]


# --- how much smaller


async def measure_compaction(base: Path, posts: int = SHRUNK_POSTS) -> list[Row]:
    """Line 11: the same posts as lone envelopes, as envelopes of FLUSHED, and compacted. Bytes are counted."""
    sizes = [await _size_written(base / name, posts, per_run) for name, per_run in (("alone", 1), ("flushed", FLUSHED))]
    (alone, _), (flushed, compacted) = sizes
    return [
        _shrunk(f"{alone / posts:.0f} bytes alone", alone, compacted, posts, LEAST_SHRUNK_ALONE),
        _shrunk(f"{flushed / posts:.0f} bytes in {FLUSHED}s", flushed, compacted, posts, LEAST_SHRUNK_FLUSHED),
    ]


def _shrunk(what: str, before: int, compacted: int, posts: int, least: float) -> Row:
    return Row(
        f"11 {posts:,} posts compacted: {compacted / posts:.1f} bytes each, from {what}",
        f"{before / 1e6:.2f} MB to {compacted / 1e6:.2f} MB",
        f"≥ {least}×",
        f"{before / compacted:.1f}×",
        before >= least * compacted,
    )


async def _size_written(base: Path, posts: int, per_run: int) -> tuple[int, int]:
    """Bytes of the envelopes with posts, and of the pages of their snapshots after a rotation."""
    memory, clock = MemoryRelay(), Clock()
    async with AsyncExitStack() as stack:
        cocoon = await _open(stack, base, clock)
        group = await cocoon.create_group("Sizes", member_name="Ana", relays=[memory.url])
        rng, writer = random.Random(SEED), Writer(SEED)
        known: list[str] = []
        for place in range(posts):
            clock.now_ms += 60_000
            text = writer.write_post()
            post = await (group.feed.reply(rng.choice(known[-500:]), text) if place % 2 else group.feed.post(text))
            known.append(post.id)
            if place % per_run == per_run - 1:
                group.replica.form_runs()
        replica = group.replica
        runs = replica.log.runs_between(replica.keys.id, 0, 1 << 40)
        envelopes = [replica.seal(stored.wire, stored.last_id) for stored in runs]
        written = sum(
            len(envelope)
            for envelope in envelopes
            if parse_run(open_envelope(envelope, replica.epoch), replica.group).stored().entries[-1].changes
        )
        replica.rotate()
        stored = replica.epochs.held[replica.epoch.topic]
        content = replica.epochs.table.content(stored.epoch.topic) or b""
        states = decode_manifest(content, replica.group).stored_documents()
        names = {page.name for state in states if state.snapshot for page in state.snapshot.pages}
        pages = sum(map(len, replica.epochs.table.waiting_blobs(stored.epoch.topic, names)))
        return written, pages
