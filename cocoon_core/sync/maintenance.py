"""What a device does by itself when it is level: closing invites that ended, rotating where that is due.

One device suffices. The first by rank does it at once, the others only if it is still to be done some time later;
except that a device which has something to send rotates itself where somebody is gone, since it may not seal to them.
The clock decides when to write, never whether it counts. Spec: specs/invite.md §7 and specs/epoch.md §7.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.epochs import rank_of
from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.sync.carrying_over import carry_over
from cocoon_core.sync.key_care import tend_keys
from cocoon_core.sync.recovery_upkeep import keep_recovery
from cocoon_core.sync.reissue import reissue_lost
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.suspending import suspend_forked
from cocoon_core.sync.sweeping import sweep_retired
from cocoon_core.sync.turns import forget_old_turns, has_waited, is_turn, since_when
from cocoon_core.sync.welcomes import renew_welcomes

LOST_PAGES_MS: Final = 3_600_000  # without a page that is owed, until the others are made to look for it


def tend(replica: Replica, *, sealed: bool = False) -> None:
    """Do what is due and this device's turn. To be called when level with a relay, and what came was followed.

    Args:
        sealed: somebody ended the current topic there, and nothing leads on.
    """
    if replica.members.member_of(replica.keys.id) is None or not replica.is_writable or not replica.epochs.is_level:
        return
    close_ended_invites(replica)
    suspend_forked(replica, lambda what, rank: is_turn(replica, what, rank))
    reissue_lost(replica)
    carry_over(replica)
    for chore in replica.chores:
        chore()
    keep_recovery(replica)
    end_epoch_of_lost_pages(replica)
    rotate_where_due(replica, sealed=sealed)
    tend_keys(replica)
    renew_welcomes(replica)
    sweep_retired(replica)
    forget_old_turns(replica)


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
        rank = rank_of(replica.keys.id, invite.id, replica.members.roster.devices)
        if not (is_turn(replica, f"invite {invite.id}", rank) if spent else has_waited(now - invite.expires_ms, rank)):
            continue
        with suppress(UsageError):  # it would not count as things stand: a sync is not stopped by that
            replica.write_operation(RevokeInvite(invite.id, tuple(sorted(invite.joins))))
            closed += 1
    return closed


def end_epoch_of_lost_pages(replica: Replica) -> None:
    """Where documents are owed and their pages did not come for long, let the epoch be ended: whoever follows the next
    manifest looks for its pages, and puts those again that it can make (specs/manifest.md §5).
    """
    owed = sum(len(lot.debts) for lot in replica.debts.lots())
    topic = replica.epoch.topic
    if owed and replica.clock() - since_when(replica, f"pages {topic} {owed}") >= LOST_PAGES_MS:
        replica.epochs.broken.add(topic)


def rotate_where_due(replica: Replica, *, sealed: bool = False) -> None:
    """Begin a new epoch if there is a reason to, and it is this device's turn."""
    choice, reason = replica.epochs.choice, replica.epochs.reason_to_rotate(sealed=sealed)
    if choice is None or reason is None:
        return
    waits = reason is not Reason.REMOVAL or not replica.has_unsent
    rank = rank_of(replica.keys.id, choice.epoch.topic, replica.seen_lately())
    if not waits or is_turn(replica, f"{reason} {choice.epoch.id}", rank):
        replica.rotate(reason)
