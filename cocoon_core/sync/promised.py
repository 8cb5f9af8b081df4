"""What a manifest promised of a document and did not bring, since another was followed before its pages were read.

Chains go on from a manifest's run ends at once, and documents are read after it. If the group turns to an epoch whose
manifest says less, the pages of the first may be gone, and the chains claim changes that are not here. They are kept in
mind until a manifest that says them is read, or until somebody puts their runs again. Implements specs/manifest.md §7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import DeviceId, DocumentId
from cocoon_core.protocol.manifest import DocumentState
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.promised import PromisedHead, PromisedTable

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


class Promised:
    """The heads of one group's documents that are claimed here, and whose changes are not here."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._table = PromisedTable(replica.database, replica.record.number)
        self._heads: dict[DocumentId, dict[DeviceId, PromisedHead]] = {}

    def load(self) -> None:
        """Take everything from the database again."""
        self._heads = {}
        for document, device, head in self._table.all():
            self._heads.setdefault(document, {})[device] = head

    def __bool__(self) -> bool:
        return bool(self._heads)

    def note(self, record: DocumentRecord, before: DocumentState, now: DocumentState) -> None:
        """What was owed as `before` says is owed as `now` says. Inside a transaction."""
        known = self._heads.get(record.document, {})
        for device, (seq, _) in before.heads.items():
            held = now.heads[device][0] if device in now.heads else 0
            if seq > held and device not in before.ended and (device not in known or known[device].seq < seq):
                self._set(record, device, PromisedHead(seq, 0))  # `settle` says how much is here

    def wants(self, state: DocumentState) -> bool:
        """Whether a manifest's snapshot of a document holds something of what was promised."""
        promised = self._heads.get(state.descriptor.document_id(self._replica.group), {})
        return any(device in state.heads and state.heads[device][0] > head.held for device, head in promised.items())

    def holds(self, device: DeviceId, heads: DeviceHeads) -> bool:
        """Whether all that a device wrote up to these heads is here, as far as it was promised."""
        for document, promised in self._heads.items():
            if device in promised:
                head = heads.get(document)
                if head is not None and head[0] > promised[device].held:
                    return False
        return True

    def settle(self, documents: Iterable[DocumentId]) -> None:
        """Changes of these documents came: see how much of what was promised is here. Inside a transaction."""
        for document in [document for document in documents if document in self._heads]:
            record = self._replica.documents.find(document)
            assert record is not None, "its row is deleted with the document's"
            here: dict[DeviceId, set[int]] = {}
            for arrival in self._replica.shelf.arrivals.of(record):
                if arrival.change.seq is not None:
                    here.setdefault(arrival.device, set()).add(arrival.change.seq)
            for device, head in list(self._heads[document].items()):
                held = _count_from_one(here.get(device, set()))
                if held >= head.seq:
                    self._drop(record, device)
                elif held != head.held:
                    self._set(record, device, PromisedHead(head.seq, held))

    def forget(self, document: DocumentId) -> None:
        """The document was retired. Inside a transaction."""
        record = self._replica.documents.find(document)
        for device in list(self._heads.get(document, ())):
            assert record is not None, "its row is deleted with the document's"
            self._drop(record, device)

    def _set(self, record: DocumentRecord, device: DeviceId, head: PromisedHead) -> None:
        self._table.set(record.number, device, head)
        self._heads.setdefault(record.document, {})[device] = head

    def _drop(self, record: DocumentRecord, device: DeviceId) -> None:
        self._table.drop(record.number, device)
        promised = self._heads[record.document]
        del promised[device]
        if not promised:
            del self._heads[record.document]


def _count_from_one(numbers: set[int]) -> int:
    """The last of 1, 2, 3, … that are there without a gap."""
    last = 0
    while last + 1 in numbers:
        last += 1
    return last
