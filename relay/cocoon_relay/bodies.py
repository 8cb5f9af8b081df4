"""Bodies of HTTP requests on their way in: how many at once from one address, and how slowly they may come.

Implements specs/relay.md §8 for blobs (http_blobs.py) and for sync by requests (http_sync.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from cocoon_core.protocol.frames import ErrorCode
from cocoon_relay.gate import Grant
from cocoon_relay.limits import KIB, Limits
from cocoon_relay.refusal import Refusal

_CHUNK: Final = 512 * KIB  # bytes that are given on together: each time costs a thread's turn


@contextmanager
def one_of_few(grant: Grant) -> Iterator[None]:
    """Around a request whose body or answer takes memory or time.

    Raises:
        Refusal: the address has as many of them as it may.
    """
    if grant.address.uploads >= grant.limits.address_uploads:
        raise Refusal(ErrorCode.RATE, "too many requests at once from this address", retry_after_ms=1_000)
    grant.address.uploads += 1
    try:
        yield
    finally:
        grant.address.uploads -= 1


async def read_body(request: web.Request, size: int, limits: Limits) -> AsyncIterator[bytes]:
    """The body in chunks of half a mebibyte; refused when it stops coming, comes too slowly, or ends early."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.upload_seconds + size / limits.transfer_bytes
    seen = waiting = 0
    parts: list[bytes] = []
    while seen < size:
        try:
            async with asyncio.timeout_at(min(end, loop.time() + limits.upload_seconds)):
                chunk = await request.content.read(_CHUNK)
        except TimeoutError as error:
            raise Refusal(ErrorCode.BUSY, "the upload stopped", retry_after_ms=1_000) from error
        if not chunk:
            raise Refusal(ErrorCode.BAD_FRAME, "the body is shorter than it said")
        seen += len(chunk)
        waiting += len(chunk)
        parts.append(chunk)
        if waiting >= _CHUNK or seen >= size:
            yield b"".join(parts)
            parts.clear()
            waiting = 0
