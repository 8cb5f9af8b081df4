"""Vectors for the bodies of roster operations (specs/roster.md §2) and for relay frames (specs/relay.md)."""

from __future__ import annotations

from typing import Any

from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_INVITE_PROOF, LABEL_JOIN, LABEL_OPEN
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
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    blob_message,
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
    open_message,
)
from cocoon_core.protocol.ids import EntryId, Incarnation, TopicId
from cocoon_core.protocol.invite import InviteKeys
from cocoon_core.protocol.operations import (
    Invite,
    Join,
    OperationBody,
    Pin,
    RevokeInvite,
    Role,
    SetRole,
    decode_operation,
)
from tests.support.protocol_story import ANA, BEGIN_MS, CREATE, EPOCH, GROUP, MEMBER, device_keys
from tests.vectors.sealing import LINK
from tests.vectors.values import Json, refused

BEN = device_keys("ben")
_ID_1, _ID_2 = EntryId(b"\x01" * 32), EntryId(b"\x02" * 32)


def make_operations() -> Json:
    """One body of every operation, and what the proofs in them sign; bodies that are refused."""
    keys = InviteKeys(LINK.secret)
    invite = Invite.make(
        keys.signing, keys.hpke().public, keys.mailbox_secret, GROUP, ANA.id, uses=3, expires_ms=BEGIN_MS
    )
    join = Join.make(keys.signing, GROUP, BEN.id, BEN.hpke_public, "Ben")
    pins = (Pin(ANA.id, 7, _ID_1),)
    good: list[tuple[str, OperationBody]] = [
        ("create", CREATE),
        ("invite", invite),
        ("revoke_invite", RevokeInvite(keys.id, (_ID_1, _ID_2))),
        ("revoke_invite that pins nothing", RevokeInvite(keys.id)),
        ("join", join),
        ("set_role: a promotion", SetRole(MEMBER, Role.ADMIN)),
        ("set_role: a demotion", SetRole(MEMBER, Role.MEMBER, pins)),
    ]
    return {
        "group_id": {"body": encode(CREATE.encode_body()).hex(), "group_id": GROUP.hex()},
        "proofs": [
            {
                "label": LABEL_INVITE_PROOF,
                "public": keys.id.hex(),
                "message": (GROUP + ANA.id).hex(),
                "signature": invite.proof.hex(),
            },
            {
                "label": LABEL_JOIN,
                "public": keys.id.hex(),
                "message": (GROUP + BEN.id + BEN.hpke_public).hex(),
                "signature": join.proof.hex(),
            },
        ],
        "good": [{"name": name, "body": encode(body.encode_body()).hex()} for name, body in good],
        "bad": _bad_operations(invite, join),
    }


def _bad_operations(invite: Invite, join: Join) -> list[Json]:
    create, invited, joined = CREATE.encode_body(), invite.encode_body(), join.encode_body()
    role = SetRole(MEMBER, Role.MEMBER, (Pin(ANA.id, 7, _ID_1),)).encode_body()
    policy = CREATE.policy.to_value()

    def edited(body: list[Any], place: int, value: Any) -> list[Any]:
        return [*body[:place], value, *body[place + 1 :]]

    cases: list[tuple[str, str, Any]] = [
        ("not an array", "an array that starts with its code", {}),
        ("empty", "an array that starts with its code", []),
        ("a code that is true", "true is not a number", [True]),
        ("a negative code", "codes count from 0", [-1]),
        ("an unknown code", "an operation of a later version stops the group", [200, b""]),
        ("create with an item more", "exactly its items", [*create, 0]),
        ("create with a short salt", "the salt has 32 bytes", edited(create, 1, bytes(31))),
        ("create with a short device id", "an id has its length", edited(create, 2, bytes(31))),
        ("create with a short HPKE key", "1,216 bytes", edited(create, 3, bytes(1215))),
        ("create with an empty group name", "a name has 1 to 128 bytes", edited(create, 5, "")),
        ("create with a control in a name", "names show", edited(create, 6, "Ana\n")),
        (
            "a policy with an unknown rule",
            "a rule of a later version stops the group",
            edited(create, 7, {**policy, "vouches": 1}),
        ),
        ("a policy without a rule", "every rule is there", edited(create, 7, {"inviters": "member", "relays": []})),
        ("a policy for nobody", "1 to 5,000", edited(create, 7, {**policy, "max_members": 0})),
        ("a policy for true members", "true is not a number", edited(create, 7, {**policy, "max_members": True})),
        ("invite with 0 uses", "1 to 1,000", edited(invited, 4, 0)),
        ("invite with true uses", "true is not a number", edited(invited, 4, True)),
        ("invite before 1970", "a time is not negative", edited(invited, 5, -1)),
        ("invite for an owner", "a role is member or admin", edited(invited, 6, "owner")),
        ("invite with a short proof", "64 bytes", edited(invited, 7, bytes(63))),
        ("revoke_invite with joins out of order", "rising", [2, invite.invite, [_ID_2, _ID_1]]),
        ("revoke_invite with a join twice", "rising", [2, invite.invite, [_ID_1, _ID_1]]),
        ("join without a proof", "exactly its items", joined[:-1]),
        ("join with a name like an id", "a name is not like an id", edited(joined, 3, "deadbeef")),
        ("set_role: a promotion with pins", "a promotion pins nothing", edited(role, 2, "admin")),
        ("set_role with a pin of two items", "a pin is [device id, seq, entry id]", edited(role, 3, [[ANA.id, 7]])),
        ("set_role with a pin at true", "true is not a number", edited(role, 3, [[ANA.id, True, _ID_1]])),
    ]
    return [refused(name, reason, {"body": encode(body).hex()}, decode_operation, body) for name, reason, body in cases]


def make_frames() -> Json:
    """One frame of every type and form, what the proofs sign, frames that are refused by the side they are sent to."""
    topic, life = EPOCH.topic, Incarnation(b"\x0a" * 16)
    origin, challenge = "wss://relay.example:443", b"\x0b" * 32
    opening = open_message(origin, challenge, topic)
    blob = blob_message(origin, challenge, topic)
    proof = EPOCH.signing.sign(LABEL_OPEN, opening)
    envelope = b"\x0c" * 296
    client: list[tuple[str, ClientFrame]] = [
        ("open from the start", Open(1, topic, None, 0, proof)),
        ("open from a place", Open(2, topic, life, 41, proof)),
        ("put", Put(3, topic, (envelope,))),
        ("put, expect and seal", Put(4, topic, (envelope, envelope), True, 42)),
        ("cast", Cast(topic, b"hello")),
        ("close", Close(topic)),
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
            for label, message in ((LABEL_OPEN, opening), (LABEL_BLOB, blob))
        ],
        "client": [{"name": name, "frame": encode_frame(frame).hex()} for name, frame in client],
        "relay": [{"name": name, "frame": encode_frame(frame).hex()} for name, frame in relay],
        "bad_for_relay": _bad_client_frames(topic, proof, envelope),
        "bad_for_client": _bad_relay_frames(topic, life, envelope),
    }


def _bad_client_frames(topic: TopicId, proof: bytes, envelope: bytes) -> list[Json]:
    cases: list[tuple[str, str, Any]] = [
        ("not an array", "a frame is an array that begins with its type", {}),
        ("empty", "a frame is an array that begins with its type", []),
        ("a type that is true", "true is not a number", [True, 1, topic, None, 0, proof]),
        ("an unknown type", "types 1 to 4", [5, topic]),
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
    ]
    return [
        refused(name, reason, {"frame": encode(frame).hex()}, decode_relay_frame, encode(frame))
        for name, reason, frame in cases
    ]
