"""What a device does by itself for recovery when it is level: tells of requests, covers the group, keeps the index.

Called with every push, so it looks only where the roster changed or a minute has passed. Spec: specs/recovery.md §5
and §7.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import EntryId
from cocoon_core.storage.recovery import RecoveryTable
from cocoon_core.sync.circle import admit_ripe, note_requests
from cocoon_core.sync.recovering import cover_group, drop_settled_seeds, keep_tokens, leads_on, queue_indexes
from cocoon_core.sync.replica import Replica

PAUSE_MS: Final = 60_000

_looked: WeakKeyDictionary[Replica, tuple[tuple[EntryId, ...], int]] = WeakKeyDictionary()


def look_again(replica: Replica) -> None:
    """Something is to be put that was there: look the next time, however soon that is."""
    _looked.pop(replica, None)


def keep_recovery(replica: Replica) -> None:
    """Do what is due. What does not count as things stand stops no sync."""
    if not replica.members.has_begun:
        return
    heads, now = replica.members.roster.heads, replica.clock()
    known, looked_ms = _looked.get(replica, ((), 0))
    if known == heads and 0 <= now - looked_ms < PAUSE_MS:
        return
    note_requests(replica)
    with suppress(UsageError):
        cover_group(replica)
    drop_settled_seeds(replica)
    if RecoveryTable(replica.database).writer() is not None:
        keep_tokens(replica)
        with replica.transaction():
            queue_indexes(replica.database, now, replica.record.number, lambda: leads_on(replica))
    admit_ripe(replica)
    _looked[replica] = replica.members.roster.heads, now
