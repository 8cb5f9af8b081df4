"""The header of an automerge change, and the short form in which it travels. Implements specs/envelope.md §2.

A raw change is `85 6f 4a 83 ‖ checksum(4) ‖ 01 ‖ length ‖ body`, body = dependencies ‖ actor ‖ tail; its hash is
SHA-256(01 ‖ length ‖ body), of which the checksum is the first four bytes. On the wire go the dependencies and the tail
alone. This module reads no further than the counters at the start of the tail; documents/ reads the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_CHANGE_BYTES, MAX_CHANGE_DEPS
from cocoon_core.protocol.ids import ActorId, ChangeHash
from cocoon_core.protocol.primitives import sha256

MAGIC = b"\x85\x6f\x4a\x83"
CHUNK_CHANGE = 1
_new = tuple.__new__
_SHORT = [bytes((value,)) for value in range(0x80)]
_ACTOR_PREFIX = b"\x10"  # an actor is 16 bytes here


class RawChange(NamedTuple):
    """A change as automerge stores it, with its hash. Nothing but its frame has been looked at."""

    raw: bytes
    hash: ChangeHash


def split_change(raw: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Take a whole raw change apart into dependencies, actor and tail.

    Raises:
        MalformedError: not an uncompressed change chunk with a 16-byte actor, or its checksum is wrong.
    """
    if raw[:4] != MAGIC or len(raw) < 12 or raw[8] != CHUNK_CHANGE:
        raise MalformedError("not an uncompressed automerge change")
    size, start = read_leb128(raw, 9)
    if start + size != len(raw) or size > MAX_CHANGE_BYTES:
        raise MalformedError("a change does not fill its bytes, or is too large")
    if sha256(raw[8:])[:4] != raw[4:8]:
        raise MalformedError("the checksum of a change is wrong")
    count, at = read_leb128(raw, start)
    if count > MAX_CHANGE_DEPS:
        raise MalformedError(f"a change names {count} dependencies, over {MAX_CHANGE_DEPS}")
    end = at + 32 * count
    if raw[end : end + 1] != _ACTOR_PREFIX or end + 17 >= len(raw):
        raise MalformedError("a change's actor is not 16 bytes")
    deps = [raw[i : i + 32] for i in range(at, end, 32)]
    return deps, raw[end + 1 : end + 17], raw[end + 17 :]


def join_change(deps: Sequence[bytes], actor: ActorId, tail: bytes) -> RawChange:
    """Put a whole raw change together again: the inverse of `split_change`."""
    raw, digest = join_pieces(deps, actor, tail)
    return _new(RawChange, (raw, ChangeHash.unchecked(digest)))


def join_pieces(deps: Sequence[bytes], actor: ActorId, *tail: bytes) -> tuple[bytes, bytes]:
    """The same of a tail in pieces: the raw change, and its hash as it is, for where thousands are made."""
    count = len(deps)
    body = b"".join((_SHORT[count] if count < 0x80 else encode_leb128(count), *deps, _ACTOR_PREFIX, actor, *tail))
    chunk = b"".join((b"\x01", encode_leb128(len(body)), body))
    digest = sha256(chunk)
    return b"".join((MAGIC, digest[:4], chunk)), digest


def read_deps(raw: bytes) -> list[bytes]:
    """The dependencies of a change that is known to be whole."""
    _, start = read_leb128(raw, 9)
    count, at = read_leb128(raw, start)
    return [raw[i : i + 32] for i in range(at, at + 32 * count, 32)]


def read_seq(tail: bytes) -> int | None:
    """The change's actor seq, or None where the tail does not begin with one."""
    if tail and tail[0] < 0x80:
        return tail[0]
    try:
        return read_leb128(tail, 0)[0]
    except MalformedError:
        return None


def read_leb128(raw: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 63 bits, minimal, and the place after it.

    Raises:
        MalformedError: cut off, too long, or not minimal.
    """
    value = shift = 0
    for place in range(at, min(at + 9, len(raw))):
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise MalformedError("a LEB128 number is not minimal")
            return value, place + 1
        shift += 7
    raise MalformedError("a LEB128 number does not end")


def encode_leb128(value: int) -> bytes:
    """The minimal unsigned LEB128 form of a number."""
    if value < 0x80:
        return _SHORT[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
