"""Guests: relays that are used for a while and forgotten whole, as a file or a device of the same network.

A guest is read and written like a relay and believed as little. It never stands in for one: what comes from a guest is
queued for every relay, what a guest has taken is still queued for them, and nothing that lacks at a guest is told as
withheld, lost or closed. All that is known of one goes by its name in the tables of relays; it is forgotten when the
guest goes, and after a crash when the group is next opened. Spec: specs/storage.md §3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cocoon_core.errors import UsageError
from cocoon_core.sync.replica import Replica


def forget_guests(replica: Replica) -> None:
    """A process that used guests was killed: forget them. To be called before the group is used."""
    number = replica.record.number
    left = [name for name in replica.groups.guests(number) if name not in replica.guests]
    if left:
        with replica.transaction():
            for name in left:
                replica.groups.remove_relay(number, name)


@contextmanager
def guest(replica: Replica, name: str) -> Iterator[None]:
    """Use a guest of this name inside the block. All that is here above the frontier is queued for it.

    Raises:
        UsageError: the name is that of a relay or of another guest.
    """
    number = replica.record.number
    if name in replica.groups.carriers(number):
        raise UsageError(f"{name} is used already")
    with replica.transaction():
        replica.groups.add_guest(number, name)
        replica.epochs.queue_all(name)
    replica.guests.add(name)
    try:
        yield
    finally:
        replica.guests.discard(name)
        replica.epochs.to_reread.discard(name)
        with replica.transaction():
            replica.groups.remove_relay(number, name)
