"""A bar of bytes or of files, with rate and time left, on standard error: only in a terminal, only for people, gone at
the end. It is one line, however narrow the terminal is: first the bar goes, then the figures that can be spared.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cocoon_cli.text import neutralise

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_WINDOW_SECONDS: Final = 5.0  # that the rate is measured over; without a byte for so long, it waits
_BAR: Final = 12, 40  # cells of the bar, at least and at most
_LEAST_NAME: Final = 8  # cells of a name
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(slots=True)
class _Part:
    """One of the things that a bar is about: `first` was done before, and says nothing of the rate."""

    first: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Line:
    """What a bar shows: a name of at most so many cells, a bar of so many, and figures."""

    name: str
    bar: int
    figures: str


class ByteProgress:
    """A bar. Called with bytes done, bytes in all, and what is worked on, if that changes.

    Args:
        label: stands before what is worked on.
        wanted: whether anything is shown at all.
    """

    def __init__(self, label: str, wanted: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._wanted, self._clock = label, wanted, clock
        self._shown = label
        self._parts: dict[Hashable, _Part] = {}
        self._counts_bytes = True
        self._marks: deque[tuple[float, int]] = deque()
        self._live: Any = None

    def __call__(self, done: int, total: int, what: str = "", part: Hashable = None, *, is_moving: bool = True) -> None:
        """Tell how far it is.

        Args:
            part: which of several, that go on at once and are shown as one.
            is_moving: else what is done was found done, and says nothing of the rate.
        """
        if self._wanted:
            self._tell(done, total, f"{self._label} {what}".strip(), part, counts_bytes=True)
            if not is_moving:
                self._parts[part].first = done
                self._marks.clear()
                self._mark()

    def files(self, done: int, total: int, what: str) -> None:
        """Tell of a step that is counted in files."""
        if self._wanted:
            self._tell(done, total, what, None, counts_bytes=False)

    def _tell(self, done: int, total: int, label: str, part: Hashable, *, counts_bytes: bool) -> None:
        known = self._parts.get(part)
        if counts_bytes != self._counts_bytes or (known is not None and done < known.done):  # it is something else now
            self._counts_bytes, known = counts_bytes, None
            self._parts.clear()
            self._marks.clear()
        if known is None:
            self._parts[part] = _Part(done, done, total)
        else:
            known.done, known.total = done, total
        running = sum(one.done < one.total for one in self._parts.values())
        self._shown = f"{label} and {running - 1} more" if running > 1 else label
        self._mark()
        if self._live is None:
            self._start()

    def _mark(self) -> None:
        now = self._clock()
        self._marks.append((now, sum(one.done - one.first for one in self._parts.values())))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_SECONDS:
            self._marks.popleft()

    def line(self, width: int) -> Line:
        """What fits into so many cells."""
        parts = list(self._parts.values())
        done, total = sum(one.done for one in parts), sum(one.total for one in parts)
        rate, left = self._rate(), max(0, total - done)
        amount = _amount(done, total) if self._counts_bytes else f"{done:>{len(str(total))}}/{total}"
        speed = self._waiting() if rate == 0 else f"{_size(rate)}/s" if self._counts_bytes else ""
        when = _duration(left / rate) if rate else ""
        percent = f"{100 * done // total if total else 100}%"
        figures = next(
            text
            for text in (f"{amount}  {speed:>12}  {when:>8}", f"{percent:>4}  {speed:>12}", f"{percent:>4}")
            if len(text) + _LEAST_NAME + 1 <= width or text.strip() == percent
        )
        room = width - 1 - len(figures)
        bar = min(_BAR[1], room // 2)
        if bar < _BAR[0] or room - bar - 1 < 2 * _LEAST_NAME:
            return Line(_shorten(neutralise(self._shown), max(room, 1)), 0, figures)
        return Line(_shorten(neutralise(self._shown), room - bar - 1), bar, figures)

    def _rate(self) -> float:
        """Bytes or files a second, lately."""
        if not self._marks:
            return 0.0
        (since, before), (_, moved) = self._marks[0], self._marks[-1]
        seconds = max(self._clock() - since, 0.001)
        last = next((then for then, count in reversed(self._marks) if count < moved), since)
        return 0.0 if self._clock() - last > 2 * _WINDOW_SECONDS else (moved - before) / seconds

    def _waiting(self) -> str:
        """What stands in the place of a rate: nothing until it is clear that nothing moves."""
        return "waiting" if self._marks and self._clock() - self._marks[0][0] > _WINDOW_SECONDS else ""

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr)
        self._live = Live(
            get_renderable=lambda: self._draw(console.width - 1), console=console, transient=True, refresh_per_second=8
        )
        self._live.start(refresh=True)

    def _draw(self, width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = self.line(width)
        parts = list(self._parts.values())
        bar = ProgressBar(max(1, sum(one.total for one in parts)), sum(one.done for one in parts), width=line.bar)
        shown: list[RenderableType] = [Text(line.name), *([bar] if line.bar else []), Text(line.figures, "dim")]
        table = Table.grid(padding=(0, 1, 0, 0))
        for _ in shown:
            table.add_column(no_wrap=True)
        table.add_row(*shown)
        return table

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _amount(done: int, total: int) -> str:
    """`12.5/200.0 MiB`, both in the unit of the whole."""
    power = _power(total)
    if not power:
        return f"{done:>{len(str(total))}}/{total} B"
    whole = f"{total / 1024**power:.1f}"
    return f"{done / 1024**power:>{len(whole)}.1f}/{whole} {_UNITS[power]}"


def _size(count: float) -> str:
    power = _power(count)
    return f"{count / 1024**power:.1f} {_UNITS[power]}"


def _power(count: float) -> int:
    return next((power for power in range(len(_UNITS) - 1) if count < 1024 ** (power + 1)), len(_UNITS) - 1)


def _duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    if whole >= 100 * 3600:
        return "> 4 days"
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _shorten(name: str, cells: int) -> str:
    """A name in so many cells; what is left out of it is its middle."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= cells:
        return name
    tail = min(len(name), cells // 3)
    while cell_len(name[len(name) - tail :]) > cells // 3:
        tail -= 1
    end = name[len(name) - tail :] if tail else ""
    return f"{set_cell_size(name, max(0, cells - 1 - cell_len(end))).rstrip()}…{end}"
