"""A socket to a relay: whatever its library raises comes out as an error of ours."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from cocoon_core.errors import RelayUnavailable
from cocoon_core.sync.transport import PATH
from cocoon_core.sync.websocket import WebSocketConnection, dial_websocket


async def test_a_ping_on_a_connection_that_is_ending_is_a_connection_that_was_lost() -> None:
    ended = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.ping()
        await ended.wait()
        return socket

    app = web.Application()
    app.router.add_get(PATH, serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        connection = await dial_websocket(f"ws://127.0.0.1:{port}")
        assert isinstance(connection, WebSocketConnection)
        socket = connection._socket
        async with asyncio.timeout(20):
            while not socket._reader._buffer:
                await asyncio.sleep(0)
        held = socket._response.connection
        assert held is not None
        assert held.transport is not None
        held.transport.close()
        with pytest.raises(RelayUnavailable, match="lost"):
            await connection.receive()
        await connection.close()
    finally:
        ended.set()
        await runner.cleanup()
