"""Ends connections of which nothing is heard any more. Implements specs/relay.md §8.

Looked at twice in the time of silence that is allowed: to note the time of every piece of data would cost more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cocoon_relay.doorman import Doorman


class Heartbeat:
    """Of one connection: `ping` after `seconds` of silence, or up to half as many more; the end half as many later.

    What the relay itself does not read, since too much waits, is no silence. A peer that does not take what is left to
    send before the end is silent.
    """

    def __init__(
        self, doorman: Doorman, transport: asyncio.Transport, seconds: float, ping: Callable[[], None]
    ) -> None:
        self._doorman, self._transport, self._ping = doorman, transport, ping
        self._loop = asyncio.get_running_loop()
        self._half = seconds / 2
        self._silent = 0  # halves
        self._timer = self._loop.call_later(self._half, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        transport = self._transport
        if self._doorman.take_heard() or not (transport.is_reading() or transport.is_closing()):
            self._silent = 0
        else:
            self._silent += 1
        if self._silent > 2:
            transport.abort()
            return
        if self._silent == 2:
            self._ping()
        self._timer = self._loop.call_later(self._half, self._look)
