"""Documents read and written as plain Python: what dict, list and str would do, or a sentence that says why not."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.documents import Document, ListView, MapView, Text, TextView
from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_CHANGE_OPS, MAX_KEY_BYTES, MAX_NESTING
from tests.support.documents import OWNED, SHARED, device, edit, new_document, new_gate

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | text | st.binary(max_size=8)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text.filter(bool), inner, max_size=4),
    max_leaves=12,
)


def exactly(value: Any) -> Any:
    """A value with its types, since True == 1 == 1.0 in Python."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value), value


@given(values)
def test_values_are_read_back_with_their_types_and_pass_the_gate(value: Any) -> None:
    document = new_document(OWNED, 1)
    raw = edit(document, a=value)
    assert exactly(document.read().to_python()["a"]) == exactly(value)
    assert document.read() == {"a": value}
    assert new_gate(OWNED, [(raw, device(1))]).heads == document.heads


@given(values)
def test_values_are_read_with_their_types_inside_an_edit_too(value: Any) -> None:
    document = new_document(OWNED, 1)
    edit(document, a=value)
    with document.change() as root:
        inside = root["a"]
        assert exactly(inside.to_python() if hasattr(inside, "to_python") else inside) == exactly(value)


class Played:
    """The same writes on a document and on plain Python."""

    def __init__(self, start: Any) -> None:
        self.document = new_document(OWNED, 1)
        edit(self.document, x=start)
        self.plain: Any = {"x": start}

    def play(self, write: Callable[[Any], Any]) -> None:
        with self.document.change() as root:
            write(root)
        write(self.plain)
        assert self.document.read().to_python() == self.plain


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda root: root["x"].update(a=9, z=[1]), id="update"),
        pytest.param(lambda root: root["x"].setdefault("n", 5), id="setdefault new"),
        pytest.param(lambda root: root["x"].setdefault("a", 5), id="setdefault there"),
        pytest.param(lambda root: root["x"].pop("a"), id="pop"),
        pytest.param(lambda root: root["x"].pop("zz", None), id="pop missing"),
        pytest.param(lambda root: root["x"].clear(), id="clear"),
        pytest.param(lambda root: root["x"]["in"].update(deep={"er": [1, {"est": None}]}), id="nested"),
        pytest.param(lambda root: root["x"].__setitem__("in", [1]), id="container replaced"),
        pytest.param(lambda root: root["x"].__delitem__("in"), id="container deleted"),
        pytest.param(lambda root: root.__setitem__("y", {"k": ("a", ("b",))[0]}), id="new root container"),
        pytest.param(lambda root: root["x"].__setitem__("copy", {**root["x"]["in"]}), id="copied"),
    ],
)
def test_maps_are_written_like_dicts(write: Callable[[Any], Any]) -> None:
    Played({"a": 1, "b": 2, "in": {"c": 3}}).play(write)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda root: root["x"].append(5), id="append"),
        pytest.param(lambda root: root["x"].append({"a": [1]}), id="append a map"),
        pytest.param(lambda root: root["x"].insert(1, "i"), id="insert"),
        pytest.param(lambda root: root["x"].insert(-1, "i"), id="insert from the end"),
        pytest.param(lambda root: root["x"].insert(99, "i"), id="insert beyond"),
        pytest.param(lambda root: root["x"].insert(-99, "i"), id="insert before"),
        pytest.param(lambda root: root["x"].extend([7, 8]), id="extend"),
        pytest.param(lambda root: root["x"].__setitem__(-1, 9), id="set from the end"),
        pytest.param(lambda root: root["x"].__setitem__(0, {"a": 1}), id="set a map"),
        pytest.param(lambda root: root["x"].__setitem__(slice(1, 3), ["p", "q", "r"]), id="set a slice"),
        pytest.param(lambda root: root["x"].__setitem__(slice(3, 1), ["p"]), id="set an empty slice"),
        pytest.param(lambda root: root["x"].__delitem__(0), id="delete"),
        pytest.param(lambda root: root["x"].__delitem__(slice(1, None)), id="delete a slice"),
        pytest.param(lambda root: root["x"].pop(), id="pop"),
        pytest.param(lambda root: root["x"].pop(0), id="pop first"),
        pytest.param(lambda root: root["x"].remove(3), id="remove"),
        pytest.param(lambda root: root["x"].reverse(), id="reverse"),
        pytest.param(lambda root: root["x"].clear(), id="clear"),
        pytest.param(lambda root: root["x"].__iadd__([1]) and None, id="iadd"),
    ],
)
def test_lists_are_written_like_lists(write: Callable[[Any], Any]) -> None:
    Played([1, "two", 3, None]).play(write)


def test_lists_are_read_like_lists() -> None:
    document = new_document(OWNED, 1)
    edit(document, x=[1, [2], {"three": 3}])
    items = document.read()["x"]
    assert isinstance(items, ListView)
    assert (len(items), items[0], items[-1], items[1:]) == (3, 1, {"three": 3}, [[2], {"three": 3}])
    assert items == [1, [2], {"three": 3}]
    assert items == document.read()["x"]
    assert items != [1]
    assert 1 in items
    assert list(reversed(items))[-1] == 1
    assert repr(items) == "[1, [2], {'three': 3}]"
    for index in (3, -4):
        with pytest.raises(IndexError):
            items[index]


def test_maps_are_read_like_dicts_and_follow_the_document() -> None:
    document = new_document(OWNED, 1)
    root = document.read()
    assert isinstance(root, MapView)
    assert (dict(root), len(root)) == ({}, 0)
    edit(document, b={"c": 1}, a=2)
    assert list(root) == ["a", "b"]
    assert root == {"a": 2, "b": {"c": 1}}
    assert root["b"] == document.read()["b"]
    assert ("a" in root, "" in root, root.get("z", 7)) == (True, False, 7)
    for key in ("zz", "", 5):
        with pytest.raises(KeyError):
            root[key]  # type: ignore[index]
    with pytest.raises(TypeError):
        hash(root)


def test_texts_are_written_and_read() -> None:
    document = new_document(OWNED, 1)
    edit(document, t=Text("héllo 😀"))
    shown = document.read()["t"]
    assert isinstance(shown, TextView)
    assert (str(shown), len(shown), shown[1], shown[-1], shown[:5]) == ("héllo 😀", 7, "é", "😀", "héllo")
    assert shown == "héllo 😀"
    assert shown == Text("héllo 😀")
    assert "llo" in shown
    with document.change() as root:
        writer = root["t"]
        writer.append("!")
        writer.insert(0, ">")
        writer.insert(99, "<")
        writer.delete(1)
        writer.delete(1, 2)
        writer[0] = "(("
        writer[-1:] = ")"
        del writer[2:4]
    assert str(shown) == "(( 😀!)"
    for index, count in ((0, 99), (-1, 1), (2, -1)):
        with pytest.raises(IndexError), document.change() as root:
            root["t"].delete(index, count)


def test_inside_an_edit_reads_see_what_it_wrote_and_after_an_error_nothing_is_left() -> None:
    document = new_document(OWNED, 1)
    edit(document, a=1, l=[1])
    heads = document.heads
    begun = document.change()

    def fail(root: Any) -> None:
        root["a"] = 2
        root["l"].append(2)
        root["new"] = {"k": []}
        assert root == {"a": 2, "l": [1, 2], "new": {"k": []}}
        raise LookupError

    with pytest.raises(LookupError), begun as root:
        fail(root)
    assert begun.change is None
    assert document.heads == heads
    assert document.read() == {"a": 1, "l": [1]}
    assert edit(document, a=3)


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (math.nan, "finite"),
        (-math.inf, "finite"),
        ("\ud800", "surrogate"),
        (Text("\udfff"), "surrogate"),
        (datetime.datetime(2024, 1, 1), "not datetime"),
        ({1, 2}, "not set"),
        (object(), "not object"),
        (bytearray(b"x"), "not bytearray"),
        (Colour.RED, r"str\(…\)"),
        ({"": 1}, "not empty"),
        ({1: 1}, "a key is a str"),
        ({"k" * (MAX_KEY_BYTES + 1): 1}, "at most"),
        ([[1, 2 + 3j]], "not complex"),
    ],
)
def test_what_a_document_cannot_hold_is_said_and_not_written(value: Any, says: str) -> None:
    document = new_document(OWNED, 1)
    with pytest.raises(UsageError, match=says), document.change() as root:
        root["before"] = 1
        root["a"] = value
    assert document.read() == {}


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda root: root.update(a=_nested(MAX_NESTING + 1)), "deep"),
        (lambda root: root.update(a=Text("x" * MAX_CHANGE_OPS)), "too much for one edit"),
        (lambda root: root.update(a="x" * 300_000), "too much for one edit"),
        (lambda root: root.update(a=b"x" * 300_000), "too much for one edit"),
        (lambda root: root.update(here={"again": 1}), "there already"),
        (lambda root: root["here"].__setitem__(slice(0, 2, 2), [1]), "step"),
    ],
)
def test_what_no_gate_would_take_is_refused_before_it_is_written(write: Callable[[Any], Any], says: str) -> None:
    document = new_document(OWNED, 1)
    edit(document, here=[1, 2])
    with pytest.raises(UsageError, match=says), document.change() as root:
        write(root)
    assert document.read() == {"here": [1, 2]}


def test_an_edit_that_would_not_pass_is_taken_back_and_the_document_goes_on() -> None:
    stored: list[bytes] = []
    document = Document(OWNED, new_document(OWNED, 1).id, new_document(OWNED, 1).actor, lambda: stored)
    first = edit(document, a=1)
    with pytest.raises(UsageError, match="divide it"), document.change() as root:
        root["nothing"] = [None] * 1000  # a thousand things in a hundred bytes
    assert document.read() == {"a": 1}
    second = edit(document, b=2)
    assert new_gate(OWNED, [(first, device(1)), (second, device(1))]).heads == document.heads


def test_declared_containers_are_changed_inside_and_never_replaced() -> None:
    document = new_document(SHARED, 1)
    assert document.read() == {"items": {}, "lines": [], "notes": ""}
    begun = document.change()
    with begun as root:
        root["items"]["milk"] = 2
        root["lines"].append("one")
        root["notes"].append("n")
    assert begun.change is not None
    assert begun.change.touched == ("items", "lines", "notes")
    refused: list[tuple[Callable[[Any], Any], str]] = [
        (lambda root: root.__setitem__("items", {}), "declared by the schema"),
        (lambda root: root.__delitem__("items"), "declared by the schema"),
        (
            lambda root: root.__setitem__("other", 1),
            "not in the schema of this document, which has items, lines, notes",
        ),
    ]
    for write, says in refused:
        with pytest.raises(UsageError, match=says), document.change() as root:
            write(root)
    assert document.read() == {"items": {"milk": 2}, "lines": ["one"], "notes": "n"}


def test_views_and_texts_can_be_written_into_documents() -> None:
    document = new_document(OWNED, 1)
    edit(document, a={"l": [1], "t": Text("abc")})
    with document.change() as root:
        root["b"] = root["a"]
        root["c"] = [root["a"]["l"], root["a"]["t"]]
    assert document.read()["b"] == {"l": [1], "t": "abc"}
    assert document.read()["c"] == [[1], "abc"]
    assert isinstance(document.read()["c"][1], TextView)


def test_after_its_edit_a_writer_writes_no_more() -> None:
    document = new_document(OWNED, 1)
    with document.change() as root:
        root["a"] = [1]
        inner = root["a"]
    with pytest.raises(UsageError, match="has ended"):
        root["b"] = 1
    with pytest.raises(UsageError, match="has ended"):
        inner.append(2)
    assert document.read() == {"a": [1]}
