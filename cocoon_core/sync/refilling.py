"""What a relay is given that lost what it had, or that is new: everything that a newcomer and a sleeper need there.

    topic:      manifest, runs above its frontier (handover.py, outbox.py), and the blobs that the manifest names
    before it:  the rotations that end the epochs whose secrets are still here
    mailboxes:  a welcome for every open invite, the answers to requests, the index of a phrase

Blobs are ciphertext that no device keeps: it makes them again or takes them from another relay, and where neither can
be the epoch is ended, so that the next one brings its own. Spec: specs/relays.md §4.
"""

from __future__ import annotations

from contextlib import aclosing

from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.storage.recovery import RecoveryTable
from cocoon_core.storage.vault_transfers import TransferTable
from cocoon_core.sync.admission import owe_answers_again
from cocoon_core.sync.blobs import BlobStore, DialBlobs, get_found
from cocoon_core.sync.manifest_blobs import fill_blobs
from cocoon_core.sync.recovery_upkeep import look_again
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.welcomes import queue_welcomes_at


def refill(replica: Replica, url: str) -> None:
    """Have everything put at a relay again that it should hold. Inside a transaction."""
    topic, table = replica.epoch.topic, replica.epochs.table
    table.forget_shown(url, topic)
    replica.beacons.forget_shown(url)
    TransferTable(replica.database, replica.record.number).forget_relay(url)  # it may have lost files too
    table.unfinish(url)  # the topics before may lead elsewhere by now
    replica.epochs.queue_all(url)
    if url in replica.guests:
        return  # nobody looks for mail or blobs there
    replica.relays.note_restock([url], topic)
    queue_welcomes_at(replica, url)
    owe_answers_again(replica, url)
    RecoveryTable(replica.database).forget_index(url)
    look_again(replica)


async def restock(replica: Replica, url: str, blobs: BlobStore, dial: DialBlobs) -> None:
    """See to it that a relay has every blob of the current epoch's manifest. Its topic is open there.

    Raises:
        RelayError: this relay could not be used.
    """
    current = replica.epochs.current
    epoch = current.epoch
    lacking = await fill_blobs(replica, blobs, current)
    for other in replica.groups.relays(replica.record.number):
        if lacking and other != url:
            lacking -= await _copy(epoch, lacking, dial, other, blobs)
    lacking -= replica.debts.page_names()  # those were not read here, and somebody else has them
    await replica.edits_ended()
    with replica.transaction():
        if not lacking:
            replica.relays.restocked(url)
            return
        replica.relays.note_restock([url], epoch.topic)
        replica.epochs.broken.add(epoch.topic)
        replica.snapshots.distrust_pages(lacking)
        message = f"{len(lacking)} blobs of the epoch's manifest are not at {url}; the epoch is ended"
        replica.alarm("manifest", epoch.topic.hex(), message)


async def _copy(epoch: Epoch, wanted: set[BlobHash], dial: DialBlobs, source: str, blobs: BlobStore) -> set[BlobHash]:
    """Bring blobs from another relay; the names of those that it served.

    Raises:
        RelayError: the relay that they are for does not take them.
    """
    copied: set[BlobHash] = set()
    store = dial(source)
    try:
        async with aclosing(get_found(store, epoch, sorted(wanted))) as found:
            await blobs.put_each(epoch, found, copied.add)
    finally:
        await store.close()
    return copied
