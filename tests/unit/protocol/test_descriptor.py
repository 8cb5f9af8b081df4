"""Descriptors: one value, one id."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, descriptor_from_value
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.ids import GroupId
from tests.support.protocol_story import FEED, GROUP, LIST, MEMBER

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
schemas = st.dictionaries(names, st.sampled_from(["map", "list", "text"]), min_size=1, max_size=8)
descriptors = st.builds(lambda name: Descriptor(DocumentKind.OWNED, name, MEMBER), names) | st.builds(
    lambda kind, name, schema: Descriptor(kind, name, schema=tuple(sorted(schema.items()))),
    st.sampled_from([DocumentKind.SHARED, DocumentKind.ADMIN]),
    names,
    schemas,
)


@given(descriptors)
def test_a_descriptor_comes_back_from_its_encoding(descriptor: Descriptor) -> None:
    value = decode(encode(descriptor.to_value()))
    assert descriptor_from_value(value) == descriptor
    assert descriptor_from_value(value).document_id(GROUP) == descriptor.document_id(GROUP)


@given(descriptors, descriptors)
def test_different_descriptors_have_different_ids(one: Descriptor, two: Descriptor) -> None:
    assert (one == two) == (one.document_id(GROUP) == two.document_id(GROUP))


def test_a_document_of_another_group_is_another_document() -> None:
    assert LIST.document_id(GROUP) != LIST.document_id(GroupId(b"\x09" * 32))


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        {},
        [],
        [0],
        [False, bytes(MEMBER), "name"],
        [True, "name", {"a": "map"}],
        [3, "name", {"a": "map"}],
        [-1, "name", {"a": "map"}],
        [0, bytes(31), "name"],
        [0, "name", bytes(MEMBER)],
        [0, bytes(MEMBER), ""],
        [0, bytes(MEMBER), "x" * 129],
        [0, bytes(MEMBER), "é" * 65],
        [0, bytes(MEMBER), "name", {}],
        [1, "name", {}],
        [1, "name", {"a": "set"}],
        [1, "name", {"a": 1}],
        [1, "name", {"a": None}],
        [1, "name", {b"a": "map"}],
        [1, "name", {"": "map"}],
        [1, "name", {"k" * 129: "map"}],
        [1, "name", {str(n): "map" for n in range(65)}],
        [1, "name"],
        [1, "", {"a": "map"}],
    ],
)
def test_other_values_are_no_descriptor(value: Any) -> None:
    """Mended: `false` was taken for kind 0, so one run had two short forms."""
    with pytest.raises(MalformedError):
        descriptor_from_value(value)


def test_the_constructor_refuses_what_has_no_one_encoding() -> None:
    """Mended: a lone surrogate raised UnicodeEncodeError; a key given twice, with two types, was dropped silently."""
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.OWNED, "\ud800", MEMBER)
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.SHARED, "name", schema=(("\ud800", "map"),))
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.SHARED, "name", schema=(("a", "list"), ("a", "map")))
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.SHARED, "name", schema=(("b", "list"), ("a", "map")))
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.SHARED, "name", MEMBER, (("a", "map"),))
    with pytest.raises(MalformedError):
        Descriptor(DocumentKind.OWNED, "name")


def test_the_story_uses_both_forms() -> None:
    assert FEED.to_value() == [0, MEMBER, "feed/2023-11"]
    assert LIST.to_value() == [1, "shopping", {"items": "map", "notes": "text"}]
