"""How long a watching device waits: nothing is owed while nothing was asked, and what is asked is owed from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cocoon_core.errors import RelayError
from cocoon_core.sync.driver import SILENCE_SECONDS, RelayDriver
from cocoon_core.sync.transport import Connection
from tests.support.memory_relay import MemoryConnection
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


class Distant:
    """A connection whose relay gets a message some turns of the loop after it was sent, or never."""

    def __init__(self, connection: MemoryConnection, turns: int) -> None:
        self._connection, self.turns = connection, turns
        self.receive, self.close = connection.receive, connection.close

    async def send(self, raw: bytes) -> None:
        self._travel(raw, self.turns)

    def _travel(self, raw: bytes, turns: int) -> None:
        if turns > 0:
            asyncio.get_running_loop().call_soon(self._travel, raw, turns - 1)
        elif turns == 0:
            self._connection._relay.handle(self._connection, raw)


class Watched:
    """A device that watches one relay from far away, and the clock of its patience."""

    def __init__(self, seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seat, self.seconds = seat, 0.0
        self.states: asyncio.Queue[RelayError | None] = asyncio.Queue()
        self.connections: list[Distant] = []
        monkeypatch.setattr(RelayDriver, "_now", lambda _: self.seconds)

    async def dial(self, url: str) -> Connection:
        self.connections.append(Distant(self.seat.relay(url).connect(), turns=6))
        return self.connections[-1]

    async def run(self, act: Callable[[], object]) -> None:
        (url,) = self.seat.group.relays
        driver = RelayDriver(self.seat.replica, url, self.dial, self.seat.dial_blobs)
        task = asyncio.create_task(driver.watch(self.states.put_nowait))
        try:
            assert await self.states.get() is None
            await act()  # type: ignore[misc]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_after_an_hour_of_silence_an_edit_goes_out_on_the_same_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.group("ana", "ben")
    watched = Watched(ana, monkeypatch)

    async def post() -> None:
        watched.seconds += 60 * SILENCE_SECONDS
        await ana.group.feed.post("still here")
        while ana.group.unsent():
            await asyncio.sleep(0)

    await watched.run(post)
    assert watched.states.empty()
    assert len(watched.connections) == 1
    await ben.sync()
    assert await ben.texts() == ["still here"]


async def test_a_relay_that_swallows_an_edit_is_told_of_when_its_time_has_passed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, _ = await world.group("ana", "ben")
    watched = Watched(ana, monkeypatch)

    async def post() -> None:
        watched.connections[0].turns = -1
        watched.seconds += 60 * SILENCE_SECONDS
        await ana.group.feed.post("into the void")
        for _ in range(50):
            await asyncio.sleep(0)
        assert watched.states.empty()
        watched.seconds += SILENCE_SECONDS + 1
        await ana.group.feed.post("and another")  # which wakes it
        error = await watched.states.get()
        assert error is not None
        assert "does not answer" in str(error)

    await watched.run(post)
