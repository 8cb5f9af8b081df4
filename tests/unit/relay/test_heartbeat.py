"""Who is silent is pinged, then ended; whoever says anything, or is not read from, stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cocoon_relay.doorman import Doorman
from cocoon_relay.heartbeat import Heartbeat

HALF = 0.02


class Line:
    """A doorman and a transport, as far as the heartbeat asks them."""

    def __init__(self) -> None:
        self.heard = False
        self.reading = True
        self.closing = False
        self.said: list[str] = []

    def take_heard(self) -> bool:
        heard, self.heard = self.heard, False
        return heard

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.said.append("ended")

    def ping(self) -> None:
        self.said.append("ping")


def watch(line: Any) -> Heartbeat:
    return Heartbeat(line, line, 2 * HALF, line.ping)


async def test_silence_is_pinged_and_then_ended() -> None:
    line = Line()
    watch(line)
    async with asyncio.timeout(5):
        while "ended" not in line.said:
            await asyncio.sleep(HALF / 4)
    await asyncio.sleep(3 * HALF)
    assert line.said == ["ping", "ended"]


async def test_who_does_not_take_what_is_left_before_the_end_is_ended() -> None:
    """A transport that closes is not read from, and waits for its peer for ever."""
    line = Line()
    line.reading, line.closing = False, True
    heartbeat = watch(line)
    try:
        async with asyncio.timeout(5):
            while "ended" not in line.said:
                await asyncio.sleep(HALF / 4)
    finally:
        heartbeat.stop()


@pytest.mark.parametrize("why", ["heard", "not read"])
async def test_who_is_heard_or_not_read_stays(why: str) -> None:
    line = Line()
    heartbeat = watch(line)
    looks = 0
    honest = line.take_heard

    def look() -> bool:
        nonlocal looks
        looks += 1
        if why == "heard":
            line.heard = looks % 3 == 0  # an answer to each ping
        return honest()

    line.take_heard = look  # type: ignore[method-assign]
    line.reading = why == "heard"
    async with asyncio.timeout(5):
        while looks < 12:
            await asyncio.sleep(HALF)
    heartbeat.stop()
    assert "ended" not in line.said
    assert ("ping" in line.said) is (why == "heard")


async def test_a_doorman_says_once_that_something_came() -> None:
    doorman = Doorman(None, asyncio.Protocol)  # type: ignore[arg-type]
    assert not doorman.take_heard()
    doorman.data_received(b"x")
    assert doorman.take_heard()
    assert not doorman.take_heard()
