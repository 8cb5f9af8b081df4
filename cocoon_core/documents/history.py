"""The admitted changes of one document, and what is an ancestor of what.

A change's *past* is kept as (prefix, clock): the first `prefix` changes that this replica admitted, and for every
author in `clock` its changes up to that seq. In a linear history the clock is empty, and a change costs no more than
its record. How a past is written depends on the order of arrival; which changes it holds does not.
Implements specs/documents.md §4.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple, NoReturn, Self

from cocoon_core.documents.change import ParsedChange
from cocoon_core.protocol.constants import MAX_CHANGE_OPS
from cocoon_core.protocol.ids import ActorId, ChangeHash

# an operation is named by one number: the place of its change in this history, then its place in the change
OP_BITS: Final = MAX_CHANGE_OPS.bit_length()
OP_MASK: Final = (1 << OP_BITS) - 1
_EMPTY: Final[dict[int, int]] = {}
_new: Final = tuple.__new__
_RAISE_STEPS: Final = 64  # changes by which one admission may raise a prefix

Runs = tuple[tuple[int, int, int], ...]


class _Fields(NamedTuple):
    raw: bytes
    hash_bytes: bytes
    actor_bytes: bytes
    seq: int
    start_op: int
    max_op: int
    dep_hashes: tuple[bytes, ...]
    touched: tuple[str, ...]
    position: int
    author: int
    prefix: int
    clock: dict[int, int]
    elements: Runs


class AdmittedChange(_Fields):
    """A change that passed the gate. Only the gate makes these, so whoever holds one need not ask again.

    `touched` names the root keys whose values it changes, directly or further inside. What comes after serves the gate.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        raise TypeError("only the gate admits changes")

    @classmethod
    def _make(cls, *_: object) -> NoReturn:
        raise TypeError("only the gate admits changes")

    def _replace(self, **_: object) -> NoReturn:
        raise TypeError("an admitted change does not change")

    def __reduce__(self) -> NoReturn:
        raise TypeError("an admitted change is admitted in one process only")

    def __repr__(self) -> str:
        return f"AdmittedChange({self.hash_bytes.hex()[:12]}…, seq {self.seq}, {len(self.raw)} bytes)"

    @property
    def hash(self) -> ChangeHash:
        return ChangeHash(self.hash_bytes)

    @property
    def actor(self) -> ActorId:
        return ActorId(self.actor_bytes)

    @property
    def deps(self) -> tuple[ChangeHash, ...]:
        return tuple(ChangeHash(dep) for dep in self.dep_hashes)


class Author:
    """One actor of the document: its changes in order of seq, and the first operation counter of each."""

    __slots__ = ("actor", "changes", "number", "starts")

    def __init__(self, actor: bytes, number: int) -> None:
        self.actor = actor
        self.number = number
        self.changes: list[AdmittedChange] = []
        self.starts: list[int] = []


class Past(NamedTuple):
    """All that stands before a change: what `prefix` and `clock` say, and its author's own earlier changes.

    Attributes:
        author: number of the author, -1 if this is its first change.
        whole: everything admitted so far is in it.
    """

    prefix: int
    clock: dict[int, int]
    author: int
    whole: bool

    def holds(self, change: AdmittedChange) -> bool:
        return (
            change.position < self.prefix
            or change.author == self.author
            or change.seq <= self.clock.get(change.author, 0)
        )


class History:
    """What was admitted, in the order of admission."""

    __slots__ = ("authors", "by_hash", "changes", "heads", "numbered")

    def __init__(self) -> None:
        self.changes: list[AdmittedChange] = []
        self.by_hash: dict[bytes, AdmittedChange] = {}
        self.authors: dict[bytes, Author] = {}
        self.numbered: list[Author] = []
        self.heads: set[bytes] = set()

    def author(self, actor: bytes) -> Author | None:
        return self.authors.get(actor)

    def find_operation(self, author: Author | None, counter: int) -> int:
        """The number of the operation (counter, author), or -1 where it is not here."""
        if author is None:
            return -1
        place = bisect_right(author.starts, counter) - 1
        if place < 0:
            return -1
        change = author.changes[place]
        if counter > change.max_op:
            return -1
        return change.position << OP_BITS | (counter - change.start_op)

    def element_owner(self, operation: int) -> int:
        """The number of the list or text that an inserting operation inserted into, or -1 if it inserted nothing."""
        offset = operation & OP_MASK
        runs = self.changes[operation >> OP_BITS].elements
        place = bisect_right(runs, offset, key=lambda run: run[0]) - 1
        if place >= 0 and offset <= runs[place][1]:
            return runs[place][2]
        return -1

    def past_of_next(self, author: Author | None, seq: int, deps: tuple[bytes, ...]) -> Past | None:
        """The past of a change that follows the last one of all, which is by the same author and the only one that
        nothing depends on: as nearly all do. None for any other.
        """
        if (
            author is None
            or len(self.heads) != 1
            or len(deps) != 1
            or deps[0] != self.changes[-1].hash_bytes
            or deps[0] not in self.heads
            or author.changes[-1] is not self.changes[-1]
            or seq != len(author.changes) + 1
        ):
            return None
        return _new(Past, (len(self.changes), _EMPTY, author.number, True))

    def past_of(self, deps: list[AdmittedChange], author: int, previous: AdmittedChange | None) -> Past:
        """The past of a change by `author` whose dependencies are `deps`, among them its previous change."""
        heads = self.heads
        if len(heads) == 1 and len(deps) == 1:
            if deps[0].hash_bytes in heads:
                return _new(Past, (len(self.changes), _EMPTY, author, True))
        else:
            named = {dep.hash_bytes for dep in deps}
            if heads <= named:
                return Past(len(self.changes), _EMPTY, author, True)
        if len(deps) == 1 and previous is not None:
            return Past(previous.prefix, previous.clock, author, False)
        return self._join_pasts(deps, author)

    def _join_pasts(self, deps: list[AdmittedChange], author: int) -> Past:
        prefix = max((dep.prefix for dep in deps), default=0)
        clock: dict[int, int] = {}
        for dep in deps:
            for number, seq in (*dep.clock.items(), (dep.author, dep.seq)):
                if clock.get(number, 0) < seq:
                    clock[number] = seq
        changes = self.changes
        for _ in range(_RAISE_STEPS):
            if prefix == len(changes):
                break
            change = changes[prefix]
            if change.author != author and clock.get(change.author, 0) < change.seq:
                break
            prefix += 1
        numbered = self.numbered
        kept = {
            number: seq
            for number, seq in clock.items()
            if number != author and numbered[number].changes[seq - 1].position >= prefix
        }
        return Past(prefix, kept or _EMPTY, author, False)

    def redundant_dependency(self, deps: list[AdmittedChange], previous: AdmittedChange | None) -> bool:
        """Whether one dependency, other than the author's previous change, is an ancestor of another."""
        prefix = max(dep.prefix for dep in deps)
        before: dict[int, int] = {}
        for dep in deps:
            for number, seq in (*dep.clock.items(), (dep.author, dep.seq - 1)):
                if before.get(number, 0) < seq:
                    before[number] = seq
        return any(
            (dep.position < prefix or dep.seq <= before.get(dep.author, 0)) and dep is not previous for dep in deps
        )

    def add(
        self,
        parsed: ParsedChange,
        author: Author | None,
        past: Past,
        touched: tuple[str, ...],
        elements: Runs,
    ) -> AdmittedChange:
        """Record a change that the gate has passed."""
        actor = parsed.actors[0]
        if author is None:
            author = Author(actor, len(self.numbered))
            self.numbered.append(author)
            self.authors[actor] = author
        start = parsed.start_op
        digest = parsed.hash
        change: AdmittedChange = _new(
            AdmittedChange,
            (
                parsed.raw, digest, author.actor, parsed.seq, start, start + parsed.shape.ops - 1, parsed.deps, touched,
                len(self.changes), author.number, past.prefix, past.clock, elements,
            ),
        )  # fmt: skip
        self.changes.append(change)
        self.by_hash[digest] = change
        author.changes.append(change)
        author.starts.append(start)
        self.heads.difference_update(parsed.deps)
        self.heads.add(digest)
        return change
