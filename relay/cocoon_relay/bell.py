"""Has something called in the event loop, from another thread, for less than `call_soon_threadsafe` takes.

The loop wakes itself over a pair of sockets, and reads from it until nothing is left: three calls of the system for a
transaction. Where the system can count events (Linux), two are enough, and both are quicker.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from cocoon_relay.calls import call_each


class Bell:
    """`ring` belongs to the thread, which has ended before `close`; the rest to the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()
        self._events: int | None = None
        if hasattr(os, "eventfd"):
            self._events = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._loop.add_reader(self._events, self._answer)

    def ring(self, call: Callable[[], None]) -> None:
        """Have it called in the loop, after those before it. A loop that is gone has nobody left to tell."""
        self._calls.append(call)
        if self._events is not None:
            os.eventfd_write(self._events, 1)
        else:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._call_all)

    def close(self) -> None:
        """Call what is left, and no more."""
        self._call_all()
        events, self._events = self._events, None
        if events is not None:
            self._loop.remove_reader(events)
            os.close(events)

    def _answer(self) -> None:
        assert self._events is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self._events)
        self._call_all()

    def _call_all(self) -> None:
        call_each(self._calls, "a call from a thread")
