"""A WebSocket to a relay, on aiohttp. Foreign exceptions become RelayUnavailable or RelayRefused here."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import aiohttp

from cocoon_core.errors import MalformedError, RelayRefused, RelayUnavailable
from cocoon_core.protocol.constants import MAX_FRAME_BYTES
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.sync.transport import CONNECT_SECONDS, PATH, TOKEN_HEADER, Connection, UpgradeRefused

HEARTBEAT_SECONDS = 30.0
# That the relay's own farewell is waited for: whoever closes is owed nothing, and would wait a round trip.
FAREWELL_SECONDS = 0.0


class WebSocketConnection:
    """A connection over aiohttp. Compression is off: it would mix secrets with what a stranger chose."""

    def __init__(self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._http, self._socket = http, socket

    async def send(self, raw: bytes) -> None:
        try:
            await self._socket.send_bytes(raw)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise RelayUnavailable("the connection to the relay was lost") from error

    async def receive(self) -> bytes | None:
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:  # it answers pings, and may be too late
            raise RelayUnavailable("the connection to the relay was lost") from error
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            return None
        if message.type is aiohttp.WSMsgType.ERROR:
            raise RelayUnavailable("the connection to the relay was lost")
        raise RelayRefused("the relay sent a message that is not binary")

    async def close(self) -> None:
        try:
            await self._socket.close()
        finally:  # who is cancelled here waited for a farewell that may never come
            await self._http.close()


async def dial_websocket(url: str, token: str | None = None) -> Connection:
    """Connect to a relay by its ws:// or wss:// address, with the access token that it may ask for.

    Raises:
        UpgradeRefused: something answers, and no WebSocket passes.
        RelayUnavailable: nothing answers there in CONNECT_SECONDS, or the address is none.
        RelayRefused: it asks for an access token, or for another.
    """
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS))
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await http.ws_connect(
                normalize_origin(url) + PATH,
                compress=0,
                heartbeat=HEARTBEAT_SECONDS,
                timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
                max_msg_size=MAX_FRAME_BYTES,
                headers=None if token is None else {TOKEN_HEADER: token},
            )
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, MalformedError) as error:  # names that are none
        await http.close()
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status == HTTPStatus.UNAUTHORIZED:
            raise RelayRefused(f"the relay {url} asks for an access token, or for another one") from error
        kind = UpgradeRefused if _is_answer(error) else RelayUnavailable
        raise kind(f"the relay {url} cannot be reached ({_reason(error)})") from error
    except BaseException:
        await http.close()
        raise
    return WebSocketConnection(http, socket)


def _is_answer(error: Exception) -> bool:
    """Whether it says that there is no WebSocket, rather than that there is nobody, or no room."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return error.status not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return isinstance(error, aiohttp.ServerDisconnectedError)


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer in {CONNECT_SECONDS:.0f} s"
        case aiohttp.WSServerHandshakeError():
            return f"it answered {error.status}, which is not what a relay answers"
        case ValueError() | MalformedError():
            return "that is not an address"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known"
        case aiohttp.ClientConnectorError():
            return "connection refused" if isinstance(error.os_error, ConnectionRefusedError) else "no connection"
    return "no connection"
