"""A process that dies between two of its transactions: what was committed is on disk, and nothing after it happens."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cocoon_core.storage.database import Database
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
            shutil.copytree(seat.home, to)
        else:
            return False
    with suppress(Exception):
        await seat.stop()
    seat.cocoon, seat.home = None, to
    await seat.start()
    return True
