"""How far work on a file is: bytes done, bytes in all, rate, and what remains."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_LEAST_SECONDS: Final = 0.1  # between two tellings
_WINDOW_SECONDS: Final = 5.0  # that the rate is measured over


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is.

    Attributes:
        done, total: bytes.
        rate: bytes a second, lately; 0 before anything was measured.
        remaining: seconds, if it goes on at that rate; None where that is not known.
    """

    done: int
    total: int
    rate: float
    remaining: float | None


Tell = Callable[[Progress], None]


class Meter:
    """Counts bytes, and tells of them ten times a second at most, and at the end.

    Args:
        total: bytes in all.
        done: bytes that were done before, which say nothing of the rate.
    """

    def __init__(
        self, total: int, tell: Tell | None, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.done = total, done
        self._tell, self._clock = tell, clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), done)])
        self._told = float("-inf")

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        self.done += count
        now = self._clock()
        if self._tell is not None and (now - self._told >= _LEAST_SECONDS or self.done >= self.total):
            self._told = now
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_SECONDS:
                self._marks.popleft()
            self._tell(self.progress())

    def restart(self) -> None:
        """All that is done by now was found done, and says nothing of the rate."""
        self._marks = deque([(self._clock(), self.done)])
        if self._tell is not None:
            self._tell(self.progress())

    def progress(self) -> Progress:
        (since, before), (now, done) = self._marks[0], self._marks[-1]
        rate = (done - before) / (now - since) if now > since else 0.0
        left = max(0, self.total - self.done)
        remaining = 0.0 if not left else left / rate if rate > 0 else None
        return Progress(self.done, self.total, rate, remaining)
