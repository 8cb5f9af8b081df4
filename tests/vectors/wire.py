"""Vectors for relay frames (specs/relay.md)."""

from __future__ import annotations

from typing import Any

from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_OPEN, LABEL_RELAY_GET, LABEL_RELAY_POST
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.frames import (
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
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.requests import digest_body, get_message, join_frames, post_message, split_frames
from tests.support.protocol_story import EPOCH
from tests.vectors.values import Json, refused


def make_frames() -> Json:
    """One frame of every type and form, what the proofs sign, frames that are refused by the side they are sent to."""
    topic, life = EPOCH.topic, Incarnation(b"\x0a" * 16)
    origin, challenge = "wss://relay.example:443", b"\x0b" * 32
    opening = open_message(origin, challenge, topic)
    blob = blob_message(origin, challenge, topic)
    proof = EPOCH.signing.sign(LABEL_OPEN, opening)
    envelope, salt = b"\x0c" * 296, b"\x0d" * 32
    names = name_envelope(salt, envelope), name_envelope(salt, b"\x0e" * 400)
    client: list[tuple[str, ClientFrame]] = [
        ("open from the start", Open(1, topic, None, 0, proof)),
        ("open from a place", Open(2, topic, life, 41, proof)),
        ("put", Put(3, topic, (envelope,))),
        ("put, expect and seal", Put(4, topic, (envelope, envelope), True, 42)),
        ("cast", Cast(topic, b"hello")),
        ("close", Close(topic)),
        ("resume without a place", Resume(5, topic, None, 0, proof, 64)),
        ("resume from a place", Resume(6, topic, life, 41, proof, 0)),
        ("list", List(7, topic, 0, 4_096, salt)),
        ("fetch", Fetch(8, topic, (1, 3, 42))),
    ]
    relay: list[tuple[str, RelayFrame]] = [
        ("challenge", Challenge(1, challenge, {"frame_bytes": 2 * 1024 * 1024})),
        ("opened", Opened(1, topic, life, 42, False)),
        ("entries", Entries(topic, 41, (envelope, envelope))),
        ("live", Live(topic, 42)),
        ("ack", Ack(4, topic, (43, 44))),
        ("cast", CastReceived(topic, b"hello")),
        ("error of a request", Error(4, ErrorCode.EXPECT, "the topic went on", None, 44)),
        ("error of the connection", Error(None, ErrorCode.RATE, "too fast", 1000, None)),
        ("listed", Listed(7, topic, 1, names)),
        ("listed, nothing there", Listed(7, topic, 43, ())),
        ("fetched", Fetched(8, topic, (envelope, None))),
    ]
    body = join_frames(encode_frame(frame) for name, frame in client if name.startswith("put"))
    proofs = [
        (LABEL_OPEN, opening),
        (LABEL_BLOB, blob),
        (LABEL_RELAY_GET, get_message(origin, challenge, topic)),
        (LABEL_RELAY_POST, post_message(origin, challenge, topic, digest_body(body))),
    ]
    return {
        "proofs": [
            {
                "label": label,
                "origin": origin,
                "challenge": challenge.hex(),
                "topic": topic.hex(),
                "message": message.hex(),
                "signature": EPOCH.signing.sign(label, message).hex(),
            }
            for label, message in proofs
        ],
        "bodies": [
            {
                "frames": [frame.hex() for frame in split_frames(one)],
                "body": one.hex(),
                "digest": digest_body(one).hex(),
            }
            for one in (body, join_frames([encode_frame(frame) for _, frame in client[-1:]]))
        ],
        "bad_bodies": _bad_bodies(encode_frame(client[-1][1])),
        "names": [
            {"salt": salt.hex(), "envelope": named.hex(), "name": name_envelope(salt, named).hex()}
            for named in (envelope, b"\x0e" * 400)
        ],
        "client": [{"name": name, "frame": encode_frame(frame).hex()} for name, frame in client],
        "relay": [{"name": name, "frame": encode_frame(frame).hex()} for name, frame in relay],
        "bad_for_relay": _bad_client_frames(topic, proof, envelope),
        "bad_for_client": _bad_relay_frames(topic, life, envelope),
    }


def _bad_bodies(frame: bytes) -> list[Json]:
    cases = [
        ("a length of three bytes", "a length is 4 bytes", join_frames([frame]) + bytes(3)),
        ("an empty frame", "a frame has one byte at least", join_frames([frame, b""])),
        ("a frame that ends early", "the lengths add up to the body", join_frames([frame])[:-1]),
        ("a byte after the last frame", "the lengths add up to the body", join_frames([frame]) + b"\x01"),
        ("a length beyond what a frame may have", "2,097,152 at most", (1 << 21 | 1).to_bytes(4) + bytes(1 << 8)),
    ]
    return [refused(name, reason, {"body": body.hex()}, split_frames, body) for name, reason, body in cases]


def _bad_client_frames(topic: TopicId, proof: bytes, envelope: bytes) -> list[Json]:
    cases: list[tuple[str, str, Any]] = [
        ("not an array", "a frame is an array that begins with its type", {}),
        ("empty", "a frame is an array that begins with its type", []),
        ("a type that is true", "true is not a number", [True, 1, topic, None, 0, proof]),
        ("an unknown type", "types 1 to 7", [8, topic]),
        ("a relay's frame, sent back", "each side takes only the other's", [68, topic, 1]),
        ("an open of five fields", "exactly its fields", [1, 1, topic, None, 0]),
        ("a topic of 31 bytes", "32 bytes", [4, bytes(31)]),
        ("an incarnation of 15 bytes", "16 bytes", [1, 1, topic, bytes(15), 0, proof]),
        ("a negative place", "0 to 2^53 - 1", [1, 1, topic, None, -1, proof]),
        ("a place of 2^53", "0 to 2^53 - 1", [1, 1, topic, None, 2**53, proof]),
        ("a request that is true", "true is not a number", [1, True, topic, None, 0, proof]),
        ("a proof of 63 bytes", "64 bytes", [1, 1, topic, None, 0, proof[:63]]),
        ("a put of nothing", "one envelope at least", [2, 1, topic, [], False, None]),
        ("a put of 65", "64 envelopes at most", [2, 1, topic, [b""] * 65, False, None]),
        ("an envelope of 295 bytes", "296 bytes at least", [2, 1, topic, [envelope[:295]], False, None]),
        ("a seal that is 1", "a flag is true or false", [2, 1, topic, [envelope], 1, None]),
        ("an expect that is true", "true is not a number", [2, 1, topic, [envelope], False, True]),
        ("a cast of 4,097 bytes", "4,096 at most", [3, topic, bytes(4097)]),
        ("a resume without its number", "exactly its fields", [5, 1, topic, None, 0, proof]),
        ("a list of no names", "1 to 4,096", [6, 1, topic, 0, 0, bytes(32)]),
        ("a list of 4,097 names", "1 to 4,096", [6, 1, topic, 0, 4097, bytes(32)]),
        ("a salt of 31 bytes", "32 bytes", [6, 1, topic, 0, 1, bytes(31)]),
        ("a fetch of nothing", "one place at least", [7, 1, topic, []]),
        ("a fetch of place 0", "sequence numbers count from 1", [7, 1, topic, [0, 1]]),
        ("a fetch of 1,025 places", "1,024 at most", [7, 1, topic, list(range(1, 1026))]),
        ("places that fall", "places rise", [7, 1, topic, [2, 1]]),
        ("a place twice", "places rise", [7, 1, topic, [2, 2]]),
    ]
    return [
        refused(name, reason, {"frame": encode(frame).hex()}, decode_client_frame, encode(frame))
        for name, reason, frame in cases
    ]


def _bad_relay_frames(topic: TopicId, life: Incarnation, envelope: bytes) -> list[Json]:
    cases: list[tuple[str, str, Any]] = [
        ("a client's frame, sent back", "each side takes only the other's", [4, topic]),
        ("a challenge of 31 bytes", "32 bytes", [65, 1, bytes(31), {}]),
        ("limits that are no map", "a map of names to numbers", [65, 1, bytes(32), []]),
        ("a limit that is text", "a map of names to numbers", [65, 1, bytes(32), {"a": "b"}]),
        ("a sealed flag that is 0", "a flag is true or false", [66, 1, topic, life, 0, 0]),
        ("entries from 0", "sequence numbers count from 1", [67, topic, 0, [envelope]]),
        ("no entries", "one envelope at least", [67, topic, 1, []]),
        ("an ack of nothing", "one number at least", [69, 1, topic, []]),
        ("an ack of place 0", "sequence numbers count from 1", [69, 1, topic, [0]]),
        ("an unknown error code", "one of the sixteen", [71, 1, "teapot", "", None, None]),
        ("an error message of 513 bytes", "512 at most", [71, 1, "rate", "x" * 513, None, None]),
        ("names of 9 bytes", "8 bytes each", [72, 1, topic, 1, bytes(9)]),
        ("4,097 names", "4,096 at most", [72, 1, topic, 1, bytes(8 * 4097)]),
        ("names from 0", "sequence numbers count from 1", [72, 1, topic, 0, bytes(8)]),
        ("names in an array", "one byte string", [72, 1, topic, 1, [bytes(8)]]),
        ("nothing fetched", "one envelope at least", [73, 1, topic, []]),
        ("a fetched envelope of 295 bytes", "296 bytes at least", [73, 1, topic, [envelope[:295]]]),
    ]
    return [
        refused(name, reason, {"frame": encode(frame).hex()}, decode_relay_frame, encode(frame))
        for name, reason, frame in cases
    ]
