"""The header of an automerge change: apart and together again, to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.change import join_change, read_deps, read_leb128, read_seq, split_change
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS
from cocoon_core.protocol.ids import ActorId
from cocoon_core.protocol.primitives import sha256
from tests.support.protocol_story import TAILS

ACTOR = ActorId(b"\x0a" * 16)
hashes = st.binary(min_size=32, max_size=32)


@given(st.lists(hashes, max_size=MAX_CHANGE_DEPS), st.binary(min_size=1, max_size=300))
def test_what_is_joined_splits_into_the_same(deps: list[bytes], tail: bytes) -> None:
    change = join_change(deps, ACTOR, tail)
    assert split_change(change.raw) == (deps, ACTOR, tail)
    assert read_deps(change.raw) == deps
    assert change.hash == sha256(change.raw[8:])
    assert change.raw[4:8] == change.hash[:4]


@given(st.lists(hashes, max_size=3), st.binary(min_size=1, max_size=60), st.data())
def test_no_other_bytes_split_into_the_same(deps: list[bytes], tail: bytes, data: st.DataObject) -> None:
    raw = join_change(deps, ACTOR, tail).raw
    place = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(MalformedError):
        split_change(raw[:place] + bytes((raw[place] ^ data.draw(st.integers(1, 255)),)) + raw[place + 1 :])
    for end in range(len(raw)):
        with pytest.raises(MalformedError):
            split_change(raw[:end])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_change_in_its_one_form_or_malformed(body: bytes) -> None:
    chunk = b"\x01" + bytes((len(body),)) + body
    raw = b"\x85\x6f\x4a\x83" + sha256(chunk)[:4] + chunk
    try:
        deps, actor, tail = split_change(raw)
    except MalformedError:
        return
    assert join_change(deps, ActorId(actor), tail).raw == raw


def test_a_change_over_the_limits_is_refused() -> None:
    join_limit = MAX_CHANGE_BYTES - 18
    assert split_change(join_change([], ACTOR, bytes(join_limit)).raw)[2] == bytes(join_limit)
    with pytest.raises(MalformedError):
        split_change(join_change([], ACTOR, bytes(join_limit + 1)).raw)
    with pytest.raises(MalformedError):
        split_change(join_change([bytes(32)] * (MAX_CHANGE_DEPS + 1), ACTOR, b"\1").raw)


@pytest.mark.parametrize("other", [0, 2, 3])
def test_only_uncompressed_changes_are_taken(other: int) -> None:
    chunk = bytes((other,)) + join_change([], ACTOR, b"\1").raw[9:]
    with pytest.raises(MalformedError):
        split_change(b"\x85\x6f\x4a\x83" + sha256(chunk)[:4] + chunk)


def test_changes_of_automerge_have_a_readable_seq() -> None:
    assert [read_seq(tail) for tail in TAILS] == [1, 2, 3]


@pytest.mark.parametrize(
    ("raw", "value"),
    [("00", 0), ("7f", 127), ("8001", 128), ("ff7f", 16383), ("ffffffffffffffff7f", 2**63 - 1)],
)
def test_leb128_has_one_form(raw: str, value: int) -> None:
    assert read_leb128(bytes.fromhex(raw), 0) == (value, len(raw) // 2)


@pytest.mark.parametrize(
    "raw", ["", "80", "8000", "ff8000", "ffffffffffffffffff", "80" * 9 + "01", "ffffffffffffffffff01"]
)
def test_other_leb128_is_malformed(raw: str) -> None:
    with pytest.raises(MalformedError):
        read_leb128(bytes.fromhex(raw), 0)
    assert read_seq(bytes.fromhex(raw)) is None
