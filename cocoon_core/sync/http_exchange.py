"""Requests to a relay over HTTP, on aiohttp. Implements the sockets under specs/relay.md §6 for sync/blobs.py.

Answers are bounded in size and time, nothing is decompressed, no redirect is followed (a proof is for one origin) and
no cookie is kept (it would join what proofs keep apart). Foreign exceptions become RelayUnavailable here.
"""

from __future__ import annotations

from io import BytesIO
from math import isfinite
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from cocoon_core.errors import MalformedError, RelayMisbehaved, RelayUnavailable
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.sync.blobs import IN_FLIGHT, Answer, BlobStore, ConnectionLost, RelayBlobs
from cocoon_core.sync.transport import CONNECT_SECONDS, TOKEN_HEADER

SILENCE_SECONDS = 30.0  # without a byte
REQUEST_SECONDS = 300.0  # for one request and its answer: a blob of 2 MiB at 7 KiB a second
_CHUNK: Final = 64 * 1024


class HttpExchange:
    """Requests to one relay; connections are kept and shared. Make it anywhere, use it inside one event loop."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url, self._token = url, token
        self._http: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        http = self._open()
        data = None if body is None else _Body(BytesIO(body))
        try:
            target = normalize_origin(self._url).replace("ws", "http", 1) + path
            async with http.request(method, target, headers=headers, data=data, allow_redirects=False) as answer:
                return Answer(answer.status, await _read(answer, most), _retry_after(answer))
        except (aiohttp.ClientConnectorError, MalformedError, aiohttp.InvalidURL) as error:
            raise RelayUnavailable(f"the relay {self._url} cannot be reached") from error
        except TimeoutError as error:
            raise RelayUnavailable(f"the relay {self._url} does not answer") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError) as error:
            raise ConnectionLost(f"the connection to the relay {self._url} was lost") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise RelayMisbehaved(f"the relay {self._url} sent an answer that is none") from error

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _open(self) -> aiohttp.ClientSession:
        if self._http is None:
            own = {"Accept-Encoding": "identity"} | ({TOKEN_HEADER: self._token} if self._token is not None else {})
            self._http = aiohttp.ClientSession(
                headers=own,
                connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(REQUEST_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
            )
        return self._http


def dial_blobs(url: str, token: str | None = None) -> BlobStore:
    """The blobs of a relay by its ws:// or wss:// address. Nothing is sent before the first request.

    Raises:
        RelayUnavailable: the address is none.
    """
    try:
        origin = normalize_origin(url)
    except MalformedError as error:
        raise RelayUnavailable(f"the relay {url} cannot be reached (that is not an address)") from error
    return RelayBlobs(HttpExchange(url, token), origin)


class _Body(aiohttp.BytesIOPayload):
    """A body that is in memory, given to the connection whole: aiohttp gives it 64 KiB at a time, and waits between."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await writer.write(self._value.getvalue()[:content_length])  # of bytes, so nothing is copied


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(_CHUNK):
        size += len(part)
        if size > most:
            answer.close()
            raise RelayMisbehaved(f"the relay sent more than {most} bytes")
        parts.append(part)
    return b"".join(parts)


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    try:
        seconds = float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None
