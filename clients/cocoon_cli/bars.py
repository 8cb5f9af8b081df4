"""A bar of bytes with rate and time left, on standard error: only in a terminal, only for people, gone at the end."""

from __future__ import annotations

import sys
from typing import Any

from cocoon_cli.text import neutralise

_LONGEST = 40  # characters of what is being worked on


class ByteProgress:
    """A bar of bytes. Called with bytes done, bytes in all, and what is worked on, if that changes."""

    def __init__(self, label: str, wanted: bool) -> None:
        self._label, self._wanted = label, wanted
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        if not self._wanted:
            return
        label = f"{self._label} {_shorten(what)}".strip()
        if self._bar is None:
            self._start(label, total)
        self._bar.update(self._task, completed=done, total=total, description=neutralise(label))

    def _start(self, label: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(neutralise(label), total=total)

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"
