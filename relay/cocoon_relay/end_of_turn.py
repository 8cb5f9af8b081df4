"""What is done at the end of a turn of the loop, for all clients together.

Each `call_soon` of the loop costs as much as what it would call here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from cocoon_relay.calls import call_each


class EndOfTurn:
    """Calls everything that was added in a turn of the loop, in order, and what is added meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        if not self._calls:
            self._loop.call_soon(self._run)
        self._calls.append(call)

    def _run(self) -> None:
        call_each(self._calls, "a call at the end of a turn")
