"""Vectors for specs/recovery.md.

A sealed seed and an index are random, so their ciphertexts were made once (recovery_ciphertexts.json) and are inputs
here. `python -m tests.vectors.generate --wraps` makes them anew.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cocoon_core.protocol.circle import (
    CIRCLE_PREFIX,
    HELP_PREFIX,
    CircleCode,
    HelpCode,
    encode_request,
    read_circle_code,
    read_help_code,
    read_request,
    request_words,
    write_circle_code,
    write_help_code,
)
from cocoon_core.protocol.constants import (
    LABEL_CIRCLE_CHECK,
    LABEL_INDEX,
    LABEL_PHRASE_STRETCH,
    LABEL_RECOVERY_SEED,
    MIN_INDEX_BYTES,
    PHRASE_ARGON2_MEMORY_KIB,
    PHRASE_ARGON2_OPS,
    VERSION,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import GroupId, MemberId
from cocoon_core.protocol.operations_admission import LostMember, request_id
from cocoon_core.protocol.primitives import Secret, argon2id, hash_bytes, wrap
from cocoon_core.protocol.recovery import (
    PhraseKeys,
    RecoveryKeys,
    index_mailbox,
    index_mailbox_secret,
    open_seed,
    read_phrase,
    seal_seed,
    write_phrase,
)
from cocoon_core.protocol.recovery_index import Index, IndexRecord, open_index, seal_index
from tests.support.flips import flip
from tests.support.protocol_story import CREATE, EPOCH, GROUP, MEMBER, RELAYS, device_keys, named_secret
from tests.vectors.values import Json, refused

CIPHERTEXTS = Path(__file__).with_name("recovery_ciphertexts.json")
SECRET = Secret(bytes(range(16)), 16)
KEYS = PhraseKeys(SECRET)
SEED = RecoveryKeys(named_secret("recovery seed"))
TAG, OLD_TAG = b"\x01" * 16, b"\x02" * 16
NEW = device_keys("the new device")
REQUEST = LostMember.make(NEW.signing, GROUP, NEW.hpke_public, MEMBER)
HELP = HelpCode(GROUP, MEMBER, RELAYS, ((RELAYS[0], "a-token"),))
CODE = CircleCode(GROUP, named_secret("circle mailbox"), request_id(REQUEST, GROUP))
OTHER_GROUP = GroupId(b"\x09" * 32)


def make_ciphertexts() -> Json:
    """The random ciphertexts, made anew."""
    sealed = seal_seed(SEED, KEYS.opening.public, GROUP)
    good = encode(_index(sealed).to_value())
    record = _index(sealed).records[0].to_value()

    def of(value: Any) -> str:
        return _seal(_pad(encode(value))).hex()

    return {
        "seed": sealed.hex(),
        "seed_of_31_bytes": wrap(KEYS.opening.public, bytes(31), _seed_info()).hex(),
        "index": seal_index(_index(sealed), KEYS.opening.public)[0].hex(),
        "index_of_version_2": of([2, TAG, [], []]),
        "index_with_a_short_tag": of([VERSION, TAG[:-1], [], []]),
        "index_without_seeds": of([VERSION, TAG, [], [[*record[:4], []]]]),
        "index_with_31_bytes": of([VERSION, TAG, [], [[record[0], bytes(31), *record[2:]]]]),
        "index_without_a_mark": _seal(good.ljust(MIN_INDEX_BYTES, b"\0")).hex(),
    }


def make_recovery() -> Json:
    """Phrase and keys, seed, index, codes of circle recovery; and what is refused."""
    kept: dict[str, str] = json.loads(CIPHERTEXTS.read_text("utf-8"))
    salt = hash_bytes(LABEL_PHRASE_STRETCH, b"", 16)
    stretched = argon2id(SECRET.reveal(), salt, PHRASE_ARGON2_OPS, PHRASE_ARGON2_MEMORY_KIB)
    return {
        "phrase": {
            "secret": SECRET.reveal().hex(),
            "words": write_phrase(SECRET),
            "salt": salt.hex(),
            "stretched": stretched.reveal().hex(),
            "index_public": KEYS.opening.public.hex(),
            "index_secret": KEYS.index_secret.reveal().hex(),
        },
        "phrases": [
            {"words": write_phrase(Secret(raw, 16)), "secret": raw.hex()}
            for raw in (bytes(16), b"\x7f" * 16, b"\x80" * 16, b"\xff" * 16)
        ],
        "written_otherwise": [
            write_phrase(SECRET).upper(),
            "\r\n".join(f"{place}) {word.title()}," for place, word in enumerate(write_phrase(SECRET).split(), 1)),
        ],
        "bad_phrases": _bad_phrases(),
        "mailboxes": [_shown_mailbox(url) for url in (*RELAYS, "ws://Relay.example:8787/")],
        "recovery_keys": {
            "seed": SEED.seed.reveal().hex(),
            "recovery_id": SEED.id.hex(),
            "hpke_public": SEED.hpke.public.hex(),
            "group_id": GROUP.hex(),
            "info": _seed_info().hex(),
            "sealed": kept["seed"],
        },
        "bad_seeds": _bad_seeds(kept),
        "index": {
            "origin": "made once by seal_index; random, so only opening it is checked",
            "info": _index_info().hex(),
            "tag": TAG.hex(),
            "superseded": [OLD_TAG.hex()],
            "create": encode(CREATE.encode_body()).hex(),
            "epoch_secret": EPOCH.secret.reveal().hex(),
            "relays": list(RELAYS),
            "tokens": {RELAYS[0]: "a-token"},
            "seeds": [kept["seed"]],
            "value": kept["index"],
        },
        "bad_indexes": _bad_indexes(kept),
        "help_code": {
            "group_id": GROUP.hex(),
            "member_id": MEMBER.hex(),
            "relays": list(RELAYS),
            "tokens": dict(HELP.tokens),
            "text": write_help_code(HELP),
        },
        "circle_code": {
            "group_id": GROUP.hex(),
            "mailbox_secret": CODE.mailbox_secret.reveal().hex(),
            "request_id": CODE.request.hex(),
            "words": request_words(CODE.request),
            "text": write_circle_code(CODE),
            "value": encode_request(REQUEST).hex(),
        },
        "bad_codes": _bad_codes(),
        "bad_requests": _bad_requests(),
    }


def _index(sealed: bytes) -> Index:
    return Index(TAG, (OLD_TAG,), (IndexRecord(CREATE, EPOCH, RELAYS, (sealed,), HELP.tokens),))


def _seed_info() -> bytes:
    return LABEL_RECOVERY_SEED.encode() + b"\0" + GROUP


def _index_info() -> bytes:
    return LABEL_INDEX.encode() + b"\0"


def _pad(body: bytes) -> bytes:
    return (body + b"\x80").ljust(MIN_INDEX_BYTES, b"\0")


def _seal(padded: bytes) -> bytes:
    return encode([VERSION, wrap(KEYS.opening.public, padded, _index_info())])


def _shown_mailbox(url: str) -> Json:
    return {
        "relay": url,
        "mailbox_secret": index_mailbox_secret(KEYS.index_secret, url).reveal().hex(),
        "topic": index_mailbox(KEYS.index_secret, url).topic.hex(),
    }


def _bad_phrases() -> list[Json]:
    words = write_phrase(SECRET).split()
    cases = [
        ("empty", "12 words", ""),
        ("11 words", "12 words", " ".join(words[:-1])),
        ("24 words", "12 words", " ".join(words * 2)),
        ("a word that is not in the list", "named before the count", " ".join(["abandom", *words])),
        ("another word of the list", "the checksum", " ".join(["zoo", *words[1:]])),
        ("two words exchanged", "the checksum", " ".join([words[1], words[0], *words[2:]])),
    ]
    return [refused(name, reason, {"words": text}, read_phrase, text) for name, reason, text in cases]


def _bad_seeds(kept: dict[str, str]) -> list[Json]:
    good = bytes.fromhex(kept["seed"])
    cases = [
        ("another group", "bound to the group", good, OTHER_GROUP),
        ("a flipped bit", "changed", flip(good, -1), GROUP),
        ("31 bytes", "32 bytes", bytes.fromhex(kept["seed_of_31_bytes"]), GROUP),
    ]
    return [
        refused(name, reason, {"sealed": sealed.hex(), "group_id": group.hex()}, open_seed, sealed, KEYS, group)
        for name, reason, sealed, group in cases
    ]


def _bad_indexes(kept: dict[str, str]) -> list[Json]:
    cases = [
        ("version 2 outside", "another version", encode([2, b""]).hex()),
        ("not an array", "not an index", encode({}).hex()),
        ("not sealed to this key", "sealed to one phrase", encode([VERSION, bytes(1136)]).hex()),
        ("version 2 inside", "another version", kept["index_of_version_2"]),
        ("a tag of 15 bytes", "16 bytes", kept["index_with_a_short_tag"]),
        ("no seed", "1 to 4 seeds", kept["index_without_seeds"]),
        ("a secret of 31 bytes", "32 bytes", kept["index_with_31_bytes"]),
        ("no end mark", "the index is followed by 80", kept["index_without_a_mark"]),
    ]
    return [
        refused(name, reason, {"value": value}, open_index, bytes.fromhex(value), KEYS) for name, reason, value in cases
    ]


def _text_of(prefix: str, fields: list[Any]) -> str:
    payload = encode(fields)
    check = hash_bytes(LABEL_CIRCLE_CHECK, prefix.encode() + payload, 4)
    return prefix + base64.urlsafe_b64encode(payload + check).rstrip(b"=").decode()


def _bad_codes() -> list[Json]:
    helping, circle = write_help_code(HELP), write_circle_code(CODE)
    fields = [VERSION, GROUP, MEMBER, list(RELAYS), {}]
    cases = [
        ("empty", "not a code", "help", ""),
        ("the last character missing", "the check", "help", helping[:-1]),
        ("a circle code", "the prefix", "help", circle),
        ("a circle code under the other prefix", "the check covers the prefix", "help", _swap(circle)),
        ("no relay", "1 to 8 relays", "help", _text_of(HELP_PREFIX, [*fields[:3], [], {}])),
        (
            "a token of another relay",
            "tokens of the relays",
            "help",
            _text_of(HELP_PREFIX, [*fields[:4], {"wss://x.example": "t"}]),
        ),
        ("a member id of 31 bytes", "32 bytes", "help", _text_of(HELP_PREFIX, [1, GROUP, bytes(31), *fields[3:]])),
        ("version 2", "a later version", "help", _text_of(HELP_PREFIX, [2, *fields[1:]])),
        ("empty", "not a code", "circle", ""),
        ("a help code", "the prefix", "circle", helping),
        ("a request id of 31 bytes", "32 bytes", "circle", _text_of(CIRCLE_PREFIX, [1, GROUP, bytes(32), bytes(31)])),
        ("a secret of 31 bytes", "32 bytes", "circle", _text_of(CIRCLE_PREFIX, [1, GROUP, bytes(31), bytes(32)])),
        ("version 2", "a later version", "circle", _text_of(CIRCLE_PREFIX, [2, GROUP, bytes(32), bytes(32)])),
    ]
    return [
        refused(
            name, reason, {"kind": kind, "text": text}, read_help_code if kind == "help" else read_circle_code, text
        )
        for name, reason, kind, text in cases
    ]


def _swap(circle: str) -> str:
    return HELP_PREFIX + circle.removeprefix(CIRCLE_PREFIX)


def _bad_requests() -> list[Json]:
    thief = device_keys("a thief")
    other = LostMember.make(thief.signing, GROUP, thief.hpke_public, MEMBER)
    another_member = LostMember.make(NEW.signing, GROUP, NEW.hpke_public, MemberId(bytes(32)))
    elsewhere = CircleCode(OTHER_GROUP, CODE.mailbox_secret, request_id(REQUEST, OTHER_GROUP))
    cases = [
        ("another device's request", "the code names one request", encode_request(other), CODE),
        ("for another member", "the code names one request", encode_request(another_member), CODE),
        ("of another group", "the group is signed", encode_request(REQUEST), elsewhere),
        ("version 2", "another version", encode([2, REQUEST.to_value()]), CODE),
        ("not an array", "not a request", encode({}), CODE),
    ]
    return [
        refused(
            name,
            reason,
            {"value": value.hex(), "group_id": code.group.hex(), "request_id": code.request.hex()},
            read_request,
            value,
            code,
        )
        for name, reason, value, code in cases
    ]
