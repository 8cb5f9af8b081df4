"""The relays that the tests of this folder run on: in memory, served in this process, and a process of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import aiohttp
import pytest

from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.relay_store import open_files
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_schema import DATABASE_NAME
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_client import RelayClient, WebSocketWire, open_session
from tests.support.relay_process import RelayProcess, serve_relay

Connect = Callable[[], Awaitable[RelayClient]]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as session:
        yield session


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Relay]]]:
    """Start relays in this process; `data` and fields of Limits may be given."""
    async with AsyncExitStack() as stack:

        async def start(data: Path | None = None, **changed: object) -> Relay:
            return await stack.enter_async_context(serve_relay(data or tmp_path / "data", **changed))

        yield start


class AnyRelay:
    """One relay in one of its three forms. `data` is the real one's directory."""

    def __init__(
        self, http: aiohttp.ClientSession, stack: AsyncExitStack, memory: MemoryRelay | None, url: str
    ) -> None:
        self._http, self._stack, self._memory = http, stack, memory
        self.url = url
        self.data: Path | None = None

    async def connect(self) -> RelayClient:
        wire = await WebSocketWire.connect(self._http, self.url) if self._memory is None else self._memory.connect()
        self._stack.push_async_callback(wire.close)
        client = RelayClient(wire, self.url)
        await client.begin()
        return client

    def dial_blobs(self) -> BlobStore:
        store = dial_blobs(self.url) if self._memory is None else self._memory.dial_blobs()
        self._stack.push_async_callback(store.close)
        return store

    async def age(self, days: int) -> None:
        """Let days pass and the relay collect what outlived its lease. Nobody may have a topic open."""
        if self._memory is not None:
            self._memory.age(days)
            return
        assert self.data is not None
        with closing(sqlite3.connect(self.data / DATABASE_NAME, timeout=5.0)) as db, db:
            db.execute("UPDATE topics SET touched = touched - ?", (days * DAY,))
            db.execute("UPDATE blobs SET touched = touched - ?", (days * DAY,))
        store = await open_files(self.data, Limits(), exclusive=False)
        try:
            await store.gc()
        finally:
            await store.close()


@pytest.fixture(params=["memory", "loopback", "process"])
async def relay_any(
    request: pytest.FixtureRequest, tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[AnyRelay]:
    """One relay, in each of its three forms."""
    async with AsyncExitStack() as stack:
        memory = MemoryRelay()
        if request.param == "memory":
            yield AnyRelay(http, stack, memory, memory.url)
            return
        if request.param == "process":
            process = RelayProcess(tmp_path / "data")
            stack.callback(_end_cleanly, process)
            url = process.url
        else:
            url = (await stack.enter_async_context(serve_relay(tmp_path / "data"))).url
        relay = AnyRelay(http, stack, None, url)
        relay.data = tmp_path / "data"
        yield relay


@pytest.fixture
def connect_any(relay_any: AnyRelay) -> Connect:
    """Clients of one relay, in each of its three forms."""
    return relay_any.connect


def _end_cleanly(process: RelayProcess) -> None:
    assert process.stop() == 0
    assert process.errors == ""
