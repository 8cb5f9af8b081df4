"""What a relay is given that lost what it had, or that is new: everything that a newcomer and a sleeper need there.

    topic:      manifest, runs above its frontier (handover.py, outbox.py), and the blobs that the manifest names
    before it:  the rotations that end the epochs whose secrets are still here
    mailboxes:  a welcome for every open invite, the answers to requests, the index of a phrase

Blobs are ciphertext that no device keeps: they are taken from another relay, and where none has them the epoch is
ended, so that the next one brings its own. Spec: specs/relays.md §4.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from cocoon_core.errors import RelayError, UntrustedInputError
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.manifest import DocumentState, decode_manifest, read_manifest_body
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.epochs import StoredEpoch
from cocoon_core.storage.recovery import RecoveryTable
from cocoon_core.sync.admission import owe_answers_again
from cocoon_core.sync.blobs import BlobStore, DialBlobs
from cocoon_core.sync.recovery_upkeep import look_again
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.welcomes import queue_welcomes_at

AT_ONCE: Final = 4  # blobs that are held in memory on their way from one relay to another


def refill(replica: Replica, url: str) -> None:
    """Have everything put at a relay again that it should hold. Inside a transaction."""
    topic, table = replica.epoch.topic, replica.epochs.table
    table.forget_shown(url, topic)
    table.unfinish(url)  # the topics before may lead elsewhere by now
    replica.epochs.queue_all(url)
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
    names = blobs_of(replica, current)
    lacking = [name for name in names if name not in await blobs.have(epoch, names)] if names else []
    for other in replica.groups.relays(replica.record.number):
        if lacking and other != url:
            lacking = await _copy(epoch, lacking, dial, other, blobs)
    await replica.edits_ended()
    with replica.transaction():
        if not lacking:
            replica.relays.restocked(url)
            return
        replica.relays.note_restock([url], epoch.topic)
        replica.epochs.broken.add(epoch.topic)
        message = f"{len(lacking)} blobs of the epoch's manifest are not at {url}; the epoch is ended"
        replica.alarm("manifest", epoch.topic.hex(), message)


async def _copy(epoch: Epoch, names: list[BlobHash], dial: DialBlobs, source: str, blobs: BlobStore) -> list[BlobHash]:
    """Bring blobs from another relay; those that it does not serve.

    Raises:
        RelayError: the relay that they are for does not take them.
    """
    left: list[BlobHash] = []
    store = dial(source)
    try:
        for start in range(0, len(names), AT_ONCE):
            fetched = []
            for name in names[start : start + AT_ONCE]:
                try:
                    fetched.append(await store.get_blob(epoch, name))
                except RelayError:
                    left.append(name)
            if fetched:
                await blobs.put_blobs(epoch, fetched)
            elif start == 0:
                return names  # it has nothing, or is not there
    finally:
        await store.close()
    return left


def blobs_of(replica: Replica, stored: StoredEpoch) -> list[BlobHash]:
    """Every blob that a newcomer needs for this epoch: pages of its wraps, of its manifest, and of the snapshots."""
    names: list[BlobHash] = []
    if stored.manifest is None or stored.rotation is None:
        return names
    if stored.rotation in replica.members.graph:
        body = replica.members.graph.operation(stored.rotation).body
        if isinstance(body, Rotation) and body.paged is not None:
            names += [name for _, name in body.paged.pages]
    with suppress(UntrustedInputError):
        names += read_manifest_body(parse_run(stored.manifest, replica.group).stored().entries[-1].body).pages
    content = replica.epochs.table.content(stored.epoch.topic)
    if content is not None:
        names += pages_of(decode_manifest(content, replica.group).stored_documents())
    return list(dict.fromkeys(names))


def pages_of(states: Iterable[DocumentState]) -> list[BlobHash]:
    return [page for state in states if state.snapshot is not None for page in state.snapshot.pages]
