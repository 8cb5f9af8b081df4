"""Samples, and the one table that all of them end in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `met` is None for what has no target."""

    line: str
    measured: str
    target: str = ""
    ratio: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Repetitions of one measurement, in `unit`."""

    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        return f"{_short(self.median)} {self.unit} ({_short(min(self.values))}–{_short(max(self.values))})"


class Stopwatch:
    """Takes the wall and processor time of each block that runs under it, in ms."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._processor: list[float] = []
        self._began = self._used = 0.0

    def __enter__(self) -> Self:
        self._used, self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall.append((time.perf_counter() - self._began) * 1000)
        self._processor.append((time.process_time() - self._used) * 1000)

    @property
    def wall(self) -> Samples:
        return Samples(self._wall, "ms")

    @property
    def processor(self) -> Samples:
        return Samples(self._processor, "ms")


def compare(line: str, measured: Samples, floor: Samples, most: float, name: str, plus: float = 0.0) -> Row:
    """A row whose target is `most` times the floor, and `plus` more. The ratio is that of the medians."""
    limit = most * floor.median + plus
    added = f" + {plus:g} {floor.unit}" if plus else ""
    return Row(
        line,
        str(measured),
        f"≤ {most:g} × {name} {_short(floor.median)} {floor.unit}{added}",
        f"{(measured.median - plus) / floor.median:.2f}×",
        measured.median <= limit,
    )


def compare_at_least(line: str, measured: Samples, ceiling: Samples, least: float, name: str) -> Row:
    """A row whose target is `least` times the ceiling: more is better."""
    ratio = measured.median / ceiling.median
    return Row(
        line,
        str(measured),
        f"≥ {least:g} × {name} {_short(ceiling.median)} {ceiling.unit}",
        f"{ratio:.2f}×",
        ratio >= least,
    )


def compare_freely(line: str, measured: Samples, floor: Samples, name: str) -> Row:
    """A row without a target."""
    return Row(
        line,
        str(measured),
        f"      {name} {_short(floor.median)} {floor.unit}",
        f"{measured.median / floor.median:.2f}×",
    )


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table."""
    head = ("line", "target", "measured: median (min–max)", "ratio", "met?")
    body = [
        (row.line, row.target, row.measured, row.ratio, {None: "", True: "yes", False: "NO"}[row.met]) for row in rows
    ]
    widths = [max(len(line[place]) for line in (head, *body)) for place in range(len(head))]
    for line in (head, tuple("─" * width for width in widths), *body):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
