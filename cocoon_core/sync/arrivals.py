"""The changes of a document as they stand on this device: in runs of the log, in runs apart, in a snapshot, or pending.

Says where a change came from and no more; whether it counts and is admitted is for sync/judging.py.
Implements specs/storage.md §5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from cocoon_core.errors import LocalStateError, UntrustedInputError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.entry import DocumentChange, document_change
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, GroupId
from cocoon_core.protocol.part import Said, open_part
from cocoon_core.protocol.primitives import sha256
from cocoon_core.protocol.run import parse_run
from cocoon_core.protocol.snapshot import read_snapshot
from cocoon_core.storage.documents import DocumentRecord, DocumentRun, DocumentTable
from cocoon_core.storage.snapshots import SnapshotTable

OPEN_PARTS: Final = 3  # pages of snapshots kept open in memory, each of SNAPSHOT_PART_BYTES at most
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
        snapshots: SnapshotTable,
        own_pending: Callable[[], Iterable[tuple[DocumentId, int, bytes]]],
    ) -> None:
        self._group, self._table, self._snapshots, self._own_pending = group, table, snapshots, own_pending
        self._opened: OrderedDict[int, dict[DocumentId, bytes]] = OrderedDict()
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
        stored = self._snapshots.get(record.number)
        if stored is None:
            return [], []
        document = record.document
        besides, left = encoding.decode(stored.said, max_bytes=len(stored.said))
        newest = self._in_pages(document, stored.pages)
        if besides:
            said = [
                Arrival(document_change(document, raw), DeviceId(d), seq, NO_RUN, False, True)
                for d, raw, seq in besides
            ]
            found = {arrival.change.raw: arrival for arrival in (*newest, *said)}
            newest = [found[raw] for raw in in_causal_order(found)]
        return newest, [Arrival(document_change(document, raw), DeviceId(d), seq, NO_RUN) for d, raw, seq in left]

    def _in_pages(self, document: DocumentId, pages: Sequence[int]) -> list[Arrival]:
        try:
            packed = read_snapshot(document, map(self._open, pages))
        except UntrustedInputError as error:
            raise LocalStateError(f"a stored page of a snapshot cannot be read: {error}") from error
        return [
            Arrival(
                DocumentChange(document, raw, ChangeHash.unchecked(digest), seq), device, entry, NO_RUN, False, True
            )
            for device, raw, digest, seq, entry in packed
        ]

    def _open(self, page: int) -> dict[DocumentId, bytes]:
        """A stored page, opened; the last ones stay, since documents that lie together are asked for together."""
        opened = self._opened.pop(page, None)
        if opened is None:
            part = self._snapshots.part(page)
            if part is None:
                raise LocalStateError("a page that a document is built on is not here")
            opened = open_part(part)
        self._opened[page] = opened
        while len(self._opened) > OPEN_PARTS:
            self._opened.popitem(last=False)
        return opened

    def forget_pages(self) -> None:
        """Stored pages were deleted."""
        self._opened.clear()

    def pending(self, document: DocumentId) -> Iterator[Arrival]:
        """Own changes that are in no run yet."""
        for changed, seq, raw in self._own_pending():
            if changed == document:
                yield Arrival(document_change(document, raw), self.device, seq, NO_RUN)


def pack_said(besides: Iterable[Said], left: Iterable[Said]) -> bytes:
    """The form in which is stored what the newest snapshot says besides its pages, and what earlier ones said."""
    return encoding.encode([[[bytes(device), raw, seq] for device, raw, seq in part] for part in (besides, left)])


NOTHING_SAID: Final = pack_said((), ())


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
