"""What is done at the end of a turn of the loop, for all clients together.

Each `call_soon` of the loop costs as much as what it would call here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class EndOfTurn:
    """Calls everything that was added in a turn of the loop, in order, and what is added meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: list[Callable[[], None]] = []

    def add(self, call: Callable[[], None]) -> None:
        if not self._calls:
            self._loop.call_soon(self._run)
        self._calls.append(call)

    def _run(self) -> None:
        calls = self._calls
        for call in calls:  # which may grow
            try:
                call()
            except Exception as error:  # the loop's to report, and in nobody's way
                self._loop.call_exception_handler({"message": "a call at the end of a turn failed", "exception": error})
        calls.clear()
