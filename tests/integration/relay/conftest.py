"""The relays that the tests of this folder run on: in memory, served in this process, and a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from cocoon_relay.server import Relay
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


@pytest.fixture(params=["memory", "loopback", "process"])
async def connect_any(
    request: pytest.FixtureRequest, tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Connect]:
    """Clients of one relay, in each of its three forms."""
    async with AsyncExitStack() as stack:
        memory = MemoryRelay()
        url = memory.url
        if request.param == "process":
            process = RelayProcess(tmp_path / "data")
            stack.callback(_end_cleanly, process)
            url = process.url
        elif request.param == "loopback":
            url = (await stack.enter_async_context(serve_relay(tmp_path / "data"))).url

        async def connect() -> RelayClient:
            wire = memory.connect() if request.param == "memory" else await WebSocketWire.connect(http, url)
            stack.push_async_callback(wire.close)
            client = RelayClient(wire, url)
            await client.begin()
            return client

        yield connect


def _end_cleanly(process: RelayProcess) -> None:
    assert process.stop() == 0
    assert process.errors == ""
