"""What waits for the one thread that writes: laid down in the event loop, taken by the thread when it is worth it.

To wake a thread is dear beside one put, so it is woken for a transaction, not for a job: when all are there that
usually come together (company.py), or a moment after the first. While it writes, it is not disturbed, and goes on at
once if enough came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from queue import SimpleQueue
from threading import Lock
from typing import Generic, Protocol, TypeVar

from cocoon_relay.company import MOMENT_SECONDS, Company


class Job(Protocol):
    """What the inbox needs to know of a job."""

    @property
    def number(self) -> int:
        """How many puts it is; 1 if it is something else."""

    @property
    def size(self) -> int:
        """Bytes of its envelopes."""


J = TypeVar("J", bound=Job)


class Inbox(Generic[J]):
    """`put`, `look` and `close` belong to the loop; `take` and `rest` to the thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[J] = deque()
        self._company = Company()
        self._came = 0  # puts, in all, counted in the loop alone
        self._went = 0  # the same, counted in the thread alone
        self._lock = Lock()  # of the next two, so that neither side misses what the other did
        self._resting = True  # the thread sleeps, or is about to; who ends that wakes it, once
        self._ending = False
        self._sleeps = True  # whether the thread owes itself that sleep, known to it alone
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._looks = False  # at the end of this turn of the loop
        self._moment: asyncio.TimerHandle | None = None

    # --- in the loop

    def put(self, job: J) -> None:
        """Lay a job down behind the others."""
        self._waiting.append(job)
        self._came += job.number
        if not self._looks:
            self._looks = True
            self._loop.call_soon(self._end_turn)

    def look(self) -> None:
        """After a transaction: wake the thread if it rests and enough wait for it, or give the others a moment."""
        with self._lock:
            resting = self._resting and not self._ending
        if not resting or not self._waiting:
            return
        if not self._company.lacks(self._came - self._went):
            self._wake()
        elif self._moment is None:
            self._moment = self._loop.call_later(MOMENT_SECONDS, self._wake)

    def close(self) -> None:
        """Let the thread take what waits, and then nothing more."""
        with self._lock:
            self._ending = True
        self._wake()

    def _end_turn(self) -> None:
        self._looks = False
        self.look()

    def _wake(self) -> None:
        if self._moment is not None:
            self._moment.cancel()
            self._moment = None
        with self._lock:
            if not self._resting or not (self._waiting or self._ending):
                return
            self._resting = False
        self._wakes.put(None)

    # --- in the thread

    def take(self, jobs: int, size: int) -> list[J]:
        """Sleep until there is enough, then take so many jobs of so many bytes, the last one apart; none at the end."""
        if self._sleeps:
            self._wakes.get()
        self._company.came(self._came - self._went)
        taken: list[J] = []
        while self._waiting and len(taken) < jobs and size > 0:
            job = self._waiting.popleft()
            taken.append(job)
            self._went += job.number
            size -= job.size
        return taken

    def rest(self) -> None:
        """After a transaction, before the loop is told of it and looks: go on at once only if enough wait."""
        number = self._came - self._went
        with self._lock:
            self._resting = self._sleeps = not self._ending and (number == 0 or self._company.lacks(number))
