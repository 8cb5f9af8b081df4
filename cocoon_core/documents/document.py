"""One document of a group: descriptor, gate and replica together, and the dict-like face of it.

The way of a foreign change is `receive` (the gate), then the caller's store, then `merge`; the way of an own one is
`change`, then the caller's store. Raw changes in the caller's store are the truth: the gate's state and the replica can
be thrown away at any time and are built again from them. No clock, no randomness. Implements specs/documents.md §6.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

from cocoon_core.documents.adapter import ROOT, Replica
from cocoon_core.documents.change import parse_change
from cocoon_core.documents.gate import Gate
from cocoon_core.documents.history import AdmittedChange
from cocoon_core.documents.proxies import Draft, MapEdit
from cocoon_core.documents.records import Record, read_record
from cocoon_core.documents.schema import encode_schema_change
from cocoon_core.documents.views import MapView, plain_of, plain_then
from cocoon_core.errors import DocumentUnavailableError, UntrustedInputError, UsageError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.ids import ActorId, ChangeHash, DeviceId, DocumentId, MemberId


@dataclass(frozen=True, slots=True)
class OwnChange:
    """A change that this device has just made: to be stored and sent."""

    raw: bytes
    hash: ChangeHash
    seq: int
    max_op: int
    deps: tuple[ChangeHash, ...]
    touched: tuple[str, ...]


class Saved(NamedTuple):
    """A cache of a document: what `Document.load` takes."""

    data: bytes
    heads: frozenset[bytes]


def _nothing_stored() -> Iterable[bytes]:
    return ()


class Document:
    """A document, as this device has it."""

    def __init__(
        self,
        descriptor: Descriptor,
        document_id: DocumentId,
        actor: ActorId,
        stored: Callable[[], Iterable[bytes]] = _nothing_stored,
        saved: Saved | None = None,
    ) -> None:
        """Build the document from its stored changes, or from a cache of them.

        Args:
            actor: `actor_of` this device and the document.
            stored: gives all raw changes of the document that this device stored, each after those it depends on, the
                schema's first change not among them. Called here unless there is a cache, before the first foreign
                change, and in `rebuild`.
            saved: a cache from `save`; one that does not load or whose heads are not as recorded is not used.

        Raises:
            DocumentUnavailableError: automerge cannot apply what is stored.
        """
        self.descriptor = descriptor
        self.id = document_id
        self.actor = actor
        self._stored = stored
        self._gate: Gate | None = None
        self._own: list[bytes] = []  # made here since the replica was built: the store may not have them yet
        self._pending: dict[bytes, AdmittedChange] = {}
        self._arriving: dict[bytes, Record] = {}  # records among what is pending, by the hash of the change
        self._arrived: dict[str, Record] = {}  # those of the last merge, by root key
        self._editing = False
        loaded = None if saved is None else _load_replica(actor, saved)
        self._replica = loaded or self._build_replica()

    # --- foreign changes

    def receive(
        self, raw: bytes, device: DeviceId, author_member: MemberId, digest: bytes | None = None
    ) -> AdmittedChange:
        """Put a change that `device` of `author_member` signed before the gate. The replica does not see it yet.

        Args:
            digest: its hash, where the caller made that of these very bytes.

        Raises:
            MalformedError, NotPermittedError, EquivocationError, MissingDependencyError: as `Gate.admit`.
        """
        gate = self._gate or self._built_gate()
        before = len(gate)
        change = gate.admit(raw, device, author_member, digest)
        if len(gate) > before:
            self._pending[change.hash_bytes] = change
            if gate.record is not None:
                self._arriving[change.hash_bytes] = gate.record
        return change

    def forbid(self, change: ChangeHash) -> None:
        """Have the gate refuse what depends on this change, which the caller refuses itself."""
        (self._gate or self._built_gate()).forbid(change)

    def merge(self, changes: Iterable[AdmittedChange]) -> tuple[str, ...]:
        """Show received changes, in the order in which they were received. Those shown already change nothing.

        Returns:
            The root keys whose values may have changed.

        Raises:
            DocumentUnavailableError: automerge failed or did not take them: `rebuild`.
        """
        self._require_no_edit()
        fresh = [change for change in changes if self._pending.pop(change.hash_bytes, None) is not None]
        try:
            self._replica.apply([change.raw for change in fresh])
            if not self._pending and self._gate is not None and fresh and self._replica.heads != self._gate.heads:
                raise DocumentUnavailableError("automerge did not take every admitted change")
        except DocumentUnavailableError:
            self._replica.spoil()  # some may have been applied
            raise
        self._note_records(fresh)
        return tuple(dict.fromkeys(key for change in fresh for key in change.touched))

    def _note_records(self, fresh: list[AdmittedChange]) -> None:
        """Keep what the merged records say, as long as nothing else of the same merge touched their keys."""
        self._arrived = {}
        for change in fresh:
            record = self._arriving.pop(change.hash_bytes, None)
            if record is not None:
                self._arrived[change.touched[0]] = record
            else:
                for key in change.touched:
                    self._arrived.pop(key, None)

    def replay(self, raws: Iterable[bytes]) -> None:
        """Show changes from the store that this document does not show yet; the caller vouches that they passed a gate.

        Raises:
            DocumentUnavailableError: they do not pass after all, or automerge failed: `rebuild`.
        """
        self._require_no_edit()
        self._arrived = {}
        late = list(raws)
        if self._gate is not None:
            try:
                for raw in late:
                    self._gate.admit_known(raw)
            except UntrustedInputError as error:
                raise DocumentUnavailableError("the stored changes of a document do not pass its gate") from error
        self._replica.apply(late)

    # --- own edits

    def change(self) -> Edit:
        """Begin an edit: `with document.change() as root: root["items"]["milk"] = 2`.

        Nothing is written if the body raises. Where the with statement was given `edit = document.change()`,
        `edit.change` is afterwards the OwnChange to be stored and sent, or None if nothing was written.
        """
        return Edit(self)

    def read(self) -> MapView:
        """The root map, which follows the document as it changes."""
        return MapView(self._replica)

    def root_keys(self) -> Collection[str]:
        """The keys of the root map."""
        return self.read().keys()

    def plain(self, key: str) -> Any:
        """What stands under a root key, as plain dicts, lists and scalars; None where nothing does."""
        record = self._arrived.get(key)
        if record is not None:
            return read_record(record)
        stored = self._replica.get(ROOT, key)
        return None if stored is None else plain_of(self._replica, stored)

    def versions(self, key: str, limit: int) -> list[tuple[ChangeHash, Any]]:
        """What stood under a root key after each change that touched it, as its author saw it: a scalar, the scalars
        of a map, or None. Each stands after those that its author knew.

        Args:
            limit: only so many of the last.
        """
        self._require_no_edit()
        gate = self._gate or self._built_gate()
        shown = [change for change in gate.touching(key) if change.hash_bytes not in self._pending]
        return [(change.hash, plain_then(self._replica, key, [change.hash_bytes])) for change in shown[-limit:]]

    @property
    def heads(self) -> frozenset[bytes]:
        """Hashes of the newest changes shown."""
        return self._replica.heads

    # --- cache

    def save(self) -> Saved:
        """A cache of what is shown, which `stored` must cover when it is used."""
        self._require_no_edit()
        return Saved(self._replica.save(), self._replica.heads)

    @property
    def spoiled(self) -> bool:
        """Whether automerge panicked here: every call fails until `rebuild`."""
        return self._replica.spoiled

    def rebuild(self) -> None:
        """Forget all that is in memory, received and own changes that were not stored too, and build from the store."""
        self._gate = None
        self._own = []
        self._pending = {}
        self._arriving, self._arrived = {}, {}
        self._editing = False
        self._replica = self._build_replica()

    # --- within

    def _first_changes(self) -> list[bytes]:
        if self.descriptor.kind is DocumentKind.OWNED:
            return []
        return [encode_schema_change(self.descriptor.schema, self.id)]

    def _build_replica(self) -> Replica:
        replica = Replica(self.actor)
        replica.apply(self._first_changes())
        replica.apply(self._stored())
        return replica

    def build_gate(self) -> None:
        """Read for the gate what is stored, now and not before the first foreign change."""
        self._built_gate()

    def _built_gate(self) -> Gate:
        if self._gate is None:
            gate = Gate(self.descriptor, self.id)
            try:
                for raw in (*self._stored(), *self._own):
                    gate.admit_known(raw)
            except UntrustedInputError as error:
                raise DocumentUnavailableError("the stored changes of a document do not pass its gate") from error
            self._gate = gate
        return self._gate

    def _require_no_edit(self) -> None:
        if self._editing:
            raise UsageError("an edit of this document is open; end it first")

    def _take_own(self, before: frozenset[bytes], touched: tuple[str, ...]) -> OwnChange | None:
        """The change that an edit has just made, in the form that every gate will admit."""
        made = self._replica.changes_since(before)
        if not made:
            return None
        raw = made[0]
        try:
            parsed = parse_change(raw)
            if self._gate is not None:
                self._gate.admit_known(raw)
        except UntrustedInputError as error:
            self._replica.spoil()
            self._rebuild_with_own()
            raise UsageError("this edit cannot be sent as one change; divide it into several") from error
        self._own.append(raw)
        deps = tuple(ChangeHash(dep) for dep in parsed.deps)
        return OwnChange(raw, ChangeHash(parsed.hash), parsed.seq, parsed.max_op, deps, touched)

    def _rebuild_with_own(self) -> None:
        """Build the replica again without a change that it should not have made."""
        replica = self._build_replica()
        replica.apply(self._own)
        self._replica = replica


class Edit(AbstractContextManager["MapEdit"]):
    """One edit of one document, from `Document.change`."""

    __slots__ = ("_before", "_document", "_draft", "_manager", "change")

    def __init__(self, document: Document) -> None:
        self._document = document
        self.change: OwnChange | None = None

    def __enter__(self) -> MapEdit:
        document = self._document
        document._require_no_edit()
        document._arrived = {}
        replica = document._replica
        declared = None
        if document.descriptor.kind is not DocumentKind.OWNED:
            declared = frozenset(key for key, _ in document.descriptor.schema)
        self._before = replica.heads
        self._draft = Draft(replica, declared)
        self._manager: Any = replica.editing()
        self._manager.__enter__()
        document._editing = True
        return MapEdit(self._draft)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        document = self._document
        document._editing = False
        self._draft.ended = True
        self._manager.__exit__(kind, error, trace)
        if error is None:
            self.change = document._take_own(self._before, tuple(self._draft.touched))


def _load_replica(actor: ActorId, saved: Saved) -> Replica | None:
    try:
        replica = Replica(actor, saved.data)
        return replica if replica.heads == saved.heads else None
    except DocumentUnavailableError:
        return None
