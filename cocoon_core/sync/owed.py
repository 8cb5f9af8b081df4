"""What manifests say of documents that was not read here yet: the newest months are read first, the others follow.

A manifest is taken in at once: operations, ends of chains, heads. The pages of documents come after it, a few at a
time, so that memory is bounded by the largest document, and what somebody wants to see first is there first. Until a
document is read, what is said of it here can be carried into the next manifest as it stands. Implements
specs/manifest.md §7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cocoon_core.errors import DocumentUnavailableError, MalformedError, UntrustedInputError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, TopicId
from cocoon_core.protocol.manifest import DocumentState, decode_manifest
from cocoon_core.protocol.part import PackedChange, Said, count_changes, open_part
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.run import Run
from cocoon_core.protocol.snapshot import PageRef, SnapshotRef, check_heads, read_snapshot, unseal_part
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import hash_of
from cocoon_core.sync.events import DocumentChanged

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

SHOWN_FIRST = 200  # changes that whoever comes anew waits for, if months have so many
FIRST = "9999-99"  # in place of a month: what is of none is read before all


@dataclass(frozen=True, slots=True)
class Debt:
    """One document that is owed: what the manifest of `topic` says of it.

    Attributes:
        besides: changes that the manifest carries in runs, of which its snapshot may need some.
    """

    record: DocumentRecord
    topic: TopicId
    state: DocumentState
    besides: tuple[Said, ...]
    is_away: bool

    @property
    def pages(self) -> tuple[PageRef, ...]:
        assert self.state.snapshot is not None, "what has no page is not owed"
        return self.state.snapshot.pages


@dataclass(slots=True)
class Lot:
    """Documents that stand in the same pages, to be read together."""

    topic: TopicId
    pages: tuple[PageRef, ...]
    debts: list[Debt] = field(default_factory=list)

    @property
    def period(self) -> str:
        return max(debt.record.descriptor.period or FIRST for debt in self.debts)


class Debts:
    """The documents of one group that are owed."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._table = replica.snapshots
        self._debts: dict[DocumentId, Debt] = {}
        self._lots: list[Lot] | None = None
        self.claims: dict[BlobHash, str] = {}  # pages that are being fetched, and from which relay
        self.unreadable: set[DocumentId] = set()  # what their pages hold is not what was signed, or fails here

    def load(self) -> None:
        """Take everything from the database again."""
        self._debts, self._lots = {}, None
        for owed in self._table.owed():
            record = self._replica.documents.find(owed.document)
            assert record is not None, "its row is deleted with the document's"
            state, besides = _decode(record.descriptor, owed.state)
            self._debts[owed.document] = Debt(record, owed.topic, state, besides, owed.is_away)

    def __bool__(self) -> bool:
        return bool(self._debts)

    def find(self, document: DocumentId) -> Debt | None:
        """What is owed of a document, if something is."""
        return self._debts.get(document)

    def is_away(self, document: DocumentId) -> bool:
        """Whether it was left where it is, since this device does not keep its month."""
        debt = self._debts.get(document)
        return debt is not None and debt.is_away

    def all(self) -> Iterable[Debt]:
        return self._debts.values()

    def page_names(self) -> set[BlobHash]:
        """The pages that were not read here."""
        return {page.name for debt in self._debts.values() for page in debt.pages}

    def require_read(self, descriptor: Descriptor) -> None:
        """Raises:
        DocumentUnavailableError: nothing of the document is here, and something of it is on its way.
        """
        debt = self._debts.get(descriptor.document_id(self._replica.group))
        if debt is not None and self._replica.shelf.is_bare(debt.record):
            raise DocumentUnavailableError(f"{descriptor.name!r} is not read here yet; sync, and try again")

    # --- owing

    def owe(
        self, topic: TopicId, states: Iterable[DocumentState], besides: Mapping[DocumentId, Sequence[Said]]
    ) -> None:
        """Note what a followed manifest says and is not here. Inside a transaction.

        A document that was owed before is owed as the newer manifest says: the pages of the other may be gone.
        """
        replica = self._replica
        for state in states:
            document = state.descriptor.document_id(replica.group)
            record = replica.documents.ensure(document, state.descriptor)
            if replica.members.is_retired(state.descriptor):
                replica.retires.table.note_swept(document, is_whole=False)
                continue
            known = self._debts.get(document)
            if known is not None:
                replica.promised.note(record, known.state, state)
            extra = tuple(besides.get(document, ()))
            is_away = known.is_away if known is not None else self._stays_away(state.descriptor)
            self._table.owe(record.number, topic, _encode(state, extra), is_away=is_away)
            self._debts[document] = Debt(record, topic, state, extra, is_away)
            self.unreadable.discard(document)
        self._lots = None

    def drop(self, documents: Iterable[DocumentId]) -> None:
        """These documents were retired: nobody reads them any more. Inside a transaction."""
        for document in documents:
            self._replica.promised.forget(document)
            debt = self._debts.pop(document, None)
            if debt is not None:
                self._table.paid(debt.record.number)
                self._replica.retires.table.note_swept(document, is_whole=False)
        self._lots = None

    def follow_choice(self, topic: TopicId) -> None:
        """Another epoch was chosen: what is owed is owed as its manifest says, and what was promised by it and not
        brought is owed again. Inside a transaction.
        """
        self.owe_again(topic, {document for document, debt in self._debts.items() if debt.topic != topic})

    def owe_again(self, topic: TopicId, behind: Set[DocumentId]) -> None:
        """Owe these documents, and those of which something was promised, as the manifest of that epoch says, if it was
        followed. Inside a transaction.
        """
        replica = self._replica
        content = replica.epochs.table.content(topic) if behind or replica.promised else None
        if content is None:
            return
        manifest = decode_manifest(content, replica.group)
        states = [
            state
            for state in manifest.stored_documents()
            if state.snapshot is not None
            and (state.descriptor.document_id(replica.group) in behind or replica.promised.wants(state))
        ]
        self.owe(topic, states, changes_in(manifest.stored_runs()))

    def _stays_away(self, descriptor: Descriptor) -> bool:
        first = self._replica.kept_from()
        return first is not None and descriptor.period is not None and descriptor.period < first

    def away(self) -> list[str]:
        """The months of which something is left where it is, the newest first."""
        return sorted(
            {debt.record.descriptor.period or "" for debt in self._debts.values() if debt.is_away}, reverse=True
        )

    def ask_for(self, periods: Collection[str]) -> int:
        """Have what was left of these months read with the next sync; how many documents. Inside a transaction."""
        asked = [debt for debt in self._debts.values() if debt.is_away and debt.record.descriptor.period in periods]
        for debt in asked:
            self._table.set_away(debt.record.number, False)
            self._debts[debt.record.document] = replace(debt, is_away=False)
        self._lots = None
        return len(asked)

    # --- paying

    def lots(self) -> list[Lot]:
        """What is to be fetched, the newest month first."""
        if self._lots is None:
            found: dict[tuple[BlobHash, ...], Lot] = {}
            for document, debt in self._debts.items():
                if not debt.is_away and document not in self.unreadable:
                    names = tuple(page.name for page in debt.pages)
                    found.setdefault(names, Lot(debt.topic, debt.pages)).debts.append(debt)
            self._lots = sorted(found.values(), key=lambda lot: lot.period, reverse=True)
        return self._lots

    def newest(self) -> list[Lot]:
        """Of what is to be fetched, the newest months that hold enough to show."""
        found: list[Lot] = []
        changes = 0
        for lot in self.lots():
            if changes >= SHOWN_FIRST and found[-1].period != lot.period:
                break
            found.append(lot)
            if lot.period != FIRST:
                changes += sum(seq for debt in lot.debts for seq, _ in debt.state.heads.values())
        return found

    def to_fetch(self, lot: Lot) -> list[PageRef]:
        """The pages of a lot that are not stored here."""
        found = []
        for page in lot.pages:
            known = self._table.find_page(page.name)
            if known is None or known[1] is None:
                found.append(page)
        return found

    def pay(self, lot: Lot, blobs: Mapping[BlobHash, bytes]) -> None:
        """Read the documents of a lot, whose pages are here, and let them be shown. Inside a transaction.

        One that is not what was signed, or fails here, stays owed and is told of; the others of its page are taken.
        """
        replica = self._replica
        try:
            numbers, opened = self._open_pages(lot, blobs)
        except UntrustedInputError as error:
            for debt in lot.debts:
                self._refuse(debt, error)
            return
        retired = replica.retires.documents()
        if any(not retired.keys().isdisjoint(sections) for sections in opened):
            for number in numbers:  # what was retired must not stay with what stands in the same page
                if not self._table.built_on(number):
                    self._table.delete_page(number)
            numbers = []
        for debt in lot.debts:
            try:
                self._read(debt, numbers, opened)
            except UntrustedInputError as error:
                self._refuse(debt, error)
            except DocumentUnavailableError as error:
                self.unreadable.add(debt.record.document)
                replica.note_unavailable(debt.record.document, debt.record.descriptor, error)
        self._lots = None

    def _open_pages(self, lot: Lot, blobs: Mapping[BlobHash, bytes]) -> tuple[list[int], list[dict[DocumentId, bytes]]]:
        numbers, opened = [], []
        for page in lot.pages:
            known = self._table.find_page(page.name)
            part = known[1] if known is not None else None
            if part is None:
                part = unseal_part(page, blobs[page.name], self._replica.group)
            sections = open_part(part)
            numbers.append(self._table.add_page(page, sum(map(count_changes, sections.values())), part))
            opened.append(sections)
        return numbers, opened

    def _read(self, debt: Debt, numbers: Sequence[int], opened: Sequence[Mapping[DocumentId, bytes]]) -> None:
        replica, record = self._replica, debt.record
        packed = read_snapshot(record.document, opened)
        check_heads(packed, debt.state.heads, debt.state.ended)
        known = [] if replica.shelf.is_bare(record) else replica.shelf.arrivals.of(record)
        here = [Said(one.device, one.change.raw, one.seq) for one in known]
        beyond = [*debt.besides, *here]  # what somebody else packed may rest on what is cut, and came here as a run
        besides = _called_by(packed, beyond) if beyond else []
        if not numbers:
            besides = [*(Said(change.device, change.raw, change.entry) for change in packed), *besides]
        replica.shelf.adopt_snapshot(record.descriptor, packed, numbers, besides)
        self._table.paid(record.number)
        replica.promised.settle([record.document])
        replica.retires.table.forget_swept(record.document)
        del self._debts[record.document]
        replica.tell(DocumentChanged(record.document, record.descriptor.name, frozenset(), own=False))

    def _refuse(self, debt: Debt, error: UntrustedInputError) -> None:
        self.unreadable.add(debt.record.document)
        self._lots = None
        name = debt.record.descriptor.name
        message = (
            f"the snapshot of {name!r} is not what was signed ({error}); it is missing until somebody packs it anew"
        )
        self._replica.alarm("snapshot", debt.record.document.hex(), message)


def changes_in(runs: Iterable[Run]) -> dict[DocumentId, list[Said]]:
    """The changes in runs that a manifest carries, by document: beyond a cut, or with what the gate refused."""
    found: dict[DocumentId, list[Said]] = {}
    for run in runs:
        for entry in run.entries:
            for change in entry.changes:
                found.setdefault(change.document, []).append(Said(run.device, change.raw, entry.seq))
    return found


def _called_by(packed: Sequence[PackedChange], beyond: Sequence[Said]) -> list[Said]:
    """Changes beyond a cut that those of the snapshot depend on."""
    by_hash = {hash_of(said.raw): said for said in beyond}
    inside = {change.hash for change in packed}
    wanted: dict[ChangeHash, Said] = {}
    queue = [change.raw for change in packed]
    while queue:
        try:
            deps = read_deps(queue.pop())
        except MalformedError:
            continue
        for dep in map(ChangeHash, deps):
            found = by_hash.get(dep)
            if found is not None and dep not in wanted and dep not in inside:
                wanted[dep] = found
                queue.append(found.raw)
    return list(wanted.values())


# --- how a debt is stored


def _encode(state: DocumentState, besides: Iterable[Said]) -> bytes:
    assert state.snapshot is not None, "what has no page is not owed"
    return encoding.encode(
        [
            [[device, seq, change] for device, (seq, change) in sorted(state.heads.items())],
            [[page.name, page.key.reveal()] for page in state.snapshot.pages],
            list(state.ended),
            [[said.device, said.raw, said.seq] for said in besides],
        ]
    )


def _decode(descriptor: Descriptor, value: bytes) -> tuple[DocumentState, tuple[Said, ...]]:
    heads, pages, ended, besides = encoding.decode(value, max_bytes=len(value))
    state = DocumentState(
        descriptor,
        {DeviceId(device): (seq, ChangeHash(change)) for device, seq, change in heads},
        SnapshotRef(tuple(PageRef(BlobHash(name), Secret(key)) for name, key in pages)),
        tuple(map(DeviceId, ended)),
    )
    return state, tuple(Said(DeviceId(device), raw, seq) for device, raw, seq in besides)
