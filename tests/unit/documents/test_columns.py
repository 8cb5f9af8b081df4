"""Column encodings: what the encoders write is read back, and nothing else is read at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.documents import columns
from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_CHANGE_OPS, MAX_KEY_BYTES

small = st.integers(0, 3) | st.integers(0, 2**40)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(st.none() | small, max_size=40))
def test_uints_are_read_back(values: list[int | None]) -> None:
    data = columns.encode_uints(values)
    if data:
        assert list(columns.decode_uints(data)) == values
    else:
        assert all(value is None for value in values)


@given(st.lists(st.none() | small, max_size=40))
def test_deltas_are_read_back(values: list[int | None]) -> None:
    data = columns.encode_deltas(values)
    if data:
        assert list(columns.decode_deltas(data)) == values


@given(st.lists(st.none() | keys | st.sampled_from(["a", "b"]), max_size=40))
def test_strings_are_read_back(values: list[str | None]) -> None:
    data = columns.encode_strings(values)
    if data:
        assert list(columns.decode_strings(data)) == values


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_booleans_are_read_back(values: list[bool]) -> None:
    assert list(columns.decode_booleans(columns.encode_booleans(values))) == values


@pytest.mark.parametrize(
    ("decode", "encode"),
    [
        (columns.decode_uints, columns.encode_uints),
        (columns.decode_deltas, columns.encode_deltas),
        (columns.decode_strings, columns.encode_strings),
        (columns.decode_booleans, columns.encode_booleans),
    ],
)
@given(data=st.binary(min_size=1, max_size=12))
def test_bytes_that_are_read_are_the_only_encoding_of_what_is_read(
    decode: Callable[[bytes], Any], encode: Callable[[Any], bytes], data: bytes
) -> None:
    try:
        values = decode(data)
    except MalformedError:
        return
    assert encode(values) == data


@given(st.integers(-(2**47), 2**47))
def test_signed_numbers_are_read_back(value: int) -> None:
    data = columns.encode_sint(value)
    assert columns.read_sint(data, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("decode", "data", "why"),
    [
        (columns.decode_uints, b"", "empty"),
        (columns.decode_uints, b"\x00\x02", "all null"),
        (columns.decode_uints, b"\x01\x05", "a run of one"),
        (columns.decode_uints, b"\x02\x05\x02\x05", "two runs of one value"),
        (columns.decode_uints, b"\x02\x05\x7f\x05", "a literal that continues a run"),
        (columns.decode_uints, b"\x7f\x05\x02\x05", "a run that continues a literal"),
        (columns.decode_uints, b"\x7f\x05\x7f\x06", "two literals in a row"),
        (columns.decode_uints, b"\x7e\x05\x05", "a value twice in a literal"),
        (columns.decode_uints, b"\x00\x01\x00\x01\x02\x05", "two runs of nulls in a row"),
        (columns.decode_uints, b"\x00\x00\x02\x05", "an empty run of nulls"),
        (columns.decode_uints, b"\x02\x85\x00", "a number that is not minimal"),
        (columns.decode_uints, b"\x82\x00\x05", "a count that is not minimal"),
        (columns.decode_uints, b"\xfe\x7f\x05\x06", "a negative count that is not minimal"),
        (columns.decode_uints, b"\x02", "a run without a value"),
        (columns.decode_uints, b"\x7e\x05", "a literal cut off"),
        (columns.decode_uints, b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a number over 63 bits"),
        (columns.decode_uints, columns.encode_sint(MAX_CHANGE_OPS + 1) + b"\x05", "more values than allowed"),
        (columns.decode_uints, b"\x00\xff\xff\xff\xff\x0f\x02\x05", "more nulls than allowed"),
        (columns.decode_uints, columns.encode_sint(-(2**40)) + b"\x05", "a literal longer than allowed"),
        (columns.decode_uints, columns.encode_sint(2**55) + b"\x05", "a count over 56 bits"),
        (columns.decode_deltas, b"\x7f\x7f", "a counter below zero"),
        (columns.decode_strings, b"\x7f\x00", "an empty key"),
        (columns.decode_strings, b"\x7f\x02a", "a key cut off"),
        (columns.decode_strings, b"\x7f\x01\xff", "a key that is not UTF-8"),
        (columns.decode_strings, b"\x7f\x03\xed\xa0\x80", "a key with half a surrogate pair"),
        (columns.decode_strings, b"\x7f\x01ab", "bytes behind the last key"),
        (columns.decode_strings, b"\x7f\xe9\x07" + b"k" * (MAX_KEY_BYTES + 1), "a key over its limit"),
        (columns.decode_booleans, b"", "no booleans"),
        (columns.decode_booleans, b"\x00", "a first run of nothing and no other"),
        (columns.decode_booleans, b"\x02\x00\x01", "an empty run"),
        (columns.decode_booleans, b"\x82\x00", "a run that is not minimal"),
        (columns.decode_booleans, b"\xff\xff\x03", "more booleans than allowed"),
    ],
)
def test_refused_columns(decode: Callable[[bytes], Any], data: bytes, why: str) -> None:
    with pytest.raises(MalformedError):
        decode(data)
