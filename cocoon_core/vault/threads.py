"""The same work for many blobs of one file, on two threads beside the event loop.

Reading, sealing, hashing and writing a mebibyte leave the interpreter to others, so two threads fill two cores. What is
in memory at once is what two pieces of work hold, however many there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from threading import Event, Lock, local
from typing import Any, Final, TypeVar

from cocoon_core.protocol.constants import CHUNK_BYTES, TAG_BYTES

THREADS: Final = 2
T = TypeVar("T")
_OWN: Final = local()


def buffers() -> tuple[memoryview, memoryview]:
    """This thread's memory for one chunk and for one blob, to be written over: a mebibyte that is given back and taken
    anew each time costs more in pages than the cipher takes.
    """
    if not hasattr(_OWN, "made"):
        _OWN.made = memoryview(bytearray(CHUNK_BYTES)), memoryview(bytearray(CHUNK_BYTES + TAG_BYTES))
    made: tuple[memoryview, memoryview] = _OWN.made
    return made


async def work_through(places: Iterable[int], work: Callable[[int], T]) -> list[T]:
    """`work(place)` for each, in any order. It returns, or raises, when no thread works any more.

    Raises:
        What the first piece of work that failed raised; nothing is begun after it.
    """
    left, lock, stopped = iter(places), Lock(), Event()

    def take() -> int | None:
        with lock:
            return None if stopped.is_set() else next(left, None)

    def run() -> list[T]:
        done: list[T] = []
        try:
            while (place := take()) is not None:
                done.append(work(place))
        except BaseException:
            stopped.set()
            raise
        return done

    running = [asyncio.ensure_future(asyncio.to_thread(run)) for _ in range(THREADS)]
    try:
        await asyncio.wait(running)
    finally:
        stopped.set()  # whoever is cancelled still waits for what is being written
        await finished(*running)
    return [one for done in running for one in done.result()]


async def in_thread(work: Callable[[], T]) -> T:
    """`work()` beside the event loop. Who is cancelled waits for its end: it may use what is closed after it."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    await finished(running)
    return running.result()


class Beside:
    """One piece of work beside what goes on, as the sync of one lot while the next is made."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin the next one; the one before is done."""
        self._running = asyncio.create_task(work)

    async def done(self) -> None:
        """Wait for it, and raise what it raised."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def ended(self) -> None:
        """Wait for its end, however that is, so that what it uses can be closed."""
        if self._running is not None:
            await finished(self._running)


async def finished(*running: asyncio.Future[Any]) -> None:
    """Wait until all ended, however they did. A cancellation of the waiting itself is raised then."""
    cancelled: asyncio.CancelledError | None = None
    while not all(one.done() for one in running):
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    for one in running:
        if not one.cancelled():
            one.exception()  # whoever wants it asks for the result
    if cancelled is not None:
        raise cancelled


def in_lots(places: Iterable[T], many: int) -> Iterator[list[T]]:
    """So many at a time."""
    left = iter(places)
    while lot := list(islice(left, many)):
        yield lot
