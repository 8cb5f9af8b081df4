"""The ways to relays that a profile has: connections for topics, requests for blobs, with the access token where one is
known.

One value, so that whoever needs the one has the other. Tests put other ways in their place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from cocoon_core.errors import RelayMisbehaved, RelayUnavailable
from cocoon_core.sync.blobs import BlobStore, DialBlobs
from cocoon_core.sync.http_connection import dial_requests
from cocoon_core.sync.transport import Connection, Dial, UpgradeRefused

REMEMBERED_SECONDS: Final = 600.0  # that a relay is asked by requests before a WebSocket is tried again


class RelayAccess:
    """Can be used wherever a `Dial` is wanted."""

    def __init__(self, dial: Dial, blobs: DialBlobs) -> None:
        self._dial, self._blobs = dial, blobs

    async def __call__(self, url: str) -> Connection:
        """Connect to a relay by its address."""
        return await self._dial(url)

    def blobs(self, url: str) -> BlobStore:
        """The blobs of a relay; nothing is sent before the first request."""
        return self._blobs(url)


def real_access(find_token: Callable[[str], str | None]) -> RelayAccess:
    """Over the network: by WebSocket, and by single requests where no WebSocket passes.

    Args:
        find_token: the access token for a relay's address, if that asks for one.
    """

    by_requests: dict[str, float] = {}  # relays where no WebSocket passed, and when

    async def dial(url: str) -> Connection:
        from cocoon_core.sync.websocket import dial_websocket

        token, now = find_token(url), asyncio.get_running_loop().time()
        if now - by_requests.get(url, -REMEMBERED_SECONDS) < REMEMBERED_SECONDS:
            return await dial_requests(url, token)
        try:
            return await dial_websocket(url, token)
        except UpgradeRefused as error:
            try:
                connection = await dial_requests(url, token)
            except (RelayUnavailable, RelayMisbehaved):
                raise error from None
        by_requests[url] = now
        return connection

    def blobs(url: str) -> BlobStore:
        from cocoon_core.sync.http_exchange import dial_blobs

        return dial_blobs(url, find_token(url))

    return RelayAccess(dial, blobs)
