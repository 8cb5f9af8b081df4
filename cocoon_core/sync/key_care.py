"""Keys that grow old: a fresh HPKE key every REKEY_DAYS, and what is no longer needed is erased.

A rekey and the rotation after it are what heals a stolen key: whoever has only the old one opens no later wrap. The old
key goes as soon as a rotation that knew the new one was followed; the secret of an epoch, some time after it ended at
every relay. Spec: specs/epoch.md §8.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cocoon_core.protocol.constants import REKEY_DAYS, REPAIR_DAYS
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.primitives import HpkeKey, Secret
from cocoon_core.protocol.rekey import rekey_body
from cocoon_core.sync.turns import since_when

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

DAY_MS: Final = 86_400_000


def tend_keys(replica: Replica) -> None:
    """Renew and erase what is due. To be called when level, not in a transaction."""
    _forget_epochs(replica)
    _renew(replica)


def _renew(replica: Replica) -> None:
    table = replica.epochs.table
    since = since_when(replica, f"rekey {replica.keys.id} {len(table.hpke_seeds())}")
    if replica.clock() - since < REKEY_DAYS * DAY_MS:
        return
    with replica.transaction():
        seed = Secret(secrets.token_bytes(32))
        entry = replica.own_chain.append_statement(EntryKind.REKEY, rekey_body(HpkeKey(seed).public))
        table.add_hpke_seed(entry.seq, seed)


def erase_old_keys(replica: Replica) -> None:
    """After a rotation was followed: keys before the newest that its author knew open nothing any more.

    Inside a transaction.
    """
    table, end = replica.epochs.table, replica.epochs.frontier().get(replica.keys.id)
    known = [(seq, seed) for seq, seed in table.hpke_seeds() if end is not None and seq <= end.seq]
    if not known:
        return
    seq, seed = known[0]
    replica.keys = DeviceKeys(replica.keys.signing_seed, seed)
    replica.groups.set_keys(replica.record.number, replica.keys)
    table.drop_hpke_seeds(seq)


def _forget_epochs(replica: Replica) -> None:
    """Erase the secrets of epochs that ended more than REPAIR_DAYS ago and lead on at every relay."""
    epochs, relays = replica.epochs, replica.groups.relays(replica.record.number)
    watched = {epoch.topic for epoch in epochs.watched()}
    finished = [epochs.table.finished(relay) for relay in relays]
    old = [
        topic
        for topic in epochs.held
        if topic != epochs.current.epoch.topic and topic not in watched and all(topic in done for done in finished)
    ]
    ended = {topic: since for topic, since in epochs.ended_ms().items() if topic in old}
    due = [topic for topic, since in ended.items() if replica.clock() - since >= REPAIR_DAYS * DAY_MS]
    if due:
        with replica.transaction():
            for topic in due:
                epochs.table.forget(topic)
            epochs.refresh()
            epochs.drop_wraps()
