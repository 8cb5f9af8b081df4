"""Decides which documents are packed anew for a manifest, and which pages they share.

A document that did not change keeps its page, if that is known to hold what it should: it was packed or read here, or
packing it again gives the same bytes. What is being written to has pages of its own, so that a change of it packs
nothing else again; closed months share pages. Implements specs/manifest.md §5.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.constants import SNAPSHOT_PART_BYTES
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import BlobHash, ChangeHash, DeviceId, DocumentId, GroupId
from cocoon_core.protocol.manifest import DocumentState, UnverifiedManifest, decode_manifest
from cocoon_core.protocol.part import Part, Said, open_part, pack_parts
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.snapshot import PageRef, SnapshotRef, seal_part
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.arrivals import Arrival, hash_of

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica

Heads = dict[DeviceId, tuple[int, ChangeHash]]
SETTLE_MS = 2 * 86_400_000  # after the end of a month, before it counts as closed
LOOSE_DOCUMENTS = 12  # a page of closed months with fewer than this many documents can be joined with others,
LOOSE_PAGES = 4  # once there are this many such pages
LIVE_PART = 0.85  # of a page's changes must still be of use, or what is of use in it moves to another
LARGE_BYTES = SNAPSHOT_PART_BYTES // 2  # raw changes of a document that has pages of its own


def manifest_before(replica: Replica) -> UnverifiedManifest | None:
    """The manifest before this one, as it is stored here."""
    before = replica.epochs.last_followed()
    content = replica.epochs.table.content(before.topic) if before is not None else None
    return decode_manifest(content, replica.group) if content is not None else None


def states_before(replica: Replica) -> dict[DocumentId, DocumentState]:
    """What the manifest before this one says of documents."""
    return states_in(manifest_before(replica), replica.group)


def states_in(manifest: UnverifiedManifest | None, group: GroupId) -> dict[DocumentId, DocumentState]:
    """What a stored manifest says of documents, if there is one."""
    states = manifest.stored_documents() if manifest is not None else ()
    return {state.descriptor.document_id(group): state for state in states}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a snapshot leaves out: the devices whose part ends before their head, since the gate refused a change, and
    changes that count and lie beyond what their devices signed: others rest on them.
    """

    ended: frozenset[DeviceId]
    beyond: frozenset[ChangeHash]


@dataclass(slots=True)
class _ToPack:
    record: DocumentRecord
    heads: Heads
    ended: tuple[DeviceId, ...]
    changes: list[Said]


@dataclass(slots=True)
class _Page:
    """A page of the manifest before, as far as what is in it did not change."""

    ref: PageRef
    documents: list[tuple[DocumentRecord, DocumentState]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        return sum(seq for _, state in self.documents for seq, _ in state.heads.values())


class Pager:
    """Takes the documents of a manifest one by one, and gives their states and the new pages.

    Attributes:
        kept: the pages of the manifest before that the new one names.
    """

    def __init__(self, replica: Replica, before: Mapping[DocumentId, DocumentState]) -> None:
        self._replica, self._before = replica, before
        self._known = replica.snapshots.known_pages()
        self._states: dict[DocumentId, DocumentState] = {}
        self._fresh: list[_ToPack] = []
        self._same: list[tuple[DocumentRecord, DocumentState]] = []
        self._blobs: list[bytes] = []
        self._retired = replica.retires.documents()
        now = datetime.fromtimestamp((replica.clock() - SETTLE_MS) / 1000, UTC)
        self._open_month = now.strftime("%Y-%m")  # those before it are closed
        self.kept: frozenset[BlobHash] = frozenset()

    # --- taking

    def take(self, record: DocumentRecord, heads: Heads) -> LeftOut:
        """Take a document with the heads that its devices signed.

        Returns:
            What its snapshot leaves out, of which the manifest must hold the runs.
        """
        debt = self._replica.debts.find(record.document)
        if debt is not None:  # what was not read here is carried on as it stands: heads are those that it has
            self._states[record.document] = debt.state
            return LeftOut(frozenset(debt.state.ended), frozenset(hash_of(said.raw) for said in debt.besides))
        before = self._before.get(record.document)
        if before is not None and before.retired:  # it goes on after all
            before = None
        is_same = before is not None and before.heads == heads
        if before is not None and is_same and not before.ended and not self._may_be_cut(record):
            self._keep(record, before)
            return LeftOut(frozenset(), frozenset())
        packed, beyond = self._read(record, heads)
        if before is not None and is_same and before.ended == packed.ended:
            self._keep(record, before)
        elif packed.changes:
            self._fresh.append(packed)
        else:
            self._states[record.document] = DocumentState(record.descriptor, heads, None, packed.ended)
        return LeftOut(frozenset(packed.ended), beyond)

    def _may_be_cut(self, record: DocumentRecord) -> bool:
        return self._replica.members.may_be_cut(record.descriptor)

    def _keep(self, record: DocumentRecord, before: DocumentState) -> None:
        if before.snapshot is None:
            self._states[record.document] = before
        else:
            self._same.append((record, before))

    def _read(self, record: DocumentRecord, heads: Heads) -> tuple[_ToPack, frozenset[ChangeHash]]:
        changes, ended, beyond = read_changes(self._replica, record, heads)
        return _ToPack(record, heads, ended, changes), beyond

    # --- packing

    def finish(self) -> tuple[list[DocumentState], list[bytes]]:
        """Every document's state, and the new pages."""
        self._keep_pages()
        closed = [one for one in self._fresh if self._is_shared(one)]
        together = {one.record.document for one in closed}
        for one in self._fresh:
            if one.record.document not in together:
                self._pack([one])
        self._pack(closed)
        names = {page.name for state in self._states.values() if state.snapshot for page in state.snapshot.pages}
        self._replica.snapshots.forget_pages(names)
        return [state for _, state in sorted(self._states.items())], self._blobs

    def _keep_pages(self) -> None:
        """Keep the pages that are known to be good and of use; what is in the others is packed anew."""
        pages: dict[BlobHash, _Page] = {}
        large: list[tuple[DocumentRecord, DocumentState]] = []
        for record, state in self._same:
            refs = state.snapshot.pages if state.snapshot else ()
            if len(refs) > 1:
                large.append((record, state))
            else:
                pages.setdefault(refs[0].name, _Page(refs[0])).documents.append((record, state))
        kept: set[BlobHash] = set()
        for record, state in large:
            names = [page.name for page in state.snapshot.pages] if state.snapshot else []
            is_known = all(name in self._known for name in names)
            if not any(map(self._holds_retired, names)) and (is_known or self._is_packed_so(record, state)):
                kept.update(names)
                self._states[record.document] = state
            else:
                self._pack_anew(record, state)
        good = [page for page in pages.values() if self._is_good(page)]
        loose = [page for page in good if self._is_loose(page)]
        staying = {page.ref.name for page in good}
        if len(loose) >= LOOSE_PAGES:
            staying.difference_update(page.ref.name for page in loose)
        kept |= staying
        for page in pages.values():
            is_kept = page.ref.name in staying
            for record, state in page.documents:
                if is_kept:
                    self._states[record.document] = state
                else:
                    self._pack_anew(record, state)
        self.kept = frozenset(kept | {page.name for debt in self._replica.debts.all() for page in debt.pages})

    def _pack_anew(self, record: DocumentRecord, state: DocumentState) -> None:
        packed, _ = self._read(record, dict(state.heads))
        if packed.changes:
            self._fresh.append(packed)
        else:  # whoever packed it named a page for what has no change
            self._states[record.document] = DocumentState(record.descriptor, packed.heads, None, packed.ended)

    def _is_good(self, page: _Page) -> bool:
        """Known to hold what it should, and most of it of use."""
        changes = self._known.get(page.ref.name)
        if (changes is None or page.changes < changes) and self._holds_retired(page.ref.name):
            return False
        if changes is None:
            changes = self._is_same_page(page)
        return changes is not None and page.changes >= LIVE_PART * changes

    def _holds_retired(self, name: BlobHash) -> bool:
        """Whether a document stands in a page that its owner retired: then no manifest names that page any more."""
        if not self._retired:
            return False
        states = (self._before.get(document) for document in self._retired)
        if any(name == page.name for state in states if state and state.snapshot for page in state.snapshot.pages):
            return True
        known = self._replica.snapshots.find_page(name)
        return known is not None and known[1] is not None and not self._retired.keys().isdisjoint(open_part(known[1]))

    def _is_same_page(self, page: _Page) -> int | None:
        """How many changes a page holds, if what is here, packed in the order of documents, gives this very page: then
        its packer was honest. What changed since is packed as it was said with the page.
        """
        packed: list[tuple[DocumentRecord, list[Said]]] = []
        for document, state in self._before.items():
            if state.snapshot is None or page.ref not in state.snapshot.pages:
                continue
            record = self._replica.documents.find(document)
            if record is None or self._replica.debts.find(document) is not None:
                return None
            packed.append((record, read_changes(self._replica, record, state.heads)[0]))
        parts = pack_in_order(packed)
        if len(parts) != 1 or seal_part(parts[0].data, page.ref.key, self._replica.group)[0] != page.ref:
            return None
        changes = sum(len(said) for _, said in packed)
        self._note(page.ref, changes)
        return changes

    def _is_packed_so(self, record: DocumentRecord, state: DocumentState) -> bool:
        """The same of a document that has several pages."""
        refs = state.snapshot.pages if state.snapshot else ()
        parts = pack_parts([(record.document, self._read(record, dict(state.heads))[0].changes)])
        sealed = [seal_part(part.data, ref.key, self._replica.group)[0] for part, ref in zip(parts, refs, strict=False)]
        if len(parts) != len(refs) or tuple(sealed) != refs:
            return False
        for ref in refs:
            self._note(ref, 0)
        return True

    def _note(self, ref: PageRef, changes: int) -> None:
        self._known[ref.name] = changes
        self._replica.snapshots.add_page(ref, changes, None)

    def _is_loose(self, page: _Page) -> bool:
        """One of a few small documents of closed months, which can be joined with others."""
        return len(page.documents) < LOOSE_DOCUMENTS and all(
            self._is_closed(record.descriptor) for record, _ in page.documents
        )

    def _is_closed(self, descriptor: Descriptor) -> bool:
        return descriptor.period is not None and descriptor.period < self._open_month

    def _is_shared(self, one: _ToPack) -> bool:
        """Whether a document that is packed anew goes into a page with others: of a closed month, not large, and not
        one that somebody has just changed, who may change it again.
        """
        before = self._before.get(one.record.document)
        is_quiet = before is None or before.heads == one.heads
        size = sum(len(change.raw) for change in one.changes)
        return is_quiet and size <= LARGE_BYTES and self._is_closed(one.record.descriptor)

    def _pack(self, documents: Sequence[_ToPack]) -> None:
        places: dict[DocumentId, list[PageRef]] = {}
        counts = {one.record.document: len(one.changes) for one in documents}
        for part in pack_in_order((one.record, one.changes) for one in documents):
            ref, blob = seal_part(part.data, Secret(secrets.token_bytes(32)), self._replica.group)
            self._note(ref, sum(counts[document] for document in part.documents))
            self._blobs.append(blob)
            for document in part.documents:
                places.setdefault(document, []).append(ref)
        for one in documents:
            snapshot = SnapshotRef(tuple(places[one.record.document]))
            state = DocumentState(one.record.descriptor, one.heads, snapshot, one.ended)
            self._states[one.record.document] = state


def pack_in_order(documents: Iterable[tuple[DocumentRecord, list[Said]]]) -> list[Part]:
    """Pack documents in the order in which every device packs them: by month, then by id."""
    ordered = sorted(documents, key=lambda one: (one[0].descriptor.period or "", one[0].document))
    return pack_parts((record.document, changes) for record, changes in ordered)


def read_changes(
    replica: Replica, record: DocumentRecord, heads: Mapping[DeviceId, tuple[int, ChangeHash]]
) -> tuple[list[Said], tuple[DeviceId, ...], frozenset[ChangeHash]]:
    """The changes of a document that go into its snapshot, the devices whose part ends before their head, and those
    that count and lie beyond the heads.
    """
    changes: list[Arrival] = []
    last: dict[DeviceId, int] = {}
    is_retired = replica.members.is_retired(record.descriptor)  # since: who made this page packed what counted then
    counting = replica.shelf.changes_ever(record) if is_retired else replica.shelf.counting_changes(record)
    for arrival in counting:
        device, seq = arrival.device, arrival.change.seq
        if seq is not None and device in heads and seq <= heads[device][0]:
            changes.append(arrival)
            last[device] = max(last.get(device, 0), seq)
    ended = tuple(sorted(device for device, (seq, _) in heads.items() if last.get(device) != seq))
    beyond = {arrival.change.hash for arrival in counting} - {arrival.change.hash for arrival in changes}
    return canonical_order(changes), ended, frozenset(beyond)


def canonical_order(changes: Iterable[Arrival]) -> list[Said]:
    """Put changes after those that they depend on; of several that could come next that of the smallest device id.

    So whoever holds the same changes packs the same bytes.
    """
    by_hash = {arrival.change.hash: arrival for arrival in changes}
    waits: dict[ChangeHash, int] = {}
    blocks: dict[bytes, list[ChangeHash]] = {}
    for digest, arrival in by_hash.items():
        deps = [dep for dep in read_deps(arrival.change.raw) if dep in by_hash]
        waits[digest] = len(deps)
        for dep in deps:
            blocks.setdefault(dep, []).append(digest)
    ready = [(by_hash[digest].device, by_hash[digest].change.seq or 0, digest) for digest in waits if not waits[digest]]
    heapify(ready)
    ordered: list[Said] = []
    while ready:
        _, _, digest = heappop(ready)
        arrival = by_hash[digest]
        ordered.append(Said(arrival.device, arrival.change.raw, arrival.seq))
        for blocked in blocks.get(digest, ()):
            waits[blocked] -= 1
            if not waits[blocked]:
                heappush(ready, (by_hash[blocked].device, by_hash[blocked].change.seq or 0, blocked))
    return ordered
