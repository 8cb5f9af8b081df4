"""What stands where in one document: containers, and the operations that wrote each key and element.

A *place* is a key of a map or an element of a list or text. `live` says which of the operations that wrote a place are
visible to a change with a given past; an honest change names exactly these as predecessors when it writes there.
The keys of a map that nobody touched after the change that made it are read from that change when first asked for.
Implements specs/documents.md §4.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cocoon_core.documents.change import DELETE, MAKE_MAP, parse_change
from cocoon_core.documents.history import OP_BITS, AdmittedChange, History, Past, Runs

ROOT: Final = -1  # number of the root map; other containers have their operation's


# what the gate knows of a container: the action that made it, the root key it lies under, how deep. A bare tuple: there
# is one for every post, and the garbage collector stops looking at bare tuples
Container = tuple[int, str, int]


class Effects(NamedTuple):
    """What a change does to the places: computed while it is checked, applied once it has passed."""

    touched: tuple[str, ...]
    elements: Runs
    created: dict[int, Container]
    written: dict[Place, int]  # place -> the operation left there, or less than 0 if deleted
    killed: list[int]  # operations of the past that it names as predecessors
    base: int  # number of its first operation


Place = tuple[int, str] | int  # container and key, or element
Writers = int | list[int]  # operations in order of admission; one alone is not worth a list


class Places:
    """State of the places of one document. Changed only by `write` and `kill`, after a change has passed the gate."""

    __slots__ = ("_containers", "_dead", "_elements", "_history", "_maps")

    def __init__(self, history: History) -> None:
        self._history = history
        self._containers: dict[int, Container | str] = {}  # a str: the map of a record under this root key
        self._maps: dict[int, dict[str, Writers]] = {ROOT: {}}
        self._elements: dict[int, Writers] = {}
        self._dead: dict[int, int | tuple[int, ...]] = {}  # operation -> changes that name it as a predecessor

    def container(self, operation: int) -> Container | None:
        """The container that an admitted operation made."""
        found = self._containers.get(operation)
        return (MAKE_MAP, found, 1) if type(found) is str else found  # type: ignore[return-value]

    def live_key(self, container: int, key: str, past: Past) -> list[int]:
        fields = self._maps.get(container)
        if fields is None:
            fields = self._fields(container)
        writers = fields.get(key)
        return [] if writers is None else self._live(writers, past)

    def live_element(self, element: int, past: Past) -> list[int]:
        return self._live(self._elements.get(element, element), past)

    def _live(self, writers: Writers, past: Past) -> list[int]:
        if type(writers) is int:
            return [writers] if self._is_live(writers, past) else []
        live: list[int] = []
        bound = 0
        changes = self._history.changes
        for writer in reversed(writers):  # type: ignore[arg-type]
            index = writer >> OP_BITS
            if index < bound:
                break  # a later writer had all of these in its past and left none of them standing
            change = changes[index]
            if past.whole or past.holds(change):
                if self._is_live(writer, past):
                    live.append(writer)
                bound = max(bound, change.prefix)
        return live

    def _is_live(self, writer: int, past: Past) -> bool:
        killers = self._dead.get(writer)
        if past.whole:
            return killers is None
        changes = self._history.changes
        if not past.holds(changes[writer >> OP_BITS]):
            return False
        if killers is None:
            return True
        if type(killers) is int:
            return not past.holds(changes[killers])
        return not any(past.holds(changes[killer]) for killer in killers)  # type: ignore[union-attr]

    def apply(self, effects: Effects, index: int) -> None:
        """Write what a change that has passed does. The keys of maps that it made itself are read when asked for."""
        if effects.created:
            self._containers.update(effects.created)
        base = effects.base
        for place, left in effects.written.items():
            if type(place) is int:
                self._write_element(place, left, place >= base)
            elif left >= 0 and place[0] < base:  # type: ignore[index]
                self._write_key(place[0], place[1], left)  # type: ignore[index]
        for operation in effects.killed:
            self._kill(operation, index)

    def may_make(self, root_key: str, past: Past) -> bool:
        """Whether the rules allow a record under that root key in an owned document: nothing is visible there.

        A shortcut that only admits: where it says no, the rules must be asked one by one.
        """
        return not self.live_key(ROOT, root_key, past)

    def apply_record(self, root_key: str, base: int) -> bool:
        """`apply` for a record, whose first operation has that number; whether nothing ever wrote its root key."""
        self._containers[base] = root_key
        fields = self._maps[ROOT]
        if root_key in fields:
            self._write_key(ROOT, root_key, base)
            return False
        fields[root_key] = base
        return True

    def _write_key(self, container: int, key: str, writer: int) -> None:
        fields = self._maps.get(container)
        if fields is None:
            fields = self._fields(container)
        before = fields.get(key)
        if before is None:
            fields[key] = writer
        elif type(before) is int:
            fields[key] = [before, writer]
        else:
            before.append(writer)  # type: ignore[union-attr]

    def _write_element(self, element: int, writer: int, fresh: bool) -> None:
        """Note the last writer of an element; of a `fresh` one, made by the same change, only this is left."""
        if fresh:
            self._elements[element] = [writer] if writer >= 0 else []
        elif writer >= 0:
            before = self._elements.get(element, element)
            if type(before) is int:
                self._elements[element] = [before, writer]
            else:
                before.append(writer)  # type: ignore[union-attr]

    def _kill(self, operation: int, index: int) -> None:
        before = self._dead.get(operation)
        if before is None:
            self._dead[operation] = index
        elif type(before) is int:
            self._dead[operation] = (before, index)
        else:
            self._dead[operation] = (*before, index)  # type: ignore[misc]

    def _fields(self, container: int) -> dict[str, Writers]:
        """The keys of a map that nobody has touched since the change that made it."""
        change = self._history.changes[container >> OP_BITS]
        if container not in self._maps:
            self._index_change(change)
        return self._maps[container]

    def _index_change(self, change: AdmittedChange) -> None:
        parsed = parse_change(change.raw)
        base = change.position << OP_BITS
        maps = self._maps
        counters = parsed.obj_counters or (None,) * parsed.shape.ops
        numbers = parsed.shape.obj_actors or counters
        keys = parsed.key_strings or counters
        for offset, (action, counter, number, key) in enumerate(
            zip(parsed.shape.actions, counters, numbers, keys, strict=True)
        ):
            if action == MAKE_MAP:
                maps[base | offset] = {}
            if counter is None or number or counter < parsed.start_op or type(key) is not str:
                continue
            fields = maps.get(base | (counter - parsed.start_op))
            if fields is not None:
                if action == DELETE:
                    fields.pop(key, None)
                else:
                    fields[key] = base | offset
