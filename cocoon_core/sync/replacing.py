"""A device that finds its own chain ahead of its own store, or was restored from a backup, goes on as a fresh one.

It was restored from an older copy, or copied. On that chain it never writes again: a fresh key enters with
replace_device, signed by the old one, which is pinned at what the relays showed. What was written here and never sent
is made again by the new device. Implements specs/counting.md §7
and specs/backup.md §5.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cocoon_core.errors import ChainAheadError, UpdateNeededError, UsageError
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId
from cocoon_core.protocol.operations_devices import ReplaceDevice
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.log import ChainEnd
from cocoon_core.sync.pins import pin_devices
from cocoon_core.sync.reissue import reissue_lost
from cocoon_core.sync.turns import since_when
from cocoon_core.sync.withdrawals import rebuild_documents

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

REPLACE_WAIT_MS: Final = 600_000  # a copy whose history does not decide lets the other replace itself first
RESTORED_WAIT_MS: Final = 86_400_000  # a restored device waits so long for relays that it did not reach


def replace_own_device(replica: Replica, *, every_relay: bool = True) -> DeviceId | None:
    """Enter as a fresh device where the chain of this one went on elsewhere, and make lost edits again.

    To be called when level with every relay that can be reached: what they show is what the old device keeps. Not in an
    edit or a transaction.

    Args:
        every_relay: none of the group's relays was out of reach.

    Returns:
        The new device; None where there was nothing to be done yet, or the member must decide.
    """
    old = replica.keys
    if replica.members.member_of(old.id) is None:
        _tell_out(replica)
        return None
    is_restored = replica.restored_ms is not None and not replica.is_stopped_by(UpdateNeededError)
    if not replica.is_stopped_by(ChainAheadError) and not is_restored:
        return None
    if _waits_for_other(replica) or (is_restored and not _is_informed(replica, every_relay)):
        return None
    keys = DeviceKeys(Secret(secrets.token_bytes(32)), Secret(secrets.token_bytes(32)))
    try:
        with replica.transaction():
            changed = _leave_chain(replica)
            pins = pin_devices(replica, [old.id])
            replica.become(keys)
            operation = ReplaceDevice.make(old.signing, replica.group, keys.id, keys.hpke_public, pins)
            replica.write_operation(operation, inside=True)
            rebuild_documents(replica, changed)
            replica.alarm(
                "replaced-here",
                keys.id.hex(),
                "this profile was an older or a second copy, so this device goes on under a fresh key; everybody is "
                "told; if you did not restore or copy it, somebody else has a copy of it",
            )
            for kind in ("restored-waits", "restored-late"):
                replica.groups.end_alarm(replica.record.number, kind, old.id.hex())
    except UsageError as error:
        replica.become_again(old)
        with replica.transaction():
            replica.alarm("not-replaced", old.id.hex(), f"this copy of a device cannot go on as a new one: {error}")
        return None
    except BaseException:
        replica.become_again(old)
        raise
    reissue_lost(replica)
    return keys.id


def _waits_for_other(replica: Replica) -> bool:
    """Two copies that replace themselves at once void both: of two that were seen, the one that decides goes first."""
    own = replica.keys.id
    if not replica.forks.loses(own, _never_shown(replica)):
        return False
    now = replica.clock()
    return now - since_when(replica, f"replace {own}") < REPLACE_WAIT_MS


def _tell_out(replica: Replica) -> None:
    own = replica.keys.id
    former = replica.members.roster.former_devices.get(own) if replica.members.has_begun else None
    by = replica.members.operation(former.out_by).body if former is not None else None
    if not isinstance(by, ReplaceDevice):
        return  # removed, or never in: the roster says so
    with replica.transaction():
        replica.alarm(
            "replaced-here",
            own.hex(),
            "another copy of this device goes on as a new one; link this one as a device of its own to write here",
        )


def _is_informed(replica: Replica, every_relay: bool) -> bool:
    """Whether a restored device may leave its chain: it pins the old device, and what that wrote and only a relay has
    that was not reached, or only an epoch that cannot be opened, would count no more.
    """
    own = replica.keys.id
    if not replica.epochs.is_level:
        with replica.transaction():
            replica.alarm(
                "restored-late",
                own.hex(),
                "the group's keys changed since this backup was made, and it has none that opens what came after; come "
                "back by your recovery phrase, by linking this device from another one of yours, or by a new invite",
            )
        return False
    if every_relay or replica.clock() - since_when(replica, f"restored {own}") >= RESTORED_WAIT_MS:
        return True
    with replica.transaction():
        replica.alarm(
            "restored-waits",
            own.hex(),
            "this profile was restored and waits, for a day at most, until every relay of the group was reached: one "
            "of them may have what its device wrote last",
        )
    return False


def _leave_chain(replica: Replica) -> set[DocumentId]:
    """Let of the old chain stand what the relays showed; note what else was written here as lost.

    Returns:
        The documents that have to be built anew.
    """
    own, table = replica.keys.id, replica.forks.table
    changed: set[DocumentId] = set()
    replica.own_chain.form_beginning()
    written = 0
    for entry in replica.own_chain.pending_entries():
        written += entry.kind is EntryKind.ROSTER
        for change in entry.changes:
            changed.add(change.document)
            _lose(replica, change.document, change.hash, change.raw)
    pending = replica.log.pending()
    if pending:
        replica.log.drop_pending(pending[-1].seq)
        swept = replica.retires.swept_id(own, pending[0].seq - 1)
        last = table.standing(own, 0)[-1:] if swept is None else []
        for _, last_seq, last_id, wire in last:
            time_ms = parse_run(wire, replica.group).stored().entries[-1].time_ms
            replica.set_chain(own, ChainEnd(last_seq, last_id, time_ms))
        if swept is not None:
            replica.set_chain(own, ChainEnd(pending[0].seq - 1, swept, replica.chains[own].last_time_ms))
    before = _own_changes(replica)
    changed |= replica.forks.switch(own, _never_shown(replica))
    for digest in before.keys() - _own_changes(replica).keys():
        document, raw = before[digest]
        _lose(replica, document, digest, raw)
    if written:
        replica.alarm(
            "operations-lost", own.hex(), f"{written} changes to members or invites were never sent; make them again"
        )
    replica.load()  # the operations that were pending are no more
    return changed


def _own_changes(replica: Replica) -> dict[ChangeHash, tuple[DocumentId, bytes]]:
    """What stands in the own chain from the lowest place on where something contradicts it."""
    own, table = replica.keys.id, replica.forks.table
    apart = [parse_run(run.wire, replica.group).first_seq for run in table.of(own)]
    if not apart:
        return {}
    found: dict[ChangeHash, tuple[DocumentId, bytes]] = {}
    for _, last_seq, _, wire in table.standing(own, min(apart)):
        for entry in parse_run(wire, replica.group).stored().entries:
            if entry.seq <= last_seq:
                found.update({change.hash: (change.document, change.raw) for change in entry.changes})
    return found


def _never_shown(replica: Replica) -> frozenset[EntryId]:
    """Own entries in runs that no relay can have: they were signed here and seen by nobody."""
    own, table = replica.keys.id, replica.forks.table
    runs = [parse_run(run.wire, replica.group) for run in table.of(own)]
    if not runs:
        return frozenset()
    lowest = min(run.first_seq for run in runs)
    shown = {entry for run in runs for entry in run.ids()}
    return frozenset(
        entry
        for number, _, last_id, wire in table.standing(own, lowest)
        if not table.was_shown(number, last_id)
        for entry in parse_run(wire, replica.group).ids()
        if entry not in shown
    )


def _lose(replica: Replica, document: DocumentId, digest: ChangeHash, raw: bytes) -> None:
    record = replica.documents.find(document)
    assert record is not None, "an own change is of a document that is known"
    replica.forks.table.lose(record.number, [(digest, raw)])
