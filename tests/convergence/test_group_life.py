"""Thirty days of a group, told by seeds: in the end all replicas are equal, nothing is lost, and relays hold little.

Members with two devices each and two relays, one of them with short leases. Messages are lost, relays are down for
hours and one loses its disk, devices crash, sleep for days and fall into the sea, people join, leave and are put out.
The long form is `make soak`'s: twelve members and 50,000 posts, and then eight months in which most sleep.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from cocoon_core.protocol.constants import WRAP_BYTES
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.sync import driver
from cocoon_core.sync.manifest_blobs import blobs_of_epoch
from tests.support.differing import describe_difference, describe_seats
from tests.support.ending import find_members, prepare
from tests.support.life import Life, Scale
from tests.support.life_relay import LifeRelay
from tests.support.world import Seat, rebuild_everything, state_of, world_in

SHORT = Scale(posts=300, sessions=150, members=8, devices=14)
LONG = Scale(posts=50_000, sessions=3_000)
MONTHS = 8
LEASES_MONTHS = 3  # until what who woke up put into ended topics, to lead others on, has gone by short leases
MOST_TIMES = (20, 4)  # of the compacted size that relays hold then: with the default leases, and with short ones
# What faults explain: relays that were wiped or forgot, blobs that were lost with them, rotations and removals at once.
EXPLAINED = {"relay-lost", "letter-lost", "manifest", "withheld", "excluded", "withdrawn", "late"}
MOST_LINES = 200  # of what differs
SEEDS = (1,)
SOAK_SEEDS = range(1, 4)


async def live(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int, scale: Scale, months: int = 0) -> None:
    print(f"seed {seed}")
    prepare(monkeypatch, seed)
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.3)  # what a relay forgot it never shows
    async with world_in(folder) as world:
        life = Life(world, seed, scale, monkeypatch)
        await life.tell()
        await life.settle()
        seats = await compare(life)
        tell(life, seats)
        roster, operations = seats[0].replica.members.roster, seats[0].replica.members.graph.operations()
        rotations = sum(isinstance(one.body, Rotation) for one in operations)
        way = rotations * (len(roster.devices) + len(roster.former_devices)) * WRAP_BYTES
        for (
            relay
        ) in life.relays:  # a manifest for each epoch at most, and the way on from it: as long as no lease ended
            assert relay.kept_bytes <= (rotations + 1) * (compacted(seats[0], relay) + way), f"seed {seed}"
        if not months:
            return
        await life.grow_old(months)
        await life.settle()
        seats = await compare(life)
        tell(life, seats)
        awake = await life.grow_old(LEASES_MONTHS)
        tell(life, [awake])
        for relay, most in zip(life.relays, MOST_TIMES, strict=True):
            assert relay.kept_bytes <= most * compacted(awake, relay), f"seed {seed}"


async def compare(life: Life) -> list[Seat]:
    """All members' replicas are equal, also built anew and started anew, and hold what they must; gives their seats."""
    seed = life.seed
    there = [person.seat for person in life.people if not person.is_lost]
    try:
        seats = find_members(there, seed)
    except AssertionError:
        print(*describe_seats(there), sep="\n")
        raise
    reference = await state_of(seats[0])
    for seat in seats[1:]:
        if await state_of(seat) != reference:
            print(*describe_seats(there), *islice(describe_difference(seats[0], seat), MOST_LINES), sep="\n")
            pytest.fail(f"{seat.name} differs from {seats[0].name}, seed {seed}")
    life.ledger.check(seats[0])
    for seat in Random(seed).sample(seats, 3):
        rebuild_everything(seat)
        assert await state_of(seat) == reference, f"{seat.name} rebuilt differs, seed {seed}"
        await seat.restart()
        assert await state_of(seat) == reference, f"{seat.name} restarted differs, seed {seed}"
    assert all(seat.group.unsent() == 0 for seat in seats), f"seed {seed}"
    for seat in seats:
        unexplained = [alarm for alarm in alarms(seat) if alarm[0] not in EXPLAINED]
        assert not unexplained, f"{seat.name} was told {unexplained}, seed {seed}"
    return seats


def alarms(seat: Seat) -> list[tuple[str, str, str]]:
    return [
        (kind, subject, message)
        for kind, subject, message, *_ in seat.replica.groups.alarms(seat.replica.record.number)
    ]


def compacted(seat: Seat, relay: LifeRelay) -> int:
    """Bytes of all that a newcomer needs, once: the current topic and the blobs of its manifest. They are all there."""
    stored = seat.replica.epochs.current
    blobs = [relay.blobs.kept[name] for name in blobs_of_epoch(seat.replica, stored)]
    return sum(map(len, [*blobs, *relay.logs[stored.epoch.topic].envelopes]))


def tell(life: Life, seats: list[Seat]) -> None:
    told = Counter(kind for seat in seats for kind, *_ in alarms(seat))
    roster = seats[0].replica.members.roster
    rows = {
        "posts written": len(life.ledger.written),
        "members": len(roster.members),
        "devices": len(roster.devices),
        "operations": len(seats[0].replica.members.graph),
        "rotations": len(roster.rotations),
        **dict(sorted(life.happened.items())),
        **{f"alarm {kind}": count for kind, count in sorted(told.items())},
    }
    for relay in life.relays:
        rows |= {f"{what} at {relay.url}": count for what, count in relay.happened.items()}
        rows[f"bytes at {relay.url}"] = relay.kept_bytes
        rows[f"compacted bytes at {relay.url}"] = compacted(seats[0], relay)
        rows[f"most bytes at {relay.url}"] = relay.most_bytes
    for name, count in rows.items():
        print(f"{count:12,}  {name}")


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_group_lives_for_thirty_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    await live(tmp_path, monkeypatch, seed, SHORT)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_a_group_lives_for_thirty_days_and_writes_50000_posts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    await live(tmp_path, monkeypatch, seed, LONG, MONTHS)
