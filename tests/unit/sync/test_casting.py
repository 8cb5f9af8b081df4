"""Casts: devices that watch find out at once that one of them was shown less, and nothing that is heard is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cocoon_core import syncing
from cocoon_core.errors import RelayError
from cocoon_core.protocol.cast import CastValue, DigestCast, EndsCast, open_cast, seal_cast
from cocoon_core.protocol.constants import NONCE_BYTES
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import CastReceived, Entries, RelayFrame
from cocoon_core.protocol.ids import EntryId, FrontierDigest
from cocoon_core.sync import casting, driver
from cocoon_core.sync.casting import HEARD_AT_ONCE, Casting
from cocoon_core.sync.driver import RelayDriver
from cocoon_core.sync.session import Session
from tests.support.hostile import HidingRelay, hide_device
from tests.support.memory_relay import MemoryConnection, MemoryRelay
from tests.support.waits import COMES
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds here."""
    monkeypatch.setattr(driver, "CAST_SECONDS", 0.01)
    monkeypatch.setattr(casting, "CAST_SECONDS", 0.0)
    monkeypatch.setattr(casting, "CAST_ENDS_SECONDS", 0.0)


class HeardRelay(MemoryRelay):
    """Keeps the casts that it forwards."""

    def __init__(self) -> None:
        super().__init__("ws://relay0.test:8787")
        self.casts: list[bytes] = []

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, CastReceived):
            self.casts.append(frame.payload)
        return (frame,)


class Garbling(HidingRelay):
    """In the place of what it hides it sends something that nobody can open, so that no number changes."""

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        MemoryRelay.handle(self, connection, raw)

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Entries):
            shown = tuple(bytes(len(one)) if self.hides(one) else one for one in frame.envelopes)
            return (replace(frame, envelopes=shown),)
        return (frame,)


def garble(seat: Seat, relay: MemoryRelay, of: Seat) -> Garbling:
    """Show this seat nothing more of another one's."""
    hiding = hide_device(seat, relay, of.device, end_of(seat, of))
    seat.relays[relay.url] = garbling = Garbling(relay, hiding.hides)
    return garbling


@asynccontextmanager
async def watching(*seats: Seat) -> AsyncIterator[None]:
    """Each of them is level and watches, inside the block."""
    tasks = []
    async with asyncio.timeout(COMES):
        for seat in seats:
            states: asyncio.Queue[RelayError | None] = asyncio.Queue()
            (url,) = seat.group.relays
            one = RelayDriver(seat.replica, url, seat.dial, seat.dial_blobs)
            tasks.append(asyncio.create_task(one.watch(states.put_nowait)))
            assert await states.get() is None
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(COMES):
        while not holds():
            await asyncio.sleep(0)


def end_of(seat: Seat, of: Seat) -> int:
    return seat.replica.chains[of.device].last_seq


def is_same(*seats: Seat) -> bool:
    return len({seat.replica.beacons.digest() for seat in seats}) == 1


async def test_who_has_the_same_says_so_and_nothing_else(world: World) -> None:
    relay = HeardRelay()
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    async with watching(ana, ben):
        await ana.group.feed.post("hello")
        await until(lambda: is_same(ana, ben))
        same = DigestCast(ana.replica.beacons.digest())
        await until(lambda: same in [open_cast(cast, ana.replica.epoch) for cast in relay.casts])
    assert {len(cast) for cast in relay.casts} <= {296, 4096}
    assert ana.group.alarms() == ben.group.alarms() == []


async def test_what_was_withheld_comes_as_soon_as_others_tell_and_the_relay_gives_in(world: World) -> None:
    relay = world.add_relay(HeardRelay())
    ana, ben, chi = await world.group("ana", "ben", "chi")
    hiding = garble(ana, relay, ben)
    await ben.group.feed.post("withheld")
    await ben.sync()
    async with watching(ana, chi):
        hiding.hides = lambda _: False
        assert end_of(ana, ben) < end_of(chi, ben)
        await chi.group.feed.post("so that there is something to tell of")
        await until(lambda: is_same(ana, chi))
    assert "withheld" in await ana.texts()
    assert ana.group.alarms() == []


async def test_it_does_not_come_where_casts_are_not_heard(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Casting, "heard", lambda *_: None)
    relay = world.add_relay(HeardRelay())
    ana, ben, chi = await world.group("ana", "ben", "chi")
    hiding = garble(ana, relay, ben)
    await ben.group.feed.post("withheld")
    await ben.sync()
    async with watching(ana, chi):
        hiding.hides = lambda _: False
        await chi.group.feed.post("so that there is something to tell of")
        await until(lambda: end_of(ana, chi) == end_of(chi, chi))
    assert "withheld" not in await ana.texts()


async def test_a_sync_that_does_not_stay_casts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    monkeypatch.setattr(Session, "cast", lambda _, __, payload: made.append(payload))
    ana, _ = await world.group("ana", "ben")
    await ana.group.feed.post("hello")
    await world.level()
    assert made == []


def caster(seat: Seat) -> Casting:
    (url,) = seat.group.relays
    return Casting(seat.replica, url, Session(url), lambda: 0.0)


async def test_forged_and_repeated_casts_change_nothing(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    before, epoch = await state_of(ana), ana.replica.epoch
    hearing = caster(ana)
    lie = EndsCast({ben.device: (10**6, EntryId(bytes(32))), ana.device: (0, EntryId(bytes(32)))})
    forged = seal_cast(lie, epoch, bytes(NONCE_BYTES))
    for cast in (forged, forged, b"", bytes(296), bytes(4096), forged[:-1], forged + b"\0"):
        hearing.heard(epoch.topic, cast)
    assert await state_of(ana) == before
    assert ana.group.alarms() == []
    assert ana.replica.beacons.table.missing() == []
    await world.level()
    assert await state_of(ana) == before


async def test_a_flood_of_casts_is_not_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (ana,) = await world.group("ana")
    opened: list[bytes] = []

    def count(cast: bytes, epoch: Epoch) -> CastValue:
        opened.append(cast)
        return open_cast(cast, epoch)

    monkeypatch.setattr(casting, "open_cast", count)
    hearing, epoch = caster(ana), ana.replica.epoch
    cast = seal_cast(DigestCast(FrontierDigest(bytes(32))), epoch, bytes(NONCE_BYTES))
    for _ in range(1000):
        hearing.heard(epoch.topic, cast)
    assert len(opened) == HEARD_AT_ONCE


async def test_large_groups_do_not_cast(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casting, "MAX_CAST_MEMBERS", 1)
    relay = world.add_relay(HeardRelay())
    assert isinstance(relay, HeardRelay)
    ana, ben = await world.group("ana", "ben")
    async with watching(ana, ben):
        await ana.group.feed.post("hello")
        await until(lambda: is_same(ana, ben))
    assert relay.casts == []


# --- beacons and what is missing, while watching


async def test_who_watches_writes_beacons_and_is_told_of_what_is_withheld(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "MAILBOX_SECONDS", 0.01)
    relay = world.add_relay()
    ana, ben, chi = await world.group("ana", "ben", "chi")
    garbling = garble(ana, relay, ben)
    await ben.group.feed.post("withheld")
    await ben.sync()
    async with chi.group.watch(), ana.group.watch():
        await until(lambda: end_of(chi, ben) > end_of(ana, ben) and end_of(ana, chi) == end_of(chi, chi))
        world.now_ms += 86_400_000  # a beacon is due
        await until(lambda: any("Ben's device" in alarm for alarm in ana.group.alarms()))
        garbling.hides = lambda _: False
        world.now_ms += 86_400_000  # asked again once a day
        await until(lambda: end_of(ana, ben) == end_of(chi, ben))
        await until(lambda: ana.group.alarms() == [])
    assert "withheld" in await ana.texts()
