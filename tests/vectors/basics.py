"""Vectors for specs/encoding.md, specs/conventions.md (primitives) and specs/identity.md."""

from __future__ import annotations

import hashlib
from typing import Any

from cocoon_core.protocol import constants
from cocoon_core.protocol.descriptor import actor_of
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.ids import HpkePublicKey
from cocoon_core.protocol.operations import member_id_of
from cocoon_core.protocol.primitives import (
    HpkeKey,
    Secret,
    SigningKey,
    hash_bytes,
    keyed_hash,
    open_bulk,
    open_sealed,
    require_good_hpke_key,
    require_good_signing_key,
    seal,
    seal_bulk,
    verify,
)
from tests.support.flips import flip
from tests.support.protocol_story import ANA, FEED, GROUP, MEMBER, named_secret
from tests.vectors.values import Json, refused

# Canonical encodings of the eight points of small order, and non-canonical ones of some: the blocklist of libsodium's
# ge25519_has_small_order (crypto_core/ed25519/ref10/ed25519_ref10.c).
SMALL_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
# The public key of the story's device plus a point of order 2 and one of order 8, computed with
# crypto_core_ed25519_add of libsodium.
MIXED_ORDER = (
    "11f8613e5c7add541c25592b95043c1239f3a08ffdb1703377e5ee97e60bf0d6",
    "acab8006b998ae4ed7f1ae9ea1f214950e2029e4a11fecc1fc8b8c87b75b30c1",
)
SMALL_ORDER_X25519 = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)

_GOOD_CBOR: tuple[tuple[str, Any], ...] = (
    ("zero", 0),
    ("the largest in one byte", 23),
    ("the first in two bytes", 24),
    ("the greatest integer", 2**63 - 1),
    ("minus one", -1),
    ("the least integer", -(2**63)),
    ("no bytes", b""),
    ("bytes", b"\x00\xff"),
    ("no text", ""),
    ("text", "grüezi"),
    ("false", False),
    ("true", True),
    ("null", None),
    ("an empty array", []),
    ("an array", [1, b"\x02", "3", None, [True]]),
    ("a map, shorter keys first", {"b": 1, "aa": 2, "c": []}),
    ("a map with keys of bytes", {b"\x02": 1, b"\x01\x01": 2}),
    ("arrays, 16 deep", [[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]),
)
_BAD_CBOR: tuple[tuple[str, str, str], ...] = (
    ("nothing", "", "there is no value"),
    ("a byte after the value", "0000", "one value fills the input"),
    ("an array cut off", "8201", "the input ends inside a value"),
    ("an array of 2^32 items", "9b00000000ffffffff", "the input ends inside a value; nothing is allocated for it"),
    ("17 in two bytes", "1817", "not the shortest head"),
    ("a length of 1 in two bytes", "580100", "not the shortest head"),
    ("an array of indefinite length", "9fff", "lengths are definite"),
    ("bytes of indefinite length", "5f4100ff", "lengths are definite"),
    ("a map with a key twice", "a2616100616101", "keys are unique"),
    ("a map out of order", "a2616200616100", "keys are sorted"),
    ("a map with an integer as key", "a10000", "keys are text or bytes"),
    ("a map with a boolean as key", "a1f500", "keys are text or bytes"),
    ("a map with an array as key", "a18000", "keys are text or bytes"),
    ("a half float", "f93c00", "there are no floats"),
    ("a double", "fb3ff0000000000000", "there are no floats"),
    ("not a number", "f97e00", "there are no floats"),
    ("undefined", "f7", "not a value of the protocol"),
    ("a simple value", "f820", "not a value of the protocol"),
    ("2^63", "1b8000000000000000", "integers have 63 bits and a sign"),
    ("-2^63 - 1", "3b8000000000000000", "integers have 63 bits and a sign"),
    ("a bignum", "c249010000000000000000", "there are no tags"),
    ("a date", "c100", "there are no tags"),
    ("a pattern", "d823612e", "there are no tags; one with a decoder could run it"),
    ("self-described CBOR", "d9d9f700", "there are no tags"),
    ("an unknown tag", "d90bb800", "there are no tags"),
    (
        "an array of arrays that are shared eight times, four deep",
        "d81c88d81c88d81c88d81c80d81d03d81d03d81d03d81d03d81d03d81d03d81d03d81d02d81d02d81d02d81d02d81d02d81d02d81d02"
        "d81d01d81d01d81d01d81d01d81d01d81d01d81d01",
        "there are no tags; expanding shared values takes memory exponential in the input",
    ),
    ("text that is not UTF-8", "61ff", "text is UTF-8"),
    ("a lone surrogate", "63eda080", "text is UTF-8"),
    ("arrays, 17 deep", "81" * 17 + "00", "at most 16 deep"),
    ("a reserved head", "1c", "not CBOR"),
    ("a break alone", "ff", "not CBOR"),
)


def make_encoding() -> Json:
    """Values and their one encoding; encodings that are refused."""
    good = [{"name": name, "cbor": encode(value).hex(), "value": _shown(value)} for name, value in _GOOD_CBOR]
    bad = [refused(name, reason, {"cbor": raw}, decode, bytes.fromhex(raw)) for name, raw, reason in _BAD_CBOR]
    return {"good": good, "bad": bad}


def _shown(value: Any) -> Any:
    """A value as JSON: bytes as {"bytes": hex}, a map as {"map": [[key, value], …]} in the order of its encoding."""
    match value:
        case bytes():
            return {"bytes": value.hex()}
        case list():
            return [_shown(item) for item in value]
        case dict():
            keys = sorted(value, key=lambda key: (len(encode(key)), encode(key)))
            return {"map": [[_shown(key), _shown(value[key])] for key in keys]}
        case _:
            return value


def make_primitives() -> Json:
    """Every label's hash; signatures; sealing; keys that are refused."""
    labels = sorted(value for name, value in vars(constants).items() if name.startswith("LABEL_"))
    key = named_secret("primitives")
    signing = SigningKey(key)
    message = b"message"
    signature = signing.sign(constants.LABEL_RUN, message)
    ad, plaintext = bytes.fromhex("50515253c0c1c2c3c4c5c6c7"), _SUNSCREEN
    draft_key = Secret(bytes(range(0x80, 0xA0)))
    return {
        "hash": [
            {
                "label": label,
                "person": hash_person(label).hex(),
                "data": message.hex(),
                "hash_32": hash_bytes(label, message).hex(),
                "hash_16": hash_bytes(label, message, 16).hex(),
                "key": key.reveal().hex(),
                "keyed_hash_32": keyed_hash(key.reveal(), label, message).hex(),
            }
            for label in labels
        ],
        "signing": {
            "seed": key.reveal().hex(),
            "public": signing.public.hex(),
            "label": constants.LABEL_RUN,
            "message": message.hex(),
            "signed": (constants.LABEL_RUN.encode() + b"\0" + message).hex(),
            "signature": signature.hex(),
        },
        "signing_keys": _RFC8032,
        "xchacha20poly1305": {
            "origin": "draft-irtf-cfrg-xchacha-03, appendix A.3.1",
            "key": draft_key.reveal().hex(),
            "nonce": _XCHACHA_NONCE.hex(),
            "ad": ad.hex(),
            "plaintext": plaintext.hex(),
            "ciphertext": seal(draft_key, _XCHACHA_NONCE, plaintext, ad).hex(),
        },
        "chacha20poly1305": {
            "origin": "RFC 8439, section 2.8.2",
            "key": draft_key.reveal().hex(),
            "nonce": _CHACHA_NONCE.hex(),
            "ad": ad.hex(),
            "plaintext": plaintext.hex(),
            "ciphertext": seal_bulk(draft_key, _CHACHA_NONCE, plaintext, ad).hex(),
        },
        "bad_signatures": _bad_signatures(signing, message, signature),
        "bad_ciphertexts": _bad_ciphertexts(draft_key, plaintext, ad),
        "bad_signing_keys": _bad_signing_keys(),
        "bad_hpke_keys": _bad_hpke_keys(),
    }


_SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
_XCHACHA_NONCE = bytes(range(0x40, 0x58))
_CHACHA_NONCE = bytes.fromhex("070000004041424344454647")
_RFC8032 = [
    {
        "origin": "RFC 8032, section 7.1, TEST 1",
        "seed": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    },
    {
        "origin": "RFC 8032, section 7.1, TEST 2",
        "seed": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "public": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    },
]


def hash_person(label: str) -> bytes:
    """The personalisation of a label, as the specification says it: BLAKE2b-128 of the label."""
    return hashlib.blake2b(label.encode(), digest_size=16).digest()


def _bad_signatures(signing: SigningKey, message: bytes, signature: bytes) -> list[Json]:
    run, other = constants.LABEL_RUN, constants.LABEL_JOIN
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little")
    malleated = signature[:32] + (scalar + order).to_bytes(32, "little")
    small = bytes.fromhex(SMALL_ORDER[1])
    cases = [
        ("another label", "each use has its own label", signing.public, other, message, signature),
        ("another message", "it signs another message", signing.public, run, message + b"!", signature),
        ("a flipped bit in R", "changed", signing.public, run, message, flip(signature, 0)),
        ("a flipped bit in S", "changed", signing.public, run, message, flip(signature, 32)),
        (
            "S plus the group order",
            "S is reduced, or a signature would have two forms",
            signing.public,
            run,
            message,
            malleated,
        ),
        ("63 bytes", "a signature is 64 bytes", signing.public, run, message, signature[:63]),
        ("a key of small order", "it would verify anything", small, run, message, small + bytes(32)),
    ]
    return [
        refused(
            name,
            reason,
            {"public": public.hex(), "label": label, "message": text.hex(), "signature": signed.hex()},
            verify,
            public,
            label,
            text,
            signed,
        )
        for name, reason, public, label, text, signed in cases
    ]


def _bad_ciphertexts(key: Secret, plaintext: bytes, ad: bytes) -> list[Json]:
    sealed = seal(key, _XCHACHA_NONCE, plaintext, ad)
    bulk = seal_bulk(key, _CHACHA_NONCE, plaintext, ad)
    cases = [
        ("another nonce", flip(_XCHACHA_NONCE, 0), sealed, ad),
        ("other associated data", _XCHACHA_NONCE, sealed, ad + b"\0"),
        ("a flipped bit in the tag", _XCHACHA_NONCE, flip(sealed, -1), ad),
        ("a flipped bit in the text", _XCHACHA_NONCE, flip(sealed, 0), ad),
        ("shorter than a tag", _XCHACHA_NONCE, sealed[:15], ad),
        ("bulk: a flipped bit", _CHACHA_NONCE, flip(bulk, 0), ad),
        ("bulk: cut off", _CHACHA_NONCE, bulk[:-1], ad),
    ]
    return [
        refused(
            name,
            "it does not open",
            {"nonce": nonce.hex(), "ciphertext": text.hex(), "ad": data.hex()},
            open_sealed if len(nonce) == 24 else open_bulk,
            key,
            nonce,
            text,
            data,
        )
        for name, nonce, text, data in cases
    ]


def _bad_signing_keys() -> list[Json]:
    small = [("of small order, or not canonical", raw) for raw in SMALL_ORDER]
    mixed = [("of mixed order", raw) for raw in MIXED_ORDER]
    return [
        refused(
            name,
            "not a canonical point of the prime-order group",
            {"public": raw},
            require_good_signing_key,
            bytes.fromhex(raw),
        )
        for name, raw in [*small, *mixed, ("of 31 bytes", "01" * 31)]
    ]


def _bad_hpke_keys() -> list[Json]:
    good = HpkeKey(named_secret("primitives")).public
    cases = [
        (f"the X25519 part is of small order ({raw[:8]}…)", good[:1184] + bytes.fromhex(raw))
        for raw in SMALL_ORDER_X25519
    ]
    cases.append(("a coefficient of the ML-KEM part is 3329 or more", b"\xff" * 3 + good[3:]))
    return [
        refused(
            name,
            "not a public key of this suite",
            {"public": raw.hex()},
            require_good_hpke_key,
            HpkePublicKey(raw),
        )
        for name, raw in cases
    ]


def make_identity() -> Json:
    """A device's keys from its seeds; the ids that hang on them."""
    hpke_seed = ANA.hpke_seed.reveal()
    document = FEED.document_id(GROUP)
    return {
        "device": {
            "signing_seed": ANA.signing_seed.reveal().hex(),
            "device_id": ANA.id.hex(),
            "hpke_seed": hpke_seed.hex(),
            "mlkem_seed": keyed_hash(hpke_seed, constants.LABEL_HPKE_MLKEM, b"", 64).hex(),
            "x25519_private": keyed_hash(hpke_seed, constants.LABEL_HPKE_X25519, b"").hex(),
            "hpke_public": ANA.hpke_public.hex(),
        },
        "member": {
            "group_id": GROUP.hex(),
            "first_device_id": ANA.id.hex(),
            "member_id": member_id_of(GROUP, ANA.id).hex(),
        },
        "document": {
            "group_id": GROUP.hex(),
            "member_id": MEMBER.hex(),
            "name": FEED.name,
            "descriptor_cbor": encode(FEED.to_value()).hex(),
            "document_id": document.hex(),
        },
        "actor": {
            "device_id": ANA.id.hex(),
            "document_id": document.hex(),
            "actor_id": actor_of(ANA.id, document).hex(),
        },
    }
