"""Deterministic CBOR, strict on the way in. Implements specs/encoding.md.

A value has one encoding: RFC 8949 §4.2 (shortest heads, sorted keys, definite lengths). `decode` accepts exactly that
encoding and nothing else, so a hash over bytes is a hash over the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

import cbor2

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol.constants import CBOR_MAX_BYTES, CBOR_MAX_DEPTH

_PLAIN: Final = (int, bytes, str, bool, type(None))
_LEAST, _MOST = -(2**63), 2**63 - 1


def encode(value: Any) -> bytes:
    """Encode integers (64 bits with the sign), byte strings, text, booleans, null, arrays and text- or byte-keyed maps.

    Raises:
        UsageError: a float, tag or other type, which the protocol does not use; a longer integer; text that is not
            UTF-8; nesting over 16.
    """
    _require_encodable(value, CBOR_MAX_DEPTH)
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, TypeError, ValueError) as error:
        raise UsageError(f"a value cannot be encoded: {type(error).__name__}") from error


def _require_encodable(value: Any, depth: int) -> None:
    """Refuse on the way out what `decode` would refuse on the way in."""
    kind = type(value)
    if kind is list or kind is tuple or kind is dict:
        if depth == 0:
            raise UsageError(f"a value is nested over {CBOR_MAX_DEPTH} deep")
        if kind is dict and not all(isinstance(key, bytes | str) for key in value):
            raise UsageError("the keys of a map are text or byte strings")
        for item in value.values() if kind is dict else value:
            if not isinstance(item, bytes):
                _require_encodable(item, depth - 1)
    elif isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            raise UsageError("an integer has more than 63 bits and a sign")
    elif value is not None and not isinstance(value, bytes | str):
        raise UsageError(f"a value of type {kind.__name__} cannot be encoded")


class _NoTags(Mapping[int, Callable[..., Any]]):
    """Refuses every tag while reading. The decoders that cbor2 has for tags build dates, patterns and big numbers, and
    the one for shared values makes a few hundred bytes stand for more than memory holds.
    """

    def __getitem__(self, tag: int) -> Callable[..., Any]:
        return _refuse_tag

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("a tag")


_NO_TAGS: Final = _NoTags()


def decode(raw: bytes, *, max_bytes: int = CBOR_MAX_BYTES, plain: bool = True) -> Any:
    """Decode one value that fills `raw` and is encoded in the only permitted way.

    Args:
        plain: look at every item for types that the protocol does not use. Only a caller that checks the type of every
            item itself turns this off.

    Raises:
        MalformedError: trailing bytes, indefinite lengths, duplicate keys, depth over 16, a type that the protocol does
            not use, or any encoding that is not the deterministic one.
    """
    if len(raw) > max_bytes:
        raise MalformedError(f"CBOR of {len(raw)} bytes is over the limit of {max_bytes}")
    try:
        value = cbor2.loads(
            raw,
            max_depth=CBOR_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_NO_TAGS,
        )
        same = cbor2.dumps(value, canonical=True) == raw
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError, LookupError) as error:
        raise MalformedError(f"not CBOR: {type(error).__name__}") from error
    if not same:
        raise MalformedError("CBOR is not in its deterministic form")
    if plain:
        require_plain(value)
    return value


def require_plain(value: Any) -> None:
    """Refuse floats, tags, simple values and big integers: re-encoding alone would let them pass.

    Raises:
        MalformedError: there is one.
    """
    kind = type(value)
    if kind is list:
        for item in value:
            if type(item) not in (bytes, str):
                require_plain(item)
    elif kind is dict:
        for item in value.values():
            require_plain(item)
    elif kind is int:
        if not _LEAST <= value <= _MOST:
            raise MalformedError("an integer has more than 63 bits and a sign")
    elif kind not in _PLAIN:
        raise MalformedError(f"CBOR type {kind.__name__} is not used by the protocol")
