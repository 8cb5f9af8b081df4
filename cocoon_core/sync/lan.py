"""Devices of a network as relays: each runs a host, a relay inside its own process, and is everybody's guest.

    own host ← all that is here          announce: tokens of the epochs → multicast DNS
    heard → tokens recognised → guest: the ordinary pass at the other's host, both ways

A device puts what it has into its own host and reads what others put there, so one that can be reached by nobody still
exchanges everything with those whom it reaches. Who answers is believed as little as a relay. Hosts and finders come
from outside (clients, tests). Spec: specs/lan.md §4.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cocoon_core.errors import CocoonError, LocalStateError, RelayError, RelayUnavailable, UsageError
from cocoon_core.protocol.constants import LAN_EPOCHS, LAN_INSTANCE_BYTES, LAN_TOKEN_BYTES, REPAIR_DAYS
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.lan import MOST_TOKENS, Instance, lan_key, make_announcement, recognise, slot_of
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.access import RelayAccess, real_access
from cocoon_core.sync.driver import RelayDriver
from cocoon_core.sync.epochs import DAY_MS
from cocoon_core.sync.guests import guest
from cocoon_core.sync.handover import Fills
from cocoon_core.sync.lan_work import Work
from cocoon_core.sync.manifest_blobs import fill_blobs
from cocoon_core.sync.mdns import Finder, Sighting
from cocoon_core.sync.replacing import replace_own_device
from cocoon_core.sync.replica import Replica

LOOK_SECONDS = 8.0  # that one pass looks for devices, where none is found
QUIET_SECONDS = 2.0  # without another one, after which a pass ends that found some
PASS_SECONDS = 300.0  # for all that one device is given and gives
LINGER_SECONDS = 30.0  # that a pass goes on for those who are still reading here
START_SECONDS = 120.0  # for putting everything into the own host
ASK_SECONDS = 0.5  # between two looks for blobs that are owed
ANNOUNCE_SECONDS = 2.0  # between two looks whether another announcement is due
MOST_VISITS = 16  # devices that are visited at once
MOST_TRIES = 3  # visits of one instance in one pass, or in one hour of a watch, where they fail
_TURN_SECONDS = 0.05


class LanHost(Protocol):
    """A relay in this process that others on the network can reach."""

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str:
        """Where this process itself reaches it."""
        ...

    @property
    def connections(self) -> int:
        """Clients that are connected now, this process's own among them."""
        ...

    async def stop(self) -> None: ...


# (folder for its data, addresses to listen at, which topics let a client in) -> a host that listens
StartHost = Callable[[Path, Sequence[str], Callable[[TopicId], bool]], Awaitable[LanHost]]


@dataclass(frozen=True, slots=True)
class Visit:
    """What an exchange with one device did: entries it was given; `error` is a sentence where it broke off."""

    device: str
    url: str
    ok: bool
    error: str | None
    sent: int


@dataclass(slots=True)
class Exchanged:
    """What one group got and gave: entries that are new here, from whichever device, and every visit.

    Attributes:
        error: why the group cannot go on on this device, where it cannot; the others went on.
    """

    received: int = 0
    visits: list[Visit] = field(default_factory=list)
    error: str | None = None

    @property
    def sent(self) -> int:
        return sum(visit.sent for visit in self.visits)


def access_to_hosts() -> RelayAccess:
    """No token goes to a device of the network."""
    return real_access(lambda url: None)


class Lan:
    """The exchange of some groups over one network, through one host. Make it with `open_lan`.

    Attributes:
        visited: topics that others opened here since this device announced itself.
    """

    def __init__(self, replicas: Sequence[Replica], finder: Finder, clock: Callable[[], int]) -> None:
        self._replicas, self._finder, self._clock = list(replicas), finder, clock
        self._access = access_to_hosts()
        self._host: LanHost | None = None
        self._instance: Instance | None = None
        self._own: dict[int, RelayDriver] = {}
        self._keys: dict[TopicId, Secret] = {}
        self._followed: dict[int, TopicId] = {}  # that the own hosts' drivers know of
        self._work = Work({replica.record.number for replica in replicas})
        self._visiting: dict[tuple[int, bytes], asyncio.Task[None]] = {}
        self._tries: dict[tuple[int, bytes], int] = {}
        self._tries_in = -1  # the slot in which those were
        self._said: tuple[int, tuple[TopicId, ...]] | None = None
        self._heard_at = self._asked_at = self._others_at = 0.0
        self._is_announced = False
        self._stays = False
        self.visited = 0
        self.exchanged = {replica.record.number: Exchanged() for replica in replicas}

    # --- the own host

    def admits(self, topic: TopicId) -> bool:
        """Whether who proves this topic may come in: it is of an epoch that is held here, or repairs one."""
        for replica in self._replicas:
            epochs = replica.epochs
            if topic in epochs.held or epochs.keys(topic) is not None:
                self.visited += self._is_announced
                return True
        return False

    async def begin(self, host: LanHost) -> None:
        """Put everything into the own host, then announce it.

        Raises:
            RelayError: the own host cannot be used.
            LocalStateError: this device cannot go on.
        """
        self._host = host
        self._instance = Instance(secrets.token_bytes(LAN_INSTANCE_BYTES), host.port)
        ready = []
        for replica in self._replicas:
            level = asyncio.Event()
            ready.append(level)
            self._work.start(self._keep_own(replica, host.url, level), replica.record.number)
        async with asyncio.timeout(START_SECONDS):
            await self._work.unless_failed(asyncio.gather(*(level.wait() for level in ready)))
        await self._announce()
        self._is_announced = True
        self._work.start(self._announce_on())
        self._work.start(self._look())

    async def _keep_own(self, replica: Replica, url: str, level: asyncio.Event) -> None:
        """Give the own host what is here, and take what others put there. `level`: it has it, or never will."""

        def tell(error: RelayError | None) -> None:
            if error is None:
                level.set()
            elif not level.is_set():
                raise LocalStateError(f"this device cannot use its own host at {url}: {error}")

        driver = self._own[replica.record.number] = RelayDriver(replica, url, self._access, self._access.blobs)
        try:
            with guest(replica, url):
                await driver.watch(tell)
        finally:
            del self._own[replica.record.number]
            level.set()

    # --- announcing

    async def _announce_on(self) -> None:
        """Announce anew when the hour or an epoch has changed."""
        while True:
            await asyncio.sleep(ANNOUNCE_SECONDS)
            await self._announce()
            self._look_for_blobs()

    async def _announce(self) -> None:
        assert self._instance is not None, "made by `begin`"
        slot = slot_of(self._clock())
        topics, keys = self._announced()
        if self._said == (slot, topics):
            return
        filling = secrets.token_bytes(MOST_TOKENS * LAN_TOKEN_BYTES)
        await self._finder.announce(self._instance, make_announcement(keys, slot, self._instance, filling))
        self._said = slot, topics

    def _announced(self) -> tuple[tuple[TopicId, ...], list[Secret]]:
        """Of every group the epoch that is written to, then the newest before it: for who slept through a rotation."""
        rows = [_found_by(replica) for replica in self._going()]
        topics = [row[place] for place in range(LAN_EPOCHS) for row in rows if place < len(row)]
        held = {topic: stored.epoch for replica in self._replicas for topic, stored in replica.epochs.held.items()}
        return tuple(topics), [self._key(held[topic]) for topic in topics]

    def _key(self, epoch: Epoch) -> Secret:
        key = self._keys.get(epoch.topic)
        if key is None:
            key = self._keys[epoch.topic] = lan_key(epoch)
        return key

    # --- finding

    async def _look(self) -> None:
        while True:
            sighting = await self._finder.next_sighting()
            assert self._instance is not None, "made by `begin`"
            if sighting.instance.nonce == self._instance.nonce:
                continue
            for replica in self._going():
                self._meet(replica, sighting)

    def _meet(self, replica: Replica, sighting: Sighting) -> None:
        """Visit who can be recognised, unless that is going on or done."""
        key = replica.record.number, sighting.instance.nonce
        slot = slot_of(self._clock())
        if self._stays and slot != self._tries_in:  # who could not be reached may be by now, and says so each hour
            self._tries.clear()
            self._tries_in = slot
        if sighting.tokens is None:
            if self._stays:
                self._tries.pop(key, None)  # a machine that slept comes back under the same name
                if (task := self._visiting.get(key)) is not None:
                    task.cancel()
            return
        held = list(replica.epochs.held.values())
        keys = [self._key(stored.epoch) for stored in held]
        places = recognise(sighting.tokens, keys, slot, sighting.instance)
        if not places or key in self._visiting or self._tries.get(key, 0) >= MOST_TRIES:
            return
        if len(self._visiting) >= MOST_VISITS:
            return
        self._heard_at = asyncio.get_running_loop().time()
        self._tries[key] = self._tries.get(key, 0) + 1
        current = replica.epochs.current.epoch.topic
        topics = [held[place].epoch.topic for place in places]
        visit = self._visit(replica, sighting, topics[-1], is_behind=current not in topics)
        task = self._work.start(visit, replica.record.number)
        self._visiting[key] = task
        task.add_done_callback(lambda _: self._visiting.pop(key, None))

    async def _visit(self, replica: Replica, sighting: Sighting, first: TopicId, *, is_behind: bool) -> None:
        """Exchange everything with one device, at the first of its addresses that answers."""
        number, device = replica.record.number, sighting.instance.name[:8]
        visits = self.exchanged[number].visits
        for url in sighting.urls:
            driver = None
            try:
                with guest(replica, url):
                    if is_behind:
                        await self._fill_own(replica)
                    fills = Fills.ALL if is_behind else Fills.NEW
                    driver = RelayDriver(replica, url, self._access, self._access.blobs, first=first, fills=fills)
                    async with asyncio.timeout(PASS_SECONDS):
                        done = await driver.sync_once()
                    self._tries[number, sighting.instance.nonce] = MOST_TRIES
                    visits.append(Visit(device, url, True, None, done.sent))
                    if self._stays:
                        await driver.watch()
                return
            except TimeoutError:
                visits.append(
                    Visit(device, url, False, "it takes too long", 0 if driver is None else driver.result.sent)
                )
            except (RelayError, UsageError) as error:
                visits.append(Visit(device, url, False, str(error), 0 if driver is None else driver.result.sent))

    async def _fill_own(self, replica: Replica) -> None:
        """Somebody is near who lacks the current epoch: let the own host have the blobs that they will need."""
        current = replica.epochs.current
        if self._host is None or current.manifest is None:
            return
        store = self._access.blobs(self._host.url)
        with suppress(RelayError):
            try:
                await fill_blobs(replica, store, current)
            finally:
                await store.close()

    # --- one pass

    async def run_once(self) -> None:
        """Look for devices, exchange everything with each, and stay for those who are still reading here.

        Raises:
            LocalStateError: this device cannot go on, in any group.
        """
        started = asyncio.get_running_loop().time()
        while not self._is_done(started):
            await self._turn()
        for replica in self._going():
            await replica.edits_ended()
            if replace_own_device(replica) is not None:  # what the new device wrote goes to those who are here
                self._tries.clear()
        self._others_at = asyncio.get_running_loop().time()
        ends = self._others_at + LINGER_SECONDS
        while self._is_busy() and asyncio.get_running_loop().time() < ends:
            await self._turn()

    def _is_done(self, started: float) -> bool:
        if self._visiting:
            return False
        now = asyncio.get_running_loop().time()
        met = self.visited > 0 or any(found.visits for found in self.exchanged.values())
        return now - started >= LOOK_SECONDS or (met and now - max(started, self._heard_at) >= QUIET_SECONDS)

    def _is_busy(self) -> bool:
        now = asyncio.get_running_loop().time()
        others = self._host is not None and self._host.connections > len(self._own)
        if others:
            self._others_at = now
        if now - self._others_at < QUIET_SECONDS and any(map(self._owes, self._going())):
            return True  # they may just have brought it
        return bool(self._visiting) or others or not all(driver.is_level for driver in self._own.values())

    async def _turn(self) -> None:
        await self._work.unless_failed(asyncio.ensure_future(asyncio.sleep(_TURN_SECONDS)))
        self._look_for_blobs()

    def _look_for_blobs(self) -> None:
        """Look in the own host for what is owed, and for an epoch that was followed elsewhere.

        Others put blobs there, and no word comes of that.
        """
        now = asyncio.get_running_loop().time()
        if now - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = now
        for replica in self._going():
            number, topic = replica.record.number, replica.epoch.topic
            if number in self._own and (self._owes(replica) or self._followed.get(number) != topic):
                self._followed[number] = topic
                self._own[number].look_again()

    def _owes(self, replica: Replica) -> bool:
        """Something that another device may still bring is lacking: documents, or the manifest of the epoch."""
        current = replica.epochs.current
        return bool(replica.debts) or (current.rotation is not None and not current.followed)

    # --- staying

    async def stay(self) -> None:
        """Go on until cancelled, or until something fails for good."""
        self._stays = True
        await self._work.until_failed()

    # --- inside

    def _going(self) -> list[Replica]:
        """The groups that are not stopped."""
        return [replica for replica in self._replicas if replica.record.number not in self._work.stopped]

    async def end(self) -> None:
        """Stop everything and take leave."""
        await self._work.end()
        for number, error in self._work.stopped.items():
            self.exchanged[number].error = str(error)
        await self._finder.close()


def _found_by(replica: Replica) -> list[TopicId]:
    """The epochs by whose tokens others find this device: the current one, then those that ended lately."""
    epochs = replica.epochs
    current, ended = epochs.current.epoch.topic, epochs.ended_ms()
    after = replica.clock() - REPAIR_DAYS * DAY_MS
    recent = [topic for topic in reversed(epochs.held) if topic != current and ended.get(topic, 0) >= after]
    return [current, *recent][:LAN_EPOCHS]


@asynccontextmanager
async def open_lan(
    replicas: Sequence[Replica],
    finder: Finder,
    start_host: StartHost,
    folder: Path,
    addresses: Sequence[str],
    clock: Callable[[], int],
) -> AsyncIterator[Lan]:
    """Host these groups and announce it, inside the block.

    Raises:
        LocalStateError: nothing can listen there, or this device cannot go on.
    """
    before = {replica.record.number: _seqs(replica) for replica in replicas}
    lan = Lan(replicas, finder, clock)
    host: LanHost | None = None
    try:
        try:
            host = await start_host(folder, addresses, lan.admits)
        except OSError as error:
            raise LocalStateError(f"nothing can listen at {', '.join(addresses)}: {error.strerror}") from error
        try:
            await lan.begin(host)
        except TimeoutError as error:
            raise RelayUnavailable("this device's own host takes too long") from error
        yield lan
    finally:
        await lan.end()
        if host is not None:
            await host.stop()
        for replica in replicas:
            known = before[replica.record.number]
            with suppress(CocoonError):
                now = _seqs(replica)
                lan.exchanged[replica.record.number].received = sum(
                    max(0, seq - known.get(device, -1)) for device, seq in now.items() if device != replica.keys.id
                )


def _seqs(replica: Replica) -> dict[bytes, int]:
    return {bytes(device): end.last_seq for device, end in replica.chains.items()}
