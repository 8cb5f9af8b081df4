"""Read one raw change: header, columns and values, in the one form that automerge writes them and we ever do.

`parse_change` looks at the bytes alone. Whether the change may stand where it says it does is the gate's decision.
Implements specs/documents.md §2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Final, NamedTuple, NoReturn, TypeVar, cast

from cocoon_core.documents.columns import (
    Values,
    decode_booleans,
    decode_deltas,
    decode_strings,
    decode_uints,
    encode_uints,
    read_uint,
)
from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import (
    FREE_CHANGE_OPS,
    MAX_CHANGE_BYTES,
    MAX_CHANGE_DEPS,
    MAX_CHANGE_PREDS,
    MAX_OP_COUNTER,
)

MAGIC: Final = b"\x85\x6f\x4a\x83"
CHUNK_CHANGE: Final = 1
ACTOR_BYTES: Final = 16

# actions
MAKE_MAP: Final = 0
PUT: Final = 1
MAKE_LIST: Final = 2
DELETE: Final = 3
MAKE_TEXT: Final = 4

# columns
OBJ_ACTOR: Final = 0x01
OBJ_COUNTER: Final = 0x02
KEY_ACTOR: Final = 0x11
KEY_COUNTER: Final = 0x13
KEY_STRING: Final = 0x15
INSERT: Final = 0x34
ACTION: Final = 0x42
VALUE_META: Final = 0x56
VALUE_RAW: Final = 0x57
PRED_COUNT: Final = 0x70
PRED_ACTOR: Final = 0x71
PRED_COUNTER: Final = 0x73
COLUMNS: Final = (
    OBJ_ACTOR, OBJ_COUNTER, KEY_ACTOR, KEY_COUNTER, KEY_STRING, INSERT,
    ACTION, VALUE_META, VALUE_RAW, PRED_COUNT, PRED_ACTOR, PRED_COUNTER,
)  # fmt: skip

# types of values: the low four bits of the meta number, whose rest is the length
NULL: Final = 0
FALSE: Final = 1
TRUE: Final = 2
INT: Final = 4
FLOAT: Final = 5
STRING: Final = 6
BYTES: Final = 7

_SINT: Final = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")
_REMEMBERED: Final = 4096  # layouts, shapes, forms and rows of keys, of each
_SMALL_OPS: Final = 64  # of changes with more operations nothing is remembered,
_SMALL_FORM: Final = 128  # nor of those with more bytes of what could be
_K = TypeVar("_K")
_V = TypeVar("_V")
_HEAD_MIN: Final = 9 + 1 + 1 + 1 + ACTOR_BYTES


class Shape(NamedTuple):
    """What most changes have in common: the columns that do not depend on where a change stands, and what follows.

    Attributes:
        own: where the change makes one new map at the root, puts values into some map of its own author and does no
            more, how the column begins that says that it is the new one; its first operation follows. Else empty.
    """

    actions: Values
    inserts: tuple[bool, ...]
    obj_actors: Values | None
    key_actors: Values | None
    pred_counts: Values
    pred_actors: Values | None
    ops: int
    made: int  # operations that are not deletions
    preds: int
    actors: int  # actors that the columns name, the change's own always among them
    own: bytes


class Plan(NamedTuple):
    """Where the values of a change lie, and their types.

    Attributes:
        metas: of every operation.
        total: bytes of all values.
        strings: the places of those that are UTF-8.
        checks: (type, place, end) of those whose bytes are to be checked further.
        fields: (type, place, end) of every operation's but the first's.
    """

    metas: Values
    total: int
    strings: tuple[tuple[int, int], ...]
    checks: tuple[tuple[int, int, int], ...]
    fields: tuple[tuple[int, int, int], ...]


class ParsedChange(NamedTuple):
    """One well-formed change, column by column; a column of None stands for nulls alone.

    Actor numbers index `actors`, whose first is the change's own. Operation i has the id (start_op + i, actor 0).

    Attributes:
        record_key: the root key where the change is a *record*: it makes one new map under this key, puts values under
            keys of the map, each once, and does nothing else. Most changes are, so little is kept of each.
        names: the keys in the map of a record.
    """

    raw: bytes
    hash: bytes
    deps: tuple[bytes, ...]
    actors: tuple[bytes, ...]
    seq: int
    start_op: int
    shape: Shape
    plan: Plan
    values: bytes
    record_key: str | None
    names: tuple[str, ...]
    said_obj_counters: Values | None
    key_counters: Values | None
    said_key_strings: Sequence[str | None] | None
    pred_counters: Values | None

    @property
    def obj_counters(self) -> Values | None:
        if self.record_key is None:
            return self.said_obj_counters
        return (None,) + (self.start_op,) * len(self.names)

    @property
    def key_strings(self) -> Sequence[str | None] | None:
        return self.said_key_strings if self.record_key is None else (self.record_key, *self.names)

    @property
    def actor(self) -> bytes:
        return self.actors[0]

    @property
    def metas(self) -> Values:
        return self.plan.metas

    @property
    def max_op(self) -> int:
        return self.start_op + self.shape.ops - 1


def _malformed(what: str) -> NoReturn:
    raise MalformedError(f"a change {what}")


def parse_change(raw: bytes, digest: bytes | None = None) -> ParsedChange:  # noqa: PLR0915  one pass, for speed
    """Read a whole raw change.

    Args:
        digest: its hash, where the caller made that of these very bytes.

    Raises:
        MalformedError: another chunk type, a wrong checksum, trailing bytes, a limit passed, a time, message or extra
            bytes, a column, action or value type that Cocoon does not write, or any encoding but the only one.
    """
    try:
        total = len(raw)
        if not _HEAD_MIN < total <= MAX_CHANGE_BYTES:
            _malformed(f"of {total} bytes is too short or too long")
        if raw[:4] != MAGIC or raw[8] != CHUNK_CHANGE:
            _malformed("is not an uncompressed change chunk")
        size, at = read_uint(raw, 9)
        if at + size != total:
            _malformed("does not fill its bytes")
        if digest is None:
            digest = sha256(raw[8:]).digest()
        if digest[:4] != raw[4:8]:
            _malformed("has a wrong checksum")

        deps: tuple[bytes, ...]
        if raw[at] == 1:
            deps = (raw[at + 1 : at + 33],)
            at += 33
        else:
            deps, at = _read_dependencies(raw, at)
        if raw[at] != ACTOR_BYTES:
            _malformed("has an actor that is not 16 bytes")
        actor = raw[at + 1 : at + 17]
        actors = _alone.get(actor) or _remember(_alone, actor, (actor,))
        seq, start_at = raw[at + 17], at + 18
        if seq >= 0x80:
            seq, start_at = read_uint(raw, at + 17)
        start_op, at = read_uint(raw, start_at)
        start_bytes = raw[start_at:at]
        if raw[at] or raw[at + 1]:
            _malformed("has a time or a message")
        at += 2
        if raw[at]:
            actors, at = _read_others(raw, at, actor)
        else:
            at += 1

        count = raw[at]
        table = raw[at : at + 1 + 2 * count]
        layout = _layouts.get(table)
        if layout is None:
            layout = _read_layout(raw, at)
            table = raw[at : at + layout[0]]
        size, _, o1, o2, o3, o4, o5, _, _, o8, o9, _, o11, o12 = layout
        at += size
        if at + o12 != total:
            _malformed("has columns that do not fill it, or extra bytes")
        key = (table, raw[at : at + o1], raw[at + o2 : at + o3], raw[at + o5 : at + o8], raw[at + o9 : at + o11])
        form = _forms.get(key)
        if form is None:
            form = _read_form(raw, at, layout, key)
        shape, plan = form
        ops = shape.ops
        record = None
        if shape.own and raw[at + o1 : at + o2] == shape.own + start_bytes and o3 == o4 != o5:
            record = _read_keys(raw[at + o4 : at + o5], ops)
        if record is not None:
            record_key, names = record
            obj_counters = key_counters = key_strings = pred_counters = None
        else:
            record_key, names = None, ()
            obj_counters = decode_uints(raw[at + o1 : at + o2]) if o1 != o2 else None
            key_counters = decode_deltas(raw[at + o3 : at + o4]) if o3 != o4 else None
            key_strings = decode_strings(raw[at + o4 : at + o5]) if o4 != o5 else None
            pred_counters = decode_deltas(raw[at + o11 : total], MAX_CHANGE_PREDS) if o11 != o12 else None
            if any(
                column is not None and len(column) != ops for column in (obj_counters, key_counters, key_strings)
            ) or shape.preds != (0 if pred_counters is None else len(pred_counters)):
                _malformed("has columns of different lengths")
        if shape.actors != len(actors) or (record is not None and o11 != o12):
            _malformed("has actors or predecessors that do not fit its columns")
        if seq < 1 or start_op < 1 or start_op + ops - 1 > MAX_OP_COUNTER:
            _malformed("has a counter that is zero or over the limit")
        if shape.made > FREE_CHANGE_OPS + total:
            _malformed(f"of {total} bytes makes {shape.made} things, more than one a byte")
        values = raw[at + o8 : at + o9]
        if plan.total != len(values):
            _malformed("has more or fewer bytes than values")
        for kind, start, end in plan.checks:
            _check_value(kind, values, start, end)
        if plan.strings and not values.isascii():
            for start, end in plan.strings:
                _check_text(values, start, end)
        return tuple.__new__(
            ParsedChange,
            (
                raw, digest, deps, actors, seq, start_op, shape, plan, values, record_key, names,
                obj_counters, key_counters, key_strings, pred_counters,
            ),
        )  # fmt: skip
    except IndexError:
        raise MalformedError("a change ends within its header") from None


# --- header


def _read_dependencies(raw: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    count, at = read_uint(raw, at)
    if count > MAX_CHANGE_DEPS:
        _malformed(f"names {count} dependencies, over {MAX_CHANGE_DEPS}")
    end = at + 32 * count
    deps = tuple([raw[place : place + 32] for place in range(at, end, 32)])
    if any(deps[i - 1] >= deps[i] for i in range(1, count)):
        _malformed("names dependencies out of order")
    return deps, end


def _read_others(raw: bytes, at: int, actor: bytes) -> tuple[tuple[bytes, ...], int]:
    count, at = read_uint(raw, at)
    if count > (len(raw) - at) // (ACTOR_BYTES + 1):
        _malformed("is shorter than its actors")
    actors = [actor]
    last = b""
    for _ in range(count):
        if raw[at] != ACTOR_BYTES:
            _malformed("names an actor that is not 16 bytes")
        other = raw[at + 1 : at + 17]
        if other <= last or other == actor:
            _malformed("names actors out of order")
        actors.append(other)
        last = other
        at += 17
    return tuple(actors), at


# --- layout, form and keys: what repeats from change to change is decoded once

_Layout = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int]
_FormKey = tuple[bytes, bytes, bytes, bytes, bytes]  # the table of columns, and the columns of shape and types
_layouts: dict[bytes, _Layout] = {}
_forms: dict[_FormKey, tuple[Shape, Plan]] = {}
_shapes: dict[tuple[bytes, ...], Shape] = {}
_names: dict[tuple[int, bytes], tuple[str, ...]] = {}
_alone: dict[bytes, tuple[bytes, ...]] = {}  # an actor, as all that a change names


def _remember(cache: dict[_K, _V], key: _K, value: _V) -> _V:
    if len(cache) >= _REMEMBERED:
        cache.clear()
    cache[key] = value
    return value


def _read_layout(raw: bytes, at: int) -> _Layout:
    """The size of the table of columns at `at`, then where each of the twelve columns begins behind it, and the end."""
    count, place = read_uint(raw, at)
    known = _layouts.get(raw[at : at + 2 + 2 * count])  # one column of over 127 bytes
    if known is not None:
        return known
    if count > len(COLUMNS):
        _malformed(f"has {count} columns")
    sizes = dict.fromkeys(COLUMNS, 0)
    last = 0
    for _ in range(count):
        column = raw[place]
        size, place = read_uint(raw, place + 1)
        if column <= last or not size or column not in sizes:
            _malformed(f"has a column {column:#04x} that is unknown, empty, doubled or out of order")
        last = column
        sizes[column] = size
    if not (sizes[INSERT] and sizes[ACTION] and sizes[VALUE_META] and sizes[PRED_COUNT]):
        _malformed("lacks a column")
    layout = cast(_Layout, (place - at, *accumulate(sizes.values(), initial=0)))
    _remember(_layouts, raw[at:place], layout)
    return layout


def _read_form(raw: bytes, at: int, layout: _Layout, key: _FormKey) -> tuple[Shape, Plan]:
    """The shape of a change whose columns begin at `at`, and where its values lie."""
    _, _, o1, o2, o3, _, o5, o6, o7, o8, o9, o10, o11, _ = layout
    columns = (
        raw[at : at + o1], raw[at + o2 : at + o3], raw[at + o5 : at + o6], raw[at + o6 : at + o7],
        raw[at + o9 : at + o10], raw[at + o10 : at + o11],
    )  # fmt: skip
    shape = _shapes.get(columns)
    if shape is None:
        shape = _read_shape(columns)
    form = shape, _read_plan(shape.actions, raw[at + o7 : at + o8])
    if shape.ops <= _SMALL_OPS and shape.preds <= _SMALL_OPS and sum(map(len, key)) <= _SMALL_FORM:
        _remember(_forms, key, form)
    return form


def _read_shape(key: tuple[bytes, bytes, bytes, bytes, bytes, bytes]) -> Shape:
    obj_actors = decode_uints(key[0]) if key[0] else None
    key_actors = decode_uints(key[1]) if key[1] else None
    inserts = decode_booleans(key[2])
    actions = decode_uints(key[3])
    pred_counts = decode_uints(key[4])
    pred_actors = decode_uints(key[5], MAX_CHANGE_PREDS) if key[5] else None
    ops = len(actions)
    if any(
        column is not None and len(column) != ops for column in (obj_actors, key_actors, inserts, pred_counts)
    ) or any(action is None or action > MAKE_TEXT for action in actions):
        _malformed("has columns of different lengths, or an unknown action")
    preds = -1 if None in pred_counts else sum(cast(Sequence[int], pred_counts))
    if preds != len(pred_actors or ()) or (pred_actors and None in pred_actors):
        _malformed("has columns of predecessors that do not fit together")
    used = {0}.union(obj_actors or (), key_actors or (), pred_actors or ()) - {None}
    if max(cast(set[int], used)) != len(used) - 1:
        _malformed("names an actor that it does not use")
    is_own = (
        1 < ops <= _SMALL_OPS and not preds and not key_actors and actions[0] == MAKE_MAP and not any(inserts)
        and obj_actors == (None, *[0] * (ops - 1)) and actions.count(PUT) == ops - 1
    )  # fmt: skip
    own = encode_uints((None, *[0] * (ops - 1)))[:-1] if is_own else b""
    made = ops - actions.count(DELETE)
    shape = Shape(actions, inserts, obj_actors, key_actors, pred_counts, pred_actors, ops, made, preds, len(used), own)
    if ops <= _SMALL_OPS and preds <= _SMALL_OPS:
        _remember(_shapes, key, shape)
    return shape


def _read_plan(actions: Values, column: bytes) -> Plan:
    """Where the values lie and what is to be checked of each. Their types are checked here."""
    metas = decode_uints(column)
    if len(metas) != len(actions) or None in metas:
        _malformed("has columns of different lengths, or a value without a type")
    at = 0
    strings: list[tuple[int, int]] = []
    checks: list[tuple[int, int, int]] = []
    fields: list[tuple[int, int, int]] = []
    for action, meta in zip(actions, cast(Sequence[int], metas), strict=True):
        kind, end = meta & 15, at + (meta >> 4)
        fields.append((kind, at, end))
        if meta in (NULL, FALSE, TRUE):
            if action != PUT and meta != NULL:
                _malformed("has a value where none belongs")
            continue
        if action != PUT or kind not in (INT, FLOAT, STRING, BYTES):
            _malformed(f"has a value of type {kind}, or one where none belongs")
        if kind == STRING:
            strings.append((at, end))
        elif kind != BYTES:
            checks.append((kind, at, end))
        at = end
    return Plan(metas, at, tuple(strings), tuple(checks), tuple(fields[1:]))


def _read_keys(column: bytes, ops: int) -> tuple[str, tuple[str, ...]] | None:
    """The keys of a record: the one at the root, and those in its map; None where they are not one for each operation,
    those in the map all different. Those are mostly the same from record to record.
    """
    end = 2 + column[1] if len(column) > 1 else 0
    names = _names.get((column[0], column[end:]))
    if names is not None and column[1] < 0x80:
        try:
            key = column[2:end].decode()
        except UnicodeDecodeError:
            _malformed("has a key that is not UTF-8")
        if key and key != names[0] and len(names) == ops - 1:
            return key, names
    keys = decode_strings(column)
    if len(keys) != ops or None in keys or len(set(keys[1:])) != ops - 1:
        return None
    names = cast(tuple[str, ...], tuple(keys[1:]))
    if 0x40 <= column[0] < 0x7F and column[1] < 0x80 and len(column) - end <= _SMALL_FORM:  # all are told one by one
        _remember(_names, (column[0], column[end:]), names)
    return cast(str, keys[0]), names


# --- values


def _check_value(kind: int, values: bytes, at: int, end: int) -> None:
    if kind == INT:
        if _SINT.fullmatch(values, at, end) is None:
            _malformed("has an integer that is not LEB128 of 64 bits")
        if end - at > 1:
            last, before = values[end - 1], values[end - 2]
            if (last == 0 and not before & 0x40) or (last == 0x7F and before & 0x40):
                _malformed("has an integer that is not minimal")
            if end - at == 10 and last not in (0, 0x7F):
                _malformed("has an integer over 64 bits")
    elif end - at != 8 or (values[end - 1] & 0x7F == 0x7F and values[end - 2] & 0xF0 == 0xF0):
        _malformed("has a float that is not 8 bytes or not finite")


def _check_text(values: bytes, at: int, end: int) -> None:
    try:
        values[at:end].decode()
    except UnicodeDecodeError:
        _malformed("has text that is not UTF-8")
