"""A web site of this machine, hostile if wanted, and fetchers that may reach it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from cocoon_core.vault.links import LinkFetcher

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """What stands at which path, and every request that came."""

    port: int
    pages: dict[str, Handler] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def page(self, path: str, body: str | bytes, kind: str = "text/html; charset=utf-8", **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            raw = body.encode() if isinstance(body, str) else body
            return web.Response(body=raw, headers={"Content-Type": kind, **headers})

        self.pages[path] = answer

    def moved(self, path: str, where: str, status: int = 302) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": where, "Set-Cookie": "canary=1"})

        self.pages[path] = answer


@asynccontextmanager
async def serve_site() -> AsyncIterator[Site]:
    app = web.Application()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    site = Site(listener.getsockname()[1])

    async def answer(request: web.Request) -> web.StreamResponse:
        site.asked.append(request)
        if request.path in site.pages:
            return await site.pages[request.path](request)
        raise web.HTTPNotFound

    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield site
    finally:
        await runner.cleanup()


def here_too() -> LinkFetcher:
    """A fetcher that may reach this machine: for the tests of all else. Production has no such way in."""
    return LinkFetcher(lambda address: address == "127.0.0.1")


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError
