"""What a thread rings for is called in the loop, all of it, in order, whether or not the system counts events."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from typing import Any

import pytest

from cocoon_relay.bell import Bell


@pytest.fixture(params=["as it is", "without events"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without events":
        monkeypatch.delattr(os, "eventfd", raising=False)
    return str(request.param)


async def test_all_are_called_in_the_loop_in_order(system: str) -> None:
    bell, called = Bell(), list[int]()
    here = threading.get_ident()

    def note(number: int) -> None:
        assert threading.get_ident() == here
        called.append(number)

    def ring_often() -> None:
        for number in range(20_000):
            bell.ring(partial(note, number))

    await asyncio.to_thread(ring_often)
    async with asyncio.timeout(10):
        while len(called) < 20_000:
            await asyncio.sleep(0.001)
    assert called == list(range(20_000))
    bell.close()


async def test_what_is_left_is_called_when_it_is_closed_and_its_number_is_given_back(system: str) -> None:
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for _ in range(20):
        bell, called = Bell(), list[int]()
        thread = threading.Thread(target=bell.ring, args=(partial(called.append, 1),))
        thread.start()
        thread.join()
        assert called == []
        bell.close()
        bell.close()
        assert called == [1]
    after = os.listdir("/proc/self/fd") if before else []
    assert len(after) <= len(before) + 2


async def test_a_fault_is_reported_and_the_others_are_called(system: str) -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    bell, called = Bell(), list[int]()

    def fail() -> None:
        raise ValueError("no")

    for call in (partial(called.append, 1), fail, partial(called.append, 2)):
        bell.ring(call)
    async with asyncio.timeout(5):
        while len(called) < 2:
            await asyncio.sleep(0.001)
    assert [type(error) for error in reported] == [ValueError]
    bell.close()
