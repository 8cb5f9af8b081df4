"""A device that watches and has nothing to do: what others write costs it their storing, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cocoon_core.errors import RelayError
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.frames import Entries, Live, RelayFrame, encode_frame, head_of_entries
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.sync import driver
from cocoon_core.sync.driver import RelayDriver
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.session import Deliver, join_deliveries
from tests.support.memory_relay import MemoryConnection, MemoryRelay
from tests.support.waits import COMES
from tests.support.world import Seat, World, alarms, make_world  # noqa: F401  a fixture


class OneByOne(MemoryRelay):
    """Sends each envelope in a message of its own."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries):
            return (frame,)
        return [Entries(frame.topic, place, (one,)) for place, one in enumerate(frame.envelopes, frame.first)]


class Calls:
    """How often one seat's replica was handed to something, while that is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, seat: Seat) -> None:
        self._real: Callable[..., Any] = getattr(driver, name)
        self._replica, self.count = seat.replica, 0
        monkeypatch.setattr(driver, name, self)

    def __call__(self, replica: Replica, *args: Any, **kwargs: Any) -> Any:
        self.count += replica is self._replica
        return self._real(replica, *args, **kwargs)


@asynccontextmanager
async def watching(seat: Seat) -> AsyncIterator[RelayDriver]:
    """It is level and at rest inside the block."""
    states: asyncio.Queue[RelayError | None] = asyncio.Queue()
    (url,) = seat.group.relays
    one = RelayDriver(seat.replica, url, seat.dial, seat.dial_blobs)
    task = asyncio.create_task(one.watch(states.put_nowait))
    try:
        async with asyncio.timeout(COMES):
            assert await states.get() is None
            while not one._is_at_rest():
                await asyncio.sleep(0)
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(COMES):
        while not holds():
            await asyncio.sleep(0)


def has_all_of(seat: Seat, of: Seat) -> bool:
    ends = seat.replica.chains.get(of.device), of.replica.chains[of.device]
    return ends[0] is not None and ends[0].last_id == ends[1].last_id


async def write_apart(seat: Seat, posts: int) -> list[str]:
    """Posts, each of which goes in an envelope of its own; newest first."""
    texts = [f"number {number}" for number in range(posts)]
    for text in texts:
        await seat.group.feed.post(text)
        seat.replica.form_runs()
    return texts[::-1]


async def test_what_came_together_is_stored_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_relay(OneByOne())
    ana, ben = await world.group("ana", "ben")
    async with watching(ben):
        texts = await write_apart(ana, 20)
        received = Calls(monkeypatch, "receive", ben)
        pushing = asyncio.create_task(ana.sync())
        await until(lambda: has_all_of(ben, ana))
        await pushing
    assert [post.text for post in await ben.group.feed.list()] == texts
    assert received.count <= 2
    assert alarms(ben) == []


def test_only_entries_of_one_topic_are_stored_together() -> None:
    topic, other, envelope = TopicId(bytes(32)), TopicId(b"\x01" * 32), bytes(300)
    head = head_of_entries(encode_frame(Entries(topic, 1, (envelope,))))
    assert head is not None
    assert encode_frame(Entries(topic, 70_000, (envelope, envelope))).startswith(head)
    assert not encode_frame(Entries(other, 2, (envelope,))).startswith(head)
    assert head_of_entries(encode_frame(Live(topic, 2))) is None
    first = Deliver(topic, 1, (envelope,), Cursor(Incarnation(bytes(16)), 1))
    gap = Deliver(topic, 3, (envelope,), Cursor(Incarnation(bytes(16)), 3))
    assert join_deliveries(first, [gap]) == [first, gap]


async def test_posts_of_others_give_nothing_to_do_but_at_leisure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LEISURE_SECONDS", 3600.0)
    ana, ben = await world.group("ana", "ben")
    async with watching(ben):
        tended = Calls(monkeypatch, "tend", ben)
        for number in range(5):
            if number == 4:
                assert tended.count == 0
                monkeypatch.setattr(driver, "LEISURE_SECONDS", 0.0)
                await ben.group.feed.post("of ben")  # which ends the leisure that has begun
                await until(lambda: not ben.replica.has_unsent)
                before = tended.count
            await ana.group.feed.post(f"number {number}")
            await ana.sync()
            await until(lambda: has_all_of(ben, ana))
        await until(lambda: tended.count > before)
    assert len(await ben.group.feed.list()) == 6


async def test_a_device_at_rest_sends_what_is_written_and_follows_the_roster_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LEISURE_SECONDS", 3600.0)
    ana, ben, _ = await world.group("ana", "ben", "chi")
    async with watching(ben):
        await ana.group.feed.post("of ana")
        await ana.sync()
        await until(lambda: has_all_of(ben, ana))
        await ben.group.feed.post("of ben, who was at rest")
        await until(lambda: not ben.replica.has_unsent)
        before = ben.replica.epoch.topic
        await ana.group.remove_member("Chi")
        await ana.sync()
        await until(lambda: ben.replica.epoch.topic != before)
    assert await ben.texts() == ["of ana", "of ben, who was at rest"]


async def test_a_post_costs_a_device_at_rest_a_few_statements_and_one_commit(world: World) -> None:
    ana, ben = await world.group("ana", "ben")
    statements: list[str] = []
    async with watching(ben):
        await write_apart(ana, 1)
        await ana.sync()
        await until(lambda: has_all_of(ben, ana))
        replica, trace = ben.replica, ben.replica.database._connection
        last = (await write_apart(ana, 1), ana.replica.chains[ana.device].last_id)[1]

        def note(_: object, statement: str, __: object) -> bool:
            statements.append(statement)
            return True

        trace.exec_trace = note
        await ana.sync()
        await until(lambda: replica.chains[ana.device].last_id == last)
        trace.exec_trace = None
    assert statements.count("COMMIT") == 1
    assert len(statements) <= 25, statements
