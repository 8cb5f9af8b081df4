"""The open documents of one group: loaded when asked for, merged in batches, saved as caches, thrown away on failure.

The log and what manifests' snapshots said are the truth. A document is its cache, plus the runs after it, plus own
entries that are in no run yet; where any of that does not fit, it is built anew, and the gate gives the same verdicts
again. Where changes stand is arrivals.py's, which of them count judging.py's. Implements specs/storage.md §5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, Protocol

from cocoon_core.documents import Document, Gate, MissingDependencyError, Record, Records, Saved
from cocoon_core.errors import (
    DocumentUnavailableError,
    LocalStateError,
    MalformedError,
    NotYetError,
    UntrustedInputError,
    UsageError,
)
from cocoon_core.protocol import encoding
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, GroupId, MemberId
from cocoon_core.protocol.part import PackedChange, Said
from cocoon_core.storage.documents import DocumentRecord, DocumentTable
from cocoon_core.storage.snapshots import SnapshotTable
from cocoon_core.sync.arrivals import (
    NO_RUN,
    NOTHING_SAID,
    Arrival,
    Arrivals,
    ancestors_of,
    hash_of,
    in_causal_order,
    pack_said,
)
from cocoon_core.sync.judging import NOBODY, Judge, OpenDocument, Rights

__all__ = ["NO_RUN", "Arrival", "Readable", "Rights", "Said", "Shelf", "View", "in_causal_order"]

OPEN_DOCUMENTS = 48  # documents kept in memory, however large
OPEN_SMALL = 1_024  # documents kept where they are small: in a large group each member has one of the month
OPEN_CHANGES = 8_192  # changes in all that those hold, or as many as their caches have bytes for
BYTES_A_CHANGE = 64  # of a cache, roughly
CACHE_AFTER = 256  # changes merged since the last cache before a new one is worth its bytes,
CACHE_BYTES_A_CHANGE = 2_000  # or one for so many bytes of that cache, if that is more: writing one costs by its size
NOT_SAVED: Final = b""  # in place of a cache: the verdicts hold, and the document is built from its changes
MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024  # raw changes of one document that a manifest may say


class Readable(Protocol):
    """A document's content, by root key."""

    def root_keys(self) -> Collection[str]: ...

    def plain(self, key: str) -> Any: ...


class View(Protocol):
    """A table computed from documents. Called inside the transaction that stores what changed."""

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        """These root keys of the document may have changed."""
        ...

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        """Anything of the document may have changed."""
        ...

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        """The document is new: nothing of it was shown so far, but by a view that kept what it showed."""
        ...

    def let_go(self, record: DocumentRecord) -> None:
        """Nothing of the document is kept here any more; what it says stays as it was."""
        ...


Written = Callable[[DocumentRecord, Collection[tuple[DeviceId, int]]], None]


class Shelf:
    """The documents of one group.

    Attributes:
        written: told, before the views, which devices wrote what of a shared document comes to be shown, each with the
            run in which it stands, or NO_RUN. Not told of own edits, nor where a document is built anew.

    Args:
        own_pending: (document, seq, raw change) of own changes that are in no run yet, in chain order.
    """

    def __init__(
        self,
        group: GroupId,
        device: DeviceId,
        table: DocumentTable,
        snapshots: SnapshotTable,
        rights: Rights,
        own_pending: Callable[[], Iterable[tuple[DocumentId, int, bytes]]],
    ) -> None:
        self._group, self._table, self._snapshots, self._rights = group, table, snapshots, rights
        self.arrivals = Arrivals(group, device, table, snapshots, own_pending)
        self.judge = Judge(table, rights, self.arrivals)
        self._open: OrderedDict[DocumentId, OpenDocument] = OrderedDict()
        self.views: list[View] = []
        self.written: Written = lambda record, devices: None
        self.pinned: Collection[DocumentId] = ()  # stay in memory, because they are being edited

    def set_device(self, device: DeviceId) -> None:
        """Write as another device from now on."""
        self.arrivals.device = device
        self.discard_all()

    # --- reading and editing

    def get(self, descriptor: Descriptor) -> Document:
        """The document, loaded. It must not be kept over an await: what changes it, goes through the shelf."""
        return self._opened(descriptor).document

    def find(self, descriptor: Descriptor) -> Document | None:
        """The document if anything of it is known here; reading never makes one."""
        document = descriptor.document_id(self._group)
        if document in self._open or self._table.find(document) is not None:
            return self.get(descriptor)
        return None

    def holds(self, document: DocumentId, found: Document) -> bool:
        """True where this very object is still what the shelf has of the document."""
        opened = self._open.get(document)
        return opened is not None and opened.document is found

    def edited(self, descriptor: Descriptor, touched: set[str]) -> None:
        """An own edit was made and is being stored: let the views follow."""
        opened = self._opened(descriptor)
        opened.uncached += 1
        self._tell_merged(opened, touched)

    def is_pinned(self, document: DocumentId) -> bool:
        """True while somebody edits it."""
        return document in self.pinned

    def let_go(self, record: DocumentRecord) -> None:
        """Nothing of a document is kept here any more. Inside a transaction."""
        self.discard(record.document)
        for view in self.views:
            view.let_go(record)

    def discard(self, document: DocumentId) -> None:
        """Throw the document in memory away; it is loaded again when asked for."""
        self._open.pop(document, None)

    def discard_all(self) -> None:
        self._open.clear()

    # --- merging what arrived

    def merge(self, descriptor: Descriptor, arrivals: Sequence[Arrival]) -> set[str]:
        """Admit and merge a batch of changes of one document, and whatever waited for them.

        Returns:
            The root keys that were touched; all of them where the document had to be built anew.

        Raises:
            DocumentUnavailableError: automerge fails here. The changes are noted, and judged when it is built again.
        """
        try:
            return self._merge(descriptor, arrivals)
        except DocumentUnavailableError:
            record = self._table.ensure(descriptor.document_id(self._group), descriptor)
            self._open.pop(record.document, None)
            self._table.set_cache(record.number, None, 0)
            self._note_runs(record, arrivals)
            raise

    def _merge(self, descriptor: Descriptor, arrivals: Sequence[Arrival]) -> set[str]:
        opened = self._opened(descriptor)
        admitted = self.judge.admit(opened, arrivals)
        # Not before there are verdicts, since a gate that is built reads all that is noted here; and not after the
        # document could be evicted, since its cache names the last run that it holds.
        self._note_runs(opened.record, arrivals)
        if opened.contested:
            return set(self.rebuild(opened.record).document.read().keys())
        if not admitted:
            return set()
        opened.document.merge(admitted)
        opened.uncached += len(admitted)
        touched = {key for change in admitted for key in change.touched}
        if opened.record.descriptor.kind is DocumentKind.SHARED:
            self._tell_written(opened.record, {ChangeHash(change.hash_bytes) for change in admitted}, arrivals)
        self._tell_merged(opened, touched)
        return touched

    def _tell_written(self, record: DocumentRecord, shown: set[ChangeHash], arrivals: Sequence[Arrival]) -> None:
        found = [arrival for arrival in arrivals if arrival.change.hash in shown]
        freed = shown.difference(arrival.change.hash for arrival in found)
        if freed:  # they came before, and waited
            found += [arrival for arrival in self.arrivals.of(record) if arrival.change.hash in freed]
        self.written(record, {(arrival.device, arrival.run) for arrival in found})

    def _note_runs(self, record: DocumentRecord, arrivals: Iterable[Arrival]) -> None:
        self._table.add_runs({(record.number, arrival.run) for arrival in arrivals if arrival.run != NO_RUN})

    def adopt_snapshot(
        self,
        descriptor: Descriptor,
        packed: Sequence[PackedChange],
        pages: Sequence[int] = (),
        besides: Sequence[Said] = (),
    ) -> bool:
        """Take what a manifest on the chosen path says of a document: entries that are not here, each with its seq.

        Whether they count goes by the roster and by what is final, as for entries that are. What an earlier snapshot
        said besides stays. Runs of the log may say the same, and more. Inside a transaction.

        Args:
            packed: in causal order, what stands in `pages` (their numbers here).
            besides: what it says and no page holds.

        Returns:
            Whether it said anything that did not count here.

        Raises:
            MalformedError, NotPermittedError, EquivocationError: the gate refuses one of them; nothing was changed.
        """
        size = sum(len(change.raw) for change in packed) + sum(len(change.raw) for change in besides)
        if size > MAX_SNAPSHOT_BYTES:
            raise MalformedError(f"a snapshot says more than {MAX_SNAPSHOT_BYTES} bytes of one document")
        record = self._table.ensure(descriptor.document_id(self._group), descriptor)
        if besides or self._rights.may_be_cut(descriptor) or not self.is_bare(record):
            return self._adopt_beside(record, packed, pages, besides)
        self._adopt_new(record, packed, pages)
        return True

    def is_bare(self, record: DocumentRecord) -> bool:
        """True where nothing of the document is here."""
        return (
            not self._table.has_runs(record.number)
            and self._snapshots.get(record.number) is None
            and next(self.arrivals.pending(record.document), None) is None
        )

    def _adopt_new(self, record: DocumentRecord, packed: Sequence[PackedChange], pages: Sequence[int]) -> None:
        """All of it counts and nothing else is here: one pass through the gate, and the views read what it says.

        Automerge is not asked as long as every change is a record, and the document is built when it is opened.
        """
        records: dict[str, Record] = {}
        gate = Gate(record.descriptor, record.document)
        members: dict[DeviceId, MemberId] = {}
        try:
            for device, raw, digest, _, _ in packed:
                member = members.get(device)
                if member is None:
                    member = members[device] = self._rights.member_ever(device) or NOBODY
                touched = gate.admit(raw, device, member, digest).touched
                if gate.record is not None:
                    records[touched[0]] = gate.record
        except MissingDependencyError as error:
            raise _lacks_dependency() from error
        self._open.pop(record.document, None)
        self._snapshots.set(record.number, pages, NOTHING_SAID, max((change.entry for change in packed), default=0))
        self._table.set_cache(record.number, NOT_SAVED, 0)
        shown: Readable
        if record.descriptor.kind is DocumentKind.SHARED:
            self.written(record, {(change.device, NO_RUN) for change in packed})
        if len(records) == len(packed):
            shown = Records(records)
        else:
            actor = actor_of(self.arrivals.device, record.document)
            shown = Document(record.descriptor, record.document, actor, lambda: [change.raw for change in packed])
        for view in self.views:
            view.adopted(record, shown)

    def _adopt_beside(
        self, record: DocumentRecord, packed: Sequence[PackedChange], pages: Sequence[int], besides: Sequence[Said]
    ) -> bool:
        gate = Gate(record.descriptor, record.document)
        authors = {change.raw: change.device for change in packed} | {said.raw: said.device for said in besides}
        try:
            for raw in in_causal_order(authors) if besides else authors:
                gate.admit(raw, authors[raw], self._rights.member_ever(authors[raw]) or NOBODY)
        except MissingDependencyError as error:
            raise _lacks_dependency() from error
        counted = {arrival.change.hash for arrival in self.counting_changes(record)}
        fresh = {authors[raw] for raw in authors if hash_of(raw) not in counted}
        left = [
            Said(one.device, one.change.raw, one.seq)
            for one in chain(*self.arrivals.in_snapshots(record))
            if one.change.raw not in authors
        ]
        if fresh or self._snapshots.get(record.number) is not None:
            last = max(*(change.entry for change in packed), *(said.seq for said in (*besides, *left)), 0, 0)
            self._snapshots.set(record.number, pages, pack_said(besides, left), last)
            if record.descriptor.kind is DocumentKind.SHARED:
                self.written(record, {(device, NO_RUN) for device in fresh})
            self.rebuild(record)
        return bool(fresh)

    # --- loading

    def _opened(self, descriptor: Descriptor) -> OpenDocument:
        document = descriptor.document_id(self._group)
        opened = self._open.get(document)
        is_new = opened is None
        if opened is None:
            record = self._table.find(document)
            opened = self._begin(document, descriptor) if record is None else self._load(record)
            self._open[document] = opened
        self._open.move_to_end(document)
        if is_new and len(self._open) > OPEN_DOCUMENTS:
            self._close_oldest(document)
        return opened

    def _close_oldest(self, document: DocumentId) -> None:
        """Let go of those that were not asked for longest, as far as there are too many beside this one."""
        sizes = {one: opened.uncached + opened.cache_bytes // BYTES_A_CHANGE for one, opened in self._open.items()}
        changes = sum(sizes.values())
        for oldest in [found for found in self._open if found not in self.pinned and found != document]:
            count = len(self._open)
            if count <= OPEN_DOCUMENTS or (count <= OPEN_SMALL and changes <= OPEN_CHANGES):
                break
            self._save(self._open.pop(oldest))
            changes -= sizes[oldest]

    def _begin(self, document: DocumentId, descriptor: Descriptor) -> OpenDocument:
        """A document of which nothing was known here: neither changes nor verdicts are stored."""
        record = self._table.ensure(document, descriptor)
        if next(self.arrivals.pending(document), None) is not None:
            return self._load(record)
        source = _Stored(self, record)
        source.hidden = True
        opened = OpenDocument(record, self._new_document(record, source, None))
        opened.document.build_gate()
        source.hidden = False
        return opened

    def _load(self, record: DocumentRecord) -> OpenDocument:
        cache, cached_run = self._table.cache(record.number)
        if cache == NOT_SAVED:
            return self._load_changes(record)
        if cache is not None:
            try:
                return self._load_cached(record, cache, cached_run)
            except (LocalStateError, MalformedError):
                self._table.set_cache(record.number, None, 0)
        return self.rebuild(record, tell=False)

    def _load_cached(self, record: DocumentRecord, cache: bytes, cached_run: int) -> OpenDocument:
        data, heads = encoding.decode(cache, max_bytes=len(cache))
        source = _Stored(self, record)
        document = self._new_document(record, source, Saved(data, frozenset(heads)))
        late = list(source.after(cached_run))
        document.replay(late)
        number = record.number
        waiting, called = self._table.has_waiting(number), self._table.called(number)
        return OpenDocument(record, document, len(late), len(cache), waiting, called)

    def _load_changes(self, record: DocumentRecord) -> OpenDocument:
        """Build a document from its changes, whose verdicts hold."""
        source = _Stored(self, record)
        document = self._new_document(record, source, None)
        number = record.number
        waiting, called = self._table.has_waiting(number), self._table.called(number)
        return OpenDocument(record, document, source.given, 0, waiting, called)

    def load_cached(self, record: DocumentRecord) -> Document:
        """The document as its cache and the runs after it give it, to be compared; it is not kept open.

        Raises:
            LocalStateError, MalformedError: there is no cache, or it cannot be used.
        """
        cache, cached_run = self._table.cache(record.number)
        if cache is None:
            raise LocalStateError("this document has no cache")
        return self._load_cached(record, cache, cached_run).document

    def rebuild(self, record: DocumentRecord, *, tell: bool = True) -> OpenDocument:
        """Build a document from what is stored alone, with fresh verdicts.

        Raises:
            UsageError: it is being edited.
        """
        if record.document in self._open and record.document in self.pinned:
            raise UsageError("an edit of this document is open; end it first")
        self._open.pop(record.document, None)
        self._table.set_cache(record.number, None, 0)  # before the verdicts that it rests on
        arrivals = self.arrivals.of(record)
        displaced: frozenset[ChangeHash] = frozenset()
        while True:
            opened, lower = self._judge_all(record, arrivals, displaced)
            if not lower:
                break
            displaced |= lower
        if tell:
            for view in self.views:
                view.rebuilt(record, opened.document)
        return opened

    def _judge_all(
        self, record: DocumentRecord, arrivals: list[Arrival], displaced: frozenset[ChangeHash]
    ) -> tuple[OpenDocument, set[ChangeHash]]:
        """Judge all changes of a document anew, without some; and those that were admitted and should not have been."""
        self._table.forget_verdicts(record.number)
        source = _Stored(self, record)
        source.hidden = True  # until there are verdicts again
        document = self._new_document(record, source, None)
        opened = OpenDocument(record, document, uncounted={}, displaced=displaced)
        for change in displaced:
            document.forbid(change)
        admitted = self.judge.admit(opened, arrivals)
        lower = self.judge.displace(opened, arrivals, {change.hash_bytes for change in admitted})
        opened.contested.clear()
        if lower:
            return opened, lower
        document.merge(admitted)
        self._open[record.document] = opened
        source.hidden = False
        opened.uncached = len(arrivals)
        return opened, lower

    def _new_document(self, record: DocumentRecord, stored: _Stored, saved: Saved | None) -> Document:
        actor = actor_of(self.arrivals.device, record.document)
        return Document(record.descriptor, record.document, actor, stored, saved)

    # --- what counts

    def counting_changes(self, record: DocumentRecord) -> list[Arrival]:
        """The changes of a document that count and were admitted, in causal order: to be packed."""
        found = {arrival.change.raw: arrival for arrival in self._admitted(record, self.arrivals.of(record))}
        return [found[raw] for raw in in_causal_order(found)]

    def changes_ever(self, record: DocumentRecord) -> list[Arrival]:
        """The changes of a document that would count if it were not retired, and pass a gate of their own; in causal
        order.
        """
        gate = Gate(record.descriptor, record.document)
        found = {arrival.change.raw: arrival for arrival in self.arrivals.of(record)}
        passed: list[Arrival] = []
        for raw in in_causal_order(found):
            device = found[raw].device
            if self._rights.counts_ever(device, found[raw].seq, record.descriptor):
                with suppress(UntrustedInputError, NotYetError):
                    gate.admit(raw, device, self._rights.member_ever(device) or NOBODY)
                    passed.append(found[raw])
        return passed

    def keep_changes(self, record: DocumentRecord, changes: Collection[ChangeHash] = ()) -> None:
        """Keep these changes, which count, and all that they depend on as what a snapshot said, and that apart from any
        page: the runs or pages in which they stand are about to go. Inside a transaction.
        """
        counting = {arrival.change.raw: arrival for arrival in self.counting_changes(record)}
        by_hash = {bytes(arrival.change.hash): raw for raw, arrival in counting.items()}
        wanted = ancestors_of([by_hash[bytes(change)] for change in changes], by_hash)
        newest, left = self.arrivals.in_snapshots(record)
        said = {one.change.raw: one for one in newest} | {raw: counting[raw] for raw in wanted.values()}
        besides = [Said(said[raw].device, raw, said[raw].seq) for raw in in_causal_order(said)]
        rest = [Said(one.device, one.change.raw, one.seq) for one in left if one.change.raw not in said]
        last = max((one.seq for one in (*besides, *rest)), default=0)
        self._snapshots.set(record.number, (), pack_said(besides, rest), last)

    def late_changes(self, record: DocumentRecord) -> list[tuple[DeviceId, ChangeHash]]:
        """Those among them that count only because a change that counts depends on them."""
        admitted = self._admitted(record, self.arrivals.of(record))
        return [(a.device, a.change.hash) for a in admitted if not self.judge.counts(record, a)]

    def admitted_changes(self, record: DocumentRecord, after_run: int) -> Iterator[bytes]:
        """The raw changes of a document that were admitted and count, each after its dependencies; own pending ones."""
        if after_run:
            arrivals: Iterable[Arrival] = (
                *self.arrivals.in_runs(record, after_run),
                *self.arrivals.pending(record.document),
            )
        else:
            arrivals = self.arrivals.of(record)
        return (arrival.change.raw for arrival in self._admitted(record, arrivals))

    def _admitted(self, record: DocumentRecord, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        refused = self._table.refused(record.number)
        waiting = self._table.waiting_changes(record.number)
        called = self._table.called(record.number)
        for arrival in arrivals:
            digest = arrival.change.hash
            passed = digest not in refused and digest not in waiting
            if passed and (digest in called or self.judge.counts(record, arrival)):
                yield arrival

    # --- caches

    def save_caches(self, *, at_least: int = CACHE_AFTER) -> None:
        """Write the cache of every open document that has changed by that many changes. Inside a transaction."""
        for opened in self._open.values():
            self._save(opened, at_least)

    def _save(self, opened: OpenDocument, at_least: int = CACHE_AFTER) -> None:
        if opened.uncached >= max(at_least, opened.cache_bytes // CACHE_BYTES_A_CHANGE):
            last = self._table.last_run(opened.record.number)
            saved = opened.document.save()
            cache = encoding.encode([saved.data, sorted(saved.heads)])
            self._table.set_cache(opened.record.number, cache, last)
            opened.uncached, opened.cache_bytes = 0, len(cache)

    def _tell_merged(self, opened: OpenDocument, touched: set[str]) -> None:
        for view in self.views:
            view.merged(opened.record, opened.document, touched)


def _lacks_dependency() -> MalformedError:
    return MalformedError("a snapshot lacks what its changes depend on")


class _Stored:
    """Gives a document its stored changes, when it builds its gate or itself."""

    def __init__(self, shelf: Shelf, record: DocumentRecord) -> None:
        self._shelf, self._record = shelf, record
        self.hidden = False
        self.given = 0  # changes, the last time

    def __call__(self) -> list[bytes]:
        raws = [] if self.hidden else list(self.after(0))
        self.given = len(raws)
        return raws

    def after(self, run: int) -> Iterator[bytes]:
        return in_causal_order(self._shelf.admitted_changes(self._record, run))
