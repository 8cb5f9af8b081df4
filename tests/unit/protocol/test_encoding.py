"""Deterministic CBOR: what goes out is what comes in, and nothing else comes in."""

from __future__ import annotations

import io
import time
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol.constants import CBOR_MAX_DEPTH
from cocoon_core.protocol.encoding import decode, encode
from tests.support.parsers import shared_bomb

integers = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.none() | st.booleans() | integers | st.binary() | text
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | st.binary(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    raw = encode(value)
    assert decode(raw) == value
    assert encode(decode(raw)) == raw


@given(st.binary(max_size=64))
@example(b"\xd8\x1c\x80")
@example(b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01")
def test_any_bytes_are_a_value_in_its_one_form_or_malformed(raw: bytes) -> None:
    try:
        value = decode(raw)
    except MalformedError:
        return
    assert encode(value) == raw


@given(values, st.data())
def test_a_changed_byte_never_decodes_to_the_same_value(value: Any, data: st.DataObject) -> None:
    raw = encode(value)
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:place] + bytes((raw[place] ^ data.draw(st.integers(1, 255)),)) + raw[place + 1 :]
    try:
        other = decode(changed)
    except MalformedError:
        return
    assert encode(other) != raw


@given(values, st.binary(min_size=1, max_size=4))
def test_nothing_follows_the_value(value: Any, rest: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(encode(value) + rest)


@given(values)
def test_a_value_cut_off_is_malformed(value: Any) -> None:
    raw = encode(value)
    for end in range(len(raw)):
        with pytest.raises(MalformedError):
            decode(raw[:end])


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        float("nan"),
        2**63,
        -(2**63) - 1,
        {1: 2},
        {None: 2},
        {1, 2},
        object(),
        "\ud800",
        bytearray(b"x"),
        [[1.5]],
        {"a": {"b": 1.5}},
        cbor2.undefined,
        cbor2.CBORTag(28, []),
    ],
)
def test_what_could_not_be_read_again_is_not_encoded(value: Any) -> None:
    with pytest.raises(UsageError):
        encode(value)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_counted_alike_in_both_directions() -> None:
    assert decode(encode(nested(CBOR_MAX_DEPTH))) == nested(CBOR_MAX_DEPTH)
    with pytest.raises(UsageError):
        encode(nested(CBOR_MAX_DEPTH + 1))
    with pytest.raises(MalformedError):
        decode(cbor2.dumps(nested(CBOR_MAX_DEPTH + 1)))


def test_a_million_arrays_in_one_another_are_refused_at_the_sixteenth() -> None:
    with pytest.raises(MalformedError):
        decode(b"\x81" * 1_000_000 + b"\x00")


def test_over_the_limit_of_bytes_nothing_is_read() -> None:
    with pytest.raises(MalformedError):
        decode(encode(bytes(100)), max_bytes=100)
    assert decode(encode(bytes(98)), max_bytes=100) == bytes(98)


def test_shared_references_do_not_expand() -> None:
    """Mended: cbor2 decodes tags by default, and re-encoding what was shared took time exponential in the input."""
    bomb = shared_bomb(levels=15, width=8)
    assert len(bomb) < 600
    begin = time.process_time()
    with pytest.raises(MalformedError):
        decode(bomb)
    assert time.process_time() - begin < 1


def test_the_bomb_is_one_for_a_decoder_that_takes_tags() -> None:
    small = shared_bomb(levels=5, width=8)
    value = cbor2.load(io.BytesIO(small))
    assert len(cbor2.dumps(value)) > 8**5, "or the test above shows nothing"


@pytest.mark.parametrize("tag", [*range(6), 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799])
def test_no_tag_is_decoded_whatever_it_holds(tag: int) -> None:
    for content in (0, "1970-01-01", b"\x01", [1, 2], "."):
        with pytest.raises(MalformedError):
            decode(cbor2.dumps(cbor2.CBORTag(tag, content)))
