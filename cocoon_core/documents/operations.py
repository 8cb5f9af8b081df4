"""The rules on what a change's operations name: containers, keys, elements and predecessors. Part of the gate.

Everything named must stand in the change's past or earlier in the change itself, and an operation that writes a place
names as predecessors exactly the operations that are visible there. Nothing here changes state: what the change would
do to the places is returned. Implements specs/documents.md §3, rules root to nesting.
"""

from __future__ import annotations

from itertools import accumulate, repeat
from typing import Final

from cocoon_core.documents.change import DELETE, MAKE_MAP, MAKE_TEXT, PUT, STRING, ParsedChange
from cocoon_core.documents.history import OP_BITS, Author, History, Past, Runs
from cocoon_core.documents.places import ROOT, Container, Effects, Place, Places
from cocoon_core.documents.rules import Refuse, Rule
from cocoon_core.protocol.constants import MAX_NESTING

_NOTHING: Final = -2  # the number of no operation
_NOWHERE: Final[Container] = (-1, "", 0)


def check_operations(
    parsed: ParsedChange, history: History, places: Places, past: Past, root_open: bool, refuse: Refuse
) -> Effects:
    """Ask every rule of every operation, in order. `root_open`: operations on the root map are allowed.

    Raises:
        MalformedError, NotPermittedError: through `refuse`.
    """
    return _Check(parsed, history, places, past, root_open, refuse).run()


class _Check:
    """The walk over one change's operations. Operations are named by their numbers in the history (history.py)."""

    __slots__ = (
        "_authors",
        "_base",
        "_container",
        "_counter",
        "_created",
        "_elements",
        "_history",
        "_holder",
        "_killed",
        "_number",
        "_offsets",
        "_parsed",
        "_past",
        "_places",
        "_preds",
        "_refuse",
        "_root_open",
        "_start",
        "_touched",
        "_written",
    )  # fmt: skip

    def __init__(
        self, parsed: ParsedChange, history: History, places: Places, past: Past, root_open: bool, refuse: Refuse
    ) -> None:
        self._parsed = parsed
        self._history = history
        self._places = places
        self._past = past
        self._root_open = root_open
        self._refuse = refuse
        self._authors: list[Author | None] = [history.authors.get(actor) for actor in parsed.actors]
        self._base = len(history.changes) << OP_BITS
        self._start = parsed.start_op
        self._created: dict[int, Container] = {}
        self._elements: dict[int, int] = {}  # elements that this change inserted -> their list or text
        self._written: dict[Place, int] = {}  # what is left at the places that it wrote, _NOTHING if deleted
        self._killed: list[int] = []
        self._touched: dict[str, None] = {}
        self._preds = 0  # predecessors read so far
        self._offsets: list[int] = []  # where each operation's value begins, once it matters
        # the container of the operation before, which is mostly that of this one
        self._counter = self._number = self._holder = _NOTHING
        self._container = _NOWHERE

    def run(self) -> Effects:
        parsed, shape, nulls = self._parsed, self._parsed.shape, repeat(None)
        operation = self._base
        for action, counter, number, key, key_counter, key_number, insert, preds in zip(
            shape.actions,
            parsed.obj_counters or nulls,
            shape.obj_actors or nulls,
            parsed.key_strings or nulls,
            parsed.key_counters or nulls,
            shape.key_actors or nulls,
            shape.inserts,
            shape.pred_counts,
            strict=False,
        ):
            holder, container = self._find_container(counter, number, key, operation)
            kind, root_key, depth = container
            if kind == MAKE_MAP:
                place: Place = self._find_key(holder, key, insert, key_counter is not None or key_number is not None)
            else:
                if key is not None:
                    self._refuse(Rule.KEY, "names a key in a list or text")
                element = self._find_element(holder, key_counter, key_number, insert, operation)
                place = operation if insert else element
                if kind == MAKE_TEXT:
                    self._check_character(action, insert, operation)
            if insert:
                if action == DELETE or preds:
                    self._refuse(Rule.KEY, "inserts nothing, or in the place of something")
                self._elements[operation] = holder
            else:
                self._check_predecessors(place, preds or 0, action == DELETE, operation)
                self._written[place] = _NOTHING if action == DELETE else operation
            if action not in (PUT, DELETE):
                if holder == ROOT and preds:
                    self._refuse(Rule.ROOT, "puts a container in the place of something else at the root")
                if depth >= MAX_NESTING:
                    self._refuse(Rule.NESTING, f"nests over {MAX_NESTING} containers")
                self._created[operation] = (action or 0, root_key, depth + 1)
            self._touched[root_key] = None
            operation += 1
        elements = _runs_of(self._elements, self._base) if self._elements else ()
        return Effects(tuple(self._touched), elements, self._created, self._written, self._killed, self._base)

    # --- names

    def _find(self, counter: int, number: int, operation: int) -> int:
        """The operation (counter, actor number), or _NOTHING where it is neither in the past nor before this one."""
        if number == 0 and counter >= self._start:
            found = self._base + counter - self._start
            return found if found < operation else _NOTHING
        found = self._history.find_operation(self._authors[number], counter)
        if found < 0:
            return _NOTHING
        past = self._past
        if past.whole or past.holds(self._history.changes[found >> OP_BITS]):
            return found
        return _NOTHING

    def _find_container(
        self, counter: int | None, number: int | None, key: str | None, operation: int
    ) -> tuple[int, Container]:
        if counter == self._counter and number == self._number:
            return self._holder, self._container
        if (counter is None) != (number is None):
            self._refuse(Rule.CONTAINER, "names half a container")
        if counter is None:
            if not self._root_open:
                self._refuse(Rule.ROOT, "writes at the root of a document with a schema")
            return ROOT, (MAKE_MAP, key or "", 0)
        holder = self._find(counter, number or 0, operation)
        container = self._created.get(holder) or self._places.container(holder)
        if container is None:
            self._refuse(Rule.CONTAINER, "writes into a container that is not in its past")
            container = _NOWHERE
        self._counter, self._number, self._holder, self._container = counter, number or 0, holder, container
        return holder, container

    def _find_key(self, holder: int, key: str | None, insert: bool, named_element: bool) -> Place:
        if key is None or named_element or insert:
            self._refuse(Rule.KEY, "does not name a key in a map")
        return holder, key or ""

    def _find_element(self, holder: int, counter: int | None, number: int | None, insert: bool, operation: int) -> int:
        if counter is None or (number is None) != (counter == 0):
            self._refuse(Rule.KEY, "does not name an element in a list or text")
            return _NOTHING
        if counter == 0:
            if not insert:
                self._refuse(Rule.KEY, "writes at the head of a list")
            return _NOTHING
        element = self._find(counter, number or 0, operation)
        if element >= self._base:
            owner = self._elements.get(element)
        else:
            owner = self._history.element_owner(element) if element >= 0 else None
        if owner != holder:
            self._refuse(Rule.KEY, "names an element that its past does not hold there")
        return element

    # --- predecessors and values

    def _check_predecessors(self, place: Place, count: int, is_deletion: bool, operation: int) -> None:
        live = self._live_at(place)
        if not count:
            if live or is_deletion:
                self._refuse(Rule.PREDECESSORS, "names none where something is visible, or deletes nothing")
            return
        named = self._find_predecessors(count, operation)
        if len(named) != len(live) or set(named) != set(live):
            self._refuse(Rule.PREDECESSORS, "does not name as predecessors what is visible where it writes")
        self._killed += [item for item in named if item < self._base]

    def _live_at(self, place: Place) -> tuple[int, ...] | list[int]:
        left = self._written.get(place)
        if left is not None:
            return () if left == _NOTHING else (left,)
        if isinstance(place, int):
            return (place,) if place >= self._base or place < 0 else self._places.live_element(place, self._past)
        holder, key = place
        return () if holder >= self._base or holder == _NOTHING else self._places.live_key(holder, key, self._past)

    def _find_predecessors(self, count: int, operation: int) -> list[int]:
        """The operations that this one names, in their only order: by counter, then by actor."""
        parsed, first = self._parsed, self._preds
        self._preds = end = first + count
        counters, numbers = parsed.pred_counters or (), parsed.shape.pred_actors or ()
        found: list[int] = []
        last_counter, last_actor = 0, b""
        for counter, number in zip(counters[first:end], numbers[first:end], strict=True):
            if counter is None or number is None:
                self._refuse(Rule.PREDECESSORS, "names half a predecessor")
                continue
            actor = parsed.actors[number]
            if counter < last_counter or (counter == last_counter and actor <= last_actor):
                self._refuse(Rule.PREDECESSORS, "names predecessors out of order")
            last_counter, last_actor = counter, actor
            named = self._find(counter, number, operation)
            if named < 0:
                self._refuse(Rule.PREDECESSORS, "names a predecessor that is not in its past")
            else:
                found.append(named)
        return found

    def _check_character(self, action: int | None, insert: bool, operation: int) -> None:
        """A text takes insertions of one code point and deletions, nothing else."""
        if not insert:
            if action != DELETE:
                self._refuse(Rule.TEXT, "overwrites a character of a text")
            return
        metas, values = self._parsed.metas, self._parsed.values
        offset = operation - self._base
        meta = metas[offset] or 0
        if meta >> 4 > 1 and not self._offsets:
            self._offsets = list(accumulate(((item or 0) >> 4 for item in metas), initial=0))
        at = self._offsets[offset] if self._offsets else 0
        if action != PUT or meta & 15 != STRING or not _is_character(values, at, meta >> 4):
            self._refuse(Rule.TEXT, "inserts something else than one character into a text")


def _is_character(values: bytes, at: int, size: int) -> bool:
    """Whether `size` bytes of valid UTF-8 are one code point: the first byte says how long its code point is."""
    if size <= 1:
        return size == 1
    lead = values[at]
    return size == (2 if 0xC0 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if lead >= 0xF0 else 0)


def _runs_of(elements: dict[int, int], base: int) -> Runs:
    """The inserted elements as (first, last, container) by place in the change: typing makes one run."""
    runs: list[tuple[int, int, int]] = []
    first = last = holder = _NOTHING
    for operation, container in elements.items():
        offset = operation - base
        if offset == last + 1 and container == holder:
            last = offset
            continue
        if holder != _NOTHING:
            runs.append((first, last, holder))
        first = last = offset
        holder = container
    runs.append((first, last, holder))
    return tuple(runs)
