"""How many puts go into one transaction: those that wait, and those that usually come a moment later.

Clients that put and wait for the ack fall into two halves, one of which waits while the other is committed: twice the
transactions, and twice their cost. So the writer waits a moment for as many as came together lately. It learns that
number by asking for some more each time it got them; what it asks for in vain it asks for ever more seldom.
"""

from __future__ import annotations

from typing import Final

MOMENT_SECONDS: Final = 0.0004  # less than a sync of most disks takes; an idle loop makes it a millisecond
_MOST_SELDOM: Final = 256  # transactions between two requests for more


class Company:
    """What one writer expects."""

    def __init__(self) -> None:
        self._expected = 1
        self._left = self._between = 1  # transactions until more are asked for, and of late between two such

    def lacks(self, number: int) -> bool:
        """Whether more than these are worth a moment."""
        return number < self._expected

    def came(self, number: int) -> None:
        """So many go into a transaction now, after a moment if there was one."""
        if number < self._expected:
            self._expected = max(1, number)
            self._left = self._between = min(2 * self._between, _MOST_SELDOM)
            return
        if number > self._expected:
            self._expected = number
            self._left = self._between = 1
        self._left -= 1
        if self._left <= 0:
            self._expected = number + 1 + number // 8
            self._left = self._between
