"""Messages are offered where they are parsed, in their order, and none is offered out of it, twice or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMessage, WSMsgType, web

from cocoon_relay import eager_socket
from cocoon_relay.eager_socket import EagerSocket


class Served:
    """What a server saw: messages taken and left, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.socket: EagerSocket | None = None
        self.let_go = asyncio.Event()  # what is left is looked after until then
        self.let_go.set()
        self.ended = asyncio.Event()
        self.in_task: list[bool] = []
        self.max_msg_size = 1000

    def take(self, data: bytes) -> bool:
        self.in_task.append(asyncio.current_task() is not None)
        if data.startswith(b"take"):
            self.seen.append(("taken", data))
            return True
        return False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.socket = EagerSocket(compress=False, autoping=False, max_msg_size=self.max_msg_size, timeout=0.2)
        await self.socket.prepare(request)
        while (message := await self.socket.receive_rest(self.take)).type in (WSMsgType.BINARY, WSMsgType.PING):
            self.seen.append(("left", message.data))
            await self.let_go.wait()
        self.seen.append(("ended", message.type.name.encode()))
        self.ended.set()
        await self.socket.close()
        return self.socket

    @asynccontextmanager
    async def run(self) -> AsyncIterator[tuple[ClientWebSocketResponse, int]]:
        app = web.Application()
        app.router.add_get("/", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{port}/") as client:
                yield client, port
        finally:
            await runner.cleanup()

    async def wait_for(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.seen) < number:
                await asyncio.sleep(0.001)


async def test_the_aiohttp_that_is_installed_is_known() -> None:
    """Fails when an aiohttp has other parts: then all works, and costs more."""
    served = Served()
    async with served.run() as (client, _):
        await client.send_bytes(b"take 1")
        await served.wait_for(1)
        assert served.socket is not None
        assert served.socket.is_eager
        assert served.in_task == [False]


async def test_all_come_in_their_order_while_others_are_looked_after() -> None:
    served = Served()
    sent = []
    async with served.run() as (client, _):
        served.let_go.clear()
        for number in range(300):
            data = b"%s %d" % (b"leave" if number % 7 == 3 else b"take", number)
            sent.append(data)
            await client.send_bytes(data)
            if number == 100:
                await asyncio.sleep(0.05)
                assert len(served.seen) == 4, "while one is looked after, no other is offered"
                served.let_go.set()
        await served.wait_for(300)
        assert [data for _, data in served.seen] == sent
        assert all(what == ("taken" if data.startswith(b"take") else "left") for what, data in served.seen)


async def test_pings_and_texts_are_never_offered() -> None:
    served = Served()
    async with served.run() as (client, _):
        await client.ping(b"take me")
        await client.send_str("take me")
        await asyncio.wait_for(served.ended.wait(), 5)
    assert served.seen == [("left", b"take me"), ("ended", b"TEXT")]


async def test_a_message_in_fragments_is_offered_whole_and_one_too_large_ends_it() -> None:
    served = Served()
    async with served.run() as (client, _):
        writer = client._writer  # what aiohttp has no call for
        transport = writer.transport
        masked = bytes(4)
        transport.write(b"\x02\x84" + masked + b"take")
        await asyncio.sleep(0.02)
        assert served.seen == []
        transport.write(b"\x80\x82" + masked + b" 1")
        await served.wait_for(1)
        await client.send_bytes(b"take" + bytes(2_000))
        await asyncio.wait_for(served.ended.wait(), 5)
    assert served.seen == [("taken", b"take 1"), ("ended", b"ERROR")]


async def test_what_the_taker_does_not_take_for_long_pauses_the_reading() -> None:
    served = Served()
    served.let_go.clear()
    async with served.run() as (client, _):
        sender = asyncio.create_task(_send_many(client))
        await served.wait_for(1)
        await asyncio.sleep(0.2)
        assert not sender.done(), "its connection takes no more"
        served.let_go.set()
        async with asyncio.timeout(20):
            await sender
            await served.wait_for(60_000)


@pytest.mark.parametrize("waits", [True, False])
async def test_one_that_fills_the_queue_alone_comes_before_those_read_with_it(waits: bool) -> None:
    """Parsing stops behind it, and goes on while it is taken out of the queue, which is empty then."""
    served = Served()
    served.max_msg_size = 1 << 20
    async with served.run() as (client, _):
        if not waits:
            served.let_go.clear()
            await client.send_bytes(b"leave 0")
            await served.wait_for(1)
        large = b"leave" + bytes(200_000)
        transport = client._writer.transport
        transport.write(
            b"\x82\xff" + len(large).to_bytes(8) + bytes(4) + large + b"\x82\x86\0\0\0\0take 1\x82\x86\0\0\0\0take 2"
        )
        await asyncio.sleep(0.05)
        served.let_go.set()
        await served.wait_for(3 + (not waits))
    seen = [(what, data[:6]) for what, data in served.seen[not waits :][:3]]
    assert seen == [("left", b"leave\0"), ("taken", b"take 1"), ("taken", b"take 2")]


async def _send_many(client: ClientWebSocketResponse) -> None:
    for _ in range(60_000):
        await client.send_bytes(b"leave" + bytes(900))


async def test_a_client_that_speaks_before_it_is_greeted_loses_nothing() -> None:
    served = Served()
    async with served.run() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            b"\x82\x86\0\0\0\0take 1\x82\x86\0\0\0\0ta"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ke 2")
        await served.wait_for(2)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert served.seen[:2] == [("taken", b"take 1"), ("taken", b"take 2")]


@pytest.mark.parametrize("lacking", ["queue", "parser"])
async def test_an_aiohttp_with_other_parts_is_served_the_long_way(
    monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "queue":
        monkeypatch.setattr(eager_socket, "WebSocketDataQueue", type("Another", (), {}))
    else:
        monkeypatch.setattr(eager_socket, "WebSocketReader", lambda _queue: None)
    served = Served()
    async with served.run() as (client, _):
        for data in (b"take 1", b"leave 2", b"take 3"):
            await client.send_bytes(data)
        await served.wait_for(3)
        assert served.socket is not None
        assert not served.socket.is_eager
    assert served.seen[:3] == [("taken", b"take 1"), ("left", b"leave 2"), ("taken", b"take 3")]


async def test_a_fault_of_the_taker_is_raised_where_the_messages_are_received(monkeypatch: pytest.MonkeyPatch) -> None:
    served, faults = Served(), list[Exception]()
    honest = EagerSocket.receive_rest

    def take(data: bytes) -> bool:
        raise ValueError("no")

    async def receive_rest(self: EagerSocket, taker: eager_socket.Taker) -> WSMessage:
        try:
            return await honest(self, taker)
        except ValueError as fault:
            faults.append(fault)
            raise

    monkeypatch.setattr(EagerSocket, "receive_rest", receive_rest)
    served.take = take  # type: ignore[method-assign]
    async with served.run() as (client, _):
        await client.send_bytes(b"take 1")
        assert (await client.receive(5)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
    assert [str(fault) for fault in faults] == ["no"]


async def test_what_waited_is_offered_when_it_is_its_turn() -> None:
    served = Served()
    served.let_go.clear()
    async with served.run() as (client, _):
        for data in (b"leave 1", b"take 2", b"take 3"):
            await client.send_bytes(data)
        await served.wait_for(1)
        await asyncio.sleep(0.05)
        assert served.seen == [("left", b"leave 1")]
        served.let_go.set()
        await served.wait_for(3)
    assert served.seen[:3] == [("left", b"leave 1"), ("taken", b"take 2"), ("taken", b"take 3")]
