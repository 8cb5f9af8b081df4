"""Several devices, a seeded schedule of all that can happen to them, and in the end the same state everywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from cocoon_core.errors import InvalidLinkError, NotYetError, RelayError, UnknownItemError, UsageError
from cocoon_core.social.post import Post
from cocoon_core.sync import driver
from tests.support.ending import find_members, prepare
from tests.support.hostile import UnreliableRelay
from tests.support.world import ADMIN_SCHEMA, SCHEMA, Seat, World, forget_caches, rebuild_everything, state_of, world_in

SEEDS = range(1, 25)
ROUGH_SEEDS = range(1, 25)
SOAK_SEEDS = range(1_000, 1_400)
WORDS = ["milk", "eggs", "tea", "salt", "rice", "plums"]


class Schedule:
    """One story, told by its seed."""

    def __init__(self, world: World, seed: int, rough: bool = False, lies: bool = False) -> None:
        self.world, self.chance = world, Random(seed)
        count = self.chance.choice([1, 1, 2])
        for number in range(count):
            relay = UnreliableRelay(f"ws://relay{number}.test:8787", seed * 10 + number)
            relay.lies = lies
            world.add_relay(relay)
        self.links: list[str] = []
        self.posts = 0
        self.rough = rough

    @property
    def members(self) -> list[Seat]:
        return [seat for seat in self.world.seats if seat.has_group]

    async def tell(self, steps: int) -> None:
        creator = await self.world.seat("ana")
        await creator.running.create_group("Family", member_name="Ana", relays=[*self.world.relays])
        self.links.append(await creator.group.invite(uses=2))
        await self._try(creator.sync)
        for name in ("ben", "chi", "dee", "eli", "fay")[: self.chance.randint(2, 5)]:
            await self.world.seat(name)
        acts = [self.post, self.post, self.reply, self.edit_post, self.delete, self.mark,
                self.edit_shared, self.edit_admin, self.edit_own, self.sync,
                self.sync, self.sync, self.sync, self.join, self.join, self.invite, self.set_role, self.set_role,
                self.revoke, self.restart, self.wait, self.switch_relay, self.clear]  # fmt: skip
        if self.rough:
            acts += [self.remove, self.rotate, self.erase]
        for _ in range(steps):
            await self.chance.choice(acts)()

    async def settle(self) -> None:
        """Everything works again, everybody syncs until nothing moves, and spent invites are closed."""
        for relay in self.world.relays.values():
            assert isinstance(relay, UnreliableRelay)
            relay.calm()
            relay.reachable = True
        driver.SILENCE_SECONDS = 60.0  # nobody is silent any more, however busy this machine is
        await self.world.level(rounds=24)
        self.world.now_ms += 3_600_000
        await self.world.level(rounds=24)

    async def _try(self, act: Callable[[], object]) -> None:
        with suppress(RelayError):
            await act()  # type: ignore[misc]

    # --- what can happen

    async def post(self) -> None:
        seat = self.chance.choice(self.members)
        self.posts += 1
        await self._as_member(seat, seat.group.feed.post(f"post {self.posts} of {seat.name}"))

    async def reply(self) -> None:
        seat = self.chance.choice(self.members)
        posts = await seat.group.feed.list(limit=20)
        if posts:
            thread = await seat.group.feed.thread(self.chance.choice(posts).id)
            self.posts += 1
            await self._as_member(seat, seat.group.feed.reply(self.chance.choice(thread).id, f"reply {self.posts}"))

    async def edit_post(self) -> None:
        seat = self.chance.choice(self.members)
        own = [post for post in await self._some_posts(seat) if post.author_id == seat.group.me]
        if own:
            self.posts += 1
            await seat.group.feed.edit(self.chance.choice(own).id, f"edited {self.posts}")

    async def delete(self) -> None:
        seat = self.chance.choice(self.members)
        own = [post for post in await self._some_posts(seat) if post.author_id == seat.group.me]
        if own and self.chance.random() < 0.5:
            await seat.group.feed.delete(self.chance.choice(own).id)

    async def mark(self) -> None:
        seat = self.chance.choice(self.members)
        posts, feed = await self._some_posts(seat), seat.group.feed
        if posts:
            act = self.chance.choice([feed.hide, feed.hide, feed.unhide, feed.pin, feed.unpin])
            with suppress(UsageError):  # most are no admins
                await act(self.chance.choice(posts).id)

    async def _some_posts(self, seat: Seat) -> list[Post]:
        """Posts and replies that stand, if this seat is a member's."""
        feed = seat.group.feed
        roots = [] if seat.group.me is None else await feed.list(limit=10)
        posts = [post for root in roots for post in await feed.thread(root.id)]
        return [post for post in posts if not (post.erased or post.deleted)]

    async def _as_member(self, seat: Seat, act: object) -> None:
        """Whoever joined by a link that was used up may not write; nobody else may be refused."""
        try:
            await act  # type: ignore[misc]
        except UsageError:
            assert seat.group.me is None

    async def edit_shared(self) -> None:
        seat = self.chance.choice(self.members)
        if seat.group.me is None:
            return
        async with seat.group.document("list", SCHEMA).change() as doc:
            for _ in range(self.chance.randint(1, 3)):
                word = self.chance.choice(WORDS)
                match self.chance.randrange(5):
                    case 0:
                        doc["items"][word] = self.chance.randrange(100)
                    case 1:
                        doc["items"].pop(word, None)
                    case 2:
                        doc["lines"].append({"word": word, "by": seat.name})
                    case 3:
                        doc["note"].insert(0, word)
                    case 4:
                        if len(doc["lines"]):
                            del doc["lines"][self.chance.randrange(len(doc["lines"]))]

    async def edit_admin(self) -> None:
        seat = self.chance.choice(self.members)
        member = seat.replica.members.member_of(seat.device)
        if member is None or not seat.replica.members.roster.is_admin(member):
            return
        async with seat.group.document("rules", ADMIN_SCHEMA, admin=True).change() as doc:
            doc["rules"][self.chance.choice(WORDS)] = seat.name

    async def edit_own(self) -> None:
        seat = self.chance.choice(self.members)
        if seat.group.me is not None:
            async with seat.group.document("diary").change() as doc:
                doc[self.chance.choice(WORDS)] = self.chance.choice(WORDS)

    async def sync(self) -> None:
        await self._try(self.chance.choice(self.members).sync)

    async def join(self) -> None:
        outside = [seat for seat in self.world.seats if not seat.has_group]
        if not outside:
            return
        seat = self.chance.choice(outside)
        with suppress(NotYetError, InvalidLinkError, RelayError):
            await seat.running.join(self.chance.choice(self.links), member_name=seat.name.title())

    async def invite(self) -> None:
        seat = self.chance.choice(self.members)
        with suppress(UsageError):
            self.links.append(
                await seat.group.invite(
                    uses=self.chance.randint(1, 2), expires_in=timedelta(minutes=self.chance.choice([2, 30, 600]))
                )
            )

    async def revoke(self) -> None:
        seat = self.chance.choice(self.members)
        invites = seat.group.invites()
        if invites and self.chance.random() < 0.5:
            with suppress(UsageError, UnknownItemError):
                await seat.group.revoke_invite(self.chance.choice(invites).id.hex())

    async def set_role(self) -> None:
        seat = self.chance.choice(self.members)
        with suppress(UsageError):
            await seat.group.set_role(
                self.chance.choice(seat.group.members()).id, self.chance.choice(["admin", "member"])
            )

    async def remove(self) -> None:
        seat = self.chance.choice(self.members)
        others = [member for member in seat.group.members() if not member.me]
        if others and self.chance.random() < 0.4:
            with suppress(UsageError):
                await seat.group.remove_member(self.chance.choice(others).id)

    async def rotate(self) -> None:
        seat = self.chance.choice(self.members)
        with suppress(UsageError):
            await seat.group.rotate()

    async def erase(self) -> None:
        seat = self.chance.choice(self.members)
        posts = [post for post in await seat.group.feed.list() if post.author_id == seat.group.me]
        if posts:
            chosen = self.chance.sample(posts, self.chance.randint(1, min(2, len(posts))))
            await seat.group.feed.erase(*(post.id for post in chosen))

    async def restart(self) -> None:
        await self.chance.choice(self.members).restart()

    async def clear(self) -> None:
        forget_caches(self.chance.choice(self.members))

    async def wait(self) -> None:
        self.world.now_ms += self.chance.choice([1, 1_000, 90_000, 3_600_000])

    async def switch_relay(self) -> None:
        relay = self.chance.choice([*self.world.relays.values()])
        relay.reachable = not relay.reachable or self.chance.random() < 0.5


async def run_schedule(folder: Path, seed: int, steps: int, *, rough: bool = False, lies: bool = False) -> None:
    print(f"seed {seed}")
    async with world_in(folder) as world:
        schedule = Schedule(world, seed, rough, lies)
        await schedule.tell(steps)
        await schedule.settle()
        seats = find_members(schedule.members, seed)
        reference = await state_of(seats[0])
        for seat in seats[1:]:
            assert await state_of(seat) == reference, f"{seat.name} differs from {seats[0].name}, seed {seed}"
        for seat in seats:
            rebuild_everything(seat)
            assert await state_of(seat) == reference, f"{seat.name} rebuilt differs, seed {seed}"
            await seat.restart()
            assert await state_of(seat) == reference, f"{seat.name} restarted differs, seed {seed}"
            assert (await seat.running.check()).findings == (), f"{seat.name} is not sound, seed {seed}"
            assert seat.group.unsent() == 0


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_device_ends_in_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    prepare(monkeypatch, seed)
    await run_schedule(tmp_path, seed, 120)


@pytest.mark.parametrize("seed", ROUGH_SEEDS)
async def test_every_device_ends_in_the_same_state_where_members_are_removed_and_rotate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    prepare(monkeypatch, seed)
    await run_schedule(tmp_path, seed, 120, rough=True)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_SEEDS)
async def test_every_device_ends_in_the_same_state_after_a_long_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    prepare(monkeypatch, seed)
    await run_schedule(tmp_path, seed, 600, rough=True, lies=True)
