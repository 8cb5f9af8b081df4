"""Which relays a device uses: those that the policy names, and those that it goes on with until it has left them well.

The list that a group was made or joined with is where a device begins. Where an admin names other relays, each device
adds them, and leaves one that is not named any more after a pass that brought it level: by then what was written there
is here, and the change of policy is there for those who still come. Spec: specs/roster.md §2.
"""

from __future__ import annotations

from contextlib import suppress

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.protocol.invite import require_relays
from cocoon_core.sync.replica import Replica


def add_named_relays(replica: Replica) -> bool:
    """Use every relay that the policy names; a new one is given all that is here. True if there is one."""
    number = replica.record.number
    known = replica.groups.relays(number)
    new = [url for url in _named(replica) if url not in known]
    if new:
        with replica.transaction():
            for url in new:
                replica.groups.add_relay(number, url)
                replica.epochs.queue_all(url)
    return bool(new)


def leave_relay(replica: Replica, url: str) -> bool:
    """Forget a relay that the policy does not name, if it does name some. To be called when level with it."""
    named = _named(replica)
    if not named or url in named or replica.log.unsent_count(url):
        return False
    with replica.transaction():
        replica.groups.remove_relay(replica.record.number, url)
    return True


def _named(replica: Replica) -> list[str]:
    """The policy's relays in their normal form; none where they cannot be used."""
    if not replica.members.has_begun:
        return []
    with suppress(MalformedError):
        return [normalize_origin(url) for url in require_relays(list(replica.members.roster.policy.relays))]
    return []
