"""The column encodings of an automerge change, strict: every list of values has exactly one accepted encoding.

LEB128 numbers are minimal; runs are as long as they can be; a run has two values or more; no column is all null or
empty; no string is invalid UTF-8. Whatever differs raises MalformedError, never anything else, and no decoder makes
more values than it was allowed. The encoders give the one accepted form and write the first change of a schema.
Implements specs/documents.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_CHANGE_OPS, MAX_KEY_BYTES

_SMALL_BYTES: Final = 32  # columns as short as this repeat from change to change, so their decoding is remembered,
_SMALL_VALUES: Final = 64  # where it is as short as this,
_REMEMBERED: Final = 4096  # up to this many of a kind

Values = Sequence[int | None]
T = TypeVar("T")


def _malformed(what: str) -> NoReturn:
    raise MalformedError(f"a column of a change {what}")


# --- numbers


def read_uint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number below 2^63 and the place after it. IndexError at the end of `data` is the caller's."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0:
                _malformed("has a number that is not minimal")
            return value, at
        shift += 7
        if shift > 56:
            _malformed("has a number over 63 bits")


def read_sint(data: bytes, at: int) -> tuple[int, int]:
    """A signed LEB128 number of at most 56 bits and the place after it. IndexError at the end is the caller's."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return (byte if byte < 0x40 else byte - 0x80), at
    value, shift = byte & 0x7F, 7
    while True:
        before, byte = byte, data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if (byte == 0 and not before & 0x40) or (byte == 0x7F and before & 0x40):
                _malformed("has a number that is not minimal")
            return (value - (1 << shift) if byte & 0x40 else value), at
        if shift > 49:
            _malformed("has a number over 56 bits")


def encode_uint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_sint(value: int) -> bytes:
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


# --- run-length columns


def _decode_runs(data: bytes, limit: int, read: Callable[[bytes, int], tuple[T, int]]) -> list[T | None]:
    out: list[T | None] = []
    at, end = 0, len(data)
    after_literal, only_null = False, True
    try:
        while at < end:
            count, at = read_sint(data, at)
            if count > 0:
                value, at = read(data, at)
                if count == 1 or (out and out[-1] == value):
                    _malformed("has a run that is not in its only form")
                if len(out) + count > limit:
                    _malformed(f"has over {limit} values")
                out += [value] * count
                after_literal = only_null = False
            elif count < 0:
                if after_literal or len(out) - count > limit:
                    _malformed(f"has two literals in a row or over {limit} values")
                for _ in range(-count):
                    value, at = read(data, at)
                    if out and out[-1] == value:
                        _malformed("repeats a value in a literal")
                    out.append(value)
                after_literal, only_null = True, False
            else:
                count, at = read_uint(data, at)
                if count == 0 or (out and out[-1] is None) or len(out) + count > limit:
                    _malformed(f"has a run of nulls that is not in its only form, or over {limit} values")
                out += [None] * count
                after_literal = False
    except IndexError:
        _malformed("ends within a value")
    if only_null or at != end:
        _malformed("is empty, all null or ends within a value")
    return out


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    size, start = read_uint(data, at)
    at = start + size
    if not 0 < size <= MAX_KEY_BYTES or at > len(data):
        _malformed(f"has a key that is empty, cut off or over {MAX_KEY_BYTES} bytes")
    try:
        return data[start:at].decode(), at
    except UnicodeDecodeError:
        _malformed("has a key that is not UTF-8")


_uints: dict[bytes, tuple[int | None, ...]] = {}
_deltas: dict[bytes, tuple[int | None, ...]] = {}
_booleans: dict[bytes, tuple[bool, ...]] = {}


def _remember(cache: dict[bytes, tuple[T, ...]], data: bytes, values: tuple[T, ...]) -> tuple[T, ...]:
    if len(data) <= _SMALL_BYTES and len(values) <= _SMALL_VALUES:
        if len(cache) >= _REMEMBERED:
            cache.clear()
        cache[data] = values
    return values


def decode_uints(data: bytes, limit: int = MAX_CHANGE_OPS) -> Values:
    """A run-length column of unsigned numbers or nulls, at most `limit` of them."""
    if len(data) > 4 and data[0] == 0 and 2 <= data[2] < 0x40 and 0 < data[1] < 0x40:
        value, at = read_uint(data, 3)  # nulls, then one number repeated: the containers of a new record
        if at == len(data):
            return (None,) * data[1] + (value,) * data[2]
    return _uints.get(data) or _remember(_uints, data, tuple(_decode_runs(data, limit, read_uint)))


def decode_strings(data: bytes) -> Sequence[str | None]:
    """A run-length column of keys (1 to 1,024 bytes of UTF-8) or nulls."""
    if 0x78 <= data[0] < 0x80 and data.isascii():  # a literal of at most 8 short keys, as nearly every change has
        out: list[str | None] = []
        at, end = 1, len(data)
        text, last = data.decode("ascii"), ""
        while at < end:
            start = at + 1
            at = start + data[at]
            key = text[start:at]
            if key == last:
                break
            out.append(key)
            last = key
        else:
            if at == end and len(out) == 0x80 - data[0]:
                return out
    return _decode_runs(data, MAX_CHANGE_OPS, _read_string)


def _accumulate(deltas: Values) -> tuple[int | None, ...]:
    total = 0
    out: list[int | None] = []
    for delta in deltas:
        if delta is None:
            out.append(None)
        else:
            total += delta
            if total < 0:
                _malformed("has a counter below zero")
            out.append(total)
    return tuple(out)


def decode_deltas(data: bytes, limit: int = MAX_CHANGE_OPS) -> Values:
    """A column of numbers that are written as differences from the one before, or nulls."""
    return _deltas.get(data) or _remember(_deltas, data, _accumulate(_decode_runs(data, limit, read_sint)))


def decode_booleans(data: bytes) -> tuple[bool, ...]:
    """A column of booleans: lengths of runs in turn, false first; only the first may be 0."""
    return _booleans.get(data) or _remember(_booleans, data, _decode_booleans(data))


def _decode_booleans(data: bytes) -> tuple[bool, ...]:
    out: list[bool] = []
    at, end = 0, len(data)
    value = False
    try:
        while at < end:
            count, at = read_uint(data, at)
            if (count == 0 and (value or at > 1 or end == 1)) or len(out) + count > MAX_CHANGE_OPS:
                _malformed(f"of booleans has an empty run, or over {MAX_CHANGE_OPS} values")
            out += [value] * count
            value = not value
    except IndexError:
        _malformed("ends within a value")
    if not out:
        _malformed("of booleans is empty")
    return tuple(out)


# --- encoders


def encode_runs(values: Sequence[T | None], write: Callable[[T], bytes]) -> bytes:
    """The one accepted run-length encoding; empty where all values are null."""
    if all(value is None for value in values):
        return b""
    out = bytearray()
    literal: list[T] = []

    def flush() -> None:
        if literal:
            out.extend(encode_sint(-len(literal)))
            out.extend(b"".join(map(write, literal)))
            literal.clear()

    at = 0
    while at < len(values):
        value, start = values[at], at
        while at < len(values) and values[at] == value:
            at += 1
        if value is None:
            flush()
            out += b"\0" + encode_uint(at - start)
        elif at - start == 1:
            literal.append(value)
        else:
            flush()
            out += encode_sint(at - start) + write(value)
    flush()
    return bytes(out)


def encode_uints(values: Values) -> bytes:
    return encode_runs(values, encode_uint)


def encode_strings(values: Sequence[str | None]) -> bytes:
    return encode_runs(values, lambda value: encode_uint(len(value.encode())) + value.encode())


def encode_deltas(values: Values) -> bytes:
    last = 0
    deltas: list[int | None] = []
    for value in values:
        deltas.append(None if value is None else value - last)
        last = last if value is None else value
    return encode_runs(deltas, encode_sint)


def encode_booleans(values: Sequence[bool]) -> bytes:
    out = bytearray()
    current, count = False, 0
    for value in values:
        if value != current:
            out += encode_uint(count)
            current, count = value, 0
        count += 1
    return bytes(out + encode_uint(count)) if values else b""
