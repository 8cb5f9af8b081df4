"""The open documents of one group: loaded when asked for, merged in batches, saved as caches, thrown away on failure.

The log is the truth. A document is its cache, plus the runs after it, plus own entries that are in no run yet; where
any of that does not fit, it is built anew from the log, and the gate gives the same verdicts again. Implements
specs/storage.md §5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cocoon_core.documents import AdmittedChange, Document, MissingDependencyError, Saved
from cocoon_core.errors import (
    DocumentUnavailableError,
    LocalStateError,
    MalformedError,
    UntrustedInputError,
    UsageError,
)
from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import read_deps
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.entry import DocumentChange, document_change
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, GroupId, MemberId
from cocoon_core.protocol.primitives import sha256
from cocoon_core.protocol.run import parse_run
from cocoon_core.storage.documents import DocumentRecord, DocumentTable

OPEN_DOCUMENTS = 48  # documents kept in memory
NO_RUN = 0  # in place of a run's number, for an own change that is in none yet
NOBODY = MemberId(bytes(MemberId.LENGTH))
CACHE_AFTER = 256  # changes merged since the last cache before a new one is worth its bytes,
CACHE_BYTES_A_CHANGE = 2_000  # or one for so many bytes of that cache, if that is more: writing one costs by its size


class Arrival(NamedTuple):
    """One change that reached a document, with whose it is and whether it counts now."""

    change: DocumentChange
    device: DeviceId
    seq: int
    run: int


class Rights(Protocol):
    """What the shelf asks of the roster."""

    def member_of(self, device: DeviceId) -> MemberId | None: ...

    def counts(self, device: DeviceId, seq: int, descriptor: Descriptor) -> bool: ...


class View(Protocol):
    """A table computed from documents. Called inside the transaction that stores what changed."""

    def merged(self, record: DocumentRecord, document: Document, touched: set[str]) -> None:
        """These root keys of the document may have changed."""
        ...

    def rebuilt(self, record: DocumentRecord, document: Document) -> None:
        """Anything of the document may have changed."""
        ...


@dataclass(slots=True)
class _Open:
    record: DocumentRecord
    document: Document
    uncached: int = 0
    cache_bytes: int = 0
    waiting: bool = False
    called: set[ChangeHash] = field(default_factory=set)
    uncounted: dict[ChangeHash, Arrival] | None = None


class Shelf:
    """The documents of one group.

    Args:
        own_pending: (document, seq, raw change) of own changes that are in no run yet, in chain order.
    """

    def __init__(
        self,
        group: GroupId,
        device: DeviceId,
        table: DocumentTable,
        rights: Rights,
        own_pending: Callable[[], Iterable[tuple[DocumentId, int, bytes]]],
    ) -> None:
        self._group, self._device, self._table, self._rights = group, device, table, rights
        self._own_pending = own_pending
        self._open: OrderedDict[DocumentId, _Open] = OrderedDict()
        self.views: list[View] = []
        self.pinned: Collection[DocumentId] = ()  # stay in memory, because they are being edited

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

    def discard(self, document: DocumentId) -> None:
        """Throw the document in memory away; it is loaded again when asked for."""
        self._open.pop(document, None)

    def discard_all(self) -> None:
        self._open.clear()

    # --- merging what arrived

    def merge(self, descriptor: Descriptor, arrivals: Sequence[Arrival]) -> set[str]:
        """Admit and merge a batch of changes of one document, and whatever waited for them.

        Returns:
            The root keys that were touched.

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
        admitted: list[AdmittedChange] = []
        queue = list(reversed(arrivals))
        number = opened.record.number
        authors: dict[DeviceId, MemberId] = {}
        while queue:
            arrival = queue.pop()
            change = self._admit(opened, arrival, authors, queue)
            if change is None:
                continue
            admitted.append(change)
            if opened.waiting:
                freed = self._table.waiting_for(number, ChangeHash(change.hash))
                queue.extend(self._arrivals_of(opened, freed))
        # Not before there are verdicts, since a gate that is built reads all that is noted here; and not after the
        # document could be evicted, since its cache names the last run that it holds.
        self._note_runs(opened.record, arrivals)
        if not admitted:
            return set()
        opened.document.merge(admitted)
        opened.uncached += len(admitted)
        touched = {key for change in admitted for key in change.touched}
        self._tell_merged(opened, touched)
        return touched

    def _note_runs(self, record: DocumentRecord, arrivals: Iterable[Arrival]) -> None:
        self._table.add_runs({(record.number, arrival.run) for arrival in arrivals if arrival.run != NO_RUN})

    def _admit(
        self, opened: _Open, arrival: Arrival, authors: dict[DeviceId, MemberId], queue: list[Arrival]
    ) -> AdmittedChange | None:
        """Ask right and gate. What can be asked again because of this one is put on the queue.

        Args:
            authors: devices of which every entry counts, with their members, as far as this merge has asked.
        """
        record, change, device = opened.record, arrival.change, arrival.device
        member = authors.get(device)
        if member is None:
            if not self._counts(opened, arrival):
                self._uncounted(opened)[change.hash] = arrival
                return None
            member = self._rights.member_of(device) or NOBODY
            if record.descriptor.kind is DocumentKind.OWNED:
                authors[device] = member
        try:
            return opened.document.receive(change.raw, device, member)
        except MissingDependencyError as error:
            called = self._call(opened, error.missing)
            if called:
                queue += [arrival, *called]
            elif arrival.run != NO_RUN:
                self._table.wait(record.number, error.missing[0], change.hash, arrival.run)
                opened.waiting = True
        except UntrustedInputError as error:
            self._table.refuse(record.number, change.hash, arrival.device, error.code, str(error))
            queue += self._call(opened, _named_in(change.raw))
        return None

    def _counts(self, opened: _Open, arrival: Arrival) -> bool:
        """By its device's right, or because a change that counts depends on it (specs/roster.md §9)."""
        right = self._rights.counts(arrival.device, arrival.seq, opened.record.descriptor)
        return right or arrival.change.hash in opened.called

    def _call(self, opened: _Open, changes: Iterable[ChangeHash]) -> list[Arrival]:
        """Let those count that a counting change depends on, here or not, so that no honest change loses its past.

        Returns:
            Those that are here and did not count so far.
        """
        record = opened.record
        if record.descriptor.kind is DocumentKind.OWNED:  # all that its owner wrote counts, or nothing does
            return []
        fresh = [change for change in changes if change not in opened.called]
        self._table.call(record.number, fresh)
        opened.called.update(fresh)
        uncounted = self._uncounted(opened)
        return [uncounted.pop(change) for change in fresh if change in uncounted]

    def _uncounted(self, opened: _Open) -> dict[ChangeHash, Arrival]:
        """Changes of the document that are in the log and do not count."""
        if opened.uncounted is None:
            arrivals = (
                arrival
                for run, wire in self._table.wires(opened.record.number)
                for arrival in self._changes_in(opened.record, run, wire)
            )
            opened.uncounted = {a.change.hash: a for a in arrivals if not self._counts(opened, a)}
        return opened.uncounted

    def _arrivals_of(self, opened: _Open, freed: list[tuple[ChangeHash, int]]) -> Iterator[Arrival]:
        wanted = {change for change, _ in freed}
        for run in sorted({run for _, run in freed}, reverse=True):
            arrivals = list(self._changes_in(opened.record, run, self._table.wire(run)))
            yield from (arrival for arrival in reversed(arrivals) if arrival.change.hash in wanted)

    # --- loading

    def _opened(self, descriptor: Descriptor) -> _Open:
        document = descriptor.document_id(self._group)
        opened = self._open.get(document)
        if opened is None:
            opened = self._open[document] = self._load(self._table.ensure(document, descriptor))
        self._open.move_to_end(document)
        excess = len(self._open) - OPEN_DOCUMENTS
        if excess > 0:
            for oldest in [found for found in self._open if found not in self.pinned and found != document][:excess]:
                self._save(self._open.pop(oldest))
        return opened

    def _load(self, record: DocumentRecord) -> _Open:
        cache, cached_run = self._table.cache(record.number)
        if cache is not None:
            try:
                return self._load_cached(record, cache, cached_run)
            except (LocalStateError, MalformedError):
                self._table.set_cache(record.number, None, 0)
        return self.rebuild(record, tell=False)

    def _load_cached(self, record: DocumentRecord, cache: bytes, cached_run: int) -> _Open:
        data, heads = encoding.decode(cache, max_bytes=len(cache))
        source = _Stored(self, record)
        document = self._new_document(record, source, Saved(data, frozenset(heads)))
        late = list(source.after(cached_run))
        document.replay(late)
        number = record.number
        waiting, called = self._table.has_waiting(number), self._table.called(number)
        return _Open(record, document, len(late), len(cache), waiting, called)

    def rebuild(self, record: DocumentRecord, *, tell: bool = True) -> _Open:
        """Build a document from the log alone, with fresh verdicts.

        Raises:
            UsageError: it is being edited.
        """
        if record.document in self._open and record.document in self.pinned:
            raise UsageError("an edit of this document is open; end it first")
        self._table.set_cache(record.number, None, 0)  # before the verdicts that it rests on
        self._table.forget_verdicts(record.number)
        source = _Stored(self, record)
        source.hidden = True  # until there are verdicts again
        document = self._new_document(record, source, None)
        opened = self._open[record.document] = _Open(record, document, uncounted={})
        arrivals = list(
            {  # runs may overlap; an entry arrives once
                (arrival.device, arrival.seq, arrival.change.hash): arrival
                for run, wire in self._table.wires(record.number)
                for arrival in self._changes_in(record, run, wire)
            }.values()
        )
        arrivals += self._pending_of(record.document)
        views, self.views = self.views, []
        try:
            self.merge(record.descriptor, arrivals)
        finally:
            self.views = views
        source.hidden = False
        opened.uncached = len(arrivals)
        if tell:
            for view in self.views:
                view.rebuilt(record, opened.document)
        return opened

    def _new_document(self, record: DocumentRecord, stored: _Stored, saved: Saved | None) -> Document:
        actor = actor_of(self._device, record.document)
        return Document(record.descriptor, record.document, actor, stored, saved)

    def _changes_in(self, record: DocumentRecord, run: int, wire: bytes) -> Iterator[Arrival]:
        document = record.document
        for entry in parse_run(wire, self._group).stored().entries:
            for change in entry.changes:
                if change.document == document:
                    yield Arrival(change, entry.device, entry.seq, run)

    def admitted_changes(self, record: DocumentRecord, after_run: int) -> Iterator[bytes]:
        """The raw changes of a document that were admitted and count, each after its dependencies; own pending ones."""
        refused = self._table.refused(record.number)
        waiting = self._table.waiting_changes(record.number)
        called = self._table.called(record.number)
        for run, wire in self._table.wires(record.number, after_run):
            for arrival in self._changes_in(record, run, wire):
                digest = arrival.change.hash
                if digest in refused or digest in waiting:
                    continue
                if digest in called or self._rights.counts(arrival.device, arrival.seq, record.descriptor):
                    yield arrival.change.raw
        for arrival in self._pending_of(record.document):
            if self._rights.counts(arrival.device, arrival.seq, record.descriptor):
                yield arrival.change.raw

    def _pending_of(self, document: DocumentId) -> Iterator[Arrival]:
        """Own changes that are in no run yet."""
        for changed, seq, raw in self._own_pending():
            if changed == document:
                yield Arrival(document_change(document, raw), self._device, seq, NO_RUN)

    # --- caches

    def save_caches(self, *, at_least: int = CACHE_AFTER) -> None:
        """Write the cache of every open document that has changed by that many changes. Inside a transaction."""
        for opened in self._open.values():
            self._save(opened, at_least)

    def _save(self, opened: _Open, at_least: int = CACHE_AFTER) -> None:
        if opened.uncached >= max(at_least, opened.cache_bytes // CACHE_BYTES_A_CHANGE):
            last = self._table.last_run(opened.record.number)
            saved = opened.document.save()
            cache = encoding.encode([saved.data, sorted(saved.heads)])
            self._table.set_cache(opened.record.number, cache, last)
            opened.uncached, opened.cache_bytes = 0, len(cache)

    def _tell_merged(self, opened: _Open, touched: set[str]) -> None:
        for view in self.views:
            view.merged(opened.record, opened.document, touched)


class _Stored:
    """Gives a document its stored changes, when it builds its gate or itself."""

    def __init__(self, shelf: Shelf, record: DocumentRecord) -> None:
        self._shelf, self._record = shelf, record
        self.hidden = False

    def __call__(self) -> Iterator[bytes]:
        return iter(()) if self.hidden else self.after(0)

    def after(self, run: int) -> Iterator[bytes]:
        return _in_causal_order(self._shelf.admitted_changes(self._record, run))


def _named_in(raw: bytes) -> list[ChangeHash]:
    """The changes that a refused one depends on, as far as its header can be read."""
    try:
        return [ChangeHash(dep) for dep in read_deps(raw)]
    except MalformedError:
        return []


def _in_causal_order(raws: Iterable[bytes]) -> Iterator[bytes]:
    """Put every change after those of its dependencies that are in the list: one that had to wait stands early."""
    late: dict[bytes, list[bytes]] = {}
    items = {sha256(raw[8:]): raw for raw in raws}
    done: set[bytes] = set()
    for digest in items:
        ready = [digest]
        while ready:
            candidate = ready.pop()
            missing = next((d for d in read_deps(items[candidate]) if d in items and d not in done), None)
            if missing is not None:
                late.setdefault(missing, []).append(candidate)
                continue
            done.add(candidate)
            yield items[candidate]
            ready += late.pop(candidate, ())
