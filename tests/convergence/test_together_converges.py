"""Lists, notes, events and replies that several devices change at once, over a relay that shuffles: one state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from cocoon_core.errors import RelayError, UnknownItemError
from tests.support.hostile import UnreliableRelay
from tests.support.key_ring import use_key_ring
from tests.support.world import Seat, World, forget_caches, rebuild_everything, state_of, world_in

SEEDS = range(1, 5)
SOAK_SEEDS = range(100, 160)
WORDS = ["milk", "eggs", "tea", "salt", "rice", "plums"]


class Story:
    """What three people do, by a seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.chance = world, Random(seed)
        self.relay = UnreliableRelay("ws://relay0.test:8787", seed)
        self.relay.lies = self.relay.wild = False

    async def tell(self, steps: int) -> None:
        self.world.add_relay(self.relay)
        seats = await self.world.group("ana", "ben", "chi")
        made = await seats[0].group.lists.new("Shopping", WORDS)
        note = await seats[0].group.notes.new("Rules", "Shoes off.\nNo smoking.\n")
        event = await seats[0].group.calendar.new("Party", datetime(2026, 12, 24, 18, tzinfo=UTC))
        self.list, self.note, self.event = made.id, note.id, event.id
        await self.world.level()
        self.relay.wild = True
        acts = [
            *(self.add, self.move, self.move, self.tick, self.drop, self.edit_item, self.write, self.write),
            *(self.reply, self.reply, self.change, self.name, self.sync, self.sync, self.sync, self.restart),
        ]
        for _ in range(steps):
            seat = self.chance.choice(seats)
            with suppress(UnknownItemError, RelayError):
                await self.chance.choice(acts)(seat)
        self.relay.calm()
        await self.world.level(rounds=24)

    async def _items(self, seat: Seat) -> list[str]:
        return [item.id for item in (await seat.group.lists.get(self.list)).items]

    async def _item(self, seat: Seat) -> str:
        return self.chance.choice(await self._items(seat) or ["none"])

    async def add(self, seat: Seat) -> None:
        before = self.chance.choice([None, await self._item(seat)])
        await seat.group.lists.add(self.list, self.chance.choice(WORDS), before=before)

    async def move(self, seat: Seat) -> None:
        before = self.chance.choice([None, await self._item(seat)])
        await seat.group.lists.move(self.list, await self._item(seat), before)

    async def tick(self, seat: Seat) -> None:
        await seat.group.lists.tick(self.list, await self._item(seat), done=self.chance.random() < 0.6)

    async def drop(self, seat: Seat) -> None:
        await seat.group.lists.drop(self.list, await self._item(seat))

    async def edit_item(self, seat: Seat) -> None:
        await seat.group.lists.edit(self.list, await self._item(seat), f"{seat.name} {self.chance.randrange(99)}")

    async def write(self, seat: Seat) -> None:
        text = (await seat.group.notes.get(self.note)).text
        at = self.chance.randint(0, len(text))
        cut = at + self.chance.choice([0, 0, 1, 7])
        await seat.group.notes.write(self.note, f"{text[:at]}<{seat.name}>{text[cut:]}")

    async def reply(self, seat: Seat) -> None:
        seat.skew_ms = self.chance.choice([0, 0, -5_000, 31 * 86_400_000])
        await seat.group.calendar.reply(self.event, self.chance.choice(["yes", "no", "maybe"]), seat.name)
        seat.skew_ms = 0

    async def change(self, seat: Seat) -> None:
        if seat.name == "ana":
            begins = datetime(2026, 12, 24, 18, tzinfo=UTC) + timedelta(days=self.chance.randrange(5))
            await seat.group.calendar.change(self.event, begins=begins)

    async def name(self, seat: Seat) -> None:
        act: Callable[[str], Awaitable[object]] = self.chance.choice(
            [
                lambda found: seat.group.lists.rename(found, f"by {seat.name}"),
                seat.group.lists.remove,
                seat.group.lists.restore,
            ]
        )
        await act(self.list)

    async def sync(self, seat: Seat) -> None:
        await seat.sync()

    async def restart(self, seat: Seat) -> None:
        await seat.restart()


async def tell(folder: Path, seed: int) -> None:
    async with world_in(folder) as world:
        story = Story(world, seed)
        await story.tell(steps=70)
        seats = world.seats
        states = [await state_of(seat) for seat in seats]
        shown = [
            (
                await seat.group.lists.get(story.list),
                await seat.group.notes.get(story.note),
                await seat.group.calendar.get(story.event),
            )
            for seat in seats
        ]
        assert all(state == states[0] for state in states), f"seed {seed}"
        assert all(one == shown[0] for one in shown), f"seed {seed}"
        rebuild_everything(seats[0])
        forget_caches(seats[1])
        await seats[2].restart()
        assert [await state_of(seat) for seat in seats] == states, f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
async def test_all_devices_show_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    use_key_ring(monkeypatch)
    await tell(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_all_devices_show_the_same_for_many_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    use_key_ring(monkeypatch)
    await tell(tmp_path, seed)
