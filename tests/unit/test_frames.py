"""Frames: one encoding each, one direction each, and every malformed one refused by name."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import frames
from cocoon_core.protocol.constants import (
    MAX_ENVELOPE_BYTES,
    MAX_FETCH_PLACES,
    MAX_FRAME_BYTES,
    MAX_NAMES,
    MAX_PUT_ENVELOPES,
    MAX_SEQ,
    NAME_BYTES,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.frames import (
    MIN_ENVELOPE_BYTES,
    Ack,
    Cast,
    CastReceived,
    Challenge,
    ClientFrame,
    Close,
    Entries,
    Error,
    ErrorCode,
    Fetch,
    Fetched,
    List,
    Listed,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    Resume,
    blob_message,
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
    name_envelope,
    normalize_origin,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, Signature, TopicId

TOPIC = TopicId(b"\x01" * 32)
LIFE = Incarnation(b"\x02" * 16)
SALT = b"\x07" * 32
PROOF = Signature(b"\x03" * 64)
ENVELOPE = b"\x04" * MIN_ENVELOPE_BYTES

CLIENT_FRAMES: list[ClientFrame] = [
    Open(1, TOPIC, None, 0, PROOF),
    Open(2, TOPIC, LIFE, MAX_SEQ, PROOF),
    Put(3, TOPIC, (ENVELOPE,)),
    Put(4, TOPIC, (ENVELOPE, b"\x05" * 400), True, 0),
    Cast(TOPIC, b""),
    Close(TOPIC),
    Resume(5, TOPIC, LIFE, 9, PROOF, 64),
    List(6, TOPIC, 9, MAX_NAMES, SALT),
    Fetch(7, TOPIC, (1, 2, MAX_SEQ)),
]
RELAY_FRAMES: list[RelayFrame] = [
    Challenge(1, b"\x06" * 32, {"topics": 64}),
    Opened(1, TOPIC, LIFE, 0, False),
    Entries(TOPIC, 1, (ENVELOPE,)),
    Live(TOPIC, 7),
    Ack(3, TOPIC, (8, 9)),
    CastReceived(TOPIC, b"payload"),
    Error(None, ErrorCode.BAD_FRAME, "no", None, None),
    Error(4, ErrorCode.EXPECT, "gone on", 1000, 12),
    Listed(6, TOPIC, 1, (b"12345678", b"abcdefgh")),
    Listed(6, TOPIC, 10, ()),
    Fetched(7, TOPIC, (ENVELOPE, None)),
]


@pytest.mark.parametrize("frame", CLIENT_FRAMES, ids=lambda f: type(f).__name__)
def test_client_frames_survive_the_wire(frame: ClientFrame) -> None:
    assert decode_client_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize("frame", RELAY_FRAMES, ids=lambda f: type(f).__name__)
def test_relay_frames_survive_the_wire(frame: RelayFrame) -> None:
    assert decode_relay_frame(encode_frame(frame)) == frame


def test_no_frame_is_taken_in_the_other_direction() -> None:
    for sent in CLIENT_FRAMES:
        with pytest.raises(MalformedError):
            decode_relay_frame(encode_frame(sent))
    for answered in RELAY_FRAMES:
        with pytest.raises(MalformedError):
            decode_client_frame(encode_frame(answered))


def test_the_type_numbers_are_those_of_the_spec() -> None:
    numbers = [decode(encode_frame(frame))[0] for frame in [*CLIENT_FRAMES, *RELAY_FRAMES]]
    assert numbers == [1, 1, 2, 2, 3, 4, 5, 6, 7, 65, 66, 67, 68, 69, 70, 71, 71, 72, 72, 73]


@pytest.mark.parametrize(
    "fields",
    [
        [1, 1, TOPIC, None, -1, PROOF],
        [1, 1, TOPIC, None, MAX_SEQ + 1, PROOF],
        [1, 1, TOPIC, b"\x02" * 15, 0, PROOF],
        [1, 1, TOPIC, None, 0, PROOF[:63]],
        [1, 1, TOPIC, None, 0, PROOF, 0],
        [1, 1, TOPIC, None, 0],
        [1, "1", TOPIC, None, 0, PROOF],
        [1, True, TOPIC, None, 0, PROOF],
        [2, 1, TOPIC, [], False, None],
        [2, 1, TOPIC, [ENVELOPE[:-1]], False, None],
        [2, 1, TOPIC, [bytes(MAX_ENVELOPE_BYTES + 1)], False, None],
        [2, 1, TOPIC, [ENVELOPE] * (MAX_PUT_ENVELOPES + 1), False, None],
        [2, 1, TOPIC, ["text"], False, None],
        [2, 1, TOPIC, ENVELOPE, False, None],
        [2, 1, TOPIC, [ENVELOPE], 1, None],
        [2, 1, TOPIC, [ENVELOPE], False, -1],
        [3, TOPIC, bytes(4097)],
        [3, TOPIC, "text"],
        [4, TOPIC[:31]],
        [0],
        [5, TOPIC],
        [5, 1, TOPIC, None, 0, PROOF],
        [5, 1, TOPIC, None, 0, PROOF, None],
        [5, 1, TOPIC, None, 0, PROOF[:63], 0],
        [6, 1, TOPIC, 0, 0, SALT],
        [6, 1, TOPIC, 0, MAX_NAMES + 1, SALT],
        [6, 1, TOPIC, 0, True, SALT],
        [6, 1, TOPIC, -1, 1, SALT],
        [6, 1, TOPIC, 0, 1, SALT[:31]],
        [7, 1, TOPIC, []],
        [7, 1, TOPIC, [0]],
        [7, 1, TOPIC, [2, 1]],
        [7, 1, TOPIC, [2, 2]],
        [7, 1, TOPIC, ["2"]],
        [7, 1, TOPIC, list(range(1, MAX_FETCH_PLACES + 2))],
        [8, TOPIC],
        [True, TOPIC],
        [None],
        [],
        {},
        1,
        [[[[]]]],
    ],
    ids=lambda fields: str(fields)[:24],
)
def test_malformed_client_frames_are_refused(fields: object) -> None:
    with pytest.raises(MalformedError):
        decode_client_frame(encode(fields))


@pytest.mark.parametrize(
    "fields",
    [
        [65, 1, b"\x06" * 31, {}],
        [65, 1, b"\x06" * 32, {"a": -1}],
        [65, 1, b"\x06" * 32, {b"a": 1}],
        [65, 1, b"\x06" * 32, {str(n): n for n in range(33)}],
        [66, 1, TOPIC, LIFE, 0, None],
        [67, TOPIC, 0, [ENVELOPE]],
        [67, TOPIC, 1, []],
        [69, 1, TOPIC, []],
        [69, 1, TOPIC, [0]],
        [69, 1, TOPIC, [1] * (MAX_PUT_ENVELOPES + 1)],
        [71, None, "unheard_of", "", None, None],
        [71, None, 3, "", None, None],
        [71, None, [], "", None, None],
        [71, None, "rate", "x" * 513, None, None],
        [71, None, "rate", "", -1, None],
        [72],
        [72, 1, TOPIC, 1, bytes(NAME_BYTES - 1)],
        [72, 1, TOPIC, 1, bytes(NAME_BYTES * (MAX_NAMES + 1))],
        [72, 1, TOPIC, 0, bytes(NAME_BYTES)],
        [72, 1, TOPIC, 1, [bytes(NAME_BYTES)]],
        [72, 1, TOPIC, 1, None],
        [73, 1, TOPIC, []],
        [73, 1, TOPIC, [ENVELOPE[:-1]]],
        [73, 1, TOPIC, ENVELOPE],
        [73, 1, TOPIC, [None] * (MAX_FETCH_PLACES + 1)],
        [74],
    ],
    ids=lambda fields: str(fields)[:24],
)
def test_malformed_relay_frames_are_refused(fields: object) -> None:
    with pytest.raises(MalformedError):
        decode_relay_frame(encode(fields))


def test_a_frame_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MalformedError, match="over the limit"):
        decode_client_frame(bytes(MAX_FRAME_BYTES + 1))


@pytest.mark.parametrize("frame", [*CLIENT_FRAMES, *RELAY_FRAMES], ids=lambda f: type(f).__name__)
def test_every_truncation_is_refused(frame: ClientFrame | RelayFrame) -> None:
    raw = encode_frame(frame)
    for end in range(len(raw)):
        for side in (decode_client_frame, decode_relay_frame):
            with pytest.raises(MalformedError):
                side(raw[:end])


@given(st.binary(max_size=400))
def test_any_bytes_give_a_frame_or_malformed(raw: bytes) -> None:
    for side in (decode_client_frame, decode_relay_frame):
        try:
            frame = side(raw)
        except MalformedError:
            continue
        assert encode_frame(frame) == raw


@given(st.sampled_from([*CLIENT_FRAMES, *RELAY_FRAMES]), st.data())
def test_any_mutation_gives_a_frame_or_malformed(frame: ClientFrame | RelayFrame, data: st.DataObject) -> None:
    raw = bytearray(encode_frame(frame))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for side in (decode_client_frame, decode_relay_frame):
        try:
            assert encode_frame(side(bytes(raw))) == bytes(raw)
        except MalformedError:
            continue


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://127.0.0.1:8787", "ws://127.0.0.1:8787"),
        ("ws://relay.example", "ws://relay.example:80"),
        ("WSS://Relay.Example", "wss://relay.example:443"),
        ("https://relay.example/v1/sync?x#y", "wss://relay.example:443"),
        ("http://relay.example:8080/", "ws://relay.example:8080"),
        ("ws://[::1]:8787", "ws://[::1]:8787"),
    ],
)
def test_origins_have_one_form(url: str, origin: str) -> None:
    assert normalize_origin(url) == origin
    assert normalize_origin(origin) == origin


@pytest.mark.parametrize(
    "url",
    ["", "relay.example", "ftp://relay.example", "ws://", "ws://a@b", "ws://h:0", "ws://h:65536", "ws://h:x", "ws://[",
     "ws://rel ay", "ws://h\n", "ws://münchen.example"],
)  # fmt: skip
def test_what_is_no_relay_url_is_refused(url: str) -> None:
    with pytest.raises(MalformedError):
        normalize_origin(url)


def test_messages_to_sign_end_in_challenge_and_topic() -> None:
    message = open_message("ws://h:80", b"\x06" * 32, TOPIC)
    assert message == blob_message("ws://h:80", b"\x06" * 32, TOPIC) == b"ws://h:80" + b"\x06" * 32 + TOPIC
    with pytest.raises(MalformedError):
        open_message("ws://h:80", b"\x06" * 31, TOPIC)


def test_a_name_is_of_all_bytes_and_of_the_salt() -> None:
    other = ENVELOPE[:-1] + b"\x05"
    names = {name_envelope(salt, envelope) for salt in (SALT, bytes(32)) for envelope in (ENVELOPE, other)}
    assert len(names) == 4
    assert {len(name) for name in names} == {NAME_BYTES}
    with pytest.raises(MalformedError):
        name_envelope(SALT[:31], ENVELOPE)


def test_the_short_way_into_a_put_takes_what_the_long_way_takes_and_nothing_else() -> None:
    """Every length of head, sizes around the limits, and each byte of the frame changed in turn."""
    chance = random.Random(23)
    topic = TopicId(chance.randbytes(32))
    taken = 0
    for request in (0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32):
        for size in (MIN_ENVELOPE_BYTES - 1, MIN_ENVELOPE_BYTES, 300, 65_535, 65_536):
            raw = encode([2, request, topic, [bytes(size)], False, None])
            taken += frames._read_put(raw) is not None
            assert _outcome(raw) == _outcome(raw, short=False)
    assert taken == 9 * 3
    for request in (5, 200, 70_000):
        raw = encode([2, request, topic, [chance.randbytes(296)], False, None])
        for place in (*range(50), *range(len(raw) - 4, len(raw))):
            for value in (0, 1, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x58, 0x59, 0x81, 0x82, 0xF4, 0xF5, 0xF6, raw[place] ^ 1):
                changed = raw[:place] + bytes((value,)) + raw[place + 1 :]
                assert _outcome(changed) == _outcome(changed, short=False)
    for raw in (
        b"\x86\x02\x18\x05" + encode([2, 5, topic, [bytes(300)], False, None])[3:],  # a longer head than needed
        b"\x86\x02\x19\x00\x85" + encode([2, 5, topic, [bytes(300)], False, None])[3:],
        encode([2, 5, topic, [bytes(300)], False, None]) + b"\xf6",
        encode([2, 5, topic, [bytes(300)], False, None])[:-1],
    ):
        with pytest.raises(MalformedError):
            decode_client_frame(raw)


def _outcome(raw: bytes, *, short: bool = True) -> object:
    try:
        return decode_client_frame(raw) if short else frames._decode(raw, frames._CLIENT)
    except MalformedError:
        return None


def test_an_ack_of_one_envelope_is_written_as_every_frame_is() -> None:
    topic = TopicId(bytes(range(32)))
    numbers = (0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53)
    for request in numbers:
        for seq in numbers:
            assert encode_frame(Ack(request, topic, (seq,))) == encode([69, request, topic, [seq]])
