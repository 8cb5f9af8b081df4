"""Whose turn it is to do what one device of many should: the first by rank at once, each other some time later.

The clock decides when to write, never whether it counts. What waited long ago is forgotten: it was done, by whomever,
or waits its turn once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cocoon_core.protocol.operations_rotation import Reason

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

RANK_WAIT_MS: Final = 60_000  # how long each rank waits for the one before it
TURN_DAYS: Final = 30  # that it is kept since when something waits
_DAY_MS: Final = 86_400_000
_FORGOTTEN: Final = "turns forgotten"  # in the table `due`: when that was last done
# What the names of turns begin with. What else stands in the table is remembered for as long as it says itself.
_TURNS: Final = ("carry ", "erase ", "invite ", "pages ", "repair ", "suspend ", *(f"{reason} " for reason in Reason))


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


def forget_old_turns(replica: Replica) -> None:
    """Once a day, forget since when something waits that is older than any turn, or of a clock that was ahead. Not
    inside a transaction.
    """
    table, now = replica.epochs.table, replica.clock()
    last = table.due_since(_FORGOTTEN)
    if last is not None and abs(now - last) < _DAY_MS:
        return
    old = [
        what
        for what, since in table.all_due().items()
        if what.startswith(_TURNS) and not now - TURN_DAYS * _DAY_MS <= since <= now + _DAY_MS
    ]
    with replica.transaction():
        for what in (*old, _FORGOTTEN):
            table.forget_due(what)
        table.note_due(_FORGOTTEN, now)


def has_waited(elapsed_ms: int, rank: int) -> bool:
    """Whether so much time is enough for this rank."""
    return elapsed_ms >= rank * RANK_WAIT_MS
