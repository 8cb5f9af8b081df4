"""What a client and a relay say to each other: the frames, and the messages that a topic key signs.

A frame is a CBOR array [type, …]. A client's types are 1 to 7, a relay's 65 to 73, and each side decodes only the
other's, so a frame that is sent back to its author is refused. Sequence numbers count from 1; `after = 0` means all.
Implements specs/relay.md §2 to §4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from struct import Struct
from typing import Any, Final
from urllib.parse import urlsplit

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import (
    CHALLENGE_BYTES,
    ENVELOPE_OVERHEAD,
    FRAME_VERSION,
    LABEL_ENVELOPE_NAME,
    MAX_CAST_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_FETCH_PLACES,
    MAX_FRAME_BYTES,
    MAX_NAMES,
    MAX_PUT_ENVELOPES,
    MAX_SEQ,
    NAME_BYTES,
    NAME_SALT_BYTES,
    PADDING_FLOOR,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.ids import Incarnation, Signature, TopicId
from cocoon_core.protocol.primitives import keyed_hash

MIN_ENVELOPE_BYTES: Final = ENVELOPE_OVERHEAD + PADDING_FLOOR  # bytes
MAX_ERROR_MESSAGE: Final = 512  # bytes of UTF-8
MAX_LIMITS: Final = 32  # names in a challenge's limits
_PUT_BYTES: Final = 3 + 2 + 32 + 4 + MIN_ENVELOPE_BYTES  # fewer than a put has
_PUT_OF_TWO_BYTES: Final = Struct(">3sH2s32s2sH")  # up to the envelope, where the request has a head of two bytes more
_ACK_OF_TWO_BYTES: Final = Struct(">3sBH35sBH")  # where the request and the number both have heads of two bytes more
_LEAST_OF_HEAD: Final = (24, 1 << 8, 1 << 16)  # what needs a head of 1, 2 and 4 bytes more
_ENTRIES: Final = b"\x84\x18\x43\x58\x20"  # what the topic of entries stands behind
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


class ErrorCode(StrEnum):
    """Why a relay refused; specs/relay.md §7 says for each what a client does then."""

    BAD_FRAME = "bad_frame"
    VERSION = "version"
    BAD_PROOF = "bad_proof"
    NOT_OPEN = "not_open"
    SEALED = "sealed"
    EXPECT = "expect"
    TOO_LARGE = "too_large"
    QUOTA = "quota"
    RATE = "rate"
    BUSY = "busy"
    FULL = "full"
    SHUTTING_DOWN = "shutting_down"
    TOO_MANY_TOPICS = "too_many_topics"
    TOKEN = "token"
    BAD_HASH = "bad_hash"
    NOT_FOUND = "not_found"


# --- client → relay


@dataclass(frozen=True, slots=True)
class Open:
    """Subscribe to a topic: everything after `after`, if `incarnation` is still the topic's, else everything."""

    request: int
    topic: TopicId
    incarnation: Incarnation | None
    after: int
    proof: Signature


@dataclass(frozen=True, slots=True)
class Put:
    """Append envelopes, all or none; then `seal`. `expect` is the last sequence number that the putter knows."""

    request: int
    topic: TopicId
    envelopes: tuple[bytes, ...]
    seal: bool = False
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Cast:
    """Forward to whoever has the topic open now, and keep nothing."""

    topic: TopicId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End a subscription. No answer."""

    topic: TopicId


@dataclass(frozen=True, slots=True)
class Resume:
    """Open a topic as `Open` does if at most `most` envelopes are to be sent then; else open it, and send none."""

    request: int
    topic: TopicId
    incarnation: Incarnation | None
    after: int
    proof: Signature
    most: int


@dataclass(frozen=True, slots=True)
class List:
    """Ask for the names, under this salt, of at most `most` envelopes after `after`."""

    request: int
    topic: TopicId
    after: int
    most: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask for the envelopes at these places, which rise."""

    request: int
    topic: TopicId
    places: tuple[int, ...]


# --- relay → client


@dataclass(frozen=True, slots=True)
class Challenge:
    """The first frame: what proofs on this connection sign, and the relay's limits."""

    version: int
    challenge: bytes
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class Opened:
    request: int
    topic: TopicId
    incarnation: Incarnation
    last: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Entries:
    """Envelopes with the sequence numbers first, first + 1, …"""

    topic: TopicId
    first: int
    envelopes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """All that the topic held has been sent; what follows is as it comes. Once for each open."""

    topic: TopicId
    last: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Stored durably; the sequence number of each envelope, in the order of the put."""

    request: int
    topic: TopicId
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CastReceived:
    topic: TopicId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Error:
    """A refusal. `request` is None when the whole connection is meant; `last` stands beside `expect` and `sealed`."""

    request: int | None
    code: ErrorCode
    message: str
    retry_after_ms: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """Names of the envelopes with the sequence numbers first, first + 1, …; none where nothing stands there."""

    request: int
    topic: TopicId
    first: int
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The envelopes at the first of the places that were asked for, one at least; None where it is kept no more."""

    request: int
    topic: TopicId
    envelopes: tuple[bytes | None, ...]


ClientFrame = Open | Put | Cast | Close | Resume | List | Fetch
RelayFrame = Challenge | Opened | Entries | Live | Ack | CastReceived | Error | Listed | Fetched


def encode_frame(frame: ClientFrame | RelayFrame) -> bytes:
    """The bytes of one WebSocket message."""
    match frame:
        case Ack(request, topic, seqs):
            return encode([69, request, topic, seqs])
        case Entries(topic, first, envelopes):
            parts = [_ENTRIES, topic, _head(first), _head(len(envelopes), 0x80)]
            for envelope in envelopes:
                parts += _head(len(envelope), 0x40), envelope
            return b"".join(parts)
        case Open(request, topic, incarnation, after, proof):
            return encode([1, request, topic, incarnation, after, proof])
        case Put(request, topic, envelopes, seal, expect):
            return encode([2, request, topic, envelopes, seal, expect])
        case Cast(topic, payload):
            return encode([3, topic, payload])
        case Close(topic):
            return encode([4, topic])
        case Resume(request, topic, incarnation, after, proof, most):
            return encode([5, request, topic, incarnation, after, proof, most])
        case List(request, topic, after, most, salt):
            return encode([6, request, topic, after, most, salt])
        case Fetch(request, topic, places):
            return encode([7, request, topic, places])
        case Challenge(version, challenge, limits):
            return encode([65, version, challenge, limits])
        case Opened(request, topic, incarnation, last, sealed):
            return encode([66, request, topic, incarnation, last, sealed])
        case Live(topic, last):
            return encode([68, topic, last])
        case CastReceived(topic, payload):
            return encode([70, topic, payload])
        case Error(request, code, message, retry_after_ms, last):
            return encode([71, request, str(code), message, retry_after_ms, last])
        case Listed(request, topic, first, names):
            return encode([72, request, topic, first, b"".join(names)])
        case Fetched(request, topic, envelopes):
            return encode([73, request, topic, envelopes])


def decode_client_frame(raw: bytes) -> ClientFrame:
    """Decode what a client sent.

    Raises:
        MalformedError: anything but one whole client frame in deterministic CBOR, within the limits of constants.py.
    """
    frame: ClientFrame = _read_put(raw) or _decode(raw, _CLIENT)
    return frame


def decode_relay_frame(raw: bytes) -> RelayFrame:
    """Decode what a relay sent.

    Raises:
        MalformedError: anything but one whole relay frame in deterministic CBOR, within the limits of constants.py. A
            challenge of another version is decoded, so that the client can say so.
    """
    frame: RelayFrame = _decode(raw, _RELAY)
    return frame


def head_of_entries(raw: bytes) -> bytes | None:
    """The bytes with which all frames of entries of one topic begin, where this may be one; None where it is none."""
    return raw[: len(_ENTRIES) + TopicId.LENGTH] if raw.startswith(_ENTRIES) else None


def encode_single_acks(topic: TopicId, answers: Iterable[tuple[int, int]]) -> list[bytes]:
    """The acks of puts of one envelope each, from pairs of request and sequence number: one frame a put."""
    pack = _ACK_OF_TWO_BYTES.pack
    begin, middle = b"\x84\x18\x45", b"\x58\x20" + topic + b"\x81"
    return [
        pack(begin, 25, request, middle, 25, seq)
        if 255 < request < 65_536 and 255 < seq < 65_536
        else begin + _head(request) + middle + _head(seq)
        for request, seq in answers
    ]


def _head(number: int, kind: int = 0) -> bytes:
    """The shortest CBOR head of a number from 0, or of a string or array (`kind` 0x40, 0x80) of that length."""
    if number < 24:
        return bytes((kind | number,))
    if number < 1 << 8:
        return bytes((kind | 24, number))
    if number < 1 << 16:
        return bytes((kind | 25, number >> 8, number & 255))
    if number < 1 << 32:
        return bytes((kind | 26,)) + number.to_bytes(4)
    return bytes((kind | 27,)) + number.to_bytes(8)


def read_single_put(raw: bytes) -> tuple[int, bytes, bytes] | None:
    """Request, topic and envelope of a put of one envelope of 296 to 65,535 bytes that neither seals nor expects, which
    is what most frames are; None for all others.

    [2, request, topic, [envelope], false, null] has one encoding, so its bytes are compared with it; whatever else they
    are is for `decode_client_frame` to take or to refuse.
    """
    if type(raw) is not bytes or len(raw) <= _PUT_BYTES or raw[:2] != b"\x86\x02":
        return None
    low = raw[2]
    if low == 25:
        _, request, before, topic, behind, size = _PUT_OF_TWO_BYTES.unpack_from(raw)
        is_whole = before == b"\x58\x20" and behind == b"\x81\x59" and raw[-2:] == b"\xf4\xf6"
        if not is_whole or request < 256 or size < MIN_ENVELOPE_BYTES or size + 45 != len(raw):
            return None
        return request, topic, raw[43:-2]
    if low < 24:
        request, at = low, 3
    elif low in (24, 26):
        at = 3 + (1 << (low - 24))
        request = int.from_bytes(raw[3:at])
        if request < _LEAST_OF_HEAD[low - 24]:
            return None  # there is a shorter head
    else:
        return None
    envelope = at + 38
    if raw[at : at + 2] != b"\x58\x20" or raw[at + 34 : at + 36] != b"\x81\x59" or raw[-2:] != b"\xf4\xf6":
        return None
    size = int.from_bytes(raw[at + 36 : envelope])
    if size < MIN_ENVELOPE_BYTES or envelope + size + 2 != len(raw):
        return None
    return request, raw[at + 2 : at + 34], raw[envelope:-2]


def _read_put(raw: bytes) -> Put | None:
    found = read_single_put(raw)
    if found is None:
        return None
    request, topic, envelope = found
    return Put(request, TopicId.unchecked(topic), (envelope,))


# --- names


def name_envelope(salt: bytes, envelope: bytes) -> bytes:
    """The 8 bytes by which one side tells the other that it holds this envelope, without sending it.

    The salt is 32 random bytes of the asker's choosing, fresh for each connection. So only who has all bytes of the
    envelope at that time can say its name, and nobody can prepare two envelopes with one name.
    """
    return keyed_hash(_fixed(salt, NAME_SALT_BYTES), LABEL_ENVELOPE_NAME, envelope, NAME_BYTES)


# --- what a topic key signs


def open_message(origin: str, challenge: bytes, topic: TopicId) -> bytes:
    """What the topic key signs under LABEL_OPEN to open the topic: origin ‖ challenge(32) ‖ topic(32).

    Bound to one relay and one connection: a relay cannot use a proof at another relay, nor anyone a recorded one.
    """
    return origin.encode() + _fixed(challenge, CHALLENGE_BYTES) + topic


def blob_message(origin: str, challenge: bytes, topic: TopicId) -> bytes:
    """What the topic key signs under LABEL_BLOB to use blobs over HTTP: origin ‖ challenge(32) ‖ topic(32)."""
    return origin.encode() + _fixed(challenge, CHALLENGE_BYTES) + topic


def normalize_origin(url: str) -> str:
    """Reduce a relay's URL to `ws://host:port` or `wss://host:port`, the form that both sides sign.

    http and https count as ws and wss; scheme and host become lower case; the port is always written; a path is
    dropped.

    Raises:
        MalformedError: another scheme, no host, a user or password, a port out of range, or a character not in ASCII.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise MalformedError("not a relay URL") from error
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not host or port == 0 or parts.username is not None or not url.isascii():
        raise MalformedError("a relay URL is ws://, wss://, http:// or https:// and a host, in ASCII, without a user")
    if any(character.isspace() for character in url) or not url.isprintable():
        raise MalformedError("a relay URL holds no white space")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port if port is not None else _DEFAULT_PORTS[scheme]}"


# --- decoding


def _decode(raw: bytes, table: dict[int, tuple[int, Callable[..., Any]]]) -> Any:
    value = decode(raw, max_bytes=MAX_FRAME_BYTES)
    if type(value) is not list or not value or type(value[0]) is not int:
        raise MalformedError("a frame is an array that begins with its type")
    kind, *fields = value
    if kind not in table:
        raise MalformedError(f"frame type {kind} is not known in this direction")
    arity, build = table[kind]
    if len(fields) != arity:
        raise MalformedError(f"frame type {kind} has {arity} fields, not {len(fields)}")
    return build(*fields)


def _open(request: Any, topic: Any, incarnation: Any, after: Any, proof: Any) -> Open:
    life = None if incarnation is None else Incarnation(incarnation)
    return Open(_count(request), TopicId(topic), life, _count(after), Signature(proof))


def _put(request: Any, topic: Any, envelopes: Any, seal: Any, expect: Any) -> Put:
    if type(envelopes) is list and len(envelopes) > MAX_PUT_ENVELOPES:
        raise MalformedError(f"a put has at most {MAX_PUT_ENVELOPES} envelopes, not {len(envelopes)}")
    known = None if expect is None else _count(expect)
    return Put(_count(request), TopicId(topic), _envelopes(envelopes), _flag(seal), known)


def _cast(topic: Any, payload: Any) -> Cast:
    return Cast(TopicId(topic), _payload(payload))


def _close(topic: Any) -> Close:
    return Close(TopicId(topic))


def _resume(request: Any, topic: Any, incarnation: Any, after: Any, proof: Any, most: Any) -> Resume:
    opened = _open(request, topic, incarnation, after, proof)
    return Resume(opened.request, opened.topic, opened.incarnation, opened.after, opened.proof, _count(most))


def _list(request: Any, topic: Any, after: Any, most: Any, salt: Any) -> List:
    if not 1 <= _count(most) <= MAX_NAMES:
        raise MalformedError(f"names are asked for by 1 to {MAX_NAMES}")
    return List(_count(request), TopicId(topic), _count(after), most, _fixed(salt, NAME_SALT_BYTES))


def _fetch(request: Any, topic: Any, places: Any) -> Fetch:
    if type(places) is not list or not 0 < len(places) <= MAX_FETCH_PLACES:
        raise MalformedError(f"envelopes are asked for by 1 to {MAX_FETCH_PLACES} places")
    named = tuple(_seq(place) for place in places)
    if any(place >= after for place, after in pairwise(named)):
        raise MalformedError("the places that are asked for do not rise")
    return Fetch(_count(request), TopicId(topic), named)


def _challenge(version: Any, challenge: Any, limits: Any) -> Challenge:
    if type(limits) is not dict or len(limits) > MAX_LIMITS or any(type(name) is not str for name in limits):
        raise MalformedError("limits are a map of names to numbers")
    numbers = {name: _count(number) for name, number in limits.items()}
    return Challenge(_count(version), _fixed(challenge, CHALLENGE_BYTES), numbers)


def _opened(request: Any, topic: Any, incarnation: Any, last: Any, sealed: Any) -> Opened:
    return Opened(_count(request), TopicId(topic), Incarnation(incarnation), _count(last), _flag(sealed))


def _entries(topic: Any, first: Any, envelopes: Any) -> Entries:
    return Entries(TopicId(topic), _seq(first), _envelopes(envelopes))


def _live(topic: Any, last: Any) -> Live:
    return Live(TopicId(topic), _count(last))


def _ack(request: Any, topic: Any, seqs: Any) -> Ack:
    if type(seqs) is not list or not 0 < len(seqs) <= MAX_PUT_ENVELOPES:
        raise MalformedError("an ack names the sequence numbers of one put")
    return Ack(_count(request), TopicId(topic), tuple(_seq(seq) for seq in seqs))


def _cast_received(topic: Any, payload: Any) -> CastReceived:
    return CastReceived(TopicId(topic), _payload(payload))


def _error(request: Any, code: Any, message: Any, retry_after_ms: Any, last: Any) -> Error:
    if type(message) is not str or len(message.encode()) > MAX_ERROR_MESSAGE:
        raise MalformedError(f"an error's message is text of at most {MAX_ERROR_MESSAGE} bytes")
    try:
        known = ErrorCode(code)
    except ValueError as error:
        raise MalformedError("an error code that this version does not know") from error
    numbers = (None if number is None else _count(number) for number in (request, retry_after_ms, last))
    whose, wait, at = numbers
    return Error(whose, known, message, wait, at)


def _listed(request: Any, topic: Any, first: Any, names: Any) -> Listed:
    if type(names) is not bytes or len(names) % NAME_BYTES or len(names) > MAX_NAMES * NAME_BYTES:
        raise MalformedError(f"names are {NAME_BYTES} bytes each, and at most {MAX_NAMES} of them")
    split = tuple(names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES))
    return Listed(_count(request), TopicId(topic), _seq(first), split)


def _fetched(request: Any, topic: Any, envelopes: Any) -> Fetched:
    if type(envelopes) is not list or not 0 < len(envelopes) <= MAX_FETCH_PLACES:
        raise MalformedError("what was fetched is an array that is not empty, of what was asked for")
    kept = tuple(None if envelope is None else _envelope(envelope) for envelope in envelopes)
    return Fetched(_count(request), TopicId(topic), kept)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQ:
        raise MalformedError("a number in a frame is from 0 to 2^53 - 1")
    return value


def _seq(value: Any) -> int:
    if _count(value) == 0:
        raise MalformedError("sequence numbers count from 1")
    return int(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedError("a flag is true or false")
    return value


def _fixed(value: Any, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise MalformedError(f"a field of {length} bytes has another length or type")
    return value


def _payload(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > MAX_CAST_BYTES:
        raise MalformedError(f"a cast is at most {MAX_CAST_BYTES} bytes")
    return value


def _envelopes(value: Any) -> tuple[bytes, ...]:
    if type(value) is not list or not value:
        raise MalformedError("envelopes are an array that is not empty")
    return tuple(_envelope(envelope) for envelope in value)


def _envelope(value: Any) -> bytes:
    if type(value) is not bytes or not MIN_ENVELOPE_BYTES <= len(value) <= MAX_ENVELOPE_BYTES:
        raise MalformedError(f"an envelope is {MIN_ENVELOPE_BYTES} to {MAX_ENVELOPE_BYTES} bytes")
    return value


_CLIENT: Final[dict[int, tuple[int, Callable[..., Any]]]] = {
    1: (5, _open),
    2: (5, _put),
    3: (2, _cast),
    4: (1, _close),
    5: (6, _resume),
    6: (5, _list),
    7: (3, _fetch),
}
_RELAY: Final[dict[int, tuple[int, Callable[..., Any]]]] = {
    65: (3, _challenge),
    66: (5, _opened),
    67: (3, _entries),
    68: (2, _live),
    69: (3, _ack),
    70: (2, _cast_received),
    71: (5, _error),
    72: (4, _listed),
    73: (3, _fetched),
}

__all__ = [
    "FRAME_VERSION",
    "MIN_ENVELOPE_BYTES",
    "Ack",
    "Cast",
    "CastReceived",
    "Challenge",
    "ClientFrame",
    "Close",
    "Entries",
    "Error",
    "ErrorCode",
    "Fetch",
    "Fetched",
    "List",
    "Listed",
    "Live",
    "Open",
    "Opened",
    "Put",
    "RelayFrame",
    "Resume",
    "blob_message",
    "decode_client_frame",
    "decode_relay_frame",
    "encode_frame",
    "head_of_entries",
    "name_envelope",
    "normalize_origin",
    "open_message",
]
