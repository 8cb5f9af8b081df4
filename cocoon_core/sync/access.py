"""The ways to relays that a profile has: connections for topics, requests for blobs, with the access token where one is
known.

One value, so that whoever needs the one has the other. Tests put other ways in their place.
"""

from __future__ import annotations

from collections.abc import Callable

from cocoon_core.sync.blobs import BlobStore, DialBlobs
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.transport import Connection, Dial, dial_websocket


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
    """Over the network.

    Args:
        find_token: the access token for a relay's address, if that asks for one.
    """

    async def dial(url: str) -> Connection:
        return await dial_websocket(url, find_token(url))

    return RelayAccess(dial, lambda url: dial_blobs(url, find_token(url)))
