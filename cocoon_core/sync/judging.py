"""Which changes of one document count and are admitted: right, then what counting changes depend on, then the gate.

A change counts if a snapshot says it, or its entry stands in its device's chain and counts by itself; or if a change
that counts depends on it, directly or through others. That is a least fixpoint: it grows as changes arrive, and is
worked out anew where the roster takes something away. Of several changes of a device with one number in the document,
the one that ranks first is admitted and the others are refused. Implements specs/counting.md §3 and §5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from cocoon_core.documents import AdmittedChange, Document, MissingDependencyError
from cocoon_core.errors import EquivocationError, MalformedError, UntrustedInputError
from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import ChangeHash, DeviceId, MemberId
from cocoon_core.storage.documents import DocumentRecord, DocumentTable
from cocoon_core.sync.arrivals import NO_RUN, Arrival, Arrivals

NOBODY: Final = MemberId(bytes(MemberId.LENGTH))


class Rights(Protocol):
    """What is asked of the roster."""

    def member_ever(self, device: DeviceId) -> MemberId | None: ...

    def counts(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool: ...

    def counts_ever(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool: ...

    def may_be_cut(self, descriptor: Descriptor) -> bool: ...


@dataclass(slots=True)
class OpenDocument:
    """A document in memory, and what is known of its changes.

    Attributes:
        uncached: changes merged since the last cache.
        waiting: some change of it may wait for another.
        called: changes that count, if they are here, because one that counts depends on them.
        uncounted: changes that are here and do not count; None as long as nobody asked.
        displaced: changes whose number another change of their device has, which ranks before them.
        contested: changes that were refused since their number was taken, where that has to be looked at again.
    """

    record: DocumentRecord
    document: Document
    uncached: int = 0
    cache_bytes: int = 0
    waiting: bool = False
    called: set[ChangeHash] = field(default_factory=set)
    uncounted: dict[ChangeHash, Arrival] | None = None
    displaced: frozenset[ChangeHash] = frozenset()
    contested: list[Arrival] = field(default_factory=list)


class Judge:
    """Decides for every change that reaches a document, and records the verdict.

    Attributes:
        called_late: told of each change that counts only because one that counts depends on it.
    """

    def __init__(self, table: DocumentTable, rights: Rights, arrivals: Arrivals) -> None:
        self._table, self._rights, self._arrivals = table, rights, arrivals
        self.called_late: Callable[[DocumentRecord, Arrival], None] = lambda record, arrival: None

    def admit(self, opened: OpenDocument, arrivals: Sequence[Arrival]) -> list[AdmittedChange]:
        """Judge a batch of changes of one document, and whatever waited for them; those that passed the gate."""
        admitted: list[AdmittedChange] = []
        queue = list(reversed(arrivals))
        authors: dict[DeviceId, MemberId] | None = None
        if not self._rights.may_be_cut(opened.record.descriptor):
            authors = {}
        freed: set[ChangeHash] = set()
        while queue:
            arrival = queue.pop()
            change = self._judge(opened, arrival, authors, queue, arrival.change.hash in freed)
            if change is None:
                continue
            admitted.append(change)
            if opened.waiting:
                late = self._table.waiting_for(opened.record.number, ChangeHash(change.hash))
                if late:
                    self._drop_cache(opened)
                    freed.update(waited for waited, _ in late)
                    queue.extend(self._arrivals_of(opened, late))
        return admitted

    def counts(self, record: DocumentRecord, arrival: Arrival) -> bool:
        """By itself: its device's right, a pin, or finality."""
        is_placed = arrival.stands or arrival.final
        return is_placed and self._rights.counts(arrival.device, arrival.seq, record.descriptor)

    def displace(self, opened: OpenDocument, arrivals: Sequence[Arrival], admitted: set[bytes]) -> set[ChangeHash]:
        """Changes that were admitted, although another one of their device with their number ranks before them."""
        lower: set[ChangeHash] = set()
        for contender in opened.contested:
            for rival in arrivals:
                if (
                    rival.device == contender.device
                    and rival.change.seq == contender.change.seq
                    and rival.change.hash in admitted
                    and self._rank(opened.record, contender) < self._rank(opened.record, rival)
                ):
                    lower.add(rival.change.hash)
        return lower

    def _rank(self, record: DocumentRecord, arrival: Arrival) -> tuple[bool, bool, int, int, ChangeHash]:
        """Less comes first: what a snapshot says, what counts by itself, then the order of the chain."""
        by_itself = self.counts(record, arrival)
        return not (arrival.final and by_itself), not by_itself, arrival.seq, arrival.place, arrival.change.hash

    # --- one change

    def _judge(
        self,
        opened: OpenDocument,
        arrival: Arrival,
        authors: dict[DeviceId, MemberId] | None,
        queue: list[Arrival],
        waited: bool,
    ) -> AdmittedChange | None:
        """Ask right and gate. What can be asked again because of this one is put on the queue.

        Args:
            authors: devices that were asked for in this batch, with their members, where all that stands counts.
            waited: it was here before, and waited for another.
        """
        record, change, device = opened.record, arrival.change, arrival.device
        member = authors.get(device) if authors is not None and arrival.stands else None
        if member is None:
            if not self.counts(record, arrival):
                if not self._is_called(opened, change.hash):
                    self._uncounted(opened)[change.hash] = arrival
                    return None
                self.called_late(record, arrival)
            member = self._rights.member_ever(device) or NOBODY
            if authors is not None and arrival.stands:
                authors[device] = member
        if change.hash in opened.displaced:
            self._refuse(opened, arrival, EquivocationError("another change of its device has its number"), queue)
            return None
        try:
            return opened.document.receive(change.raw, device, member, change.hash)
        except MissingDependencyError as error:
            called = self._call(opened, error.missing)
            if called:
                queue += [arrival, *called]
            elif arrival.run != NO_RUN:
                self._table.wait(record.number, error.missing[0], change.hash, arrival.run)
                opened.waiting = True
        except UntrustedInputError as error:
            if isinstance(error, EquivocationError) and (waited or opened.called or not self.counts(record, arrival)):
                opened.contested.append(arrival)
            self._refuse(opened, arrival, error, queue)
        return None

    def _refuse(self, opened: OpenDocument, arrival: Arrival, error: UntrustedInputError, queue: list[Arrival]) -> None:
        change, number = arrival.change, opened.record.number
        self._table.refuse(number, change.hash, arrival.device, error.code, str(error))
        queue += self._call(opened, _named_in(change.raw))
        if isinstance(error, EquivocationError):  # its number is another's for good: what depends on it waits in vain
            opened.document.forbid(change.hash)
            if opened.waiting:
                queue += self._arrivals_of(opened, self._table.waiting_for(number, change.hash))

    def _is_called(self, opened: OpenDocument, change: ChangeHash) -> bool:
        """Whether a change that counts depends on this one; such a one may wait since before anybody was put out."""
        if change not in opened.called and opened.waiting and self._table.is_awaited(opened.record.number, change):
            self._table.call(opened.record.number, [change])
            opened.called.add(change)
        return change in opened.called

    def _call(self, opened: OpenDocument, changes: Iterable[ChangeHash]) -> list[Arrival]:
        """Let those count that a counting change depends on, here or not, so that no honest change loses its past.

        Returns:
            Those that are here and did not count so far.
        """
        record = opened.record
        if not self._rights.may_be_cut(record.descriptor):  # nothing is here that does not count
            return []
        fresh = [change for change in changes if change not in opened.called]
        self._table.call(record.number, fresh)
        opened.called.update(fresh)
        uncounted = self._uncounted(opened)
        found = [uncounted.pop(change) for change in fresh if change in uncounted]
        if found:
            self._drop_cache(opened)
        return found

    def _uncounted(self, opened: OpenDocument) -> dict[ChangeHash, Arrival]:
        """Changes of the document that are here and do not count."""
        if opened.uncounted is None:
            opened.uncounted = {
                arrival.change.hash: arrival
                for arrival in self._arrivals.of(opened.record)
                if not self.counts(opened.record, arrival) and arrival.change.hash not in opened.called
            }
        return opened.uncounted

    def _drop_cache(self, opened: OpenDocument) -> None:
        """A cache holds all up to a run; what an earlier run says comes in now, and a later load would miss it."""
        if opened.cache_bytes:
            self._table.set_cache(opened.record.number, None, 0)
            opened.cache_bytes = 0

    def _arrivals_of(self, opened: OpenDocument, freed: list[tuple[ChangeHash, int]]) -> list[Arrival]:
        wanted = {change for change, _ in freed}
        found: list[Arrival] = []
        for run in sorted({run for _, run in freed}, reverse=True):
            arrivals = self._arrivals.in_run(opened.record, run)
            found += [arrival for arrival in reversed(arrivals) if arrival.change.hash in wanted]
        return found


def _named_in(raw: bytes) -> list[ChangeHash]:
    """The changes that a refused one depends on, as far as its header can be read."""
    try:
        return [ChangeHash(dep) for dep in read_deps(raw)]
    except MalformedError:
        return []
