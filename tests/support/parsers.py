"""Every parser of the protocol that a stranger's bytes reach, with whole inputs to begin from, for fuzzing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from cocoon_core.errors import CocoonError, InvalidLinkError, MalformedError, UntrustedInputError, UpdateNeededError
from cocoon_core.protocol.change import join_change, split_change
from cocoon_core.protocol.constants import LABEL_WELCOME
from cocoon_core.protocol.descriptor import descriptor_from_value
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.envelope import open_envelope, pad, seal_envelope, unpad
from cocoon_core.protocol.epoch import TopicKeys, unwrap_epoch, wrap_epoch
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
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
    normalize_origin,
)
from cocoon_core.protocol.ids import ActorId, Incarnation
from cocoon_core.protocol.invite import InviteKeys, Link, open_welcome, read_link, require_relays, write_link
from cocoon_core.protocol.operation_forms import Pin, Role
from cocoon_core.protocol.operations import Invite, Join, OperationBody, RevokeInvite, SetRole, decode_operation
from cocoon_core.protocol.primitives import keyed_hash, wrap
from cocoon_core.protocol.requests import join_frames, split_frames
from cocoon_core.protocol.run import parse_run, verify_run
from tests.support.bundle_parsers import bundle_parsers
from tests.support.epoch_parsers import epoch_parsers
from tests.support.link_parsers import link_parsers
from tests.support.media_parsers import media_parsers
from tests.support.protocol_story import (
    ANA,
    CREATE,
    EPOCH,
    FEED,
    GROUP,
    LIST,
    MEMBER,
    RELAYS,
    TAILS,
    Writer,
    named_secret,
)
from tests.vectors.sealing import seal_with_nonce

UNTRUSTED = (UntrustedInputError, UpdateNeededError)


@dataclass(frozen=True)
class Parser:
    """One way in. `allowed` are the error classes that it names; `is_cbor` says that inputs are CBOR values."""

    name: str
    read: Callable[[bytes], object]
    inputs: tuple[bytes, ...]
    allowed: tuple[type[CocoonError], ...] = UNTRUSTED
    is_cbor: bool = True


def _open_padded(raw: bytes, keys: TopicKeys = EPOCH) -> bytes:
    """Open an envelope that a member made, with any padding: the tag and the nonce are right, so unpadding is met."""
    nonce = keyed_hash(keys.nonce_key.reveal(), "cocoon/v1/envelope-nonce", raw, 24)
    return open_envelope(seal_with_nonce(raw, keys, nonce), keys)


def _open_welcome_body(raw: bytes) -> object:
    """Open a welcome that anyone who knows the invite made, with any body: the wrap is right."""
    keys = InviteKeys(named_secret("link"))
    info = LABEL_WELCOME.encode() + b"\0" + GROUP + keys.id
    return open_welcome(encode([1, wrap(keys.hpke().public, raw, info)]), keys, GROUP)


@cache
def all_parsers() -> tuple[Parser, ...]:
    keys = InviteKeys(named_secret("link"))
    writer = Writer()
    writer.operate(CREATE)
    runs = [writer.run(1)]
    for tail in TAILS:
        writer.edit(FEED, tail=tail)
    writer.edit(LIST, FEED)
    runs.append(writer.run(4))
    invite = Invite.make(keys.signing, keys.hpke().public, keys.mailbox_secret, GROUP, ANA.id)
    join = Join.make(keys.signing, GROUP, ANA.id, ANA.hpke_public, "Ana")
    demotion = SetRole(MEMBER, Role.MEMBER, (Pin(ANA.id, 1, runs[0].last_id),))
    operations: list[OperationBody] = [CREATE, invite, RevokeInvite(keys.id, (runs[0].last_id,)), join, demotion]
    topic, life, envelope = EPOCH.topic, Incarnation(bytes(16)), seal_envelope(b"value", EPOCH)
    client: list[ClientFrame] = [
        Open(1, topic, None, 0, EPOCH.signing.sign("x", b"")),
        Put(1, topic, (envelope,), True, 3),
        Cast(topic, b"x"),
        Close(topic),
        Resume(1, topic, life, 7, EPOCH.signing.sign("x", b""), 64),
        List(1, topic, 0, 16, bytes(32)),
        Fetch(1, topic, (1, 2, 9)),
    ]
    relay: list[RelayFrame] = [
        Challenge(1, bytes(32), {"a": 1}),
        Opened(1, topic, life, 2, False),
        Entries(topic, 1, (envelope,)),
        Live(topic, 2),
        Ack(1, topic, (1,)),
        CastReceived(topic, b"x"),
        Error(1, ErrorCode.EXPECT, "text", 5, 6),
        Listed(1, topic, 1, (bytes(8), b"x" * 8)),
        Fetched(1, topic, (envelope, None)),
    ]
    link = Link(GROUP, named_secret("link"), RELAYS)
    welcome_body: list[Any] = [1, CREATE.encode_body(), EPOCH.secret.reveal(), list(RELAYS)]
    welcome = encode([1, wrap(keys.hpke().public, encode(welcome_body), b"")])
    wires = tuple(run.wire for run in runs)
    changes = tuple(join_change([bytes(32)] * n, ActorId(bytes(16)), TAILS[n]).raw for n in range(3))
    malformed = (MalformedError,)
    return (
        Parser("decode", decode, (*wires, welcome), malformed),
        Parser("parse_run", lambda raw: parse_run(raw, GROUP), wires),
        Parser("verify_run", lambda raw: verify_run(parse_run(raw, GROUP)), wires),
        Parser("split_change", split_change, changes, malformed, is_cbor=False),
        Parser("descriptor", lambda raw: descriptor_from_value(decode(raw)), tuple(
            encode(descriptor.to_value()) for descriptor in (FEED, LIST)), malformed),
        Parser("decode_operation", lambda raw: decode_operation(decode(raw)), tuple(
            encode(operation.encode_body()) for operation in operations)),
        Parser("decode_client_frame", decode_client_frame, tuple(map(encode_frame, client)), malformed),
        Parser("decode_relay_frame", decode_relay_frame, tuple(map(encode_frame, relay)), malformed),
        Parser("split_frames", split_frames, (join_frames(map(encode_frame, relay)),), malformed, is_cbor=False),
        Parser("open_envelope", lambda raw: open_envelope(raw, EPOCH), (envelope,), is_cbor=False),
        Parser("unpad", unpad, (pad(b"value"), pad(bytes(300))), malformed, is_cbor=False),
        Parser("open_envelope with padding", _open_padded, (pad(b"value"), pad(bytes(300))), is_cbor=False),
        Parser("unwrap_epoch", lambda raw: unwrap_epoch(raw, ANA.hpke, GROUP, EPOCH.topic), (
            wrap_epoch(EPOCH, ANA.hpke_public, GROUP),), is_cbor=False),
        Parser("open_welcome", lambda raw: open_welcome(raw, keys, GROUP), (welcome,)),
        Parser("open_welcome with body", _open_welcome_body, (encode(welcome_body),)),
        Parser("require_relays", _read_relays, (encode(list(RELAYS)),), malformed),
        Parser("read_link", lambda raw: read_link(raw.decode("utf-8", "surrogateescape")), (
            write_link(link).encode(),), (InvalidLinkError,), is_cbor=False),
        Parser("normalize_origin", lambda raw: normalize_origin(raw.decode("utf-8", "surrogateescape")), (
            b"wss://relay.example:443/path", b"http://[::1]"), malformed, is_cbor=False),
        *(Parser(name, read, inputs, allowed, cbor) for name, read, inputs, allowed, cbor in epoch_parsers()),
        *(Parser(name, read, inputs, allowed, cbor) for name, read, inputs, allowed, cbor in link_parsers()),
        *(Parser(name, read, inputs, allowed, cbor) for name, read, inputs, allowed, cbor in bundle_parsers()),
        *(Parser(name, read, inputs, allowed, cbor) for name, read, inputs, allowed, cbor in media_parsers()),
    )  # fmt: skip


def _read_relays(raw: bytes) -> object:
    value = decode(raw)
    if not isinstance(value, list):
        raise MalformedError("not a list")
    return require_relays(value)


def shared_bomb(levels: int, width: int) -> bytes:
    """A few hundred bytes that stand for width^levels empty arrays, by shared references (CBOR tags 28 and 29)."""

    def level(number: int) -> bytes:
        if number == levels:
            return b"\xd8\x1c\x80"
        again = b"\xd8\x1d" + encode(number + 1)
        return b"\xd8\x1c" + bytes((0x80 | width,)) + level(number + 1) + again * (width - 1)

    return level(0)
