"""Lists that all members write together: shopping, packing, what is to be done. Spec: specs/together.md §3 and §4."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_LIST_ITEMS, MAX_LIST_TEXT_BYTES
from cocoon_core.social.item_view import fold
from cocoon_core.social.list_view import ITEMS, ListsView, item_key
from cocoon_core.social.places import JITTERS, place_between, spread
from cocoon_core.social.shared_documents import SharedDocuments, Write
from cocoon_core.social.times import time_of
from cocoon_core.sync.events import GroupEvent
from cocoon_core.vault.naming import clean_text

_ITEMS_A_CHANGE: Final = 100
_LEAST: Final = 4  # characters of a beginning of an id


@dataclass(frozen=True, slots=True)
class ListItem:
    """One line of a list. `done` is when it was ticked off, by the clock of who did, or None."""

    id: str
    text: str
    time: datetime
    done: datetime | None


@dataclass(frozen=True, slots=True)
class SharedList:
    """A list, with its items in the order that all members see."""

    id: str
    name: str
    time: datetime
    removed: bool
    items: tuple[ListItem, ...]


@dataclass(frozen=True, slots=True)
class ListInfo:
    """A list without its items: how many are open, and how many done."""

    id: str
    name: str
    time: datetime
    removed: bool
    open: int
    done: int


class Lists(SharedDocuments):
    """The lists of one group. Edits are durable when the call returns, and are sent with the next sync.

    A list is named by its name, where one list alone has it, or by its id or a beginning of that; an item by its text,
    where one item alone has it, or by its id or a beginning. Any member may change everything.
    """

    word: ClassVar = "list"
    kind: ClassVar = ListsView

    async def new(self, name: str, items: Iterable[str] = ()) -> SharedList:
        """Begin a list.

        Raises:
            UsageError: a name or text is empty or too long, or there are too many items.
        """
        texts = _require_texts(items, 0)
        return self._get(self._make(name, *self._steps_to_add(texts, *self._room([], 0, len(texts)))))

    async def all(self, *, removed: bool = False) -> list[ListInfo]:
        """All lists, by name.

        Args:
            removed: those that were put aside too.
        """
        found = [one for one in self._infos("", ()) if removed or not one.removed]
        return sorted(found, key=lambda one: (fold(one.name), one.id))

    async def changed(self, event: GroupEvent) -> list[ListInfo]:
        """The list that an event of `Group.events` is about; none for others."""
        named = self._named_by(event)
        return [] if named is None else self._infos("AND l.list=?", (named,))

    async def get(self, reference: str) -> SharedList:
        """One list with its items.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(reference))

    async def add(self, reference: str, *texts: str, before: str | None = None) -> SharedList:
        """Put items at the end of a list, or before another.

        Raises:
            UnknownItemError: the list is not here, or that item is not in it.
            UsageError: a text is empty or too long, or there would be too many items.
        """
        found = self._find(reference)
        rows = self._rows(found)
        fresh = _require_texts(texts, len(rows))
        index = len(rows) if before is None else _index(rows, _find_item(rows, before))
        self._write(found, *self._steps_to_add(fresh, *self._room(rows, index, len(fresh))))
        return self._get(found)

    async def tick(self, reference: str, *items: str, done: bool = True) -> SharedList:
        """Tick items off, or open them again. One that is so already is left as it is.

        Raises:
            UnknownItemError: the list is not here, or such an item is not in it.
        """
        found, now_ms = self._find(reference), self._replica.clock()
        rows = self._rows(found)
        keys = [_find_item(rows, item, done=not done) for item in items]

        def write(root: MapEdit) -> None:
            for key in dict.fromkeys(keys):
                item = _item(root, key)
                if done and "done" not in item:
                    item["done"] = now_ms
                elif not done:
                    item.pop("done", None)

        self._write(found, write)
        return self._get(found)

    async def edit(self, reference: str, item: str, text: str) -> SharedList:
        """Let an item say something else.

        Raises:
            UnknownItemError: the list is not here, or the item is not in it.
            UsageError: the text is empty or too long.
        """
        found = self._find(reference)
        key, (said,) = _find_item(self._rows(found), item), _require_texts([text], 0)
        self._write(found, lambda root: _item(root, key).__setitem__("text", said))
        return self._get(found)

    async def move(self, reference: str, item: str, before: str | None = None) -> SharedList:
        """Put an item before another, or at the end.

        Where two members move one item at once, it stands where one of them put it.

        Raises:
            UnknownItemError: the list is not here, or an item is not in it.
        """
        found = self._find(reference)
        rows = self._rows(found)
        key = _find_item(rows, item)
        others = [row for row in rows if row[0] != key]
        if before is not None and _find_item(rows, before) == key:
            return self._get(found)
        index = len(others) if before is None else _index(others, _find_item(others, before))
        (place,), moved = self._room(others, index, 1)

        def write(root: MapEdit) -> None:
            _item(root, key)["place"] = place
            _set_places(root, moved)

        self._write(found, write)
        return self._get(found)

    async def drop(self, reference: str, *items: str) -> SharedList:
        """Take items out of a list. What they said stays in its history.

        Raises:
            UnknownItemError: the list is not here, or such an item is not in it.
        """
        found = self._find(reference)
        rows = self._rows(found)
        return self._drop(found, [_find_item(rows, item) for item in items])

    async def clear(self, reference: str) -> SharedList:
        """Take all items out of a list that are done.

        Raises:
            UnknownItemError: the list is not here.
        """
        found = self._find(reference)
        return self._drop(found, [row[0] for row in self._rows(found) if row[3] is not None])

    # --- inside

    def _infos(self, where: str, values: tuple[bytes, ...]) -> list[ListInfo]:
        rows = self._db.query(
            "SELECT l.list, l.name, l.time_ms, l.gone_ms, count(i.item), count(i.done_ms) FROM lists l "
            f"LEFT JOIN list_items i ON i.document_no=l.document_no WHERE l.group_no=? {where} GROUP BY l.list",
            (self._no, *values),
        )
        return [
            ListInfo(key.hex(), name, time_of(time_ms), gone is not None, total - done, done)
            for key, name, time_ms, gone, total, done in rows
        ]

    def _drop(self, found: bytes, keys: Sequence[str]) -> SharedList:
        def write(root: MapEdit) -> None:
            for key in keys:
                root[ITEMS].pop(key, None)

        if keys:
            self._write(found, write)
        return self._get(found)

    def _rows(self, found: bytes) -> list[tuple[Any, ...]]:
        """(key, text, time, done, place) of each item, in order."""
        rows = self._db.query(
            "SELECT i.item, i.text, i.time_ms, i.done_ms, i.place FROM lists l "
            "JOIN list_items i ON i.document_no=l.document_no WHERE l.group_no=? AND l.list=? ORDER BY i.place, i.item",
            (self._no, found),
        )
        return [(item_key(row[0]), *row[1:]) for row in rows]

    def _get(self, found: bytes) -> SharedList:
        row = self._db.query_one(
            "SELECT name, time_ms, gone_ms FROM lists WHERE group_no=? AND list=?", (self._no, found)
        )
        if row is None:
            raise UnknownItemError("this list is not here any more")
        items = tuple(
            ListItem(key, text, time_of(time_ms), None if done is None else time_of(done))
            for key, text, time_ms, done, _ in self._rows(found)
        )
        return SharedList(found.hex(), row[0], time_of(row[1]), row[2] is not None, items)

    def _room(self, rows: Sequence[tuple[Any, ...]], index: int, count: int) -> tuple[list[str], dict[str, str]]:
        """Places for new items before the one at `index`; and others for those that are there, if they need any."""
        above = rows[index - 1][4] if index else None
        below = rows[index][4] if index < len(rows) else None
        made: list[str] = []
        for _ in range(count):
            above = place_between(above, below, secrets.randbelow(JITTERS))
            if above is None:
                places = spread(len(rows) + count)
                rest = places[:index] + places[index + count :]
                moved = {row[0]: place for row, place in zip(rows, rest, strict=True)}
                return places[index : index + count], moved
            made.append(above)
        return made, {}

    def _steps_to_add(self, texts: Sequence[str], places: Sequence[str], moved: dict[str, str]) -> list[Write]:
        now_ms = self._replica.clock()
        values = [{"text": text, "at": now_ms, "place": place} for text, place in zip(texts, places, strict=True)]

        def step(first: int) -> Write:
            def write(root: MapEdit) -> None:
                for value in values[first : first + _ITEMS_A_CHANGE]:
                    root[ITEMS][secrets.token_hex(8)] = value

            return write

        steps = [step(first) for first in range(0, len(values), _ITEMS_A_CHANGE)]
        return [lambda root: _set_places(root, moved), *steps] if moved else steps


def _item(root: MapEdit, key: str) -> MapEdit:
    item = root[ITEMS].get(key)
    if not isinstance(item, MapEdit):
        raise UnknownItemError("this item is not in the list any more")
    return item


def _set_places(root: MapEdit, places: dict[str, str]) -> None:
    for key, place in places.items():
        _item(root, key)["place"] = place


def _index(rows: Sequence[tuple[Any, ...]], key: str) -> int:
    return next(index for index, row in enumerate(rows) if row[0] == key)


def _find_item(rows: Sequence[tuple[Any, ...]], reference: str, *, done: bool | None = None) -> str:
    """The key of the item that says so, or whose id begins so.

    Args:
        done: where several say so, only those that are done, or that are not.

    Raises:
        UnknownItemError: none, or more than one.
    """
    wanted, beginning = fold(clean_text(reference, MAX_LIST_TEXT_BYTES)), reference.strip().lower()
    begun = [row for row in rows if len(beginning) >= _LEAST and row[0].startswith(beginning)]
    if len(begun) == 1 and begun[0][0] == beginning:
        return beginning  # a whole id goes before every text: an item may say the id of another
    said = [row for row in rows if fold(row[1]) == wanted]
    if len(said) > 1 and done is not None:
        said = [row for row in said if (row[3] is not None) is done] or said
    found = list({row[0]: row for row in (*said, *begun)}.values())
    if len(found) > 1:
        ids = ", ".join(row[0][:8] for row in found[:5])
        how = "by its whole id" if said and begun else "by its id"
        raise UnknownItemError(f"{len(found)} items of this list are meant by that; say which {how}: {ids}")
    if not found:
        raise UnknownItemError(f"nothing in this list says “{clean_text(reference, 40)}”, and no id in it begins so")
    return str(found[0][0])


def _require_texts(texts: Iterable[str], there: int) -> list[str]:
    shown = []
    for text in texts:
        clean = clean_text(text, 4 * MAX_LIST_TEXT_BYTES)
        if not clean or len(clean.encode()) > MAX_LIST_TEXT_BYTES:
            raise UsageError(f"an item is 1 to {MAX_LIST_TEXT_BYTES} bytes of text that shows")
        shown.append(clean)
    if there + len(shown) > MAX_LIST_ITEMS:
        raise UsageError(f"a list has at most {MAX_LIST_ITEMS:,} items; begin another")
    return shown
