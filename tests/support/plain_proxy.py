"""A reverse proxy that lets plain HTTP through and no WebSocket, as some networks do; it counts requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

import aiohttp
from aiohttp import web

_OF_THE_HOP = {"connection", "keep-alive", "upgrade", "transfer-encoding", "host", "te", "trailer"}


class Upgrades(Enum):
    """What becomes of a request for a WebSocket."""

    REFUSED = auto()
    STRIPPED = auto()  # it arrives as a plain GET
    CUT_OFF = auto()


class PlainProxy:
    """`target` is the relay's URL, to be set before the first request."""

    def __init__(self, upgrades: Upgrades) -> None:
        self.upgrades, self.target, self.url = upgrades, "", ""
        self.asked: Counter[str] = Counter()  # by method, and "upgrade"
        self._http: aiohttp.ClientSession

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "Upgrade" in request.headers:
            self.asked["upgrade"] += 1
            if self.upgrades is Upgrades.REFUSED:
                return web.Response(status=403, text="no")
            if self.upgrades is Upgrades.CUT_OFF:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
        else:
            self.asked[request.method] += 1
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _OF_THE_HOP}
        url = self.target.replace("ws", "http", 1) + str(request.rel_url)
        async with self._http.request(request.method, url, headers=headers, data=await request.read()) as answer:
            passed = {name: text for name, text in answer.headers.items() if name.lower() not in _OF_THE_HOP}
            return web.Response(status=answer.status, body=await answer.read(), headers=passed)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[PlainProxy]:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{port}"
        async with aiohttp.ClientSession(auto_decompress=False) as self._http:
            try:
                yield self
            finally:
                await runner.cleanup()
