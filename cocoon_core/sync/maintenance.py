"""What a device does by itself when it is level: for now, closing invites that are spent or past their date.

Any member's device may close them, and one suffices. The first by rank does it at once, the others only if it is
still open some time later. The clock decides when to write a revoke, never whether it counts. Spec: specs/invite.md
§6.
"""

from __future__ import annotations

from contextlib import suppress

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import LABEL_RANK
from cocoon_core.protocol.ids import InviteId
from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.sync.replica import Replica

RANK_WAIT_MS = 60_000  # how long each rank waits for the one before it


def close_ended_invites(replica: Replica) -> int:
    """Write a revoke for every open invite that is spent or expired, if it is this device's turn.

    Returns:
        How many were closed.
    """
    if replica.members.member_of(replica.keys.id) is None or not replica.is_writable:
        return 0
    now, closed = replica.clock(), 0
    for invite in list(replica.members.roster.invites.values()):
        spent = invite.is_spent
        if invite.revoked or not (spent or 0 < invite.expires_ms <= now):
            continue
        since = now if spent else invite.expires_ms
        if spent:
            since = replica.first_seen_spent.setdefault(invite.id, now)
        if now - since < _rank(replica, invite.id) * RANK_WAIT_MS:
            continue
        with suppress(UsageError):  # it would not count as things stand: a sync is not stopped by that
            replica.write_operation(RevokeInvite(invite.id, tuple(sorted(invite.joins))))
            closed += 1
    return closed


def _rank(replica: Replica, invite: InviteId) -> int:
    """The place of this device among all valid ones, in an order that differs from invite to invite."""
    own = hash_bytes(LABEL_RANK, replica.keys.id + invite)
    return sum(hash_bytes(LABEL_RANK, device + invite) < own for device in replica.members.roster.devices)
