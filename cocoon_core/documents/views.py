"""Reading a document as plain Python: mappings, sequences, texts and scalars that follow the document as it changes.

A view holds no content; every look asks the replica. `to_python` copies. Implements specs/documents.md §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from cocoon_core.documents.adapter import ROOT, ObjType, Replica, Stored
from cocoon_core.errors import UsageError

Scalar = str | bytes | int | float | bool | None


class MapView(Mapping[str, Any]):
    """A map, read like a dict; its keys are in order."""

    __slots__ = ("_id", "_replica")

    def __init__(self, replica: Replica, container: bytes = ROOT) -> None:
        self._replica = replica
        self._id = container

    def _wrap(self, stored: tuple[Stored, bytes]) -> Any:
        return view_of(self._replica, stored)

    def __getitem__(self, key: str) -> Any:
        stored = self._replica.get(self._id, key) if key in self else None
        if stored is None:
            raise KeyError(key)
        return self._wrap(stored)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(key) and self._replica.get(self._id, key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._replica.keys(self._id))

    def __len__(self) -> int:
        return len(self._replica.keys(self._id))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MapView):
            return self.to_python() == other.to_python()
        return isinstance(other, Mapping) and self.to_python() == _plain(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.to_python())

    def to_python(self) -> dict[str, Any]:
        """A copy as plain dicts, lists and strings."""
        return _plain_map(self._replica, self._id)


class ListView(Sequence[Any]):
    """A list, read like one."""

    __slots__ = ("_id", "_replica")

    def __init__(self, replica: Replica, container: bytes) -> None:
        self._replica = replica
        self._id = container

    def _wrap(self, stored: tuple[Stored, bytes]) -> Any:
        return view_of(self._replica, stored)

    def _index(self, index: int) -> int:
        length = len(self)
        place = index + length if index < 0 else index
        if not 0 <= place < length:
            raise IndexError(f"index {index} of a list of {length}")
        return place

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._wrap(stored) for stored in self._replica.values(self._id)[index]]
        stored = self._replica.get(self._id, self._index(index))
        if stored is None:
            raise IndexError(index)
        return self._wrap(stored)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._wrap(stored) for stored in self._replica.values(self._id)])

    def __len__(self) -> int:
        return self._replica.length(self._id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ListView):
            return self.to_python() == other.to_python()
        return isinstance(other, (list, tuple)) and self.to_python() == _plain(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.to_python())

    def to_python(self) -> list[Any]:
        """A copy as plain dicts, lists and strings."""
        return [plain_of(self._replica, stored) for stored in self._replica.values(self._id)]


class TextView:
    """A text in which people can write at once, read like a str; indices count code points."""

    __slots__ = ("_id", "_replica")

    def __init__(self, replica: Replica, container: bytes) -> None:
        self._replica = replica
        self._id = container

    def __str__(self) -> str:
        return self._replica.text(self._id)

    def to_python(self) -> str:
        return str(self)

    def __len__(self) -> int:
        return self._replica.length(self._id)

    def __getitem__(self, index: int | slice) -> str:
        return str(self)[index]

    def __iter__(self) -> Iterator[str]:
        return iter(str(self))

    def __contains__(self, part: object) -> bool:
        return isinstance(part, (str, TextView, Text)) and str(part) in str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (str, TextView, Text)) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(str(self))


class Text:
    """A text to be put into a document: `doc["notes"] = Text("begin")`. A plain str is one value, replaced whole."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        if not isinstance(value, str):
            raise UsageError(f"a text is made from a str, not from {type(value).__name__}")
        self._value = value

    def __str__(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (str, Text, TextView)) and self._value == str(other)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Text({self._value!r})"


def view_of(replica: Replica, stored: tuple[Stored, bytes]) -> Any:
    """A scalar as it is, a container as its view."""
    value, container = stored
    if type(value) is tuple:
        return scalar_of(value[1])
    if value == ObjType.Map:
        return MapView(replica, container)
    return ListView(replica, container) if value == ObjType.List else TextView(replica, container)


def plain_of(replica: Replica, stored: tuple[Stored, bytes]) -> Any:
    """A scalar as it is, a container as a plain copy."""
    value, container = stored
    if type(value) is tuple:
        return scalar_of(value[1])
    if value == ObjType.Map:
        return _plain_map(replica, container)
    return ListView(replica, container).to_python() if value == ObjType.List else replica.text(container)


def plain_then(replica: Replica, key: str, heads: Iterable[bytes]) -> Any:
    """What stood under a root key when these were the newest changes: a scalar, or the scalars of a map; else None."""
    then = list(heads)
    stored = replica.get_then(then, key)
    if stored is None:
        return None
    value, container = stored
    if type(value) is tuple:
        return scalar_of(value[1])
    if value != ObjType.Map:
        return None
    return {name: scalar_of(one[0][1]) for name, one in replica.entries_then(then, container) if type(one[0]) is tuple}


def scalar_of(value: Any) -> Any:
    """The binding gives byte strings, and nothing else, as lists of integers."""
    return bytes(value) if type(value) is list else value


def _plain_map(replica: Replica, container: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, stored in zip(replica.keys(container), replica.values(container), strict=True):
        value = stored[0]
        if type(value) is not tuple:
            plain[key] = plain_of(replica, stored)
        elif type(scalar := value[1]) is list:
            plain[key] = bytes(scalar)
        else:
            plain[key] = scalar
    return plain


def _plain(value: Any) -> Any:
    """Nested views, texts and tuples of a value to be compared, as dicts, strings and lists."""
    if isinstance(value, (MapView, ListView, TextView)):
        return value.to_python()
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
