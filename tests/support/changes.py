"""Take raw changes apart and put them together again with a valid checksum, changed in ways that keep their structure.

Unlike the gate's own parser this one is as loose as it can be: it makes what an attacker could send.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from cocoon_core.documents.change import (
    ACTION,
    COLUMNS,
    INSERT,
    KEY_ACTOR,
    KEY_COUNTER,
    KEY_STRING,
    OBJ_ACTOR,
    OBJ_COUNTER,
    PRED_ACTOR,
    PRED_COUNT,
    PRED_COUNTER,
    VALUE_META,
    VALUE_RAW,
    parse_change,
)
from cocoon_core.documents.columns import (
    encode_booleans,
    encode_deltas,
    encode_sint,
    encode_strings,
    encode_uint,
    encode_uints,
)
from cocoon_core.documents.schema import frame_change

Column = list[Any]
_ROWS = (OBJ_ACTOR, OBJ_COUNTER, KEY_ACTOR, KEY_COUNTER, KEY_STRING, INSERT, ACTION, VALUE_META, PRED_COUNT)
_PREDS = (PRED_ACTOR, PRED_COUNTER)


@dataclass
class Parts:
    """A change in pieces. `overrides` are columns given as bytes; `order` is the order in which columns are written."""

    deps: list[bytes]
    actor: bytes
    seq: int
    start_op: int
    others: list[bytes]
    columns: dict[int, Column]
    values: bytes
    time: int = 0
    message: bytes = b""
    extra: bytes = b""
    overrides: dict[int, bytes] = field(default_factory=dict)
    order: tuple[int, ...] = COLUMNS


def take_apart(raw: bytes) -> Parts:
    parsed = parse_change(raw)
    shape = parsed.shape
    rows: dict[int, Any] = {
        OBJ_ACTOR: shape.obj_actors,
        OBJ_COUNTER: parsed.obj_counters,
        KEY_ACTOR: shape.key_actors,
        KEY_COUNTER: parsed.key_counters,
        KEY_STRING: parsed.key_strings,
        INSERT: shape.inserts,
        ACTION: shape.actions,
        VALUE_META: parsed.metas,
        PRED_COUNT: shape.pred_counts,
    }
    columns: dict[int, Column] = {
        name: list(row if row is not None else [None] * shape.ops) for name, row in rows.items()
    }
    columns[PRED_ACTOR] = list(shape.pred_actors or ())
    columns[PRED_COUNTER] = list(parsed.pred_counters or ())
    return Parts(
        list(parsed.deps), parsed.actor, parsed.seq, parsed.start_op, list(parsed.actors[1:]), columns, parsed.values
    )


def encode_column(name: int, column: Column) -> bytes:
    if name == KEY_STRING:
        return encode_strings(column)
    if name in (KEY_COUNTER, PRED_COUNTER):
        return encode_deltas(column)
    return encode_booleans([bool(value) for value in column]) if name == INSERT else encode_uints(column)


def put_together(parts: Parts) -> bytes:
    """The raw change, whether or not it makes sense."""
    encoded = {name: encode_column(name, column) for name, column in parts.columns.items()}
    encoded[VALUE_RAW] = parts.values
    encoded.update(parts.overrides)
    written = [(name, encoded[name]) for name in parts.order if encoded.get(name)]
    return frame_change(
        b"".join(
            (
                encode_uint(len(parts.deps)), *parts.deps,
                encode_uint(len(parts.actor)), parts.actor,
                encode_uint(parts.seq), encode_uint(parts.start_op), encode_sint(parts.time),
                encode_uint(len(parts.message)), parts.message,
                encode_uint(len(parts.others)), *(encode_uint(len(other)) + other for other in parts.others),
                encode_uint(len(written)), *(encode_uint(name) + encode_uint(len(data)) for name, data in written),
                *(data for _, data in written),
                parts.extra,
            )
        )
    )  # fmt: skip


def mutate(raw: bytes, known: list[bytes], actors: list[bytes], rng: random.Random) -> bytes:
    """One change made into another, with a valid checksum. `known` are hashes that a dependency could name."""
    parts = take_apart(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.choice(_KINDS)
        parts = kind(parts, known, actors, rng)
    try:
        made = put_together(parts)
    except (ValueError, IndexError, AttributeError, TypeError, OverflowError):
        return raw
    if rng.random() < 0.15:
        body = bytearray(made[12 if made[9] > 0x7F else 10 :])
        if body:
            place = rng.randrange(len(body))
            body[place] ^= 1 << rng.randrange(8)
            return frame_change(bytes(body))
    return made


def _number_near(value: int | None, rng: random.Random) -> int | None:
    base = value or 0
    return rng.choice((None, base + 1, max(0, base - 1), 0, 1, 2, rng.randrange(40), 2**31 - 1, 2**32, base * 2, base))


def _change_value(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    name = rng.choice((*_ROWS, *_PREDS))
    column = list(parts.columns[name])
    if not column:
        return parts
    place = rng.randrange(len(column))
    if name == INSERT:
        column[place] = not column[place]
    elif name == KEY_STRING:
        column[place] = rng.choice((None, "a", "b", "m", column[rng.randrange(len(column))]))
    elif name == ACTION:
        column[place] = rng.randrange(8)
    elif name == VALUE_META:
        size = (column[place] or 0) >> 4
        column[place] = rng.choice(((size << 4) | rng.randrange(12), _number_near(column[place], rng)))
    elif rng.random() < 0.3:
        column[place] = column[rng.randrange(len(column))]
    else:
        column[place] = _number_near(column[place], rng)
    return replace(parts, columns={**parts.columns, name: column})


def _change_reference(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    """Point an operation at another container, element or predecessor that plausibly exists."""
    counters, numbers = rng.choice(((OBJ_COUNTER, OBJ_ACTOR), (KEY_COUNTER, KEY_ACTOR), (PRED_COUNTER, PRED_ACTOR)))
    first, second = list(parts.columns[counters]), list(parts.columns[numbers])
    if not first or len(first) != len(second):
        return parts
    place = rng.randrange(len(first))
    first[place] = rng.randrange(1, parts.start_op + len(parts.columns[ACTION]) + 1)
    second[place] = rng.randrange(len(parts.others) + 1)
    return replace(parts, columns={**parts.columns, counters: first, numbers: second})


def _add_predecessor(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    columns = {name: list(column) for name, column in parts.columns.items()}
    if not columns[PRED_COUNT]:
        return parts
    place = rng.randrange(len(columns[PRED_COUNT]))
    at = sum(count or 0 for count in columns[PRED_COUNT][:place])
    columns[PRED_COUNT][place] = (columns[PRED_COUNT][place] or 0) + 1
    columns[PRED_ACTOR].insert(at, rng.randrange(len(parts.others) + 1))
    columns[PRED_COUNTER].insert(at, rng.randrange(1, parts.start_op + 2))
    return replace(parts, columns=columns)


def _drop_predecessor(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    columns = {name: list(column) for name, column in parts.columns.items()}
    places = [place for place, count in enumerate(columns[PRED_COUNT]) if count]
    if not places:
        return parts
    place = rng.choice(places)
    at = sum(count or 0 for count in columns[PRED_COUNT][:place])
    columns[PRED_COUNT][place] -= 1
    if at < len(columns[PRED_ACTOR]):
        del columns[PRED_ACTOR][at], columns[PRED_COUNTER][at]
    return replace(parts, columns=columns)


def _repeat_row(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    columns = {name: list(column) for name, column in parts.columns.items()}
    rows = len(columns[ACTION])
    if not rows:
        return parts
    source, target = rng.randrange(rows), rng.randrange(rows + 1)
    for name in _ROWS:
        columns[name].insert(target, columns[name][source] if len(columns[name]) == rows else None)
    if columns[VALUE_META][target] and columns[PRED_COUNT][target] == 0:
        columns[VALUE_META][target] = 0
    return replace(parts, columns=columns)


def _drop_row(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    columns = {name: list(column) for name, column in parts.columns.items()}
    rows = len(columns[ACTION])
    if rows < 2:
        return parts
    place = rng.randrange(rows)
    for name in _ROWS:
        if len(columns[name]) == rows:
            del columns[name][place]
    return replace(parts, columns=columns)


def _swap_rows(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    columns = {name: list(column) for name, column in parts.columns.items()}
    rows = len(columns[ACTION])
    if rows < 2:
        return parts
    first, second = rng.randrange(rows), rng.randrange(rows)
    for name in _ROWS:
        column = columns[name]
        if len(column) == rows:
            column[first], column[second] = column[second], column[first]
    return replace(parts, columns=columns)


def _change_header(parts: Parts, known: list[bytes], actors: list[bytes], rng: random.Random) -> Parts:
    match rng.randrange(11):
        case 0:
            return replace(parts, seq=max(0, parts.seq + rng.choice((-1, 1, 2, 2**31, 2**62))))
        case 1:
            return replace(
                parts, start_op=rng.choice((0, 1, parts.start_op + 1, max(0, parts.start_op - 1), 2**32 - 2))
            )
        case 2:
            return replace(parts, time=rng.choice((-1, 1, 1_700_000_000, 2**40)))
        case 3:
            return replace(parts, message=b"hello")
        case 4:
            return replace(parts, extra=rng.randbytes(rng.randrange(1, 5)))
        case 5:
            return replace(parts, deps=sorted({*parts.deps, rng.choice(known)}) if known else [])
        case 6:
            return replace(parts, deps=parts.deps[1:])
        case 7:
            return replace(parts, deps=sorted({rng.choice(known) for _ in range(2)}) if known else [])
        case 8:
            return replace(parts, deps=[*parts.deps, *parts.deps])
        case 9:
            return replace(parts, actor=rng.choice(actors))
        case _:
            return replace(
                parts, others=rng.choice(([], parts.others[1:], sorted({*parts.others, rng.choice(actors)})))
            )


def _change_bytes(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    name = rng.choice(COLUMNS)
    data = bytearray(parts.values if name == VALUE_RAW else encode_column(name, parts.columns[name]))
    match rng.randrange(4):
        case 0 if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        case 1:
            data += rng.randbytes(rng.randrange(1, 4))
        case 2:
            data = data[: rng.randrange(len(data) + 1)]
        case _:
            data = bytearray(
                rng.choice((b"\x7f\x00", b"\x00\x01", b"\xff\xff\x7f\x00", b"\x80\x80\x04\x01", bytes(data * 2)))
            )
    return replace(parts, overrides={**parts.overrides, name: bytes(data)})


def _change_columns(parts: Parts, _: list[bytes], __: list[bytes], rng: random.Random) -> Parts:
    match rng.randrange(3):
        case 0:
            name = rng.choice((0x21, 0x23, 0x94, 0xA5, 0x80, 0x03, 0x58))
            order = tuple(sorted({*parts.order, name}))
            return replace(parts, order=order, overrides={**parts.overrides, name: b"\x7f\x00"})
        case 1:
            return replace(parts, order=tuple(name for name in parts.order if name != rng.choice(COLUMNS)))
        case _:
            name = rng.choice(COLUMNS)
            return replace(parts, order=tuple(sorted((*parts.order, name))))


_KINDS = (
    _change_value, _change_value, _change_value, _change_reference, _change_reference, _add_predecessor,
    _drop_predecessor, _repeat_row, _drop_row, _swap_rows, _change_header, _change_bytes, _change_columns,
)  # fmt: skip
