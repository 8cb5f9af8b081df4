"""A little world for tests of the whole core: devices with profiles of their own, relays in memory, one clock.

Profiles are copies of one that was made once, and their keys lie in a key ring of this process; the keys of a group are
made anew on every device, so no two devices share one.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import RelayUnavailable
from cocoon_core.group import Group, SyncReport
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.storage.profile import Profile
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.transport import Connection
from tests.support.key_ring import use_key_ring
from tests.support.memory_relay import MemoryRelay

START_MS = 1_790_000_000_000  # September 2026
SHARED = Descriptor(DocumentKind.SHARED, "list", schema=(("items", "map"), ("lines", "list"), ("note", "text")))
ADMIN = Descriptor(DocumentKind.ADMIN, "rules", schema=(("rules", "map"),))
SCHEMA = {"items": dict, "lines": list, "note": str}
ADMIN_SCHEMA = {"rules": dict}


class DyingConnection:
    """A connection that is lost after so many frames were sent: the next does not arrive."""

    def __init__(self, connection: Connection, frames: int) -> None:
        self._connection, self._left = connection, frames

    async def send(self, raw: bytes) -> None:
        if self._left == 0:
            raise RelayUnavailable("the connection died")
        self._left -= 1
        await self._connection.send(raw)

    async def receive(self) -> bytes | None:
        return await self._connection.receive()

    async def close(self) -> None:
        await self._connection.close()


@dataclass(slots=True)
class Seat:
    """One device: a home, and while it runs an open profile with at most one group."""

    world: World
    name: str
    home: Path
    skew_ms: int = 0
    cocoon: Cocoon | None = None
    relays: dict[str, MemoryRelay] = field(default_factory=dict)
    dying_after: int | None = None  # frames that are sent before the connection is lost

    @property
    def running(self) -> Cocoon:
        assert self.cocoon is not None, f"{self.name} is not running"
        return self.cocoon

    @property
    def group(self) -> Group:
        (group,) = self.running.groups()
        return group

    @property
    def has_group(self) -> bool:
        return self.cocoon is not None and len(self.cocoon.groups()) == 1

    @property
    def replica(self) -> Replica:
        return self.group.replica

    @property
    def device(self) -> DeviceId:
        return self.replica.keys.id

    def clock(self) -> int:
        self.world.now_ms += 1  # no two readings are equal, so the order of posts is that of writing
        return self.world.now_ms + self.skew_ms

    def relay(self, url: str) -> MemoryRelay:
        relay = self.relays.get(url) or self.world.relays.get(url)
        if relay is None:
            raise RelayUnavailable(f"no relay {url} in this world")
        return relay

    async def dial(self, url: str) -> Connection:
        connection = self.relay(url).connect()
        return connection if self.dying_after is None else DyingConnection(connection, self.dying_after)

    def dial_blobs(self, url: str) -> BlobStore:
        return self.relay(url).dial_blobs()

    @property
    def access(self) -> RelayAccess:
        return RelayAccess(self.dial, self.dial_blobs)

    async def start(self) -> Seat:
        self.cocoon = await Cocoon.open(self.home, clock=self.clock, access=self.access)
        return self

    async def stop(self) -> None:
        if self.cocoon is not None:
            await self.cocoon.close()
            self.cocoon = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def sync(self) -> SyncReport:
        return await self.group.sync()

    async def texts(self) -> list[str]:
        """Texts of the posts, oldest first."""
        return [post.text for post in reversed(await self.group.feed.list(limit=100_000))]

    def shared(self, descriptor: Descriptor = SHARED) -> Any:
        return self.replica.shelf.get(descriptor).read().to_python()


class World:
    """Makes seats and relays, and owns the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = START_MS
        self.relays: dict[str, MemoryRelay] = {}
        self.seats: list[Seat] = []
        self._template = folder / "template"
        Profile.create(self._template).close()

    def add_relay(self, relay: MemoryRelay | None = None) -> MemoryRelay:
        made = relay or MemoryRelay(f"ws://relay{len(self.relays)}.test:8787", seed=len(self.relays))
        self.relays[made.url] = made
        return made

    async def seat(self, name: str) -> Seat:
        """A new device with an empty profile, running."""
        home = self.folder / name
        shutil.copytree(self._template, home)
        seat = Seat(self, name, home)
        self.seats.append(seat)
        return await seat.start()

    async def copy(self, seat: Seat, name: str) -> Seat:
        """The seat's home as it is on disk now, as another one that is not running. The seat must not run either."""
        assert seat.cocoon is None, "copy a profile that is closed"
        home = self.folder / name
        shutil.copytree(seat.home, home)
        twin = Seat(self, name, home)
        self.seats.append(twin)
        return twin

    async def group(self, *names: str, relays: Sequence[MemoryRelay] = (), uses: int | None = None) -> list[Seat]:
        """A group with these members, the first its creator; all level."""
        urls = [relay.url for relay in relays] or [*self.relays] or [self.add_relay().url]
        seats = [await self.seat(name) for name in names]
        group = await seats[0].running.create_group("Family", member_name=names[0].title(), relays=urls)
        if len(seats) > 1:
            link = await group.invite(uses=uses or len(seats) - 1, expires_in=timedelta(days=7))
            await group.sync()
            for seat in seats[1:]:
                await seat.running.join(link, member_name=seat.name.title())
        await self.level(seats)
        return seats

    async def level(self, seats: Sequence[Seat] = (), rounds: int = 8) -> None:
        """Sync everybody until nothing moves any more."""
        for _ in range(rounds):
            moved = 0
            for seat in seats or [seat for seat in self.seats if seat.has_group]:
                report = await seat.sync()
                assert all(relay.ok for relay in report.relays), report
                moved += report.sent + report.received
            if not moved:
                return
        raise AssertionError(f"still moving after {rounds} rounds")

    async def close(self) -> None:
        for seat in self.seats:
            await seat.stop()


@pytest.fixture(name="world")
async def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    use_key_ring(monkeypatch)
    made = World(tmp_path)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def world_in(folder: Path) -> AsyncIterator[World]:
    """A world outside of a fixture; a key ring must be in use."""
    made = World(folder)
    try:
        yield made
    finally:
        await made.close()


# --- what a device was told


def alarms(seat: Seat, *kinds: str) -> list[str]:
    """The alarms that stand, of these kinds or of all."""
    rows = seat.replica.groups.alarms(seat.replica.record.number)
    return [message for kind, _, message, _ in rows if kind in (kinds or (kind,))]


# --- what all replicas must agree on


def roster_of(seat: Seat) -> Any:
    roster = seat.replica.members.roster
    return {
        "heads": roster.heads,
        "members": [(m.id, m.shown_name, m.role, m.devices, m.seniority) for m in roster.members.values()],
        "invites": {i.id: (i.uses, i.joins, i.revoked, i.expires_ms) for i in roster.invites.values()},
        "pins": dict(roster.admin_pins),
        "refused": dict(roster.refused),
    }


async def feed_of(seat: Seat) -> Any:
    feed = seat.group.feed
    posts = await feed.list(limit=100_000)
    return posts, [await feed.thread(post.id) for post in posts]


def documents_of(seat: Seat) -> Any:
    """Every document in which a change counts: its heads and its content."""
    found = {}
    for record in seat.replica.documents.all():
        document = seat.replica.shelf.get(record.descriptor)
        if any(seat.replica.shelf.admitted_changes(record, 0)):
            found[record.document] = (record.descriptor, sorted(document.heads), document.read().to_python())
    return found


def posts_table(seat: Seat, table: str = "posts", order: str = "post") -> list[Any]:
    """The table that the feed is read from, without what is numbered differently on each device."""
    rows = seat.replica.database.query(f"SELECT * FROM {table} ORDER BY {order}")
    names = [row[1] for row in seat.replica.database.query(f"PRAGMA table_info({table})")]
    local = {names.index(name) for name in ("group_no", "document_no")}
    return [tuple(value for place, value in enumerate(row) if place not in local) for row in rows]


async def state_of(seat: Seat) -> dict[str, Any]:
    """All that members must agree on. How far a device is known that is out, or never was in, is nobody's concern."""
    valid = seat.replica.members.roster.devices
    return {
        "roster": roster_of(seat),
        "feed": await feed_of(seat),
        "documents": documents_of(seat),
        "posts": posts_table(seat),
        "marks": posts_table(seat, "post_marks", "kind, post"),
        "items": posts_table(seat, "vault_items", "item"),
        "lists": posts_table(seat, "lists", "list"),
        "list items": posts_table(seat, "list_items", "item, text, place"),
        "notes": posts_table(seat, "notes", "note"),
        "events": posts_table(seat, "events", "event"),
        "replies": posts_table(seat, "event_replies", "reply"),
        "profiles": posts_table(seat, "member_profiles", "member"),
        "chains": {
            device: (end.last_seq, end.last_id) for device, end in seat.replica.chains.items() if device in valid
        },
    }


def rebuild_everything(seat: Seat) -> None:
    """Build every document and view anew from the log alone."""
    replica = seat.replica
    with replica.transaction():
        for record in replica.documents.all():
            replica.shelf.rebuild(record)


def forget_caches(seat: Seat) -> None:
    """Delete all that can be computed again, as a cleaner or a broken disk might."""
    replica = seat.replica
    with replica.transaction():
        for record in replica.documents.all():
            replica.documents.set_cache(record.number, None, 0)
    replica.load()


Check = Callable[[Seat], Any]
