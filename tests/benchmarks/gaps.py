"""Line 12: bytes that a relay sends to a device after each kind of gap: counted, not measured. And what it costs.

A member reads a topic of 1,000 envelopes at two relays, once with their names and once as at relays that have none.
Each gap is read on a fresh copy of the same profile, with the relays as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pytest

from cocoon_core.protocol.frames import RelayFrame, encode_frame
from cocoon_core.protocol.ids import Incarnation, TopicId
from tests.benchmarks.table import Row, Stopwatch
from tests.benchmarks.text import Writer
from tests.benchmarks.world import SEED, wait_for_disk
from tests.support.key_ring import use_key_ring
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay
from tests.support.world import Seat, World, world_in

ENVELOPES: Final = 1_000
BEHIND: Final = 200  # of them, that an older copy of the profile lacks
LATELY: Final = 20  # that one lacks who synced not long ago
MOST_OF_WHOLE: Final = 0.05  # of the bytes of reading whole, for who lacks nothing

Change = Callable[[Seat, list["CountingRelay"]], None]


class CountingRelay(MemoryRelay):
    """Counts the bytes of the frames that it sends."""

    sent = 0

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        self.sent += len(encode_frame(frame))
        return (frame,)


async def measure_gaps(base: Path) -> list[Row]:
    with pytest.MonkeyPatch.context() as patch:
        use_key_ring(patch)
        async with world_in(base / "world") as world:
            scene = _Scene(world)
            await scene.write()
            return [
                await scene.compare_newcomers(),
                await scene.compare("two relays, 200 behind", "older", lambda *_: None, lacks=BEHIND),
                await scene.compare("two relays, 20 behind", "lately", lambda *_: None, lacks=LATELY),
                await scene.compare("a second relay that was never read", "level", _forget_cursor),
                await scene.compare("a topic that expired and was filled again", "level", _expire),
                await scene.compare("the same, 200 behind", "older", _expire, lacks=BEHIND),
                await scene.compare("a relay rolled back by 100 and filled again", "level", _roll_back),
                await scene.compare("a topic that is read anew", "level", _read_anew),
                await scene.compare("no gap at all", "level", lambda *_: None),
            ]


def _forget_cursor(seat: Seat, relays: list[CountingRelay]) -> None:
    replica = seat.replica
    with replica.transaction():
        replica.database.execute("DELETE FROM cursors WHERE relay=?", (relays[1].url,))


def _expire(seat: Seat, relays: list[CountingRelay]) -> None:
    relays[1].logs[seat.replica.epoch.topic].incarnation = Incarnation(b"another life, of")


def _roll_back(seat: Seat, relays: list[CountingRelay]) -> None:
    log = relays[1].logs[seat.replica.epoch.topic]
    log.incarnation = Incarnation(b"another life, of")
    log.envelopes = [*log.envelopes[:-100], *reversed(log.envelopes[-100:])]


def _read_anew(seat: Seat, relays: list[CountingRelay]) -> None:
    with seat.replica.transaction():
        seat.replica.log.note_missed(relays[1].url, seat.replica.epoch.topic, 1)


class _Scene:
    """Two relays, and two copies of a reader's profile: from when he was BEHIND, and level."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._relays = [CountingRelay(f"ws://relay{number}.test:8787", number) for number in range(2)]
        for relay in self._relays:
            world.add_relay(relay)
        self._limits = self._relays[0].limits
        self._kept: list[dict[TopicId, MemoryLog]] = []
        self._copies = 0

    async def write(self) -> None:
        world, writer = self._world, Writer(SEED)
        ana, ben = await world.group("ana", "ben", relays=self._relays)
        wait_for_disk(ana.replica.database, False)
        self._link = await ana.group.invite(uses=2)
        for number in range(ENVELOPES):
            if number in (ENVELOPES - BEHIND, ENVELOPES - LATELY):
                await self._keep(ben, "older" if number == ENVELOPES - BEHIND else "lately")
            await ana.group.feed.post(writer.write_post())
            await ana.sync()
        await self._keep(ben, "level")
        self._profiles = {seat.name: seat for seat in world.seats}
        self._kept = [copy.deepcopy(relay.logs) for relay in self._relays]

    async def _keep(self, seat: Seat, name: str) -> None:
        await seat.sync()
        await seat.stop()
        await self._world.copy(seat, name)
        await seat.start()

    async def compare(self, gap: str, profile: str, change: Change, lacks: int = 0) -> Row:
        """What both relays send, with names and without."""
        self._relays[0].limits = self._relays[1].limits = self._limits
        first, second, took = await self._read(profile, change)
        self._relays[0].limits = self._relays[1].limits = {}
        whole_first, whole_second, whole_took = await self._read(profile, change)
        missing = sum(map(len, self._kept[0][self._topic].envelopes[-lacks:])) if lacks else 0
        whole, by_names = whole_first + whole_second, first + second
        return Row(
            f"12 {gap}",
            f"{by_names:,} bytes ({first:,} + {second:,}), {took:.0f} ms",
            f"what is missing, {missing:,}, and {MOST_OF_WHOLE:.0%} of whole: {whole:,} bytes, {whole_took:.0f} ms",
            f"{by_names / whole:.3f}×",
            by_names <= missing * 1.05 + max(MOST_OF_WHOLE * whole, 1_500),
        )

    async def compare_newcomers(self) -> Row:
        """Who holds nothing is sent everything once, or by each relay."""
        sent: list[list[int]] = []
        for limits in (self._limits, {}):
            for relay in self._relays:
                relay.limits = limits
            self._restore()
            seat = await self._world.seat(f"newcomer {len(sent)}")
            await seat.running.join(self._link, member_name=seat.name)
            assert len(await seat.texts()) == ENVELOPES
            await seat.stop()
            sent.append([relay.sent for relay in self._relays])
        by_names, whole = map(sum, sent)
        first, second = sent[0]
        return Row(
            "12 a newcomer at two relays",
            f"{by_names:,} bytes ({first:,} + {second:,})",
            f"60% of whole twice: {whole:,} bytes",
            f"{by_names / whole:.3f}×",
            by_names <= 0.6 * whole,
        )

    def _restore(self) -> None:
        for relay, kept in zip(self._relays, self._kept, strict=True):
            relay.logs, relay.sent = copy.deepcopy(kept), 0

    async def _read(self, profile: str, change: Change) -> tuple[int, int, float]:
        self._copies += 1
        seat = await self._world.copy(self._profiles[profile], f"copy {self._copies}")
        self._restore()
        await seat.start()
        self._topic = seat.replica.epoch.topic
        change(seat, self._relays)
        watch = Stopwatch()
        with watch:
            await seat.sync()
        assert len(await seat.texts()) == ENVELOPES
        await seat.stop()
        return self._relays[0].sent, self._relays[1].sent, watch.processor.median
