"""The changes of a document as they stand on this device: in runs of the log, in runs apart, in a snapshot, or pending.

Says where a change came from and no more; whether it counts and is admitted is for sync/judging.py.
Implements specs/storage.md §5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, NamedTuple

from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.entry import DocumentChange, document_change
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, GroupId
from cocoon_core.protocol.primitives import sha256
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.documents import DocumentRecord, DocumentRun, DocumentTable

NO_RUN: Final = 0  # in place of a run's number: pending, or from a snapshot; that of a run apart is negative


class Arrival(NamedTuple):
    """One change that reached a document, and where it stands.

    Attributes:
        seq: of its entry in the device's chain.
        stands: its entry stands in the chain that this device has of its author.
        final: the newest manifest's snapshot says it, so it need not stand in the chain.
        place: among the changes of its entry.
    """

    change: DocumentChange
    device: DeviceId
    seq: int
    run: int
    stands: bool = True
    final: bool = False
    place: int = 0


class Said(NamedTuple):
    """A change that a manifest's snapshot says, with the seq of its entry."""

    device: DeviceId
    raw: bytes
    seq: int


class Arrivals:
    """Finds the changes of one group's documents.

    Args:
        own_pending: (document, seq, raw change) of own changes that are in no run yet, in chain order.
    """

    def __init__(
        self,
        group: GroupId,
        device: DeviceId,
        table: DocumentTable,
        own_pending: Callable[[], Iterable[tuple[DocumentId, int, bytes]]],
    ) -> None:
        self._group, self._table, self._own_pending = group, table, own_pending
        self.device = device

    def of(self, record: DocumentRecord) -> list[Arrival]:
        """All that is here of a document: what a snapshot says, runs apart, the log in its order, what is left over of
        earlier snapshots, and what is pending.

        Runs may overlap, and a snapshot holds what runs hold too: a change arrives once, from where it counts most.
        """
        found: dict[tuple[DeviceId, ChangeHash], Arrival] = {}
        newest, left = self.in_snapshots(record)
        for arrival in (*newest, *self.in_runs(record), *left, *self.pending(record.document)):
            key = arrival.device, arrival.change.hash
            known = found.get(key)
            if known is None:
                found[key] = arrival
            elif arrival.stands and not (known.stands or known.final):
                del found[key]  # its place is where it stands
                found[key] = arrival
            elif arrival.stands and known.final:  # whoever packed a snapshot may have said another seq
                found[key] = known._replace(seq=arrival.seq)
        return list(found.values())

    def in_runs(self, record: DocumentRecord, after_run: int = 0) -> Iterator[Arrival]:
        """What runs say, in the order of the log; of all of it, runs apart first."""
        for run in self._table.wires(record.number, after_run):
            yield from self._in_run(record, run)

    def in_run(self, record: DocumentRecord, number: int) -> list[Arrival]:
        return list(self._in_run(record, self._table.run(number)))

    def _in_run(self, record: DocumentRecord, run: DocumentRun) -> Iterator[Arrival]:
        document = record.document
        for entry in parse_run(run.wire, self._group).stored().entries:
            for place, change in enumerate(entry.changes):
                if change.document == document:
                    stands = entry.seq <= run.last_seq
                    yield Arrival(change, entry.device, entry.seq, run.number, stands, False, place)

    def in_snapshots(self, record: DocumentRecord) -> tuple[list[Arrival], list[Arrival]]:
        """What the newest manifest's snapshot said of the document, in causal order; and what earlier ones said
        besides, which stands in its chain.
        """
        packed = self._table.snapshot(record.number)
        newest, left = encoding.decode(packed, max_bytes=len(packed)) if packed is not None else ((), ())
        document = record.document
        return (
            [Arrival(document_change(document, raw), DeviceId(d), seq, NO_RUN, False, True) for d, raw, seq in newest],
            [Arrival(document_change(document, raw), DeviceId(d), seq, NO_RUN) for d, raw, seq in left],
        )

    def pending(self, document: DocumentId) -> Iterator[Arrival]:
        """Own changes that are in no run yet."""
        for changed, seq, raw in self._own_pending():
            if changed == document:
                yield Arrival(document_change(document, raw), self.device, seq, NO_RUN)


def pack_changes(changes: Iterable[Said], left: Iterable[Said]) -> bytes:
    """The form in which a snapshot's changes are stored here, and what earlier ones said besides."""
    return encoding.encode([[[bytes(device), raw, seq] for device, raw, seq in part] for part in (changes, left)])


def hash_of(raw: bytes) -> ChangeHash:
    """The hash of a raw change."""
    return ChangeHash(sha256(raw[8:]))


def in_causal_order(raws: Iterable[bytes]) -> Iterator[bytes]:
    """Put every change after those of its dependencies that are in the list: one that had to wait stands early."""
    late: dict[bytes, list[bytes]] = {}
    items = {sha256(raw[8:]): raw for raw in raws}
    done: set[bytes] = set()
    for digest in items:
        ready = [digest]
        while ready:
            candidate = ready.pop()
            if candidate in done:
                continue
            missing = next((d for d in read_deps(items[candidate]) if d in items and d not in done), None)
            if missing is not None:
                late.setdefault(missing, []).append(candidate)
                continue
            done.add(candidate)
            yield items[candidate]
            ready += late.pop(candidate, ())


def ancestors_of(raws: Collection[bytes], within: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """These changes and all that they depend on, as far as it is in `within`; by hash."""
    found: dict[bytes, bytes] = {}
    waiting = [sha256(raw[8:]) for raw in raws]
    known = within | {sha256(raw[8:]): raw for raw in raws}
    while waiting:
        digest = waiting.pop()
        if digest in known and digest not in found:
            found[digest] = known[digest]
            waiting += read_deps(known[digest])
    return found
