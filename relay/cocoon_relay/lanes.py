"""A lane lets so much through at once, in the order in which it came; what is more waits, and refuses nobody.

Each topic has a lane into the store's writer and one into its readers, each address one into the writer. So whatever
one topic or address asks, what others ask waits for a bounded amount of it. Implements specs/relay.md §8.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Lane:
    """Room for `limit` at once; one piece alone may be larger."""

    __slots__ = ("_limit", "_used", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """What is inside now."""
        return self._used

    def try_enter(self, amount: int) -> bool:
        """Enter if nobody waits and there is room."""
        if self._waiting or (self._used and self._used + amount > self._limit):
            return False
        self._used += amount
        return True

    async def enter(self, amount: int) -> None:
        """Enter, when it is this one's turn."""
        if self.try_enter(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(amount)  # it had been let in
            raise

    def leave(self, amount: int) -> None:
        """Make room for those who wait."""
        self._used -= amount
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if self._used and self._used + wanted > self._limit:
                    return
                self._used += wanted
                turn.set_result(None)
            self._waiting.popleft()
