"""Serves one file of the vault to programs of this device, over HTTP with ranges: `vault open`.

Decrypted bytes go through memory alone: nothing of them is written to the disk here, and the answers forbid caching.
It listens on 127.0.0.1, at a port of chance, for requests that know a random token; another user of this device, and a
page that a browser shows, do not. What the file is, is told by its bytes: only what holds no script is shown in a page,
and no program but the browser is ever started.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aiohttp import web

if TYPE_CHECKING:
    from cocoon_core import OpenedFile

IDLE_SECONDS: Final = 30 * 60.0  # without a request, after which nobody is waited for any more
_TOKEN_BYTES: Final = 32
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)
_HEADERS: Final = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
        # No script, form or window. It keeps its origin: a browser's page for a film could not fetch the film without.
        "sandbox allow-same-origin"
    ),
}


class FileServer:
    """One file on one port. Made by `serve_file`."""

    def __init__(self, opened: OpenedFile, clock: Callable[[], float] = time.monotonic) -> None:
        self._opened, self._clock = opened, clock
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._host = ""
        self._asked = clock()
        self._running = 0

    def url(self) -> str:
        """Where programs of this user ask for it. Whoever knows it has the file, as long as this serves."""
        return f"http://{self._host}/{self._token}/{quote(self._opened.name, safe='')}"

    def listens_at(self, port: int) -> None:
        self._host = f"127.0.0.1:{port}"

    async def wait_until_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Return when nobody has asked for so long."""
        while (left := self._asked + seconds - self._clock()) > 0 or self._running:  # noqa: ASYNC110 - a clock's event
            await asyncio.sleep(max(left, 1.0))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A GET or HEAD of the file, or of one range of it."""
        if request.headers.get("Host") != self._host:  # a page that had its own name lead here
            return web.Response(status=403)
        if not hmac.compare_digest(request.match_info["token"].encode(), self._token.encode()):
            return web.Response(status=404)
        self._asked = self._clock()
        start, stop, status = parse_range(request.headers.get("Range"), self._opened.size)
        response = web.StreamResponse(status=status, headers=_HEADERS)
        response.content_type = self._opened.mime
        kind = "inline" if self._opened.inline else "attachment"
        response.headers["Content-Disposition"] = f"{kind}; filename*=UTF-8''{quote(self._opened.name, safe='')}"
        if status == 416:
            response.headers["Content-Range"] = f"bytes */{self._opened.size}"
            start = stop = 0
        elif status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{self._opened.size}"
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self._running += 1
        try:
            async for part in self._opened.read(start, stop):
                await response.write(part)
            await response.write_eof()
        finally:
            self._running -= 1
            self._asked = self._clock()
        return response


def parse_range(header: str | None, size: int) -> tuple[int, int, int]:
    """First byte, the one after the last, and the status of the answer. What is no single range is not heeded."""
    match = _RANGE.fullmatch(header.replace(" ", "")) if header is not None and len(header) < 64 else None
    if match is None or not (match[1] or match[2]):
        return 0, size, 200
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
    return (start, stop, 206) if start < stop else (0, 0, 416)


@asynccontextmanager
async def serve_file(opened: OpenedFile) -> AsyncIterator[FileServer]:
    """Serve a file inside the block."""
    server = FileServer(opened)
    app = web.Application()
    app.router.add_get("/{token}/{name}", server.answer)  # HEAD with it
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.listens_at(runner.addresses[0][1])
        yield server
    finally:
        await runner.cleanup()
