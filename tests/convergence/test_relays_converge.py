"""Groups whose relays come and go: lost, wiped, added, removed and moved from at times, by several admins at once.

In the end every device has found the relays that count and holds the same, and those relays hold everything that a
newcomer needs.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from cocoon_core.errors import InvalidLinkError, NotYetError, RelayError, UsageError
from cocoon_core.sync import driver
from cocoon_core.sync.relay_list import named_relays
from tests.support.ending import prepare
from tests.support.memory_relay import MemoryRelay
from tests.support.relays import wipe
from tests.support.world import Seat, World, state_of, world_in

SEEDS = range(1, 7)
SOAK_SEEDS = range(1_000, 1_200)
DAY_MS = 86_400_000


class Schedule:
    """One story, told by its seed."""

    def __init__(self, world: World, seed: int, *, wipes: bool) -> None:
        self.world, self.chance, self.wipes = world, Random(seed), wipes
        self.posts = 0
        for number in range(4):
            world.add_relay(MemoryRelay(f"ws://relay{number}.test:8787", seed=seed * 10 + number))
        self.link = ""

    @property
    def members(self) -> list[Seat]:
        return [seat for seat in self.world.seats if seat.has_group]

    async def tell(self, steps: int) -> None:
        names = ("ana", "ben", "chi", "dee")
        ana = await self.world.seat("ana")
        urls = self.chance.sample([*self.world.relays], self.chance.choice([1, 2]))
        await ana.running.create_group("Family", member_name="Ana", relays=urls)
        self.link = await ana.group.invite(uses=5)
        await ana.sync()
        for name in names[1:]:
            seat = await self.world.seat(name)
            await seat.running.join(self.link, member_name=name.title())
        await self.world.level()
        await ana.group.set_role(next(one.id for one in ana.group.members() if one.name == "Ben"), "admin")
        await self.world.level()
        acts = (
            [self.post] * 4 + [self.sync] * 9 + [self.change_relays] * 3 + [self.switch] * 3 + [self.wait, self.restart]
        )
        acts += [self.wipe] * 2 if self.wipes else []
        for _ in range(steps):
            await self.chance.choice(acts)()

    async def settle(self) -> None:
        for relay in self.world.relays.values():
            relay.reachable = True
        driver.SILENCE_SECONDS = 60.0
        for _ in range(4):
            for seat in self.members:
                for _ in range(3):
                    with suppress(RelayError):
                        await seat.sync()
            self.world.now_ms += 3_600_001
        for _ in range(2):
            await self.world.level(rounds=24)
            self.world.now_ms += 3_600_001

    # --- what can happen

    async def post(self) -> None:
        seat = self.chance.choice(self.members)
        self.posts += 1
        await seat.group.feed.post(f"post {self.posts} of {seat.name}")

    async def sync(self) -> None:
        with suppress(RelayError):
            await self.chance.choice(self.members).sync()

    async def change_relays(self) -> None:
        seat = self.chance.choice(self.members[:2])
        urls = self.chance.sample([*self.world.relays], self.chance.choice([1, 1, 2]))
        with suppress(UsageError, RelayError):
            await seat.group.move_relays(urls)

    async def switch(self) -> None:
        relay = self.chance.choice([*self.world.relays.values()])
        if relay.reachable and self.chance.random() < 0.6:
            relay.switch_off()
        else:
            relay.reachable = True

    async def wipe(self) -> None:
        wipe(self.chance.choice([*self.world.relays.values()]))

    async def wait(self) -> None:
        self.world.now_ms += self.chance.choice([1_000, 90_000, 3_600_001, DAY_MS])

    async def restart(self) -> None:
        await self.chance.choice(self.members).restart()


async def run_schedule(folder: Path, seed: int, steps: int, *, wipes: bool) -> None:
    print(f"seed {seed}")
    async with world_in(folder) as world:
        schedule = Schedule(world, seed, wipes=wipes)
        await schedule.tell(steps)
        await schedule.settle()
        if wipes:  # what told sleepers the way may be gone with what was wiped: then they are told by hand
            ana = world.seats[0]
            for seat in schedule.members:
                if named_relays(seat.replica) != named_relays(ana.replica):
                    for url in named_relays(ana.replica):
                        await seat.group.use_relay(url)
                    for url in named_relays(seat.replica):
                        await ana.group.use_relay(url)
            await schedule.settle()
        reference = await state_of(world.seats[0])
        named = named_relays(world.seats[0].replica)
        for seat in schedule.members[1:]:
            assert named_relays(seat.replica) == named, f"{seat.name} is elsewhere, seed {seed}"
            assert await state_of(seat) == reference, f"{seat.name} differs, seed {seed}"
        assert len(reference["feed"][0]) == schedule.posts, f"posts were lost, seed {seed}"
        for seat in schedule.members:
            assert seat.group.unsent() == 0
            assert sorted(seat.group.relays) == sorted(named), f"seed {seed}"
        for url in named:  # each alone has everything
            for other in world.relays.values():
                other.reachable = other.url == url
            eve = await world.seat(f"eve {named.index(url)}")
            with suppress(NotYetError, InvalidLinkError):
                link = await world.seats[0].group.invite()
                await world.seats[0].sync()
                await eve.running.join(link, member_name=f"Eve {named.index(url)}")
            assert eve.has_group, f"a newcomer at {url}, seed {seed}"
            assert await eve.texts() == await world.seats[0].texts(), f"a newcomer at {url}, seed {seed}"


@pytest.mark.parametrize("wipes", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_device_ends_at_the_relays_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, wipes: bool
) -> None:
    prepare(monkeypatch, seed)
    await run_schedule(tmp_path, seed, 60, wipes=wipes)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_every_device_ends_at_the_relays_that_count_after_a_long_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    prepare(monkeypatch, seed)
    await run_schedule(tmp_path, seed, 300, wipes=seed % 2 == 0)
