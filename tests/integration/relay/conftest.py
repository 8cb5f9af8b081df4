"""The relays that the tests of this folder run on: in memory, served in this process, and a process of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from functools import partial
from itertools import cycle
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from cocoon_core.sync import http_connection
from cocoon_core.sync.blobs import BlobStore
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.postgres_schema import SCHEMA, migrate
from cocoon_relay.relay_store import RelayStore, open_files
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_schema import DATABASE_NAME
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_client import RelayClient, RequestsWire, WebSocketWire, Wire, make_http  # noqa: F401  a fixture
from tests.support.relay_process import RelayProcess, serve_node, serve_relay
from tests.support.servers import PostgresServer, S3Server
from tests.support.stores import Backing, Clock

Connect = Callable[[], Awaitable[RelayClient]]
SOCKETS = ("memory", "loopback", "process", "two nodes")


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Relay]]]:
    """Start relays in this process; `data` and fields of Limits may be given."""
    async with AsyncExitStack() as stack:

        async def start(data: Path | None = None, **changed: object) -> Relay:
            return await stack.enter_async_context(serve_relay(data or tmp_path / "data", **changed))

        yield start


class AnyRelay:
    """One relay in one of its forms: in memory, or behind these URLs, which are nodes of one store."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        stack: AsyncExitStack,
        memory: MemoryRelay | None,
        *urls: str,
        age: Callable[[int], Awaitable[None]] | None = None,
        by_requests: bool = False,
    ) -> None:
        self._http, self._stack, self._memory, self._age = http, stack, memory, age
        self.by_requests = by_requests
        self._next = cycle(urls)

    async def connect(self) -> RelayClient:
        """A client; of several nodes each has its turn."""
        url = next(self._next)
        wire: Wire
        if self.by_requests:
            wire = await RequestsWire.connect(url)
        else:
            wire = await WebSocketWire.connect(self._http, url) if self._memory is None else self._memory.connect()
        self._stack.push_async_callback(wire.close)
        client = RelayClient(wire, url)
        await client.begin()
        return client

    def dial_blobs(self) -> BlobStore:
        store = dial_blobs(next(self._next)) if self._memory is None else self._memory.dial_blobs()
        self._stack.push_async_callback(store.close)
        return store

    async def age(self, days: int) -> None:
        """Let days pass and the relay collect what outlived its lease. Nobody may have a topic open."""
        if self._memory is not None:
            self._memory.age(days)
            return
        assert self._age is not None
        await self._age(days)


@pytest.fixture(params=[*SOCKETS, "requests", "requests to two nodes"])
async def relay_any(
    request: pytest.FixtureRequest, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AnyRelay]:
    """One relay, in each of its forms; two nodes stand on PostgreSQL and S3, and clients come to both in turn. To the
    last two they come by single requests.
    """
    monkeypatch.setattr(http_connection, "LOOK_FIRST", 0.02)
    async with AsyncExitStack() as stack:
        data = tmp_path / "data"
        by_requests = request.param.startswith("requests")
        if request.param == "memory":
            memory = MemoryRelay()
            yield AnyRelay(http, stack, memory, memory.url)
        elif request.param.endswith("two nodes"):
            backing: Backing = await request.getfixturevalue("make_backing")()
            nodes = [
                await stack.enter_async_context(serve_node(tmp_path / name, backing.databases, backing.bucket))
                for name in ("one", "two")
            ]
            age = partial(_age_postgres, backing)
            yield AnyRelay(http, stack, None, *(node.url for node in nodes), age=age, by_requests=by_requests)
        elif request.param == "process":
            process = RelayProcess(data)
            stack.callback(_end_cleanly, process)
            yield AnyRelay(http, stack, None, process.url, age=partial(_age_sqlite, data))
        else:
            relay = await stack.enter_async_context(serve_relay(data))
            age = partial(_age_sqlite, data)
            yield AnyRelay(http, stack, None, relay.url, age=age, by_requests=by_requests)


@pytest.fixture
def make_backing(
    postgres: PostgresServer, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Awaitable[Backing]]:
    """PostgreSQL and S3 for several nodes. The database is that of the test before, emptied."""

    async def make() -> Backing:
        for name, value in s3.variables.items():
            monkeypatch.setenv(name, value)
        database = await postgres.shared_database()
        await migrate(database)
        await _run(
            database,
            "TRUNCATE topics, entries, blobs, condemned_blobs",
            "UPDATE totals SET topics = 0, entries = 0, bytes = 0, blobs = 0, blob_bytes = 0",
        )
        return Backing(tmp_path / "aside", (database,), s3.make_folder(), Clock())

    return make


async def _run(database: str, *statements: str) -> None:
    connection = await asyncpg.connect(database, server_settings={"search_path": SCHEMA})
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def _age_postgres(backing: Backing, days: int) -> None:
    await _run(
        backing.databases[0],
        f"UPDATE topics SET touched = touched - {days * DAY}",
        f"UPDATE blobs SET touched = touched - {days * DAY}",
    )
    await _collect(await backing.open())


async def _age_sqlite(data: Path, days: int) -> None:
    with closing(sqlite3.connect(data / DATABASE_NAME, timeout=5.0)) as db, db:
        db.execute("UPDATE topics SET touched = touched - ?", (days * DAY,))
        db.execute("UPDATE blobs SET touched = touched - ?", (days * DAY,))
    await _collect(await open_files(data, Limits(), exclusive=False))


async def _collect(store: RelayStore) -> None:
    try:
        await store.gc()
    finally:
        await store.close()


@pytest.fixture
def connect_any(relay_any: AnyRelay) -> Connect:
    """Clients of one relay, in each of its three forms."""
    return relay_any.connect


def _end_cleanly(process: RelayProcess) -> None:
    assert process.stop() == 0
    assert process.errors == ""
