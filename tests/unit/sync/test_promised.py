"""What a manifest promised and did not bring, because its group turned to one that says less before it was read."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.ids import TopicId
from cocoon_core.sync import driver
from tests.support.memory_relay import MemoryRelay
from tests.support.reading import stop_reading
from tests.support.world import Seat, World, alarms, make_world, state_of  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def _answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.05)  # a relay in memory answers at once or never


def leave_the_end(relay: MemoryRelay, topic: TopicId) -> None:
    """Of a sealed topic the last envelope alone outlived its lease."""
    log = relay.logs[topic]
    assert log.sealed
    log.first = log.last
    del log.envelopes[:-1]


def only(relay: MemoryRelay, *others: MemoryRelay) -> None:
    relay.reachable = True
    for other in others:
        other.switch_off()


async def between_two_manifests(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Seat, Seat, Seat]:
    """Cleo followed the manifest of Ana, who has a post that she read nowhere, and then that of Ben, who does not know
    of it and whose epoch is chosen.
    """
    one, two = world.add_relay(), world.add_relay()
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    await ana.group.set_role("ben", "admin")
    await ana.group.feed.post("known to all")
    await world.level()
    topic = ana.replica.epoch.topic
    only(one, two)
    await ana.group.feed.post("known to ana")
    await ana.sync()
    await ana.group.rotate()
    await ana.sync()
    only(two, one)
    await ben.group.set_policy(epoch_days=20)
    await ben.group.set_policy(epoch_days=21)
    await ben.group.rotate()
    await ben.sync()
    only(one, two)
    leave_the_end(one, topic)
    with monkeypatch.context() as patched:
        stop_reading(patched)
        await cleo.sync()
        assert cleo.replica.epoch.topic == ana.replica.epoch.topic
        assert cleo.replica.chains[ana.device].last_seq == ana.replica.chains[ana.device].last_seq
        assert cleo.replica.debts
    only(two, one)
    await cleo.sync()
    assert not cleo.replica.debts
    assert await cleo.texts() == ["known to all"]
    assert cleo.replica.promised
    return ana, ben, cleo


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_was_promised_is_read_from_the_next_manifest_that_says_it(
    world: World, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    ana, ben, cleo = await between_two_manifests(world, monkeypatch)
    if restarts:
        await cleo.restart()
    for relay in world.relays.values():
        relay.reachable = True
    await world.level([ana, ben])
    await ana.group.rotate()
    await world.level([ana, ben])
    for relay in world.relays.values():
        for topic, log in relay.logs.items():
            if log.sealed and log.last > log.first:
                leave_the_end(relay, topic)
    await world.level()
    assert await cleo.texts() == ["known to all", "known to ana"]
    assert not cleo.replica.promised
    assert await state_of(ana) == await state_of(ben) == await state_of(cleo)


async def test_what_was_promised_is_taken_from_a_run_that_is_put_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, cleo = seats = await between_two_manifests(world, monkeypatch)
    for relay in world.relays.values():
        relay.reachable = True
    await world.level(seats)
    assert not cleo.replica.promised
    states = [await state_of(seat) for seat in seats]
    assert states[0] == states[1] == states[2]
    assert await cleo.texts() == ["known to all", "known to ana"]


async def test_who_lacks_what_was_promised_packs_no_more_than_is_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben, cleo = await between_two_manifests(world, monkeypatch)
    await cleo.group.rotate()
    await cleo.sync()
    await ben.sync()
    dan = await world.seat("dan")
    link = await ben.group.invite()
    await ben.sync()
    await dan.running.join(link, member_name="Dan")
    assert await dan.texts() == ["known to all"]
    assert not alarms(dan)
    assert dan.replica.chains[ana.device].last_seq < ana.replica.chains[ana.device].last_seq
    for relay in world.relays.values():
        relay.reachable = True
    await world.level([ana, ben, cleo, dan], rounds=16)
    texts = [await seat.texts() for seat in (ana, ben, cleo, dan)]
    assert texts == [["known to all", "known to ana"]] * 4
