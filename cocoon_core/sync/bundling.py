"""Writing a group into a bundle, and taking one in. Implements specs/bundle.md §4 and §5.

    out:  blobs (found, made again, or fetched; else a new epoch) → topics of all epochs that are held → blobs → file
    in:   file → guest that is only read → the ordinary way in → what the relays lack is queued for them

Whoever holds the file sees what a relay sees: no key goes into it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from cocoon_core.errors import RelayError, UsageError
from cocoon_core.protocol.envelope import seal_envelope
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import BlobHash, TopicId
from cocoon_core.protocol.operations_rotation import Reason
from cocoon_core.protocol.run import count_entries
from cocoon_core.storage.epochs import StoredEpoch
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.blobs import name_blob
from cocoon_core.sync.bundle_carrier import BundleCarrier
from cocoon_core.sync.bundle_file import BundleFile, BundleWriter, told_of
from cocoon_core.sync.driver import Progress, RelayDriver
from cocoon_core.sync.guests import guest
from cocoon_core.sync.manifest_blobs import blobs_of_epoch, find_blobs
from cocoon_core.sync.replacing import replace_own_device
from cocoon_core.sync.replica import Replica

UNTOLD = 4_096  # operations that came from other topics and are told on


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: topics, envelopes, blobs, and bytes of the file. `rotated` says that a new epoch was begun,
    since blobs of the last one were neither here nor at a relay; `lacking` counts those that the file is without.
    """

    topics: int
    envelopes: int
    blobs: int
    size: int
    rotated: bool = False
    lacking: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """What a bundle brought: entries that were new here, and entries that are here and not in it."""

    received: int
    unknown_to_author: int
    refused: dict[str, int] = field(default_factory=dict)


# --- out


async def export_bundle(replica: Replica, access: RelayAccess, path: Path, *, replaces: bool = False) -> Exported:
    """Write all that a relay would hold of this group, for whoever is in an epoch that is held here.

    Raises:
        UsageError: this device cannot write to the group now; there is such a file already.
        StorageFullError, LocalStateError: it could not be written; there is no file then.
    """
    replica.require_writable()
    if not replica.epochs.may_seal():
        raise UsageError(
            "this device cannot write to the group as it is now, since the newest epoch is not here, or somebody in it "
            "has gone; `cocoon sync` first"
        )
    replica.form_runs()
    with BundleWriter(path, replaces=replaces) as writer, _Spill(path.parent) as spill:
        rotated = False
        lacking = await _gather(replica, access, spill)
        if lacking and replica.members.member_of(replica.keys.id) is not None:
            replica.rotate(Reason.REQUEST)
            rotated = True
            spill.clear()
            lacking = await _gather(replica, access, spill)
        for topic, (envelopes, sealed) in sorted(_topics(replica).items()):
            writer.add_topic(topic, envelopes, sealed=sealed)
        for data in spill.rising():
            writer.add_blob(data)
        end = writer.finish()
    return Exported(end.topics, end.envelopes, end.blobs, writer.size, rotated, len(lacking))


def _topics(replica: Replica) -> dict[TopicId, tuple[Iterable[bytes], bool]]:
    """What stands in each topic, and whether it is sealed: as the relay that lost nothing has it (handover.py)."""
    epochs = replica.epochs
    found: dict[TopicId, tuple[Iterable[bytes], bool]] = {}
    for topic, stored in epochs.held.items():
        if topic != epochs.current.epoch.topic:
            wires = epochs.handover_from(topic)
            found[topic] = _sealed_in(stored.epoch, epochs.carry_all(wires)), epochs.is_before_current(topic)
    current = epochs.current
    found[current.epoch.topic] = _sealed_in(current.epoch, _in_current(replica, current)), False
    return found


def _sealed_in(epoch: Epoch, values: Iterable[bytes]) -> Iterator[bytes]:
    return (seal_envelope(value, epoch) for value in values)


def _in_current(replica: Replica, current: StoredEpoch) -> Iterator[bytes]:
    """The manifest, operations that are in no chain here, and every run above the frontier, in the order of the log."""
    if current.manifest is not None:
        yield current.manifest
    seqs = {device: end.seq for device, end in replica.epochs.frontier().items()}
    for run in replica.log.runs_above(seqs):
        if run.wire != current.manifest:
            yield replica.epochs.carry(run.wire, run.last_id)
    untold = {operation: wire for relay in replica.groups.relays(replica.record.number)
              for operation, wire in replica.epochs.table.untold(relay, UNTOLD)}  # fmt: skip
    for operation, wire in untold.items():
        yield replica.epochs.carry(wire, operation)


async def _gather(replica: Replica, access: RelayAccess, spill: _Spill) -> set[BlobHash]:
    """Bring the blobs of the current epoch together: those here, then those at relays. The names not found."""
    current = replica.epochs.current
    lacking = set(blobs_of_epoch(replica, current))
    for data in find_blobs(replica, current, lacking):
        spill.add(data)
    lacking -= spill.names()
    for url in replica.groups.relays(replica.record.number) if lacking else ():
        store = access.blobs(url)
        try:
            for name in sorted(lacking):
                with suppress(RelayError):
                    spill.add(await store.get_blob(current.epoch, name))
        finally:
            await store.close()
        lacking -= spill.names()
    return lacking


class _Spill:
    """Blobs (ciphertext) on the disk that the bundle goes to, until their order is known. For a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[BlobHash, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def names(self) -> set[BlobHash]:
        return set(self._places)

    def clear(self) -> None:
        self._places.clear()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def add(self, data: bytes) -> None:
        """Raises:
        StorageFullError, LocalStateError: the disk takes no more.
        """
        with told_of(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by `clear`
            at = self._file.seek(0, 2)
            self._file.write(data)
            self._places[name_blob(data)] = at, len(data)

    def rising(self) -> Iterator[bytes]:
        """All of them by rising name."""
        for _, (at, size) in sorted(self._places.items()):
            assert self._file is not None, "something was added"
            with told_of(self._folder):
                self._file.seek(at)
                data = self._file.read(size)
            yield data


# --- in


def can_open(replica: Replica, bundle: BundleFile) -> bool:
    """Whether the bundle holds a topic of an epoch that is held here."""
    return not replica.epochs.held.keys().isdisjoint(bundle.topics)


async def import_bundle(replica: Replica, bundle: BundleFile, name: str, progress: Progress | None = None) -> Imported:
    """Take in all that opens here. The same file again changes nothing.

    Args:
        name: of the file, for what is told of it.

    Raises:
        MalformedError: the file was changed while it was read.
        RelayError: it says what no relay may.
        LocalStateError: this device cannot go on.
    """
    before = {device: end.last_seq for device, end in replica.chains.items()}
    done = await _read(replica, bundle, f"file {name}", progress)
    await replica.edits_ended()
    new = {device: end.last_seq - before.get(device, -1) for device, end in replica.chains.items()}
    if replace_own_device(replica) is not None:  # the new device takes in what the old one could not
        done = await _read(replica, bundle, f"file {name}", progress)
    return replace(done, received=sum(new.values()))


async def _read(replica: Replica, bundle: BundleFile, called: str, progress: Progress | None) -> Imported:
    carrier = BundleCarrier(bundle)
    with guest(replica, called):
        driver = RelayDriver(replica, called, carrier.dial, carrier.blobs, progress, reads_only=True)
        done = await driver.sync_once()
        _queue_blobs(replica, bundle)
        replica.form_runs()
        unknown = sum(count_entries(run.wire) for run in replica.log.queued_for(called))
    return Imported(0, unknown, done.refused)


def _queue_blobs(replica: Replica, bundle: BundleFile) -> None:
    """Relays that never showed the current epoch's topic will get its manifest from here: its blobs too."""
    current, number = replica.epochs.current, replica.record.number
    if current.manifest is None:
        return
    topic = current.epoch.topic
    cursors = {url: replica.groups.cursor(number, url, topic) for url in replica.groups.relays(number)}
    empty = [url for url, cursor in cursors.items() if cursor is None or not cursor.after]
    for name in blobs_of_epoch(replica, current) if empty else ():
        data = bundle.blob(name)
        if data is not None:
            with replica.transaction():
                replica.epochs.table.add_uploads(empty, topic, [(name, data)])
