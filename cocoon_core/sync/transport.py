"""How bytes reach a relay: the one seam behind which sockets live. Tests put another `Dial` in its place.

Its forms are websocket.py and http_connection.py. What stands on the seam loads neither before it is used, since
aiohttp takes as long to load as a quarter of all the rest, and most commands ask no relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from cocoon_core.errors import RelayUnavailable

CONNECT_SECONDS = 10.0
PATH = "/v1/sync"
TOKEN_HEADER = "Cocoon-Token"


class Connection(Protocol):
    """One open connection: whole messages, in order, or an error."""

    async def send(self, raw: bytes) -> None: ...

    async def receive(self) -> bytes | None:
        """The next message; None when the other side closed."""
        ...

    async def close(self) -> None: ...


class UpgradeRefused(RelayUnavailable):
    """Something answers there, and opens no WebSocket: a relay behind a proxy that lets none through, or no relay."""


Dial = Callable[[str], Awaitable[Connection]]


async def send_in_time(connection: Connection, raw: bytes, seconds: float) -> None:
    """Send one message to a relay that might not read.

    Raises:
        RelayUnavailable: it did not take the message in that time, or the connection was lost.
    """
    try:
        async with asyncio.timeout(seconds):
            await connection.send(raw)
    except TimeoutError as error:
        raise RelayUnavailable("the relay does not read what it is sent") from error
