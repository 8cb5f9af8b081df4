"""Vectors for specs/envelope.md §4 and §5, specs/epoch.md and specs/invite.md.

A wrap by HPKE is random, so its ciphertexts were made once and are inputs here (ciphertexts.json): what is checked is
that they open. `python -m tests.vectors.generate --wraps` makes them anew.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cocoon_core.protocol.constants import (
    LABEL_ENVELOPE,
    LABEL_ENVELOPE_NONCE,
    LABEL_LINK_CHECK,
    LABEL_WELCOME,
    LABEL_WRAP,
    MAX_ENVELOPE_BYTES,
    VERSION,
)
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.envelope import envelope_hash, open_envelope, pad, padded_size, seal_envelope, unpad
from cocoon_core.protocol.epoch import Epoch, TopicKeys, unwrap_epoch, wrap_epoch
from cocoon_core.protocol.ids import GroupId, MemberId, TopicId
from cocoon_core.protocol.invite import (
    InviteKeys,
    Link,
    Welcome,
    encode_request,
    mailbox_keys,
    open_welcome,
    read_link,
    read_request,
    wrap_welcome,
    write_link,
)
from cocoon_core.protocol.operations import Invite
from cocoon_core.protocol.operations_admission import LostMember, Newcomer, request_id
from cocoon_core.protocol.primitives import hash_bytes, keyed_hash, seal, wrap
from tests.support.flips import flip
from tests.support.protocol_story import ANA, CREATE, EPOCH, GROUP, RELAYS, device_keys, named_secret
from tests.vectors.chains import tell
from tests.vectors.values import Json, refused

CIPHERTEXTS = Path(__file__).with_name("ciphertexts.json")
LINK = Link(GROUP, named_secret("link"), RELAYS)
GUARDED_LINK = replace(LINK, tokens=((RELAYS[0], "a-token"),))
OTHER_GROUP = GroupId(b"\x09" * 32)


def make_padding() -> Json:
    """Lengths and the class that each falls into; padding that is refused."""
    lengths = [0, 1, 254, 255, 256, 271, 272, 300, 511, 512, 1000, 1023, 1024, 4096, 65_535, 65_536, 1_000_000]
    value = b"value"
    padded = pad(value)
    cases = [
        ("no end mark", "the value is followed by 80", bytes(256)),
        ("another end mark", "the value is followed by 80", value + b"\x81" + bytes(250)),
        ("something after the end mark", "zeros follow the mark", padded[:-1] + b"\x01"),
        ("a byte too short", "the length class is that of the value", padded[:-1]),
        ("a byte too long", "the length class is that of the value", padded + b"\0"),
        ("the next class", "the length class is that of the value", padded.ljust(272, b"\0")),
        ("empty", "256 bytes at least", b""),
    ]
    return {
        "sizes": [{"value_bytes": length, "padded_bytes": padded_size(length)} for length in lengths],
        "good": [{"value": value.hex(), "padded": padded.hex()}, {"value": "", "padded": pad(b"").hex()}],
        "bad": [refused(name, reason, {"padded": raw.hex()}, unpad, raw) for name, reason, raw in cases],
    }


def make_envelope() -> Json:
    """A sealed run with every intermediate value; envelopes that are refused."""
    _, runs = tell()
    return {
        "epoch_secret": EPOCH.secret.reveal().hex(),
        "topic": EPOCH.topic.hex(),
        "good": [_shown_envelope(run.wire, EPOCH) for run in runs] + [_shown_envelope(b"", EPOCH)],
        "bad": _bad_envelopes(runs[1].wire),
    }


def _shown_envelope(value: bytes, keys: TopicKeys) -> Json:
    sealed = seal_envelope(value, keys)
    return {
        "value": value.hex(),
        "padded_bytes": len(pad(value)),
        "ad": (LABEL_ENVELOPE.encode() + b"\0" + keys.topic).hex(),
        "nonce": sealed[:24].hex(),
        "envelope": sealed.hex(),
        "envelope_hash": envelope_hash(sealed).hex(),
    }


def seal_with_nonce(padded: bytes, keys: TopicKeys, nonce: bytes) -> bytes:
    """An envelope with a nonce and padding of one's own choice: what a member who breaks the rules could make."""
    return nonce + seal(keys.seal_key, nonce, padded, LABEL_ENVELOPE.encode() + b"\0" + keys.topic)


def _nonce(padded: bytes, keys: TopicKeys) -> bytes:
    return keyed_hash(keys.nonce_key.reveal(), LABEL_ENVELOPE_NONCE, padded, 24)


def _bad_envelopes(value: bytes) -> list[Json]:
    good = seal_envelope(value, EPOCH)
    other = Epoch(named_secret("another epoch"))
    odd = pad(value) + bytes(8)
    cases: list[tuple[str, str, bytes, TopicKeys]] = [
        ("another epoch's topic", "sealed under another key", seal_envelope(value, other), EPOCH),
        ("a flipped bit in the nonce", "changed", flip(good, 0), EPOCH),
        ("a flipped bit in the ciphertext", "changed", flip(good, 30), EPOCH),
        ("a flipped bit in the tag", "changed", flip(good, -1), EPOCH),
        ("295 bytes", "an envelope has 296 bytes at least", good[:295], EPOCH),
        (
            "a nonce that is not the plaintext's",
            "the nonce is checked again",
            seal_with_nonce(pad(value), EPOCH, bytes(24)),
            EPOCH,
        ),
        (
            "eight zeros more than the padding has",
            "one padding",
            seal_with_nonce(odd, EPOCH, _nonce(odd, EPOCH)),
            EPOCH,
        ),
    ]
    shown = [
        refused(name, reason, {"envelope": raw.hex()}, open_envelope, raw, keys) for name, reason, raw, keys in cases
    ]
    shown.append(
        refused(
            "1 MiB and a byte",
            "an envelope has 1 MiB at most",
            {"envelope": None, "zeros": MAX_ENVELOPE_BYTES + 1},
            open_envelope,
            bytes(MAX_ENVELOPE_BYTES + 1),
            EPOCH,
        )
    )
    return shown


def _kept() -> dict[str, str]:
    kept: dict[str, str] = json.loads(CIPHERTEXTS.read_text("utf-8"))
    return kept


def make_ciphertexts() -> Json:
    """Fresh random wraps, as inputs of the vectors from then on."""
    welcome = Welcome(GROUP, CREATE, EPOCH, RELAYS)
    keys = InviteKeys(LINK.secret)
    public = keys.hpke().public
    body: list[Any] = [VERSION, CREATE.encode_body(), EPOCH.secret.reveal(), list(RELAYS)]
    info = LABEL_WELCOME.encode() + b"\0" + GROUP + keys.id

    def wrapped(fields: list[Any]) -> str:
        return encode([VERSION, wrap(public, encode(fields), info)]).hex()

    elsewhere = CREATE.encode_body()
    elsewhere[5] = "Another family"
    wrap_info = LABEL_WRAP.encode() + b"\0" + GROUP + EPOCH.topic
    return {
        "epoch_wrap": wrap_epoch(EPOCH, ANA.hpke_public, GROUP).hex(),
        "epoch_wrap_of_another_secret": wrap(ANA.hpke_public, named_secret("another epoch").reveal(), wrap_info).hex(),
        "epoch_wrap_of_31_bytes": wrap(ANA.hpke_public, bytes(31), wrap_info).hex(),
        "welcome": wrap_welcome(welcome, keys.id, public).hex(),
        "welcome_by_request": wrap_welcome(replace(welcome, epoch=None), keys.id, public).hex(),
        "welcome_of_another_group": wrapped([VERSION, elsewhere, *body[2:]]),
        "welcome_of_version_2": wrapped([2, *body[1:]]),
        "welcome_with_31_bytes": wrapped([VERSION, body[1], bytes(31), body[3]]),
        "welcome_without_relays": wrapped([VERSION, *body[1:3], []]),
        "welcome_of_version_true": wrapped([True, *body[1:]]),
    }


def make_epoch() -> Json:
    """An epoch's keys from its secret; a wrap that opens, and wraps that do not."""
    kept = _kept()
    good = bytes.fromhex(kept["epoch_wrap"])
    ben = device_keys("ben")
    cases = [
        ("another device's key", "it is sealed to one key", good, ben, GROUP, EPOCH.topic),
        ("another group", "bound to the group", good, ANA, OTHER_GROUP, EPOCH.topic),
        ("another topic", "bound to the topic", good, ANA, GROUP, TopicId(ben.id)),
        ("a flipped bit in the ML-KEM ciphertext", "changed", flip(good, 0), ANA, GROUP, EPOCH.topic),
        ("a flipped bit in the X25519 share", "changed", flip(good, 1088), ANA, GROUP, EPOCH.topic),
        ("a flipped bit in the tag", "changed", flip(good, -1), ANA, GROUP, EPOCH.topic),
        ("a byte less", "cut off", good[:-1], ANA, GROUP, EPOCH.topic),
        (
            "another secret inside",
            "the topic derives from the secret",
            bytes.fromhex(kept["epoch_wrap_of_another_secret"]),
            ANA,
            GROUP,
            EPOCH.topic,
        ),
        (
            "31 bytes inside",
            "a secret has 32 bytes",
            bytes.fromhex(kept["epoch_wrap_of_31_bytes"]),
            ANA,
            GROUP,
            EPOCH.topic,
        ),
    ]
    return {
        "secret": EPOCH.secret.reveal().hex(),
        **_shown_keys(EPOCH),
        "cast_key": EPOCH.cast_key.reveal().hex(),
        "repair_secret": EPOCH.repair_secret.reveal().hex(),
        "wrap": {
            "origin": "made once by wrap_epoch; random, so only opening it is checked",
            "hpke_seed": ANA.hpke_seed.reveal().hex(),
            "group_id": GROUP.hex(),
            "info": (LABEL_WRAP.encode() + b"\0" + GROUP + EPOCH.topic).hex(),
            "wrapped": good.hex(),
        },
        "bad_wraps": [
            refused(
                name,
                reason,
                {
                    "hpke_seed": keys.hpke_seed.reveal().hex(),
                    "group_id": group.hex(),
                    "topic": topic.hex(),
                    "wrapped": wrapped.hex(),
                },
                unwrap_epoch,
                wrapped,
                keys.hpke,
                group,
                topic,
            )
            for name, reason, wrapped, keys, group, topic in cases
        ],
    }


def _shown_keys(keys: TopicKeys) -> Json:
    return {
        "topic": keys.topic.hex(),
        "seal_key": keys.seal_key.reveal().hex(),
        "nonce_key": keys.nonce_key.reveal().hex(),
    }


def make_invite() -> Json:
    """A link, what derives from it, the invite's proof, a welcome; links and welcomes that are refused."""
    kept = _kept()
    keys = InviteKeys(LINK.secret)
    text = write_link(LINK)
    invite = Invite.make(keys.signing, keys.hpke().public, keys.mailbox_secret, GROUP, ANA.id, expires_ms=1)
    good = bytes.fromhex(kept["welcome"])
    return {
        "link": {"group_id": GROUP.hex(), "secret": LINK.secret.reveal().hex(), "relays": list(RELAYS), "text": text},
        "keys": {
            "invite_id": keys.id.hex(),
            "hpke_public": keys.hpke().public.hex(),
            "mailbox_secret": keys.mailbox_secret.reveal().hex(),
            "mailbox": _shown_keys(mailbox_keys(keys.mailbox_secret)),
        },
        "proof": {"author": ANA.id.hex(), "signed": (GROUP + ANA.id).hex(), "signature": invite.proof.hex()},
        "welcome": {
            "origin": "made once by wrap_welcome; random, so only opening it is checked",
            "info": (LABEL_WELCOME.encode() + b"\0" + GROUP + keys.id).hex(),
            "create": encode(CREATE.encode_body()).hex(),
            "epoch_secret": EPOCH.secret.reveal().hex(),
            "relays": list(RELAYS),
            "value": good.hex(),
        },
        "link_with_token": {"tokens": dict(GUARDED_LINK.tokens), "text": write_link(GUARDED_LINK)},
        "welcome_by_request": {
            "origin": "made once by wrap_welcome; the epoch's secret is null",
            "value": kept["welcome_by_request"],
        },
        "request": _show_request(keys),
        "bad_requests": _bad_requests(keys),
        "bad_links": _bad_links(text),
        "bad_welcomes": _bad_welcomes(kept, good, keys),
    }


def _newcomer(keys: InviteKeys) -> tuple[DeviceKeys, Newcomer]:
    device = device_keys("dora")
    return device, Newcomer.make(device.signing, keys.signing, GROUP, device.hpke_public, "Dora")


def _show_request(keys: InviteKeys) -> Json:
    """A newcomer's request, with what both keys sign."""
    device, request = _newcomer(keys)
    return {
        "device_id": device.id.hex(),
        "hpke_public": device.hpke_public.hex(),
        "name": request.name,
        "meant": encode([0, GROUP, device.id, device.hpke_public, keys.id, request.name]).hex(),
        "invite_proof": request.invite_proof.hex(),
        "proof": request.proof.hex(),
        "id": request_id(request, GROUP).hex(),
        "value": encode_request(request).hex(),
    }


def _bad_requests(keys: InviteKeys) -> list[Json]:
    device, request = _newcomer(keys)
    other = InviteKeys(named_secret("another link"))
    by_other = Newcomer.make(device.signing, other.signing, GROUP, device.hpke_public, "Dora")
    elsewhere = Newcomer.make(device.signing, keys.signing, OTHER_GROUP, device.hpke_public, "Dora")
    lost = LostMember.make(device.signing, GROUP, device.hpke_public, MemberId(bytes(32)))
    fields = request.to_value()
    cases = [
        ("another name", "both proofs cover the name", encode([VERSION, [*fields[:4], "Ben", *fields[5:]]])),
        ("another link's", "by the invite of this mailbox", encode_request(by_other)),
        ("another group's", "both proofs cover the group", encode_request(elsewhere)),
        (
            "the proofs exchanged",
            "each key signs under its own label",
            encode([VERSION, [*fields[:5], fields[6], fields[5]]]),
        ),
        ("a lost member's", "a newcomer's", encode([VERSION, lost.to_value()])),
        ("a welcome", "an array, not bytes", encode([VERSION, b""])),
        ("version 2", "another version", encode([2, fields])),
    ]
    return [
        refused(
            name,
            reason,
            {"group_id": GROUP.hex(), "invite_id": keys.id.hex(), "value": value.hex()},
            read_request,
            value,
            GROUP,
            keys.id,
        )
        for name, reason, value in cases
    ]


def _text_of(fields: list[Any]) -> str:
    payload = encode(fields)
    return (
        "cocoon:" + base64.urlsafe_b64encode(payload + hash_bytes(LABEL_LINK_CHECK, payload, 4)).rstrip(b"=").decode()
    )


def _bad_links(text: str) -> list[Json]:
    fields = [VERSION, GROUP, LINK.secret.reveal(), list(RELAYS)]
    cases = [
        ("empty", "not a link", ""),
        ("another scheme", "a link begins with cocoon:", "cocoom:" + text[7:]),
        ("the last character missing", "the check", text[:-1]),
        ("a character changed", "the check", text[:40] + ("A" if text[40] != "A" else "B") + text[41:]),
        ("with = at the end", "one text for a link", text + "="),
        ("a character that is not of base64url", "base64url", text[:40] + "+" + text[41:]),
        ("over 8,192 characters", "a link is short", text + "A" * 8192),
        ("version 2", "a later version", _text_of([2, *fields[1:]])),
        ("version true", "true is not a number", _text_of([True, *fields[1:]])),
        ("a secret of 31 bytes", "32 bytes", _text_of([VERSION, GROUP, bytes(31), list(RELAYS)])),
        ("a group id of 31 bytes", "32 bytes", _text_of([VERSION, bytes(31), *fields[2:]])),
        ("no relay", "1 to 8 relays", _text_of([*fields[:3], []])),
        ("nine relays", "1 to 8 relays", _text_of([*fields[:3], [f"ws://r{n}.example" for n in range(9)]])),
        ("a relay twice", "each once", _text_of([*fields[:3], [*RELAYS, *RELAYS]])),
        ("a relay over http", "ws or wss", _text_of([*fields[:3], ["http://relay.example"]])),
        ("a relay with a line break", "visible ASCII", _text_of([*fields[:3], ["ws://relay.example\n"]])),
        ("a relay with an escape", "visible ASCII", _text_of([*fields[:3], ["ws://\x1b[2Jrelay.example"]])),
        ("no token in the fifth field", "without tokens there are four fields", _text_of([*fields, {}])),
        ("a token of another relay", "of a relay of the link", _text_of([*fields, {"ws://other.example": "t"}])),
        ("an empty token", "1 to 256 visible ASCII characters", _text_of([*fields, {RELAYS[0]: ""}])),
        ("a token that is a number", "text", _text_of([*fields, {RELAYS[0]: 1}])),
        ("six fields", "four or five", _text_of([*fields, {RELAYS[0]: "t"}, 0])),
    ]
    return [refused(name, reason, {"text": link}, read_link, link) for name, reason, link in cases]


def _bad_welcomes(kept: dict[str, str], good: bytes, keys: InviteKeys) -> list[Json]:
    other = InviteKeys(named_secret("another link"))
    cases: list[tuple[str, str, bytes, InviteKeys, GroupId]] = [
        ("another link's keys", "sealed to one link", good, other, GROUP),
        ("another group", "bound to the group", good, keys, OTHER_GROUP),
        ("a flipped bit", "changed", flip(good, -1), keys, GROUP),
        ("a byte less", "not a welcome", good[:-1], keys, GROUP),
        ("another group's create", "the link pins the group", _hex(kept, "welcome_of_another_group"), keys, GROUP),
        ("version 2 inside", "another version", _hex(kept, "welcome_of_version_2"), keys, GROUP),
        ("version true inside", "true is not a number", _hex(kept, "welcome_of_version_true"), keys, GROUP),
        ("a secret of 31 bytes", "32 bytes", _hex(kept, "welcome_with_31_bytes"), keys, GROUP),
        ("no relay", "1 to 8 relays", _hex(kept, "welcome_without_relays"), keys, GROUP),
        ("version 2 outside", "another version", encode([2, b""]), keys, GROUP),
        ("not an array", "not a welcome", encode({}), keys, GROUP),
    ]
    return [
        refused(
            name,
            reason,
            {
                "link_secret": (LINK.secret if with_keys is keys else named_secret("another link")).reveal().hex(),
                "group_id": group.hex(),
                "value": value.hex(),
            },
            open_welcome,
            value,
            with_keys,
            group,
        )
        for name, reason, value, with_keys, group in cases
    ]


def _hex(kept: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(kept[name])
