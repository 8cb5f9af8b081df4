"""The life of a group, told by a seed: members come and go, link devices, post, sleep, crash; relays are down or lost.

Time is the world's. What each act needs (an admin who is awake, a relay in reach) may be missing in its hour; then it
is tried again later, as people do. What the posts must come to is kept by the ledger.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import pytest

from cocoon_core.errors import (
    CocoonError,
    InvalidLinkError,
    LinkingError,
    NotYetError,
    RelayError,
    UsageError,
)
from cocoon_core.protocol.ids import DeviceId
from cocoon_relay.limits import DAY, Limits
from tests.benchmarks.text import Writer
from tests.support.dying import dies_after
from tests.support.ledger import Ledger
from tests.support.life_relay import DAY_MS, HOUR_MS, LifeRelay
from tests.support.linking import link
from tests.support.world import START_MS, Seat, World

SHORT_LEASES = Limits(topic_lease=7 * DAY, blob_lease=14 * DAY, sealed_topic_lease=60 * DAY)
EPOCH_DAYS = 7
LOSSES, FORGETS = 0.002, 0.003  # chances of a message, and of a put
GROWTH_HOURS = 48  # in the first hours people and devices come quickly
PATIENCE_SECONDS = 3.0  # of two people who link a device, in real time
SETTLING_HOURS = 8  # in the end: what is asked of others goes by turns
MOST_DEVICES = 3  # of one member
RECENT = 30  # posts that one looks at before replying


@dataclass(frozen=True, slots=True)
class Scale:
    """How much happens. A session is one device's: it comes online, writes, syncs."""

    posts: int
    sessions: int
    members: int = 12
    devices: int = 24
    days: int = 30


@dataclass(slots=True)
class Person:
    """A seat, and how it lives."""

    seat: Seat
    asleep_until: int = 0
    is_lost: bool = False  # the device itself: it never runs again


class Life:
    """One group's; `happened` counts what became of it."""

    def __init__(self, world: World, seed: int, scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.seed, self.scale, self._monkeypatch = world, seed, scale, monkeypatch
        self.happened: Counter[str] = Counter()
        self.ledger = Ledger()
        self.people: list[Person] = []
        self.relays: list[LifeRelay] = []
        self.chance = Random(self.seed)
        self._writer = Writer(self.seed)
        self._links: list[str] = []
        self._outside: list[Seat] = []
        self._names = (f"{name}{number or ''}" for number in range(9) for name in NAMES)
        self._down_until = [0, 0]
        for number, limits in enumerate((Limits(), SHORT_LEASES)):
            relay = LifeRelay(f"ws://relay{number}.test:8787", self.seed * 10 + number, limits, START_MS)
            self.relays.append(relay)
            self.world.add_relay(relay)

    # --- the story

    async def tell(self) -> None:
        """All of it, to the end of its last day."""
        await self._found()
        self._trouble()
        due = self._plan()
        sessions_left = self.scale.sessions
        hours = self.scale.days * 24
        for hour in range(hours):
            self.world.now_ms = max(self.world.now_ms, START_MS + hour * HOUR_MS)
            self._turn_relays(hour)
            if hour % 24 == 0 and hour >= GROWTH_HOURS:
                self._send_to_sleep()
            for act in due.pop(hour, []):
                if not await act():
                    due.setdefault(hour + self.chance.randint(1, 6), []).append(act)
            share = sessions_left / (hours - hour)
            now = int(share) + (self.chance.random() < share % 1)
            for _ in range(now):
                posts_left = self.scale.posts - len(self.ledger.written)
                each = 2 * posts_left / sessions_left
                sessions_left -= 1
                self.world.now_ms += HOUR_MS // (now + 1)
                await self._session(round(each * self.chance.random()))
        while len(self.ledger.written) < self.scale.posts:
            await self._session(self.scale.posts - len(self.ledger.written))

    async def settle(self) -> None:
        """Everything works again, everybody wakes up and syncs until nothing moves, and what is due is done."""
        for relay in self.relays:
            relay.calm()
            relay.reachable = True
        for _ in range(SETTLING_HOURS):
            await self.world.level([person.seat for person in self.people if not person.is_lost], rounds=32)
            self.world.now_ms += HOUR_MS
            self._turn_clocks()

    async def grow_old(self, months: int) -> Seat:
        """Months in which three devices look in now and then, and all others sleep. Gives one of the three."""
        few = self._awake()[:3]
        for _ in range(months):
            for _ in range(3):
                self.world.now_ms += 10 * DAY_MS
                self._turn_clocks()
                await self._write(few[0], 1)
                await self.world.level(few, rounds=32)
        return few[0]

    def _plan(self) -> dict[int, list[Callable[[], Awaitable[bool]]]]:
        """What is to happen, by hours."""
        days, due = self.scale.days, dict[int, list[Callable[[], Awaitable[bool]]]]()

        def plan(act: Callable[[], Awaitable[bool]], times: int, first: int = 3) -> None:
            for _ in range(max(1, round(times * self.scale.members / 12))):
                hour = self.chance.randrange(first * 24, max(first + 1, days - 1) * 24)
                due.setdefault(hour, []).append(act)

        for hour in (*range(1, GROWTH_HOURS), *range(GROWTH_HOURS, days * 24, 7)):
            due.setdefault(hour, []).append(self._grow)
        plan(self._wipe, 1, days // 3)
        plan(self._remove_member, 4)
        plan(self._leave, 1)
        plan(self._remove_device, 3)
        plan(self._lose_device, 1)
        plan(self._set_role, 8)
        plan(self._rotate, 4)
        plan(self._revoke, 2)
        return due

    async def _found(self) -> None:
        creator = await self._seat(next(self._names))
        await creator.running.create_group("Family", member_name=creator.name, relays=[*self.world.relays])
        await creator.group.set_policy(epoch_days=EPOCH_DAYS)
        self.people.append(Person(creator))
        await creator.sync()

    async def _seat(self, name: str) -> Seat:
        return self._hasten(await self.world.seat(name))

    @staticmethod
    def _hasten(seat: Seat) -> Seat:
        """Let its commits not wait for the disk: no power is lost here."""
        seat.running._profile.database.execute("PRAGMA synchronous=OFF")
        return seat

    # --- relays

    def _trouble(self) -> None:
        for relay in self.relays:
            relay.losses, relay.forgets = LOSSES, FORGETS

    def _turn_clocks(self) -> None:
        for relay in self.relays:
            relay.reach(self.world.now_ms)

    def _turn_relays(self, hour: int) -> None:
        self._turn_clocks()
        for number, relay in enumerate(self.relays):
            if hour < self._down_until[number]:
                continue
            relay.reachable = True
            if hour >= GROWTH_HOURS and self.chance.random() < 1 / 40:
                self._down_until[number] = hour + self.chance.randint(1, 12)
                relay.switch_off()
                self.happened["relay down"] += 1

    async def _wipe(self) -> bool:
        relay = self.chance.choice(self.relays)
        relay.wipe()
        self.happened[f"{relay.url} wiped"] += 1
        return True

    # --- people

    def _send_to_sleep(self) -> None:
        for person in self.people:
            if self.chance.random() < 0.06:
                person.asleep_until = self.world.now_ms + self.chance.randint(2, 8) * DAY_MS
                self.happened["slept for days"] += 1

    def _awake(self) -> list[Seat]:
        now = self.world.now_ms
        awake = [one.seat for one in self.people if not one.is_lost and one.asleep_until <= now]
        return [seat for seat in awake if seat.has_group and seat.group.me is not None]

    def _admins(self) -> list[Seat]:
        rosters = ((seat, seat.replica.members) for seat in self._awake())
        return [
            seat
            for seat, members in rosters
            if (me := members.member_of(seat.device)) is not None and members.roster.is_admin(me)
        ]

    def _pick(self, seats: list[Seat]) -> Seat | None:
        return self.chance.choice(seats) if seats else None

    async def _session(self, posts: int) -> None:
        outside = [
            one.seat for one in self.people if not one.is_lost and one.seat.has_group and one.seat.group.me is None
        ]
        if outside and self.chance.random() < 0.05:
            with suppress(RelayError):
                await self.chance.choice(outside).sync()  # who was put out goes on asking
        seat = self._pick(self._awake())
        if seat is None:
            return

        async def live() -> None:
            if self.chance.random() < 0.5:
                await self._sync(seat)
            await self._write(seat, posts)
            if self.chance.random() < 0.9:
                await self._sync(seat)

        fate = self.chance.random()
        if fate < 0.06:
            await self._die(seat, live)
        else:
            await live()
            if fate > 0.92:
                await self._restart(seat)

    async def _die(self, seat: Seat, act: Callable[[], Awaitable[object]]) -> None:
        home = seat.home
        after = self.chance.choice([2, 20, 60]) * self.chance.random()
        to = self.world.folder / f"{seat.name} {self.world.now_ms}"
        if await dies_after(self._monkeypatch, seat, int(after), act, to):
            shutil.rmtree(home)
            self._hasten(seat)
            self.happened["crashes"] += 1

    async def _restart(self, seat: Seat) -> None:
        await seat.restart()
        self._hasten(seat)
        self.happened["restarts"] += 1

    async def _sync(self, seat: Seat) -> bool:
        self.happened["syncs"] += 1
        try:
            report = await seat.sync()
        except RelayError:
            self.happened["syncs that failed"] += 1
            return False
        return all(relay.ok for relay in report.relays)

    async def _write(self, seat: Seat, posts: int) -> None:
        if seat.group.me is None or not posts:
            return
        known = [post.id for post in await seat.group.feed.list(limit=RECENT)]
        for _ in range(posts):
            text = self._writer.write_post()
            if known and self.chance.random() < 0.5:
                post = await seat.group.feed.reply(self.chance.choice(known[-RECENT:]), text)
            else:
                post = await seat.group.feed.post(text)
            self.ledger.wrote(seat, post)
            known.append(post.id)

    # --- members and devices

    async def _grow(self) -> bool:
        """More members or devices, as long as somebody thinks that there are too few."""
        seat = self._pick(self._awake())
        if seat is None:
            return True
        if self._outside:
            await self._join()
        inside = [one.seat for one in self.people if not one.is_lost and one.seat.group.me is not None]
        members = len({seat.group.me for seat in inside}) + len(self._outside)
        if members < self.scale.members and len(self._outside) < 2:
            await self._invite(seat)
        elif len(inside) < self.scale.devices:
            await self._link_device()
        return True

    async def _invite(self, seat: Seat) -> None:
        uses = self.chance.choice([1, 1, 2])
        with suppress(UsageError):
            self._links = [*self._links[-2:], await seat.group.invite(uses=uses, expires_in=timedelta(days=3))]
            await self._sync(seat)
            self._outside += [await self._seat(next(self._names)) for _ in range(uses)]
            await self._join()

    async def _join(self) -> None:
        for seat in list(self._outside):
            with suppress(NotYetError, InvalidLinkError, RelayError, UsageError):
                await seat.running.join(self._links[-1], member_name=seat.name)
            if seat.has_group:
                self._outside.remove(seat)
                self.people.append(Person(seat))
                self.happened["joins"] += 1

    async def _link_device(self) -> None:
        few = [seat for seat in self._awake() if self._devices_of(seat) < MOST_DEVICES]
        reachable = [relay.url for relay in self.relays if relay.reachable]
        old = self._pick(few)
        if old is None or not reachable:
            return
        for relay in self.relays:
            relay.calm()  # two people stand there and would try again at once
        new = await self._seat(f"{old.name}+{self.world.now_ms}")
        try:
            await link(old, new, relays=reachable, patience=PATIENCE_SECONDS)
        except (LinkingError, RelayError, UsageError) as error:
            self.happened[f"device link failed: {error}"[:100]] += 1
        self._trouble()
        if new.has_group:
            self.people.append(Person(new))
            self.happened["device links"] += 1
        else:
            await new.stop()
            self.world.seats.remove(new)

    def _devices_of(self, seat: Seat) -> int:
        return len(seat.replica.members.roster.member_of(seat.device).devices)

    async def _remove_member(self) -> bool:
        admin = self._pick(self._admins())
        if admin is None:
            return False
        roster = admin.replica.members.roster
        targets = [member for member in roster.members.values() if member.id != admin.group.me]
        if len(targets) < 5:
            return False
        target = self.chance.choice(targets)
        with suppress(UsageError):
            await admin.group.remove_member(target.id)
            out_by = admin.replica.members.roster.former_members[target.id].out_by
            self.ledger.put_out(admin, out_by, target.devices)
            self.happened["members removed"] += 1
        await self._maybe_sync(admin)
        return True

    async def _leave(self) -> bool:
        seat = self._pick(self._awake())
        if seat is None or len(seat.group.members()) < 5 or seat is self.people[0].seat:
            return False
        member = seat.replica.members.roster.member_of(seat.device)
        await seat.group.leave()
        out_by = seat.replica.members.roster.former_members[member.id].out_by
        self.ledger.put_out(seat, out_by, member.devices)
        self.happened["members left"] += 1
        await self._maybe_sync(seat)
        return True

    async def _remove_device(self, lost: DeviceId | None = None) -> bool:
        admin = self._pick([seat for seat in self._admins() if lost is None or seat.device != lost])
        if admin is None:
            return False
        others = [device for device in admin.group.devices() if not device.this and lost in (None, device.id)]
        if not others:
            return False
        target = self.chance.choice(others)
        with suppress(UsageError):
            await admin.group.remove_device(target.id.hex())
            out_by = admin.replica.members.roster.former_devices[target.id].out_by
            self.ledger.put_out(admin, out_by, [target.id])
            self.happened["devices removed"] += 1
        await self._maybe_sync(admin)
        return True

    async def _lose_device(self) -> bool:
        """A device falls into the sea, and somebody puts it out some time later."""
        seat = self._pick(self._awake())
        if seat is None or seat is self.people[0].seat or self._devices_of(seat) < 2:
            return False
        for person in self.people:
            if person.seat is seat:
                person.is_lost = True
        device = seat.device
        await seat.stop()
        self.happened["devices lost"] += 1
        return await self._remove_device(device) or True

    async def _set_role(self) -> bool:
        admin = self._pick(self._admins())
        if admin is None:
            return False
        member = self.chance.choice(admin.group.members())
        with suppress(UsageError):
            await admin.group.set_role(member.id, "admin" if member.role != "admin" else "member")
            self.happened["roles changed"] += 1
        await self._maybe_sync(admin)
        return True

    async def _rotate(self) -> bool:
        seat = self._pick(self._awake())
        if seat is None:
            return False
        with suppress(UsageError):
            await seat.group.rotate()
            self.happened["rotations asked for"] += 1
        await self._maybe_sync(seat)
        return True

    async def _revoke(self) -> bool:
        admin = self._pick(self._admins())
        invites = [invite for invite in admin.group.invites() if invite.open] if admin is not None else []
        if admin is None or not invites:
            return admin is not None
        with suppress(CocoonError):
            await admin.group.revoke_invite(self.chance.choice(invites).id.hex())
            self.happened["invites revoked"] += 1
        return True

    async def _maybe_sync(self, seat: Seat) -> None:
        if self.chance.random() < 0.7:
            await self._sync(seat)


NAMES = (
    "ana", "ben", "chi", "dee", "eli", "fay", "gus", "hal", "ida", "jon", "kim", "lea", "max", "ned", "ola", "pia",
)  # fmt: skip
