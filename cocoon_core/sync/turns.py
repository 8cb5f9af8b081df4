"""Whose turn it is to do what one device of many should: the first by rank at once, each other some time later.

The clock decides when to write, never whether it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

RANK_WAIT_MS: Final = 60_000  # how long each rank waits for the one before it


def is_turn(replica: Replica, what: str, rank: int) -> bool:
    """Whether those who come first have had their time, since this was first to be done as far as this device knows.

    Not inside a transaction.
    """
    if rank == 0:
        return True
    now = replica.clock()
    return has_waited(now - since_when(replica, what), rank)


def since_when(replica: Replica, what: str) -> int:
    """When this device first noticed that something is to be done. Not inside a transaction."""
    table = replica.epochs.table
    known = table.due_since(what)
    if known is not None:
        return known
    now = replica.clock()
    with replica.transaction():
        table.note_due(what, now)
    return now


def has_waited(elapsed_ms: int, rank: int) -> bool:
    """Whether so much time is enough for this rank."""
    return elapsed_ms >= rank * RANK_WAIT_MS
