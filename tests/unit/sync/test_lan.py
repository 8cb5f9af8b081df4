"""Devices of one network sync with no relay in reach: real hosts on the loop of this machine, a network in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from cocoon_cli.lan_host import start_host
from cocoon_core.local_network import LanReport
from cocoon_core.sync import lan
from cocoon_core.sync.mdns import Sighting
from tests.support.lan import LOCAL, Network, NetworkFinder
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "LOOK_SECONDS", 3.0)
    monkeypatch.setattr(lan, "QUIET_SECONDS", 0.3)


async def meet(*seats: Seat, network: Network | None = None) -> list[LanReport]:
    """Have these run `sync --lan` at once."""
    there = network or Network()
    return await asyncio.gather(
        *(
            seat.running.sync_lan(start_host, seat.running.groups(), addresses=[LOCAL], finder=there.finder())
            for seat in seats
        )
    )


def off(world: World) -> None:
    for relay in world.relays.values():
        relay.switch_off()


async def level(world: World, seats: Sequence[Seat]) -> None:
    for relay in world.relays.values():
        relay.reachable = True
    await world.level(seats)


async def test_two_devices_exchange_all_that_they_wrote(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    off(world)
    await ana.group.feed.post("of ana")
    await ben.group.feed.post("of ben")
    reports = await meet(ana, ben)
    assert all(report.met for report in reports)
    assert [next(iter(report.groups.values())).received for report in reports] == [1, 1]
    assert await state_of(ana) == await state_of(ben)
    assert not (ana.home / "lan").exists()
    await level(world, [ana, ben])
    assert await state_of(ana) == await state_of(ben)


async def test_three_devices_level_each_other(world: World) -> None:
    seats = await world.group("ana", "ben", "cleo")
    off(world)
    for seat in seats:
        await seat.group.feed.post(f"of {seat.name}")
    await meet(*seats)
    for seat in seats:
        assert len(await seat.texts()) == 3


async def test_one_who_slept_through_rotations_is_found_and_brought_level(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await world.level()
    for number in range(6):  # more than are announced
        await ana.group.feed.post(f"epoch {number}")
        await ana.group.rotate()
        await world.level([ana, ben])
    off(world)
    await cleo.group.feed.post("asleep")
    reports = await meet(ben, cleo)
    assert all(report.met for report in reports)
    assert await state_of(ben) == await state_of(cleo)
    assert len(await cleo.texts()) == 7
    assert cleo.group.alarms() == ben.group.alarms() == []
    await level(world, [ana, ben, cleo])
    assert await state_of(ana) == await state_of(cleo)


async def test_what_was_rotated_on_the_network_reaches_the_relays(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    off(world)
    await ana.group.feed.post("before")
    await ana.group.remove_member(ana.group.find_member("cleo"))
    await ana.group.feed.post("after")
    await meet(ana, ben)
    assert await ben.texts() == ["before", "after"]
    await ana.stop()
    await level(world, [ben])
    await cleo.sync()
    assert cleo.group.me is None
    await ana.start()
    await world.level([ana, ben])
    assert await state_of(ana) == await state_of(ben)


class LateFinder(NetworkFinder):
    """Hears nothing before it may."""

    def __init__(self, network: Network, may_hear: asyncio.Event) -> None:
        super().__init__(network)
        self._may_hear = may_hear

    async def next_sighting(self) -> Sighting:
        await self._may_hear.wait()
        return await super().next_sighting()


async def test_who_followed_before_the_blobs_were_brought_still_reads_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    off(world)
    await ana.group.feed.post("before")
    await ana.group.rotate()
    topic, may_hear = ana.replica.epoch.topic, asyncio.Event()

    async def fill_nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(lan, "QUIET_SECONDS", 2.0)
    monkeypatch.setattr(lan.Lan, "_fill_own", fill_nothing)
    honest = lan.Lan._visit

    async def visit(self: lan.Lan, *args: Any, **options: Any) -> None:
        await honest(self, *args, **options)
        assert ben.replica.epoch.topic == topic
        may_hear.set()

    monkeypatch.setattr(lan.Lan, "_visit", visit)
    network = Network()
    finders = [LateFinder(network, may_hear), network.finder()]
    await asyncio.gather(
        *(
            seat.running.sync_lan(start_host, seat.running.groups(), addresses=[LOCAL], finder=finder)
            for seat, finder in zip((ana, ben), finders, strict=True)
        )
    )
    assert await ben.texts() == ["before"]
    assert await state_of(ana) == await state_of(ben)


async def test_nobody_is_there(world: World) -> None:
    (ana,) = await world.group("ana")
    (report,) = await meet(ana)
    assert not report.met
    assert ana.replica.groups.guests(ana.replica.record.number) == []


async def test_devices_of_other_groups_pass_each_other_by(world: World) -> None:
    ana, _ = await world.group("ana", "ben")
    dora = await world.seat("dora")
    await dora.running.create_group("Band", member_name="Dora", relays=[*world.relays])
    reports = await meet(ana, dora)
    assert not any(report.met for report in reports)


async def test_a_restored_profile_goes_on_as_a_new_device(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.stop()
    copy = await world.copy(ana, "copy")
    await ana.start()
    await ana.group.feed.post("today")
    await world.level()
    await ana.stop()
    await copy.start()
    old = copy.device
    off(world)
    await meet(copy, ben)
    assert await copy.texts() == ["today"]
    assert copy.device != old


def _set(arrived: asyncio.Event, event: object) -> None:
    arrived.set()


async def test_a_watch_gives_and_takes_as_things_are_written(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    off(world)
    network = Network()
    async with (
        ana.running.watch_lan(start_host, ana.running.groups(), addresses=[LOCAL], finder=network.finder()) as one,
        ben.running.watch_lan(start_host, ben.running.groups(), addresses=[LOCAL], finder=network.finder()) as two,
    ):
        staying = [asyncio.create_task(one.stay()), asyncio.create_task(two.stay())]
        for writer, reader in ((ana, ben), (ben, ana)):
            arrived = asyncio.Event()
            unlisten = reader.replica.listen(partial(_set, arrived))
            await writer.group.feed.post(f"of {writer.name}")
            async with asyncio.timeout(30):
                while f"of {writer.name}" not in await reader.texts():
                    arrived.clear()
                    await arrived.wait()
            unlisten()
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
    for seat in (ana, ben):
        assert seat.replica.groups.guests(seat.replica.record.number) == []


async def shown(reader: Seat, text: str) -> None:
    """Wait until a post is here."""
    arrived = asyncio.Event()
    unlisten = reader.replica.listen(partial(_set, arrived))
    async with asyncio.timeout(30):
        while text not in await reader.texts():
            await arrived.wait()
            arrived.clear()
    unlisten()


async def test_a_watch_visits_again_who_went_away_and_came_back(world: World) -> None:
    """A machine that sleeps is forgotten by the others, and says the same name again when it wakes."""
    ana, ben = await world.group("ana", "ben")
    off(world)
    network = Network()
    async with (
        ana.running.watch_lan(start_host, ana.running.groups(), addresses=[LOCAL], finder=network.finder()) as one,
        ben.running.watch_lan(start_host, ben.running.groups(), addresses=[LOCAL], finder=network.finder()) as two,
    ):
        staying = [asyncio.create_task(one.stay()), asyncio.create_task(two.stay())]
        await ana.group.feed.post("before")
        await shown(ben, "before")
        while not all(found.visits for watch in (one, two) for found in watch.exchanged.values()):
            await asyncio.sleep(0)
        awake = list(network.present.values())
        visits = [task for watch in (one, two) for task in watch._visiting.values()]
        for sighting in awake:
            network.say(Sighting(sighting.instance, None))
        await asyncio.gather(*visits, return_exceptions=True)
        await ana.group.feed.post("while away")
        assert await ben.texts() == ["before"]
        for sighting in awake:
            network.say(sighting)
        await shown(ben, "while away")
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
