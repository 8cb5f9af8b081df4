"""Several devices of one member that write and erase side by side, with rotations and lost devices in between: in the
end all replicas are equal, what nobody erased is there, and what was erased is nowhere.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from cocoon_core.errors import RelayError, UsageError
from cocoon_core.social.post import Post
from cocoon_core.sync import driver
from tests.support.ending import prepare
from tests.support.hostile import UnreliableRelay
from tests.support.linking import link
from tests.support.world import Seat, World, rebuild_everything, state_of, world_in
from tests.unit.sync.test_erase import rows_with

SEEDS = range(1, 13)
SOAK_SEEDS = range(1_000, 1_200)


class Story:
    """Ana's laptop, phone and tablet, and Ben; told by a seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.chance = world, Random(seed)
        self.relay = UnreliableRelay("ws://relay0.test:8787", seed)
        self.relay.calm()
        world.add_relay(self.relay)
        self.seats: list[Seat] = []
        self.written: dict[str, str] = {}  # id of a post, and a word that stands in no other
        self.erased: set[str] = set()
        self.deleted: set[str] = set()

    async def begin(self) -> None:
        laptop, ben = await self.world.group("ana", "ben")
        self.seats = [laptop, ben]
        for name in ("phone", "tablet"):
            seat = await self.world.seat(name)
            await link(laptop, seat)
            self.seats.append(seat)
        await self.world.level()

    async def tell(self, steps: int) -> None:
        acts = [self.post, self.post, self.post, self.edit, self.delete, self.erase, self.erase,
                self.sync, self.sync, self.sync, self.sync, self.rotate, self.wait, self.restart,
                self.diary]  # fmt: skip
        for _ in range(steps):
            await self.chance.choice(acts)()

    async def post(self) -> None:
        seat = self.chance.choice(self.seats)
        word = f"word{len(self.written)}-{self.chance.randbytes(6).hex()}"
        parents = [*self.written] if self.chance.random() < 0.3 else []
        here = [post for post in parents if seat.replica.database.query(
            "SELECT 1 FROM posts WHERE post=?", (bytes.fromhex(post),))]  # fmt: skip
        if here:
            post = await seat.group.feed.reply(self.chance.choice(here), word)
        else:
            post = await seat.group.feed.post(word)
        self.written[post.id] = word

    async def erase(self) -> None:
        seat = self.chance.choice(self.seats)
        own = [post for post in await seat.group.feed.list(limit=1000) if post.author_id == seat.group.me]
        for post in self.chance.sample(own, min(len(own), self.chance.randint(1, 2))):
            await seat.group.feed.erase(post.id)
            self.erased.add(post.id)

    async def edit(self) -> None:
        """Own devices edit side by side, also what another one erased: what was there before is in the new text."""
        seat = self.chance.choice(self.seats)
        post = await self._own_post(seat)
        if post is not None:
            await seat.group.feed.edit(post.id, f"{self.written[post.id]} again {self.chance.randrange(100)}")

    async def delete(self) -> None:
        seat = self.chance.choice(self.seats)
        post = await self._own_post(seat)
        if post is not None:
            await seat.group.feed.delete(post.id)
            self.deleted.add(post.id)

    async def _own_post(self, seat: Seat) -> Post | None:
        own = [post for post in await seat.group.feed.list(limit=1000) if post.author_id == seat.group.me]
        own = [post for post in own if not (post.erased or post.deleted)]
        return self.chance.choice(own) if own else None

    async def diary(self) -> None:
        seat = self.chance.choice(self.seats)
        async with seat.group.document("diary").change() as doc:
            doc[self.chance.choice("abc")] = self.chance.randrange(100)

    async def sync(self) -> None:
        with suppress(RelayError):
            await self.chance.choice(self.seats).sync()

    async def rotate(self) -> None:
        with suppress(UsageError):
            await self.chance.choice(self.seats).group.rotate()

    async def wait(self) -> None:
        self.world.now_ms += self.chance.choice([1_000, 90_000, 3_600_000, 20 * 86_400_000])

    async def restart(self) -> None:
        await self.chance.choice(self.seats).restart()

    async def settle(self) -> None:
        for _ in range(4):
            await self.world.level(rounds=30)
            self.world.now_ms += 3_600_000
        await self.seats[1].group.rotate()
        for _ in range(2):
            await self.world.level(rounds=30)
            self.world.now_ms += 3_600_000


async def run_story(folder: Path, seed: int, steps: int) -> None:
    print(f"seed {seed}")
    async with world_in(folder) as world:
        story = Story(world, seed)
        await story.begin()
        driver.SILENCE_SECONDS = 60.0
        await story.tell(steps)
        await story.settle()
        reference = await state_of(story.seats[0])
        for seat in story.seats:
            assert await state_of(seat) == reference, f"{seat.name} differs, seed {seed}"
            rebuild_everything(seat)
            assert await state_of(seat) == reference, f"{seat.name} rebuilt differs, seed {seed}"
            await seat.restart()
            assert await state_of(seat) == reference, f"{seat.name} restarted differs, seed {seed}"
        shown = {}
        for post in story.written:
            shown[post] = await story.seats[0].group.feed.get(post)
        for post, word in story.written.items():
            if post in story.deleted:  # beside an erase on another device it is erased
                assert shown[post].deleted or shown[post].erased, f"{word}, seed {seed}"
            else:
                assert shown[post].erased == (post in story.erased), f"{word}, seed {seed}"
            is_gone = post in story.erased | story.deleted
            assert shown[post].text.split(" ")[0] == ("" if is_gone else word), f"seed {seed}"
            if post in story.erased:
                for seat in story.seats:
                    assert rows_with(seat, word) == [], f"{word} is left on {seat.name}, seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
async def test_devices_that_write_and_erase_at_once_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    prepare(monkeypatch, seed)
    await run_story(tmp_path, seed, 60)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_devices_that_write_and_erase_for_long_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    prepare(monkeypatch, seed)
    await run_story(tmp_path, seed, 250)
