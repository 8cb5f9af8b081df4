"""Strangers on the local network: at the host's door, among the announcements, and as hosts that lie."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from cocoon_cli import lan_host
from cocoon_cli.lan_host import LanRelay, start_host
from cocoon_core.errors import RelayError, RelayUnavailable
from cocoon_core.local_network import LanReport
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import Ack, Opened, RelayFrame
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.lan import MOST_TOKENS, Instance, lan_key, make_announcement, slot_of
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync import lan
from cocoon_core.sync.access import RelayAccess, real_access
from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.mailbox import put_mailbox, read_mailbox
from cocoon_core.sync.mdns import Sighting
from cocoon_core.sync.transport import Connection
from cocoon_core.sync.websocket import dial_websocket
from tests.support.hostile import Forger
from tests.support.lan import LOCAL, Network
from tests.support.memory_relay import LyingRelay, MemoryConnection, MemoryRelay, TamperingRelay
from tests.support.world import Seat, World, make_world, state_of  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "LOOK_SECONDS", 3.0)
    monkeypatch.setattr(lan, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(lan, "LINGER_SECONDS", 5.0)


def stranger() -> Epoch:
    return Epoch(Secret(secrets.token_bytes(32)))


@asynccontextmanager
async def hosting(folder: Path, admits: Callable[[TopicId], bool]) -> AsyncIterator[LanRelay]:
    host = await start_host(folder, [LOCAL], admits)
    try:
        yield host
    finally:
        await host.stop()


async def meet(*seats: Seat, network: Network) -> list[LanReport]:
    return await asyncio.gather(
        *(
            seat.running.sync_lan(start_host, seat.running.groups(), addresses=[LOCAL], finder=network.finder())
            for seat in seats
        )
    )


# --- at the door


async def test_a_stranger_opens_nothing_at_a_host(tmp_path: Path) -> None:
    """Nobody comes in who proves none of the host's topics; who proves one may bring others."""
    held, other = stranger(), stranger()
    dial = real_access(lambda url: None)
    async with hosting(tmp_path / "host", {held.topic}.__contains__) as host:
        with pytest.raises(RelayError, match="holds no such topic"):
            await read_mailbox(dial, host.url, other)
        with pytest.raises(RelayError, match="holds no such topic"):
            await put_mailbox(dial, host.url, other, seal_envelope(b"rubbish", other))
        assert await read_mailbox(dial, host.url, held) == []
        async with aiohttp.ClientSession() as http:
            for page in ("/v1/info", "/metrics", "/healthz"):
                async with http.get(host.url.replace("ws", "http", 1) + page) as answer:
                    assert answer.status == 404
        store = dial.blobs(host.url)
        with pytest.raises(RelayError):
            await store.put_blobs(other, [b"a blob of a stranger"])
        await store.close()
        totals = await host.totals()
        assert (totals.topics, totals.entries, totals.blobs) == (1, 0, 0)


async def test_attack_43_a_flood_of_strangers_connections_is_bounded(tmp_path: Path) -> None:
    held = stranger()
    async with hosting(tmp_path / "host", {held.topic}.__contains__) as host:
        connections: list[Connection] = []
        for _ in range(lan_host.LIMITS.address_connections):
            connections.append(await dial_websocket(host.url))
        with pytest.raises(RelayUnavailable):
            await dial_websocket(host.url)
        for connection in connections:
            await connection.close()


# --- among the announcements


async def test_an_announcement_names_no_group_device_or_member(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    network = Network()
    await meet(ana, ben, network=network)
    said = [one for one in network.heard if one.tokens is not None]
    assert said
    epochs = [*ana.replica.epochs.held.values()]
    secret = [bytes(ana.replica.group), bytes(ana.device), bytes(ben.device), *(one.epoch.topic for one in epochs)]
    for one in said:
        assert one.tokens is not None
        assert len(one.tokens) == 24
        for value in secret:
            assert not any(token in value for token in one.tokens)
            assert one.instance.nonce not in value
    first, second = said[0], said[1]
    assert first.tokens is not None
    assert second.tokens is not None
    assert not first.tokens & second.tokens


async def test_attack_43_a_flood_of_announcements_does_not_hide_who_is_there(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    for relay in world.relays.values():
        relay.switch_off()
    await ana.group.feed.post("through the noise")
    network = Network()
    for _ in range(500):
        instance = Instance(secrets.token_bytes(16), 9)
        record = make_announcement([], 1, instance, secrets.token_bytes(8 * MOST_TOKENS))
        tokens = frozenset(record[b"t0"][at : at + 8] for at in range(0, 192, 8))
        network.say(Sighting(instance, tokens, (f"ws://{LOCAL}:9",)))
    reports = await meet(ana, ben, network=network)
    assert all(report.met for report in reports)
    assert await ben.texts() == ["through the noise"]
    assert all(len(found.visits) <= 1 for report in reports for found in report.groups.values())


# --- hosts that lie


class SealingRelay(MemoryRelay):
    """Says of every topic that it is sealed, though nothing in it leads on."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        return (replace(frame, sealed=True),) if isinstance(frame, Opened) else (frame,)


class SilentRelay(MemoryRelay):
    """Takes everything and answers nothing."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        return ()


class BreakingRelay(MemoryRelay):
    """Acknowledges nothing, and drops every connection where something was to be acknowledged."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if isinstance(frame, Ack):
            asyncio.get_running_loop().call_soon(connection.end)
            return ()
        return (frame,)


@pytest.mark.parametrize("kind", [LyingRelay, TamperingRelay, SealingRelay, SilentRelay, BreakingRelay])
async def test_a_replayed_announcement_with_a_host_that_lies_spoils_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: type[MemoryRelay]
) -> None:
    """Somebody hears Ben's announcement, and says it again with another address, where a host of theirs waits."""
    monkeypatch.setattr(lan, "PASS_SECONDS", 8.0)
    ana, ben = await world.group("ana", "ben")
    for relay in world.relays.values():
        relay.switch_off()
    await ana.group.feed.post("of ana")
    await ben.group.feed.post("of ben")
    evil = kind(seed=3)
    evil.url, evil.origin = "ws://127.0.0.1:1", "ws://127.0.0.1:1"
    honest = real_access(lambda url: None)

    async def dial(url: str) -> Connection:
        return evil.connect() if url == evil.url else await honest(url)

    def blobs(url: str) -> BlobStore:
        return evil.dial_blobs() if url == evil.url else honest.blobs(url)

    monkeypatch.setattr(lan, "access_to_hosts", lambda: RelayAccess(dial, blobs))
    network = Network()
    honest_say = network.say

    def say(sighting: Sighting) -> None:
        if sighting.tokens is not None:
            honest_say(Sighting(sighting.instance, sighting.tokens, (evil.url, *sighting.urls)))
        else:
            honest_say(sighting)

    monkeypatch.setattr(network, "say", say)
    topic = ana.replica.epoch.topic
    await meet(ana, ben, network=network)
    assert ana.replica.epoch.topic == ben.replica.epoch.topic == topic
    assert {*await ana.texts()} == {*await ben.texts()} == {"of ana", "of ben"}
    assert ana.group.alarms() == ben.group.alarms() == []
    for seat in (ana, ben):
        assert seat.replica.groups.guests(seat.replica.record.number) == []
    for relay in world.relays.values():
        relay.reachable = True
    await world.level()
    assert await state_of(ana) == await state_of(ben)
    assert ana.group.alarms() == ben.group.alarms() == []


async def test_attack_43_a_group_that_is_stopped_on_the_network_keeps_no_other_from_it(
    world: World, tmp_path: Path
) -> None:
    ana, ben, mal = await world.group("ana", "ben", "mal")
    family, epoch, later = ben.group.id, ben.replica.epoch, Forger(mal).operate([99, "of a later version"])
    band = await ana.running.create_group("Band", member_name="Ana", relays=[*world.relays])
    link = await band.invite(expires_in=timedelta(days=7))
    await band.sync()
    other = await ben.running.join(link, member_name="Ben")
    await band.sync()
    for relay in world.relays.values():
        relay.switch_off()
    await band.feed.post("of the other group")
    network, dial = Network(), real_access(lambda url: None)
    async with hosting(tmp_path / "host", {epoch.topic}.__contains__) as host:
        await put_mailbox(dial, host.url, epoch, later)
        instance = Instance(secrets.token_bytes(16), host.port)
        slot = slot_of(ben.clock())
        record = make_announcement([lan_key(epoch)], slot, instance, secrets.token_bytes(8 * MOST_TOKENS))
        await network.finder().announce(instance, record)
        reports = await meet(ana, ben, network=network)
    assert [post.text for post in await other.feed.list()] == ["of the other group"]
    for report in reports:
        assert "does not know" in str(report.groups[family].error)
        assert report.groups[other.id].error is None


async def test_attack_44_killed_in_the_middle_of_an_exchange_nothing_is_left_of_it(world: World) -> None:
    """The process dies with guests registered and its host's files there: the next opening forgets both."""
    ana, ben = await world.group("ana", "ben")
    number = ana.replica.record.number
    with ana.replica.transaction():
        ana.replica.groups.add_guest(number, "ws://10.0.0.9:1234")
        ana.replica.epochs.queue_all("ws://10.0.0.9:1234")
    (ana.home / "lan").mkdir()
    (ana.home / "lan" / "left").write_bytes(b"x")
    await ana.restart()
    assert ana.replica.groups.guests(number) == []
    assert ana.replica.log.outbox_size("ws://10.0.0.9:1234") == 0
    await meet(ana, ben, network=Network())
    assert not (ana.home / "lan").exists()
