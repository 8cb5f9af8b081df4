"""Editing a document as plain Python, inside one edit: what is written through these becomes one change.

They refuse with UsageError, before anything is written, what the gate of another replica would refuse: another type, a
number over 64 bits, an empty key, too much for one change, or a write at the root of a document with a schema.
Implements specs/documents.md §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from math import isfinite
from typing import Any, Final, NoReturn, overload

from cocoon_core.documents.adapter import ROOT, ObjType, Replica, ScalarType, Stored
from cocoon_core.documents.views import ListView, MapView, Text, TextView, scalar_of
from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_OPS, MAX_KEY_BYTES, MAX_NESTING

_OP_BYTES: Final = 12  # bytes an operation takes at most besides key and value, a little more than it ever does
_OVERHEAD: Final = 4096  # bytes kept for the header
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1


class Draft:
    """What one edit has written so far: the root keys touched, and how much."""

    __slots__ = ("bytes", "declared", "ended", "ops", "replica", "touched")

    def __init__(self, replica: Replica, declared: frozenset[str] | None) -> None:
        self.replica = replica
        self.declared = declared  # root keys of the schema; None in an owned document
        self.touched: dict[str, None] = {}
        self.ops = 0
        self.bytes = 0
        self.ended = False

    def require_open(self) -> None:
        if self.ended:
            raise UsageError("this edit has ended; begin another to write more")

    def count(self, root_key: str, size: int) -> None:
        """Count one operation before it is written."""
        self.require_open()
        self.ops += 1
        self.bytes += size + _OP_BYTES
        if self.ops > MAX_CHANGE_OPS or self.bytes > MAX_CHANGE_BYTES - _OVERHEAD:
            raise UsageError("this is too much for one edit; divide it into several")
        self.touched[root_key] = None


class MapEdit(MapView, MutableMapping[str, Any]):
    """A map inside an edit: written like a dict."""

    __slots__ = ("_depth", "_draft", "_root_key")

    def __init__(self, draft: Draft, container: bytes = ROOT, root_key: str = "", depth: int = 0) -> None:
        super().__init__(draft.replica, container)
        self._draft = draft
        self._root_key = root_key
        self._depth = depth

    def _wrap(self, stored: tuple[Stored, bytes], key: str = "") -> Any:
        return edit_of(self._draft, stored, self._root_key or key, self._depth + 1)

    def __getitem__(self, key: str) -> Any:
        stored = self._replica.get(self._id, key) if key in self else None
        if stored is None:
            raise KeyError(key)
        return self._wrap(stored, key)

    def __setitem__(self, key: str, value: Any) -> None:
        size = _check_key(key)
        kind = container_kind(value)
        if self._depth == 0:
            self._check_root(key, kind is not None)
        root_key = self._root_key or key
        if kind is None:
            scalar, extent = scalar_kind(value)
            self._draft.count(root_key, size + extent)
            self._replica.put(self._id, key, scalar, value)
            return
        _check_depth(self._depth)
        content = _copy_content(value)
        self._draft.count(root_key, size)
        made = self._replica.put_container(self._id, key, kind)
        _fill(edit_of(self._draft, (kind, made), root_key, self._depth + 1), content)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        if self._depth == 0 and self._draft.declared is not None:
            raise UsageError(f"{key!r} is declared by the schema and cannot be deleted; empty it instead")
        self._draft.count(self._root_key or key, _check_key(key))
        self._replica.delete(self._id, key)

    def _check_root(self, key: str, is_container: bool) -> None:
        declared = self._draft.declared
        if declared is not None:
            if key in declared:
                raise UsageError(f"{key!r} is declared by the schema and cannot be replaced; change what is in it")
            raise UsageError(f"{key!r} is not in the schema of this document, which has {', '.join(sorted(declared))}")
        if is_container and key in self:
            raise UsageError(f"{key!r} is there already; change what is in it, or delete it first")


class ListEdit(ListView, MutableSequence[Any]):
    """A list inside an edit: written like a list."""

    __slots__ = ("_depth", "_draft", "_root_key")

    def __init__(self, draft: Draft, container: bytes, root_key: str, depth: int) -> None:
        super().__init__(draft.replica, container)
        self._draft = draft
        self._root_key = root_key
        self._depth = depth

    def _wrap(self, stored: tuple[Stored, bytes]) -> Any:
        return edit_of(self._draft, stored, self._root_key, self._depth + 1)

    @overload
    def __setitem__(self, index: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            values = list(value)
            start, stop = _span(index, len(self))
            del self[start:stop]
            for offset, item in enumerate(values):
                self._insert(start + offset, item)
            return
        place = self._index(index)
        kind = container_kind(value)
        if kind is None:
            scalar, extent = scalar_kind(value)
            self._draft.count(self._root_key, extent)
            self._replica.put(self._id, place, scalar, value)
            return
        _check_depth(self._depth)
        content = _copy_content(value)
        self._draft.count(self._root_key, 0)
        made = self._replica.put_container(self._id, place, kind)
        _fill(self._wrap((kind, made)), content)

    def __delitem__(self, index: int | slice) -> None:
        if isinstance(index, slice):
            start, stop = _span(index, len(self))
        else:
            start = self._index(index)
            stop = start + 1
        for _ in range(start, stop):
            self._draft.count(self._root_key, 0)
            self._replica.delete(self._id, start)

    def insert(self, index: int, value: Any) -> None:
        self._insert(_clamp(index, len(self)), value)

    def append(self, value: Any) -> None:
        self._insert(len(self), value)

    def extend(self, values: Iterable[Any]) -> None:
        items = list(values)
        start = len(self)
        for offset, item in enumerate(items):
            self._insert(start + offset, item)

    def _insert(self, place: int, value: Any) -> None:
        kind = container_kind(value)
        if kind is None:
            scalar, extent = scalar_kind(value)
            self._draft.count(self._root_key, extent)
            self._replica.insert(self._id, place, scalar, value)
            return
        _check_depth(self._depth)
        content = _copy_content(value)
        self._draft.count(self._root_key, 0)
        made = self._replica.insert_container(self._id, place, kind)
        _fill(self._wrap((kind, made)), content)


class TextEdit(TextView):
    """A text inside an edit. Indices count code points."""

    __slots__ = ("_draft", "_root_key")

    def __init__(self, draft: Draft, container: bytes, root_key: str) -> None:
        super().__init__(draft.replica, container)
        self._draft = draft
        self._root_key = root_key

    def insert(self, index: int, value: str) -> None:
        """Insert characters before `index`."""
        self._insert(_clamp(index, len(self)), str(value))

    def append(self, value: str) -> None:
        self._insert(len(self), str(value))

    def delete(self, index: int, count: int = 1) -> None:
        """Delete `count` characters from `index` on."""
        if index < 0 or count < 0 or index + count > len(self):
            raise IndexError(f"{count} characters from {index} of a text of {len(self)}")
        for _ in range(count):
            self._draft.count(self._root_key, 0)
            self._replica.delete(self._id, index)

    def __setitem__(self, index: int | slice, value: str) -> None:
        if isinstance(index, int):
            place = index + len(self) if index < 0 else index
            index = slice(place, place + 1)
        start, stop = _span(index, len(self))
        self.delete(start, stop - start)
        self._insert(start, str(value))

    def __delitem__(self, index: int | slice) -> None:
        self[index] = ""

    def _insert(self, place: int, value: str) -> None:
        _check_text(value)
        for offset, character in enumerate(value):
            self._draft.count(self._root_key, len(character.encode()))
            self._replica.insert(self._id, place + offset, ScalarType.Str, character)


def edit_of(draft: Draft, stored: tuple[Stored, bytes], root_key: str, depth: int) -> Any:
    """A scalar as it is, a container as what edits it."""
    value, container = stored
    if type(value) is tuple:
        return scalar_of(value[1])
    if value == ObjType.Map:
        return MapEdit(draft, container, root_key, depth)
    if value == ObjType.List:
        return ListEdit(draft, container, root_key, depth)
    return TextEdit(draft, container, root_key)


def container_kind(value: Any) -> ObjType | None:
    """The container that a value becomes, None for a scalar."""
    if isinstance(value, Mapping):
        return ObjType.Map
    if isinstance(value, (list, tuple, ListView)):
        return ObjType.List
    return ObjType.Text if isinstance(value, (Text, TextView)) else None


def scalar_kind(value: Any) -> tuple[ScalarType, int]:
    """The type of a scalar, asked of bool before int, and its size in bytes.

    Raises:
        UsageError: a type, number or text that a document cannot hold.
    """
    kind = type(value)
    if kind is str:
        return ScalarType.Str, _check_text(value)
    if value is None:
        return ScalarType.Null, 0
    if kind is bool:
        return ScalarType.Boolean, 0
    if kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            raise UsageError("a document holds integers of 64 bits; put a longer one as str or bytes")
        return ScalarType.Int, 10
    if kind is float:
        if not isfinite(value):
            raise UsageError("a document holds finite numbers; put None or a str instead of nan or inf")
        return ScalarType.F64, 8
    if kind is bytes:
        return ScalarType.Bytes, len(value)
    for base in (str, bytes, int, float):
        if isinstance(value, base):
            _wrong_type(kind, f" itself; convert it with {base.__name__}(…)")
    _wrong_type(kind, "")


def _wrong_type(kind: type, hint: str) -> NoReturn:
    raise UsageError(
        f"a document holds str, bytes, int, float, bool, None, dict, list and Text, not {kind.__name__}{hint}"
    )


def _check_text(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise UsageError("a text has half a surrogate pair, which no encoding can hold") from None


def _check_key(key: object) -> int:
    if not isinstance(key, str) or not key:
        raise UsageError("a key is a str that is not empty")
    size = _check_text(key)
    if size > MAX_KEY_BYTES:
        raise UsageError(f"a key is at most {MAX_KEY_BYTES} bytes, not {size}")
    return size


def _check_depth(depth: int) -> None:
    if depth >= MAX_NESTING:
        raise UsageError(f"containers stand at most {MAX_NESTING} deep in one another")


def _copy_content(value: Any) -> Any:
    """What to fill a new container with, read before anything is written: it may be a view of this very document."""
    return value.to_python() if isinstance(value, (MapView, ListView, TextView)) else value


def _fill(container: Any, content: Any) -> None:
    if isinstance(container, MapEdit):
        for key, item in content.items():
            container[key] = item
    elif isinstance(container, ListEdit):
        container.extend(content)
    else:
        container.append(str(content))


def _clamp(index: int, length: int) -> int:
    return max(0, index + length) if index < 0 else min(index, length)


def _span(index: slice, length: int) -> tuple[int, int]:
    start, stop, step = index.indices(length)
    if step != 1:
        raise UsageError("a slice with a step cannot be written; write the elements one by one")
    return start, max(start, stop)
