"""Death and a full disk in the middle of compaction (44): while a manifest is packed, handed over, followed or adopted.

Nothing that was acknowledged is lost, the next sync completes what was begun, and what nobody completes expires.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random

import apsw
import pytest

from cocoon_core.errors import CocoonError, LocalStateError
from tests.support.dying import Died, MortalDisk, rise_again
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture

SEED = 44_16
FAULTS = 8  # places among the calls to the disk, for each way to fail
PARTS = ["rotator", "follower", "newcomer"]
HISTORY = 40  # posts before


class Scene:
    """Ana and Ben, with a history; each act rotates anew. `told` are the posts that were acknowledged."""

    def __init__(self, world: World, part: str) -> None:
        self.world, self.part, self.told = world, part, list[str]()
        self._number = 0

    async def begin(self) -> None:
        self.ana, self.ben = await self.world.group("ana", "ben")
        await self.ana.group.set_policy(max_members=200, vouches=0)
        for _ in range(HISTORY):
            await self.post(self.ben)
        await self.world.level()

    async def post(self, seat: Seat) -> None:
        self._number += 1
        post = await seat.group.feed.post(f"post {self._number}, long enough to be worth packing")
        self.told.append(post.text)

    async def prepare(self) -> tuple[Seat, Callable[[], Awaitable[object]]]:
        """Who is to die, and what they do meanwhile."""
        await self.post(self.ana)
        if self.part == "rotator":
            return self.ana, self._rotate
        if self.part == "follower":
            await self._rotate()
            await self.post(self.ben)
            return self.ben, self.ben.sync
        link = await self.ana.group.invite(expires_in=timedelta(days=1))
        await self._rotate()
        dan = await self.world.seat(f"dan{self._number}")

        async def join() -> None:
            if dan.has_group:
                await dan.sync()
            else:
                await dan.running.join(link, member_name=dan.name)
            await self.post(dan)

        return dan, join

    async def _rotate(self) -> None:
        await self.ana.group.rotate()
        await self.post(self.ana)
        await self.ana.sync()

    async def check(self) -> None:
        """Everybody syncs, and all is there."""
        seats = [seat for seat in self.world.seats if seat.has_group]
        await self.world.level(seats, rounds=16)
        assert len({seat.replica.epoch.topic for seat in seats}) == 1
        reference = await state_of(seats[0])
        for seat in seats:
            assert await state_of(seat) == reference
        texts = await self.ana.texts()
        assert set(self.told) <= set(texts), "an acknowledged post is lost"
        assert len(set(texts)) == len(texts), "a post stands twice"
        for seat in seats[2:]:  # newcomers of earlier rounds go, so that the group stays small
            await seat.stop()
            self.world.seats.remove(seat)


async def count_calls(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> int:
    """The calls to the disk of one act that nothing disturbs."""
    seat, act = await scene.prepare()
    disk = MortalDisk()
    await disk.put_under(monkeypatch, seat)
    before = disk.calls
    await act()
    calls = disk.calls - before
    await seat.restart()
    await scene.check()
    return calls


@pytest.mark.parametrize("part", PARTS)
async def test_attack_44_death_at_a_call_to_the_disk_in_the_middle_of_a_compaction(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str
) -> None:
    print(f"seed {SEED}")
    scene = Scene(world, part)
    await scene.begin()
    calls = await count_calls(scene, monkeypatch)
    assert calls > FAULTS
    for place in sorted(Random(SEED).sample(range(calls), FAULTS)):
        seat, act = await scene.prepare()
        disk = MortalDisk()
        await disk.put_under(monkeypatch, seat)
        disk.stop(place, Died)
        try:
            await act()
        except (Died, LocalStateError):  # what a dying process still says is nothing to go by
            await rise_again(seat, tmp_path / f"after {place}")
        disk.mend()
        if seat not in (scene.ana, scene.ben):
            await act()
        await scene.check()


@pytest.mark.parametrize("fault", ["full until there is room", "one error"])
@pytest.mark.parametrize("part", PARTS)
async def test_attack_44_a_disk_that_fails_in_the_middle_of_a_compaction(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str, fault: str
) -> None:
    print(f"seed {SEED}")
    scene = Scene(world, part)
    await scene.begin()
    calls = await count_calls(scene, monkeypatch)
    refused = 0
    for place in sorted(Random(SEED).sample(range(calls), FAULTS)):
        seat, act = await scene.prepare()
        disk = MortalDisk()
        await disk.put_under(monkeypatch, seat)
        if fault == "one error":
            disk.stop(place, apsw.IOError, lasting=False)
        else:
            disk.stop(place, apsw.FullError, reads=False)
        try:
            await act()
        except LocalStateError:
            refused += 1
        disk.mend()  # the same process goes on
        if seat not in (scene.ana, scene.ben):
            await act()
        await scene.check()
    assert refused > FAULTS // 4


async def test_attack_44_a_disk_that_could_not_even_be_read_stops_no_group_for_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    disk = MortalDisk()
    await disk.put_under(monkeypatch, ana)
    refused = 0
    for place in range(0, 24, 2):
        disk.stop(place, apsw.IOError)
        try:
            await ana.group.rotate()
        except LocalStateError:
            refused += 1
        disk.mend()
        await ana.group.feed.post(f"after {place}")
        assert ana.replica.is_writable
    assert refused > 6
    await world.level(rounds=16)
    assert len(await ben.texts()) == 12
    assert ana.group.alarms() == []


async def test_attack_44_blobs_of_a_rotation_that_nobody_completes_expire(world: World) -> None:
    ana, ben, cleo = await world.group("ana", "ben", "cleo")
    (relay,) = world.relays.values()
    for number in range(20):
        await ben.group.feed.post(f"post {number}")
    await world.level()
    before = set(relay.blobs.kept)
    frames = 0
    await ana.group.rotate()
    while not set(relay.blobs.kept) - before:  # the blobs are there, and the old topic leads nowhere
        ana.dying_after = frames
        with pytest.raises(CocoonError):
            await ana.sync()
        frames += 1
    orphans = set(relay.blobs.kept) - before
    assert relay.logs[ana.replica.epoch.topic].last == 0
    await ana.stop()  # for ever
    for month in range(8):
        world.now_ms += 31 * 86_400_000
        relay.age(31)
        await ben.group.feed.post(f"month {month}")
        await world.level([ben, cleo], rounds=16)
    assert not orphans & set(relay.blobs.kept)
    assert await state_of(ben) == await state_of(cleo)
    link = await ben.group.invite(expires_in=timedelta(days=1))
    await ben.sync()
    dan = await world.seat("dan")
    await dan.running.join(link, member_name="Dan")
    await world.level([ben, cleo, dan], rounds=16)
    assert await dan.texts() == await ben.texts()
