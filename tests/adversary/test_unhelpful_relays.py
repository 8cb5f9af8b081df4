"""Relays that stall, refuse or lose, and members that make work: each costs a bounded time and stops nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from cocoon_core.errors import InvalidLinkError, NotYetError, RelayError, RelayUnavailable
from cocoon_core.protocol.change import join_change
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.frames import (
    Ack,
    CastReceived,
    Challenge,
    Entries,
    Error,
    ErrorCode,
    Open,
    Put,
    RelayFrame,
    decode_client_frame,
    encode_frame,
)
from cocoon_core.protocol.ids import GroupId, Incarnation
from cocoon_core.protocol.invite import InviteKeys, Link, mailbox_keys, read_link, write_link
from cocoon_core.protocol.run import UnverifiedRun, parse_run
from cocoon_core.sync import driver, reading, replica, websocket
from cocoon_core.sync.transport import send_in_time
from cocoon_core.sync.websocket import dial_websocket
from tests.support.hostile import Forger, inject, tampered_signature, topic_log
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay
from tests.support.waits import COMES
from tests.support.world import World, make_world  # noqa: F401  a fixture

DAY_MS = 86_400_000


class RefusingRelay(MemoryRelay):
    """Refuses puts with `refusal`, as long as there is one."""

    refusal: tuple[ErrorCode, int | None] | None = None

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        frame = decode_client_frame(raw)
        if self.refusal is not None and isinstance(frame, Put):
            connection.deliver(Error(frame.request, self.refusal[0], "no", self.refusal[1]))
        else:
            super().handle(connection, raw)


class BabblingConnection(MemoryConnection):
    """Never has nothing to say, and says nothing."""

    babble: RelayFrame | None = None

    async def receive(self) -> bytes:
        if self.waiting or self.babble is None:
            return await super().receive()
        await asyncio.sleep(0)
        return encode_frame(self.babble)


async def test_one_relay_that_asks_to_wait_for_ever_holds_up_no_other(world: World) -> None:
    bad = RefusingRelay("ws://bad.test:1")
    world.add_relay(bad)
    good = world.add_relay()
    ana, ben = await world.group("ana", "ben")
    bad.refusal = ErrorCode.RATE, 2**50
    await ana.group.feed.post("hello")
    async with asyncio.timeout(COMES):
        report = await ana.sync()
    assert [relay.ok for relay in report.relays] == [False, True]
    assert ana.replica.log.unsent_count(good.url) == 0
    await ben.sync()
    assert await ben.texts() == ["hello"]


async def test_a_relay_that_always_asks_for_a_moment_ends_the_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = RefusingRelay("ws://bad.test:1")
    world.add_relay(relay)
    (ana,) = await world.group("ana")
    relay.refusal = ErrorCode.BUSY, 1
    monkeypatch.setattr(driver, "RETRY_LEAST", 0.001)
    monkeypatch.setattr(driver, "FRUITLESS_SECONDS", 0.05)
    await ana.group.feed.post("hello")
    async with asyncio.timeout(COMES):
        with pytest.raises(RelayUnavailable, match="does not answer"):
            await ana.sync()
    relay.refusal = None
    assert (await ana.sync()).sent == 1


async def test_a_wait_that_a_relay_asked_for_is_kept_whatever_else_happens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[float] = []
    loop = asyncio.get_running_loop()

    class Timing(RefusingRelay):
        def handle(self, connection: MemoryConnection, raw: bytes) -> None:
            frame = decode_client_frame(raw)
            if isinstance(frame, Put) and self.refusal is not None:
                puts.append(loop.time())
                super().handle(connection, raw)
                self.refusal = None
                connection.deliver(CastReceived(frame.topic, b"a frame that comes in between"))
                return
            if isinstance(frame, Put):
                puts.append(loop.time())
            super().handle(connection, raw)

    relay = Timing("ws://slow.test:1")
    world.add_relay(relay)
    (ana,) = await world.group("ana")
    monkeypatch.setattr(driver, "RETRY_LEAST", 0.0)
    relay.refusal, puts[:] = (ErrorCode.RATE, 50), []
    await ana.group.feed.post("hello")
    await ana.sync()
    assert len(puts) == 2
    assert puts[1] - puts[0] >= 0.05


@pytest.mark.parametrize("frame", ["casts", "entries of no topic"])
async def test_frames_that_bring_nothing_do_not_keep_a_pass_alive(
    world: World, monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    relay = world.add_relay()
    (ana,) = await world.group("ana")
    topic, mailbox = ana.replica.epoch.topic, mailbox_keys(InviteKeys(ana.replica.epoch.secret).mailbox_secret)
    babble = CastReceived(topic, b"x") if frame == "casts" else Entries(mailbox.topic, 1, (b"\0" * 296,))
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 0.05)

    def connect() -> MemoryConnection:
        connection = BabblingConnection(relay, b"\1" * 32)
        connection.deliver(Challenge(1, connection.challenge, {}))
        connection.babble = babble
        return connection

    handle = relay.handle
    monkeypatch.setattr(relay, "connect", connect)
    monkeypatch.setattr(
        relay, "handle", lambda c, raw: None if isinstance(decode_client_frame(raw), Open) else handle(c, raw)
    )
    async with asyncio.timeout(COMES):
        with pytest.raises(RelayUnavailable):
            await ana.sync()
        with pytest.raises(RelayUnavailable):
            await reading.read_topic(ana.dial, relay.url, mailbox)


async def test_a_relay_that_does_not_read_ends_the_pass() -> None:
    class Deaf:
        async def send(self, raw: bytes) -> None:
            await asyncio.Event().wait()

        async def receive(self) -> bytes | None:
            return None

        async def close(self) -> None: ...

    async with asyncio.timeout(COMES):
        with pytest.raises(RelayUnavailable, match="does not read"):
            await send_in_time(Deaf(), b"x", 0.01)


async def test_an_ack_at_a_far_place_is_noticed_while_watching_and_what_it_named_is_put_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FarAcks(MemoryRelay):
        lies = False

        def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> tuple[RelayFrame, ...]:
            if self.lies and isinstance(frame, Ack):
                return (Ack(frame.request, frame.topic, tuple(2**52 for _ in frame.seqs)),)
            return (frame,)

        def store(self, log: MemoryLog, put: Put) -> bool:
            return not self.lies

    relay = FarAcks("ws://relay.test:1")
    world.add_relay(relay)
    ana, ben = await world.group("ana", "ben")
    level, lost = asyncio.Event(), asyncio.Event()

    def follow(_: str, error: RelayError | None) -> None:
        if error is None:
            level.set()
        else:
            relay.lies = False
            level.clear()
            lost.set()

    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(driver, "BACKOFF_FIRST", 0.01)
    async with asyncio.timeout(COMES), ana.group.watch(follow):
        await level.wait()
        relay.lies = True
        await ana.group.feed.post("lost at first")
        await lost.wait()
        await level.wait()
        while ana.replica.log.outbox_size(relay.url):  # until it was put again and shown
            await asyncio.sleep(0)
    assert any("did not keep them" in alarm for alarm in ana.group.alarms())
    await ben.sync()
    assert await ben.texts() == ["lost at first"]


# --- welcomes


async def test_a_welcome_that_was_acknowledged_and_lost_is_put_again(world: World) -> None:
    class Losing(MemoryRelay):
        loses = False

        def store(self, log: MemoryLog, put: Put) -> bool:
            return not (self.loses and not log.envelopes)

    relay = Losing("ws://relay.test:1")
    world.add_relay(relay)
    (ana,) = await world.group("ana")
    relay.loses = True
    link = await ana.group.invite()
    await ana.sync()
    assert any("welcome" in alarm for alarm in ana.group.alarms())
    assert len(ana.replica.groups.letters(ana.replica.record.number, relay.url)) == 1
    cid = await world.seat("cid")
    with pytest.raises(NotYetError):
        await cid.running.join(link, member_name="Cid")
    relay.loses = False
    await ana.sync()
    assert ana.replica.groups.letters(ana.replica.record.number, relay.url) == []
    await cid.running.join(link, member_name="Cid")


async def test_a_mailbox_that_takes_nothing_stops_nothing_else_and_is_told(world: World) -> None:
    (ana, ben) = await world.group("ana", "ben")
    (relay,) = world.relays.values()
    sealed = mailbox_keys(InviteKeys(read_link(await ana.group.invite()).secret).mailbox_secret)
    relay.logs[sealed.topic] = MemoryLog(Incarnation(b"1" * 16), [], True)
    other = await ana.group.invite()
    await ana.group.feed.post("goes on")
    assert all(done.ok for done in (await ana.sync()).relays)
    assert any("sealed" in alarm for alarm in ana.group.alarms())
    assert ana.replica.groups.letters(ana.replica.record.number, relay.url) == []
    await ben.sync()
    assert await ben.texts() == ["goes on"]
    cid = await world.seat("cid")
    await cid.running.join(other, member_name="Cid")


async def test_the_welcome_of_an_invite_that_has_ended_is_dropped(world: World) -> None:
    (ana,) = await world.group("ana")
    (relay,) = world.relays.values()
    link = await ana.group.invite()
    mailbox = mailbox_keys(InviteKeys(read_link(link).secret).mailbox_secret)
    await ana.group.revoke_invite(ana.group.invites()[-1].id.hex())
    await ana.sync()
    assert ana.replica.groups.letters(ana.replica.record.number, relay.url) == []
    assert mailbox.topic not in relay.logs


# --- addresses


@pytest.mark.parametrize(
    "url", ["ws://" + "a" * 64 + ".test:80", "ws://a..b:80", "ws://u@x", "ws://a:99999", "ws://a/path", "ws://[::x]:1"]
)
async def test_an_address_that_is_none_is_refused_in_a_link_and_unreachable_when_dialled(
    world: World, url: str
) -> None:
    (ana,) = await world.group("ana")
    link = read_link(await ana.group.invite())
    cid = await world.seat("cid")
    with pytest.raises(InvalidLinkError):
        await cid.running.join(write_link(Link(link.group, link.secret, (*link.relays, url))), member_name="Cid")
    if not url.endswith("/path"):
        with pytest.raises(RelayUnavailable):
            await dial_websocket(url)


# --- farewells


async def test_attack_08_a_relay_that_says_no_farewell_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        await ended.wait()
        return socket

    app = web.Application()
    app.router.add_get("/v1/sync", hang)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}"

    async def leave(seconds: float) -> None:
        connection = await dial_websocket(url)
        async with asyncio.timeout(seconds):
            await connection.close()

    try:
        await leave(COMES)
        monkeypatch.setattr(websocket, "FAREWELL_SECONDS", 10 * COMES)  # as it is seen to find something
        with pytest.raises(TimeoutError):
            await leave(1)
    finally:
        ended.set()
        await runner.cleanup()


# --- much work


async def test_many_documents_written_offline_fit_into_runs_that_seal(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    schema: dict[str, Any] = {f"k{number:02}" + "x" * 120: dict for number in range(64)}
    root = next(iter(schema))
    for number in range(130):
        async with ana.group.document(f"document {number}", schema).change() as document:
            document[root]["a"] = number
    assert (await ana.sync()).sent == 130
    await ben.sync()
    assert ben.group.document("document 129", schema).read()[root]["a"] == 129
    assert max(len(run.wire) for run in map(ana.replica.log.run, range(1, ana.replica.log.run_count()))) < 600_000


async def test_small_unsigned_envelopes_have_no_stored_run_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ana, _, mal = await world.group("ana", "ben", "mal")
    (relay,) = world.relays.values()
    forger, epoch = Forger(mal), ana.replica.epoch
    descriptor = forger.feed()
    actor = actor_of(forger.keys.id, descriptor.document_id(forger.group))
    seq, prev = forger.seq, forger.prev
    entries = [forger.entry((descriptor, join_change([], actor, bytes([1, n])).raw)) for n in range(8)]
    inject(relay, epoch, forger.seal(forger.run(*entries)))
    await ana.sync()

    def contradicting(number: int) -> Any:
        forger.seq, forger.prev = seq, prev
        return forger.run(forger.entry((descriptor, join_change([], actor, bytes([2, number])).raw)))

    inject(relay, epoch, *(seal_envelope(tampered_signature(contradicting(n)), epoch) for n in range(100)))
    read: list[bytes] = []

    def counted(wire: bytes, group: GroupId) -> UnverifiedRun:
        read.append(wire)
        return parse_run(wire, group)

    monkeypatch.setattr(replica, "parse_run", counted)
    await ana.sync()
    assert read == []
    assert not any("two histories" in alarm for alarm in ana.group.alarms())
    inject(relay, epoch, *(forger.seal(contradicting(n)) for n in range(100)))
    await ana.sync()
    assert len(read) <= 1  # its ids are kept at hand
    assert any("two histories" in alarm for alarm in ana.group.alarms())
    assert topic_log(relay, epoch).last > 200
