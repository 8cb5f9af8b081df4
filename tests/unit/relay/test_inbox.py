"""What waits for the writer's thread: taken together, never forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from cocoon_relay import inbox as inbox_module
from cocoon_relay.inbox import Inbox


@dataclass
class Note:
    name: int
    number: int = 1
    size: int = 100


class Taking:
    """A thread that takes from an inbox, and says what it took once it may go on. `begun` counts what it was given."""

    def __init__(self, inbox: Inbox[Note], *, jobs: int = 1_000, size: int = 1_000_000) -> None:
        self.batches: list[list[int]] = []
        self.begun = 0
        self.may_write = threading.Semaphore(1_000_000)
        self._inbox = inbox
        self._limits = (jobs, size)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while notes := self._inbox.take(*self._limits):
            self._loop.call_soon_threadsafe(self._begin)
            self.may_write.acquire()
            self.batches.append([note.name for note in notes])
            self._inbox.rest()
            self._loop.call_soon_threadsafe(self._done)

    def _begin(self) -> None:
        self.begun += 1
        self._news.set()

    def _done(self) -> None:
        self._news.set()
        self._inbox.look()

    @property
    def taken(self) -> list[int]:
        return [name for batch in self.batches for name in batch]

    async def until(self, number: int) -> None:
        async with asyncio.timeout(20):
            while len(self.taken) < number:
                await self._news.wait()
                self._news.clear()

    async def until_begun(self, batches: int) -> None:
        async with asyncio.timeout(20):
            while self.begun < batches:
                await self._news.wait()
                self._news.clear()

    async def end(self) -> None:
        self._inbox.close()
        await asyncio.to_thread(self.thread.join, 20)
        assert not self.thread.is_alive()


@contextmanager
def written_slowly(taking: Taking) -> Iterator[None]:
    """The thread stays in its transaction until the end of this."""
    taking.may_write = threading.Semaphore(0)
    yield
    taking.may_write.release(1_000_000)


async def test_what_one_turn_brings_is_taken_together_and_in_order() -> None:
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    for name in range(50):
        inbox.put(Note(name))
    await taking.until(50)
    assert taking.batches == [list(range(50))]
    await taking.end()


async def test_what_comes_while_it_writes_is_the_next_transaction() -> None:
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    with written_slowly(taking):
        inbox.put(Note(0))
        await taking.until_begun(1)
        for name in range(1, 20):
            inbox.put(Note(name))
            await asyncio.sleep(0)
    await taking.until(20)
    assert taking.batches == [[0], list(range(1, 20))]
    await taking.end()


async def test_whoever_is_missing_is_waited_for_a_moment_only() -> None:
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    for name in range(40):
        inbox.put(Note(name))
    await taking.until(40)  # so many are expected from now on
    inbox.put(Note(40))
    await taking.until(41)
    assert taking.batches[-1] == [40]
    await taking.end()


async def test_who_takes_turns_is_brought_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MOMENT_SECONDS", 5.0)
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    inbox.put(Note(0))
    await taking.until(1)  # the next is to have company
    inbox.put(Note(1))
    await asyncio.sleep(0.01)
    assert taking.taken == [0]
    inbox.put(Note(2))
    await taking.until(3)
    assert taking.batches == [[0], [1, 2]]
    await taking.end()


async def test_no_more_is_taken_than_one_transaction_holds() -> None:
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox, jobs=8, size=1_000)
    for name in range(20):
        inbox.put(Note(name))
    inbox.put(Note(20, size=950))
    inbox.put(Note(21, size=950))
    inbox.put(Note(22))
    await taking.until(23)
    assert [len(batch) for batch in taking.batches] == [8, 8, 5, 2]
    await taking.end()


async def test_the_end_takes_what_waits() -> None:
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    with written_slowly(taking):
        inbox.put(Note(0))
        await taking.until_begun(1)
        inbox.put(Note(1))
        inbox.close()
    await asyncio.to_thread(taking.thread.join, 20)
    assert taking.taken == [0, 1]


async def test_the_end_of_an_idle_one() -> None:
    taking = Taking(Inbox())
    await taking.end()
    assert taking.batches == []


async def test_nothing_is_forgotten_whatever_the_order() -> None:
    """Jobs come alone and in crowds, at every moment of the thread's round."""
    inbox: Inbox[Note] = Inbox()
    taking = Taking(inbox)
    name = 0
    for turn in range(3_000):
        for _ in range((turn * 7) % 5):
            inbox.put(Note(name))
            name += 1
        await asyncio.sleep(0)
    await taking.until(name)
    assert taking.taken == list(range(name))
    await taking.end()
