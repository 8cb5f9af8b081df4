"""Honest relays that come and go, connections that die anywhere, devices that sleep for days: nobody is ever accused.

What beacons conclude must be certain. Here every relay keeps what it acknowledges and shows all that it has, so any
alarm about something withheld is a false one.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from cocoon_core.errors import RelayUnavailable
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
KINDS = {"withheld", "histories", "not-shown"}


def accusations(seat: Seat) -> list[str]:
    number = seat.replica.record.number
    return [message for kind, _, message, _ in seat.replica.groups.alarms(number) if kind in KINDS]


async def live(world: World, chance: Random, days: int) -> list[Seat]:
    relays = [world.add_relay() for _ in range(2)]
    names = ["ana", "ben", "chi", "dan"]
    seats = await world.group(*names)
    for day in range(days):
        for relay in relays:
            relay.reachable = chance.random() < 0.8
        awake = [seat for seat in seats if chance.random() < 0.7]
        for hour in range(chance.randrange(1, 6)):
            world.now_ms += chance.randrange(1, 5) * HOUR_MS
            for seat in chance.sample(awake, len(awake)):
                if seat.group.me is None:
                    continue
                if chance.random() < 0.4:
                    await seat.group.feed.post(f"{seat.name} {day} {hour}")
                seat.dying_after = chance.randrange(3, 30) if chance.random() < 0.3 else None
                with suppress(RelayUnavailable):
                    await seat.group.sync(beacon=chance.random() < 0.3)
                seat.dying_after = None
                assert accusations(seat) == [], f"{seat.name} on day {day}"
        if chance.random() < 0.2:
            await seats[0].group.rotate()
        if day == days // 2 and chance.random() < 0.5:
            await seats[0].group.remove_member(seats[3].name.title())
        world.now_ms = (world.now_ms // DAY_MS + 1) * DAY_MS
    for relay in relays:
        relay.reachable = True
    return seats


@pytest.mark.parametrize("seed", range(6))
async def test_beacons_accuse_nobody_where_all_are_honest(world: World, seed: int) -> None:
    print(f"seed {seed}")
    seats = await live(world, Random(seed), 12)
    members = [seat for seat in seats if seats[0].replica.members.member_of(seat.device) is not None]
    for _ in range(4):
        world.now_ms += HOUR_MS
        for seat in members:
            await seat.sync()
            assert accusations(seat) == []
    states = [await state_of(seat) for seat in members]
    assert all(state == states[0] for state in states)
    assert any(seat.replica.beacons.table.own().next > 3 for seat in members)  # type: ignore[union-attr]
