"""Attack 41, structure-aware: whole inputs with a part changed, for every parser. Only the named error classes come
out, and each in a moment. The coverage-guided half is tests/fuzz/.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.encoding import decode
from tests.support.parsers import Parser, all_parsers, shared_bomb

PARSERS = {parser.name: parser for parser in all_parsers()}
MOMENT = 1.0  # seconds of this process's time for one input of a few hundred bytes; each takes far less


def make_odd() -> list[Any]:
    """What a part is replaced by, made anew each time: every type, every boundary, what equals another type's value."""
    return [
        True,
        False,
        None,
        0,
        1,
        -1,
        23,
        24,
        2**31,
        2**53,
        2**63 - 1,
        -(2**63),
        2**63,
        2**64,
        -(2**64) - 1,
        1.0,
        float("inf"),
        float("nan"),
        b"",
        b"\0" * 31,
        b"\0" * 32,
        b"\xff" * 33,
        b"\0" * 64,
        "",
        "a",
        "\0",
        "é" * 200,
        [],
        {},
        [[]],
        [None] * 70,
        {"a": 1},
        {b"a": 1},
        cbor2.undefined,
        cbor2.CBORSimpleValue(99),
        cbor2.CBORTag(28, [1]),
        cbor2.CBORTag(29, 0),
        cbor2.CBORTag(35, "(a+)+$"),
        cbor2.CBORTag(4, [2**62, 1]),
        cbor2.CBORTag(5, [2**30, 1]),
    ]


odd_values = st.integers(0, len(make_odd()) - 1).map(lambda place: make_odd()[place]) | st.binary(max_size=40)


def parts_of(value: Any) -> list[Any]:
    """Every container in a value, the value itself included."""
    inner = list(value) if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    return ([value] if inner else []) + [part for item in inner for part in parts_of(item)]


def change_part(value: Any, data: st.DataObject) -> Any:
    """Replace, drop, repeat, swap or nest one item somewhere inside."""
    parts = parts_of(value)
    if not parts:
        return data.draw(odd_values)
    part = data.draw(st.sampled_from(parts))
    if isinstance(part, dict):
        part[data.draw(st.sampled_from([*part, "", b"k", "z" * 200]))] = data.draw(odd_values)
        return value
    place = data.draw(st.integers(0, len(part) - 1))
    match data.draw(st.sampled_from(["replace", "drop", "repeat", "swap", "nest", "insert"])):
        case "replace":
            part[place] = data.draw(odd_values)
        case "drop":
            del part[place]
        case "repeat":
            part[place:place] = [part[place]] * data.draw(st.sampled_from([1, 2, 40]))
        case "swap":
            other = data.draw(st.integers(0, len(part) - 1))
            part[place], part[other] = part[other], part[place]
        case "nest":
            part[place] = [part[place]]
        case "insert":
            part.insert(place, data.draw(odd_values))
    return value


def change_bytes(raw: bytes, data: st.DataObject) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    at = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(at, min(len(raw), at + 8)))
    return raw[:at] + data.draw(st.binary(max_size=8)) + raw[end:]


def require_named(parser: Parser, raw: bytes, moment: float = MOMENT) -> None:
    """The parser takes the input or refuses it by an error that it names, in a moment. Others come out."""
    begin = time.process_time()
    with contextlib.suppress(*parser.allowed):
        parser.read(raw)
    assert time.process_time() - begin < moment, parser.name


@pytest.mark.parametrize("name", PARSERS)
def test_attack_41_every_input_to_begin_from_is_met_by_its_parser(name: str) -> None:
    for raw in PARSERS[name].inputs:
        require_named(PARSERS[name], raw)


@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if parser.is_cbor])
@settings(max_examples=150)
@given(data=st.data())
def test_attack_41_values_with_changed_parts_are_refused_by_name(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    value = decode(data.draw(st.sampled_from(parser.inputs)))
    for _ in range(data.draw(st.integers(1, 3))):
        value = change_part(value, data)
    try:
        raw = cbor2.dumps(value, canonical=True)
    except cbor2.CBORError:
        return
    require_named(parser, raw)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150)
@given(data=st.data())
def test_attack_41_inputs_with_changed_bytes_are_refused_by_name(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    raw = data.draw(st.sampled_from(parser.inputs))
    for _ in range(data.draw(st.integers(1, 4))):
        raw = change_bytes(raw, data)
    require_named(parser, raw)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60)
@given(raw=st.binary(max_size=400))
def test_attack_41_any_bytes_are_refused_by_name(name: str, raw: bytes) -> None:
    require_named(PARSERS[name], raw)


def test_attack_41_weakened_a_parser_that_lets_a_foreign_exception_out_is_seen() -> None:
    def careless(raw: bytes) -> object:
        return {1: "one"}[encoding.decode(raw)]

    parser = Parser("careless", careless, (b"\x01",), (MalformedError,))
    require_named(parser, b"\x01")
    with pytest.raises(KeyError):
        require_named(parser, b"\x02")


def test_attack_42_weakened_a_decoder_that_takes_tags_is_seen_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the decoders that cbor2 has for tags, each 24 bytes more take eight times as long."""
    parser, bomb = Parser("decode", decode, (), (MalformedError,)), shared_bomb(levels=6, width=8)
    assert len(bomb) < 150
    require_named(parser, bomb, moment=0.02)
    monkeypatch.setattr(encoding, "_NO_TAGS", {})
    with pytest.raises(AssertionError):
        require_named(parser, bomb, moment=0.02)


def test_attack_42_the_same_bytes_are_refused_in_a_moment_by_every_parser() -> None:
    for parser in PARSERS.values():
        require_named(parser, shared_bomb(levels=15, width=8))
