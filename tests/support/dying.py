"""A process that dies: between two of its transactions, or at any call to the disk. What was committed is on disk, and
nothing after it happens.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cocoon_core.storage.database import Database
from tests.support.watched_disk import WatchedDisk
from tests.support.world import Seat


class Died(BaseException):
    """Nothing catches it, as nothing catches a kill."""


async def dies_after(
    monkeypatch: pytest.MonkeyPatch, seat: Seat, transactions: int, act: Callable[[], Awaitable[object]], to: Path
) -> bool:
    """Let a seat do something and die after so many transactions. It then runs again from what its disk held.

    Args:
        to: a new folder, to which its disk is moved.

    Returns:
        False where it did not come to die: it was done before.
    """
    with monkeypatch.context() as patched:
        left = transactions
        honest = Database.transaction

        @contextmanager
        def transaction(database: Database) -> Iterator[None]:
            nonlocal left
            if left == 0:
                raise Died
            left -= 1
            with honest(database):
                yield

        patched.setattr(Database, "transaction", transaction)
        try:
            await act()
        except Died:
            patched.undo()
            await rise_again(seat, to)
            return True
        return False


class MortalDisk(WatchedDisk):
    """A disk under a seat's database that stops at a call: with `Died` for good, as a kill does, or with an error."""

    def stop(self, after: int, error: type[BaseException], *, lasting: bool = True, reads: bool = True) -> None:
        """Fail the call after so many, and where it lasts all that follow; of a full disk one can read."""
        at = self.calls + after

        def fail(number: int, kind: str) -> Exception | None:
            if (number == at or (lasting and number > at)) and (reads or kind != "read"):
                raise error("the disk stopped")
            return None

        self.fail = fail

    def mend(self) -> None:
        self.fail = lambda number, kind: None

    async def put_under(self, monkeypatch: pytest.MonkeyPatch, seat: Seat) -> None:
        """Restart the seat with its database on this disk."""
        honest = Database.open.__func__  # type: ignore[attr-defined]
        with monkeypatch.context() as patched:
            opens = classmethod(lambda cls, path, key, vfs=None: honest(cls, path, key, vfs=self.vfs_name))
            patched.setattr(Database, "open", opens)
            await seat.restart()
        assert seat.running.damaged_groups() == {}  # and its groups are open


async def rise_again(seat: Seat, to: Path) -> None:
    """Run again from what the disk holds of a seat whose process died; its files move to `to`, a new folder."""
    shutil.copytree(seat.home, to)
    with suppress(Exception, Died):
        await seat.stop()
    seat.cocoon, seat.home = None, to
    await seat.start()
