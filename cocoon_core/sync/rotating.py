"""Writes a rotation: a fresh secret, wrapped for exactly the recipients that the roster gives, and its manifest.

Rotation, manifest, secret and blobs become durable in the transaction of whatever made them necessary; only then is
anything sent (sync/handover.py). Spec: specs/epoch.md §4 and §7.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from cocoon_core.errors import UntrustedInputError, UsageError
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import DeviceId, TopicId
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.rekey import Rekey, newest_rekeys, read_rekey, renew_recipients
from cocoon_core.protocol.roster_values import Recipient
from cocoon_core.protocol.rotation import make_rotation
from cocoon_core.protocol.run import parse_run
from cocoon_core.sync.blobs import name_blob
from cocoon_core.sync.events import RosterChanged
from cocoon_core.sync.final import write_final
from cocoon_core.sync.packing import pack_manifest

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def write_rotation(replica: Replica, reason: Reason) -> TopicId:
    """Begin a new epoch. Inside a transaction.

    Raises:
        UsageError: the rotation would not count.
    """
    epochs, chain = replica.epochs, replica.own_chain
    choice = epochs.choice
    if choice is None:
        raise UsageError("the group has not begun here")
    chain.form_runs()
    unsent = replica.log.queued_operations(replica.keys.id)
    before = [wire for topic in choice.topics_to_end if topic in epochs.held for wire in epochs.held[topic].handover]
    epoch = Epoch(Secret(secrets.token_bytes(32)))
    body, wraps = make_rotation(
        reason,
        choice.topics_to_end,
        epoch,
        find_recipients(replica),
        replica.group,
        Secret(secrets.token_bytes(32)),
    )
    entry = chain.append_statement(EntryKind.ROSTER, body.encode_body())
    replica.members.add_entry(entry)
    refusal = replica.members.roster.refused.get(entry.id)
    if refusal is not None:
        raise UsageError(refusal.reason)
    (rotation,) = chain.form_runs()
    packed = pack_manifest(replica, epoch.topic)
    chain.append_statement(EntryKind.MANIFEST, packed.body.to_value())
    (manifest,) = chain.form_runs()
    unfinished = [wire for wire in before if not _was_shown(replica, wire)]
    handover = list(dict.fromkeys([*unfinished, *(stored.wire for stored in unsent), rotation.wire]))
    pages = wraps if body.paged is not None else []
    for records in wraps if body.beside is not None else []:
        epochs.table.add_wraps(entry.id, records)
    epochs.table.add(epoch, replica.clock(), entry.id)
    epochs.table.set_manifest(epoch.topic, manifest.wire)
    epochs.table.set_followed(epoch.topic, write_final(packed.frontier, packed.operations), packed.content, handover)
    blobs = [(name_blob(blob), blob) for blob in (*pages, *packed.blobs)]
    relays = replica.groups.relays(replica.record.number)
    epochs.table.add_uploads(relays, epoch.topic, blobs)
    if packed.kept:  # each relay should have those; it is asked, which renews their leases
        replica.relays.note_restock(relays, epoch.topic)
    epochs.table.told({operation.id for operation in replica.members.graph.operations()})
    replica.log.dequeue([*(stored.last_id for stored in unsent), rotation.last_id])
    epochs.refresh()
    replica.tell(RosterChanged((entry.id,), ()))
    return epoch.topic


def find_recipients(replica: Replica) -> tuple[Recipient, ...]:
    """Those that the roster gives, each with the newest HPKE key that is known of it here."""
    roster = replica.members.roster
    found: list[Rekey] = []
    for wire in replica.epochs.table.rekeys():
        with suppress(UntrustedInputError):
            rekey = read_rekey(parse_run(wire, replica.group).stored().entries[-1])
            if rekey.device in roster.devices:
                found.append(rekey)
    rekeys: dict[DeviceId, Rekey] = newest_rekeys(found)
    return renew_recipients(roster.recipients(), rekeys)


def _was_shown(replica: Replica, wire: bytes) -> bool:
    """Whether every relay showed this rotation already; of other operations it is not asked, they are put again."""
    run = parse_run(wire, replica.group)
    table, held = replica.epochs.table, list(replica.epochs.held)
    relays = replica.groups.relays(replica.record.number)
    shown = [any(run.last_id in table.shown_rotations(relay, topic) for topic in held) for relay in relays]
    return bool(shown) and all(shown)
