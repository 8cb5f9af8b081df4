"""A short sync in the background: it ends when its time is over, and what it did stays done."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.sync.transport import Connection
from tests.support.world import Seat, World, make_world  # noqa: F401  a fixture


class HangingConnection:
    """Takes everything and says no more after so many frames."""

    def __init__(self, connection: Connection, frames: int) -> None:
        self._connection, self._left = connection, frames

    async def send(self, raw: bytes) -> None:
        await self._connection.send(raw)

    async def receive(self) -> bytes | None:
        if self._left == 0:
            await asyncio.Event().wait()
        self._left -= 1
        return await self._connection.receive()

    async def close(self) -> None:
        await self._connection.close()


async def test_a_brief_sync_sends_and_brings_the_newest(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("hello")
    await ana.sync()
    report = await ben.group.sync_briefly(timedelta(seconds=60))
    assert report is not None
    assert report.received == 1
    assert await ben.texts() == ["hello"]


@pytest.mark.parametrize("frames", range(6))
async def test_a_brief_sync_ends_in_time_wherever_the_relay_falls_silent(
    world: World, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    ana, ben = await world.group("ana", "ben")
    await ana.group.feed.post("from ana")
    await ana.sync()
    await ben.group.feed.post("from ben")
    dial = Seat.dial

    async def hanging(seat: Seat, url: str) -> Connection:
        return HangingConnection(await dial(seat, url), frames)

    with monkeypatch.context() as patch:
        patch.setattr(Seat, "dial", hanging)
        await ben.restart()
        async with asyncio.timeout(30):
            assert await ben.group.sync_briefly(timedelta(milliseconds=200)) is None
    await ben.restart()
    await world.level()
    assert await ana.texts() == await ben.texts()
    assert sorted(await ben.texts()) == ["from ana", "from ben"]


async def test_a_brief_sync_tells_of_a_relay_that_is_not_there(world: World) -> None:
    (ana,) = await world.group("ana")
    world.relays.clear()
    with pytest.raises(RelayUnavailable):
        await ana.group.sync_briefly()
