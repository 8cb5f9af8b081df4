"""The short form of a run's entries: what is implied is left out, and put back to the byte. Implements
specs/envelope.md §2.

    entry  = [time - the run's time, kind, operation body | changes]
    change = [place of its descriptor in the run, dependencies, tail];  a dependency on a change of this run is its
    number

Reading is the hot path of catching up, so it checks and builds in one pass over plain values. A run has one short form:
what could be shorter, or is out of order, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.change import join_change, read_seq, split_change
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS
from cocoon_core.protocol.descriptor import Descriptor, actor_of, descriptor_from_value
from cocoon_core.protocol.entry import DocumentChange, Entry, EntryKind, EntryMaker, require_known_kind
from cocoon_core.protocol.ids import ActorId, ChangeHash, DeviceId, DocumentId, EntryId, GroupId

_new: Final = tuple.__new__


class Shortener:
    """Writes entries in short form, collecting the descriptors that they need in order of first use."""

    def __init__(
        self, descriptor_of: Callable[[DocumentId], Descriptor], descriptors: dict[DocumentId, Descriptor]
    ) -> None:
        self._descriptor_of, self._descriptors = descriptor_of, descriptors
        self._places: dict[DocumentId, int] = {}
        self._numbers: dict[bytes, int] = {}

    def entries(self, entries: Sequence[Entry]) -> list[Any]:
        base = entries[0].time_ms
        return [
            [
                entry.time_ms - base,
                int(entry.kind),
                [self._change(c) for c in entry.changes] if entry.kind is EntryKind.CHANGE else entry.body,
            ]
            for entry in entries
        ]

    def _change(self, change: DocumentChange) -> list[Any]:
        place = self._places.get(change.document)
        if place is None:
            self._descriptors[change.document] = self._descriptor_of(change.document)
            place = self._places[change.document] = len(self._places)
        deps, _, tail = split_change(change.raw)
        short = [self._numbers.get(dep, dep) for dep in deps]
        if change.hash in self._numbers:
            raise UsageError("a change stands twice in one run")
        self._numbers[change.hash] = len(self._numbers)
        return [place, short, tail]


class Expander:
    """Reads entries in short form."""

    def __init__(
        self, group: GroupId, device: DeviceId, heads: tuple[EntryId, ...], descriptor_values: list[Any]
    ) -> None:
        self.device = device
        self._maker = EntryMaker(group, device, heads)
        self.descriptors: dict[DocumentId, Descriptor] = {}
        self._documents: list[tuple[DocumentId, ActorId]] = []
        for value in descriptor_values:
            descriptor = descriptor_from_value(value)
            document = descriptor.document_id(group)
            self.descriptors[document] = descriptor
            self._documents.append((document, actor_of(device, document)))
        if len(self.descriptors) != len(self._documents):
            raise MalformedError("a run names a document twice")
        self._hashes: list[ChangeHash] = []
        self._known: set[bytes] = set()
        self._used = 0

    def entries(self, seq: int, prev: EntryId | None, base: int, values: list[Any]) -> tuple[Entry, ...]:
        """The entries in full form, with their ids.

        Raises:
            MalformedError: not the short form of any entries.
            UpdateNeededError: a kind that this version does not know.
        """
        full: list[Entry] = []
        last = len(values) - 1
        make_change = self._maker.change
        for value in values:
            if type(value) is not list or len(value) != 3:
                raise MalformedError("an entry in short form has three fields")
            delta, kind, body = value
            if kind != 0 or type(kind) is not int:
                kind = require_known_kind(kind)
            if type(delta) is not int or type(body) is not list:
                raise MalformedError("a field of an entry is of another type")
            if kind == 0:
                if not body:
                    raise MalformedError("an entry carries no change")
                entry = make_change(seq, prev, base + delta, tuple([self._change(short) for short in body]))
            elif last == 0:
                encoding.require_plain(body)
                entry = self._maker.statement(kind, seq, prev, base + delta, body)
            else:
                raise MalformedError("an entry that carries no change does not stand alone in its run")
            full.append(entry)
            seq, prev = seq + 1, entry.id
        if full[0].time_ms != base or self._used != len(self._documents):
            raise MalformedError("a run's time or documents are not those of its entries")
        return tuple(full)

    def _change(self, value: Any) -> DocumentChange:
        if type(value) is not list or len(value) != 3:
            raise MalformedError("a change in short form has three fields")
        place, short, tail = value
        if type(place) is not int or type(short) is not list or type(tail) is not bytes:
            raise MalformedError("a field of a change is of another type")
        if place == self._used:
            self._used += 1
        if not 0 <= place < self._used or place >= len(self._documents):
            raise MalformedError("documents are not in the order of their first use")
        if len(short) > MAX_CHANGE_DEPS or len(tail) > MAX_CHANGE_BYTES:
            raise MalformedError("a change has too many dependencies or bytes")
        document, actor = self._documents[place]
        if len(short) == 1 and type(number := short[0]) is int and 0 <= number < len(self._hashes):
            raw, digest = join_change((self._hashes[number],), actor, tail)
        else:
            raw, digest = join_change([self._dependency(dep) for dep in short], actor, tail)
        if digest in self._known:  # its number would not be unique, and so not the run's short form
            raise MalformedError("a change stands twice in one run")
        self._hashes.append(digest)
        self._known.add(digest)
        return _new(DocumentChange, (document, raw, digest, read_seq(tail)))

    def _dependency(self, short: Any) -> bytes:
        if type(short) is int:
            if 0 <= short < len(self._hashes):
                return self._hashes[short]
        elif type(short) is bytes and len(short) == 32 and short not in self._known:
            return short
        raise MalformedError("a dependency is neither 32 bytes nor the number of a change of this run")
