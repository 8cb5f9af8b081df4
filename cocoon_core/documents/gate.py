"""The admission gate of one document: what automerge is never shown, and why.

The verdict on a change is a function of the change and of its ancestors alone, so every replica refuses the same
changes in whatever order they arrive. The one exception: of two changes with one (actor, seq) the first to arrive is
admitted. A refused change leaves no trace in the gate's state, except that its hash is remembered, so what
is built on it is refused and not parked. Rights beyond an owned document's owner are for counting, not for the gate.
Implements specs/documents.md §3.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_core.documents.change import ParsedChange, parse_change
from cocoon_core.documents.history import OP_BITS, AdmittedChange, Author, History
from cocoon_core.documents.operations import check_operations
from cocoon_core.documents.places import Places
from cocoon_core.documents.records import Record, record_of
from cocoon_core.documents.rules import ERRORS, Rule
from cocoon_core.documents.schema import encode_schema_change
from cocoon_core.errors import MalformedError, NotPermittedError, NotYetError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, actor_of
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, MemberId


class MissingDependencyError(NotYetError):
    """A change needs others that have not arrived yet."""

    def __init__(self, missing: Iterable[bytes]) -> None:
        self.missing: tuple[ChangeHash, ...] = tuple(ChangeHash(item) for item in missing)
        super().__init__(f"a change needs {len(self.missing)} that have not arrived")


class Gate:
    """Admits the changes of one document, one by one, each after all that it depends on."""

    def __init__(self, descriptor: Descriptor, document: DocumentId) -> None:
        self._descriptor = descriptor
        self._document = document
        self._owned = descriptor.kind is DocumentKind.OWNED
        self._history = History()
        self._places = Places(self._history)
        self._actors: dict[bytes, bytes] = {}
        self._refused: set[bytes] = set()
        self.record: Record | None = None  # what the last admitted change says, if it is a record under a new key
        self.schema_change: AdmittedChange | None = None
        if not self._owned:
            parsed = parse_change(encode_schema_change(descriptor.schema, document))
            self.schema_change = self._admit(parsed, schema=True)

    def __len__(self) -> int:
        """The number of admitted changes, the schema's among them."""
        return len(self._history.changes)

    @property
    def heads(self) -> frozenset[bytes]:
        """Hashes of the admitted changes that no admitted change depends on."""
        return frozenset(self._history.heads)

    def find(self, change: bytes) -> AdmittedChange | None:
        """The admitted change of that hash."""
        return self._history.by_hash.get(change)

    def touching(self, root_key: str) -> list[AdmittedChange]:
        """The admitted changes that touch a root key, each after all that it depends on."""
        return [change for change in self._history.changes if root_key in change.touched]

    def last_seq(self, actor: bytes) -> int:
        """The seq of the last admitted change of an actor, 0 if there is none."""
        author = self._history.author(actor)
        return len(author.changes) if author else 0

    def admit(
        self, raw: bytes, device: DeviceId, author_member: MemberId, digest: bytes | None = None
    ) -> AdmittedChange:
        """Ask every rule of a change that `device`, a device of `author_member`, has signed.

        Args:
            digest: its hash, where the caller made that of these very bytes.

        Returns:
            The admitted change; the same one again if it was admitted before.

        Raises:
            MissingDependencyError: it depends on changes that are not here; park it.
            EquivocationError: another change of this actor with this seq was admitted before.
            NotPermittedError: another member's document, another device's actor, a write at the root of a document with
                a schema, or a dependency on a refused change.
            MalformedError: any other rule; specs/documents.md §3 lists them.
        """
        parsed = self._parse(raw, digest)
        if self._owned and author_member != self._descriptor.member:
            self._refuse(Rule.OWNER, "changes a document of another member")
        actor = self._actors.get(device)
        if actor is None:
            actor = self._actors[device] = bytes(actor_of(device, self._document))
        if parsed.actors[0] != actor:
            self._refuse(Rule.ACTOR, "has the actor of another device")
        known = self._history.by_hash.get(parsed.hash)
        if known is not None:
            return known
        try:
            return self._admit(parsed)
        except (MalformedError, NotPermittedError):
            self._refused.add(parsed.hash)
            raise

    def admit_known(self, raw: bytes) -> AdmittedChange:
        """Admit a change of this device's own store, which once passed the gate or was written here.

        Its author is not asked, all else is.

        Raises:
            MalformedError, NotPermittedError, EquivocationError, MissingDependencyError: the store is not what it was.
        """
        parsed = self._parse(raw)
        return self._history.by_hash.get(parsed.hash) or self._admit(parsed)

    def forbid(self, change: ChangeHash) -> None:
        """Refuse what depends on this change, as if it had been refused here."""
        self._refused.add(bytes(change))

    # --- what a weakened build overrides

    _parse = staticmethod(parse_change)

    def _refuse(self, rule: Rule, what: str) -> None:
        raise ERRORS[rule](f"a change {what}")

    # --- rules

    def _admit(self, parsed: ParsedChange, schema: bool = False) -> AdmittedChange:
        history = self._history
        author = history.authors.get(parsed.actors[0])
        past = history.past_of_next(author, parsed.seq, parsed.deps)
        previous: AdmittedChange | None
        if past is not None:
            previous = history.changes[-1]
            deps = [previous]
        else:
            deps = self._find_dependencies(parsed)
            previous = self._find_previous(parsed, author, deps)
            past = history.past_of(deps, author.number if author else -1, previous)
        last = 0
        for dep in deps:
            last = max(last, dep.max_op)
        if parsed.start_op != last + 1:
            self._refuse(Rule.START_OP, f"begins at operation {parsed.start_op}, not {last + 1}")
        if len(deps) > 1 and history.redundant_dependency(deps, previous):
            self._refuse(Rule.DEPENDENCIES, "names a dependency that another already holds")
        places, root_open = self._places, self._owned or schema
        root_key = parsed.record_key
        if root_key is not None and root_open and places.may_make(root_key, past):
            is_fresh = places.apply_record(root_key, len(history.changes) << OP_BITS)
            self.record = record_of(parsed) if is_fresh else None
            return history.add(parsed, author, past, (root_key,), ())
        effects = check_operations(parsed, history, places, past, root_open, self._refuse)
        self.record = None
        change = history.add(parsed, author, past, effects.touched, effects.elements)
        places.apply(effects, change.position)
        return change

    def _find_dependencies(self, parsed: ParsedChange) -> list[AdmittedChange]:
        by_hash = self._history.by_hash
        try:
            return [by_hash[dep] for dep in parsed.deps]
        except KeyError:
            pass
        if not self._refused.isdisjoint(parsed.deps):
            self._refuse(Rule.REFUSED_PAST, "depends on one that was refused")
        raise MissingDependencyError(dep for dep in parsed.deps if dep not in by_hash)

    def _find_previous(
        self, parsed: ParsedChange, author: Author | None, deps: list[AdmittedChange]
    ) -> AdmittedChange | None:
        seq = parsed.seq
        if author is None:
            if seq != 1:
                self._refuse(Rule.SEQ, f"is the first of its actor and has seq {seq}")
            return None
        last = len(author.changes)
        if seq <= last:
            self._refuse(Rule.EQUIVOCATION, f"is a second one of its actor with seq {seq}")
        previous = author.changes[-1]
        if seq != last + 1 or previous not in deps:
            self._refuse(Rule.SEQ, f"of seq {seq} does not follow its actor's last, of seq {last}")
        return previous
