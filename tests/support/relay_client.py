"""A plain client of the relay protocol for tests: no group, no retries, every frame visible."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar, overload
from weakref import WeakKeyDictionary

import aiohttp
import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_OPEN, MAX_FRAME_BYTES
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    Challenge,
    ClientFrame,
    Close,
    Entries,
    Error,
    Fetch,
    Fetched,
    List,
    Listed,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    Resume,
    blob_message,
    decode_relay_frame,
    encode_frame,
    normalize_origin,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import Secret, SigningKey
from cocoon_core.sync.http_connection import RequestConnection, dial_requests

_One = TypeVar("_One", bound=RelayFrame)
_Two = TypeVar("_Two", bound=RelayFrame)
_Three = TypeVar("_Three", bound=RelayFrame)
_Four = TypeVar("_Four", bound=RelayFrame)


def make_key(seed: bytes | None = None) -> SigningKey:
    return SigningKey(Secret(seed if seed is not None else os.urandom(32)))


def topic_of(key: SigningKey) -> TopicId:
    return TopicId(key.public)


def make_envelope(size: int = 296) -> bytes:
    """Bytes that look like an envelope to a relay: it cannot tell more."""
    return os.urandom(size)


class Wire(Protocol):
    async def send(self, raw: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    async def close(self) -> None: ...


_OPENED: WeakKeyDictionary[aiohttp.ClientSession, list[aiohttp.ClientWebSocketResponse]] = WeakKeyDictionary()


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session that closes, at its end, every WebSocket that tests opened on it and left."""
    async with aiohttp.ClientSession() as session:
        try:
            yield session
        finally:
            for socket in _OPENED.pop(session, []):
                await socket.close()


@pytest.fixture(name="http")
async def make_http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


class WebSocketWire:
    """The same three methods over a real WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, url: str) -> WebSocketWire:
        socket = await http.ws_connect(
            f"{url}/v1/sync", max_msg_size=2 * MAX_FRAME_BYTES, timeout=aiohttp.ClientWSTimeout(ws_close=1.0)
        )
        _OPENED.setdefault(http, []).append(socket)
        return cls(socket)

    async def send(self, raw: bytes) -> None:
        await self.socket.send_bytes(raw)

    async def receive(self) -> bytes:
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise RelayUnavailable(f"the connection has ended with {self.socket.close_code}")
        data: bytes = message.data
        return data

    async def close(self) -> None:
        await self.socket.close()


class RequestsWire:
    """And over single requests, by the client's own half. `keys` prove them."""

    def __init__(self, connection: RequestConnection) -> None:
        self.keys: dict[TopicId, SigningKey] = {}
        connection.find_key = self.keys.__getitem__
        self.send, self.receive, self.close = connection.send, connection.receive, connection.close

    @classmethod
    async def connect(cls, url: str) -> RequestsWire:
        connection = await dial_requests(url)
        assert isinstance(connection, RequestConnection)
        return cls(connection)


def transport_of(client: RelayClient) -> asyncio.Transport:
    """The socket under a client, to misbehave on."""
    assert isinstance(client.wire, WebSocketWire)
    connection = client.wire.socket._response.connection
    assert connection is not None
    found = connection.transport
    assert isinstance(found, asyncio.Transport)
    return found


@asynccontextmanager
async def tiny_socket(port: int) -> AsyncIterator[socket.socket]:
    """A bare connection to this machine's port that has room for few bytes: who does not read from it is slow soon."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        yield raw
    finally:
        raw.close()


class RelayClient:
    """Frames by name. What is not asked for yet waits in `held`."""

    def __init__(self, wire: Wire, url: str) -> None:
        self.wire = wire
        self.origin = normalize_origin(url)
        self.challenge = b""
        self.held: deque[RelayFrame] = deque()
        self._requests = 0

    async def begin(self) -> Challenge:
        challenge = await self.next(Challenge)
        self.challenge = challenge.challenge
        return challenge

    async def send(self, frame: ClientFrame) -> None:
        await self.wire.send(encode_frame(frame))

    @overload
    async def next(self, one: type[_One], /) -> _One: ...
    @overload
    async def next(self, one: type[_One], two: type[_Two], /) -> _One | _Two: ...
    @overload
    async def next(
        self, one: type[_One], two: type[_Two], three: type[_Three], four: type[_Four], /
    ) -> _One | _Two | _Three | _Four: ...
    async def next(self, *kinds: type[Any]) -> Any:
        """The next frame of these kinds; others are held."""
        for frame in self.held:
            if isinstance(frame, kinds):
                self.held.remove(frame)
                return frame
        while True:
            frame = decode_relay_frame(await self.wire.receive())
            if isinstance(frame, kinds):
                return frame
            self.held.append(frame)

    def make_open(self, key: SigningKey, after: int = 0, incarnation: Incarnation | None = None) -> Open:
        topic = topic_of(key)
        if isinstance(self.wire, RequestsWire):
            self.wire.keys[topic] = key
        proof = key.sign(LABEL_OPEN, open_message(self.origin, self.challenge, topic))
        return Open(self._next_request(), topic, incarnation, after, proof)

    async def open(
        self, key: SigningKey, after: int = 0, incarnation: Incarnation | None = None
    ) -> tuple[Opened, list[tuple[int, bytes]]]:
        """Open and read to `live`: the answer, and (seq, envelope) of all that was stored."""
        await self.send(self.make_open(key, after, incarnation))
        answer = await self.next(Opened, Error)
        assert isinstance(answer, Opened), answer
        # What came before `opened` belongs to the subscription that this one replaces.
        topic = topic_of(key)
        self.held = deque(f for f in self.held if not (isinstance(f, Entries | Live) and f.topic == topic))
        found: list[tuple[int, bytes]] = []
        others: list[RelayFrame] = []
        while True:
            frame = await self.next(Entries, Live)
            if frame.topic != topic:
                others.append(frame)
                continue
            if isinstance(frame, Live):
                self.held.extend(others)
                return answer, found
            found += enumerate(frame.envelopes, start=frame.first)

    async def resume(
        self, key: SigningKey, after: int = 0, incarnation: Incarnation | None = None, most: int = 0
    ) -> Opened:
        """Open without being sent more than `most` envelopes."""
        opening = self.make_open(key, after, incarnation)
        await self.send(Resume(opening.request, opening.topic, incarnation, after, opening.proof, most))
        answer = await self.next(Opened, Error)
        assert isinstance(answer, Opened), answer
        return answer

    async def list_names(self, key: SigningKey, after: int, most: int, salt: bytes) -> Listed | Error:
        request = self._next_request()
        await self.send(List(request, topic_of(key), after, most, salt))
        answer = await self.next(Listed, Error)
        assert answer.request == request, answer
        return answer

    async def fetch(self, key: SigningKey, *places: int) -> Fetched | Error:
        request = self._next_request()
        await self.send(Fetch(request, topic_of(key), places))
        answer = await self.next(Fetched, Error)
        assert answer.request == request, answer
        return answer

    async def put(
        self, key: SigningKey, *envelopes: bytes, seal: bool = False, expect: int | None = None
    ) -> Ack | Error:
        request = self._next_request()
        await self.send(Put(request, topic_of(key), envelopes, seal, expect))
        answer = await self.next(Ack, Error)
        assert answer.request == request, answer
        return answer

    async def entries(self, count: int) -> list[tuple[int, bytes]]:
        """The next `count` envelopes that arrive, with their sequence numbers."""
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            frame = await self.next(Entries)
            found += enumerate(frame.envelopes, start=frame.first)
        return found

    async def cast(self, key: SigningKey, payload: bytes) -> None:
        await self.send(Cast(topic_of(key), payload))

    async def close_topic(self, key: SigningKey) -> None:
        await self.send(Close(topic_of(key)))

    async def close(self) -> None:
        await self.wire.close()

    def _next_request(self) -> int:
        self._requests += 1
        return self._requests


async def connect(http: aiohttp.ClientSession, url: str) -> RelayClient:
    """A client on a real relay, its challenge received."""
    client = RelayClient(await WebSocketWire.connect(http, url), url)
    await client.begin()
    return client


class Named(Protocol):
    """A relay, in this process or in one of its own."""

    @property
    def url(self) -> str: ...


async def open_client(http: aiohttp.ClientSession, relay: Named, key: SigningKey) -> RelayClient:
    """A client that has opened the topic of that key."""
    client = await connect(http, relay.url)
    await client.open(key)
    return client


def http_url(url: str) -> str:
    return url.replace("ws", "http", 1)


async def authorize(http: aiohttp.ClientSession, url: str, key: SigningKey) -> dict[str, str]:
    """The header that proves a topic for blobs."""
    async with http.get(f"{http_url(url)}/v1/challenge") as answer:
        challenge = bytes.fromhex((await answer.json())["challenge"])
    topic = topic_of(key)
    proof = key.sign(LABEL_BLOB, blob_message(normalize_origin(url), challenge, topic))
    return {"Authorization": f"Cocoon {topic.hex()}.{challenge.hex()}.{proof.hex()}"}
