"""Vectors for specs/people.md: what is read of profiles, a box and notices of what was seen. Casts are in beacons.py.

Wraps are random, so the box was made once (people_ciphertexts.json) and is an input here: what is checked is that it
opens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from cocoon_core.protocol.constants import LABEL_SEEN, NONCE_BYTES
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.primitives import HpkeKey, Secret, seal
from cocoon_core.protocol.seen import make_box, open_box, open_notice, seal_notice
from cocoon_core.social.member_profiles import read_profile
from tests.support.flips import flip
from tests.support.protocol_story import FEED, GROUP
from tests.vectors.values import Json, refused

CIPHERTEXTS: Final = Path(__file__).with_name("people_ciphertexts.json")
assert FEED.member is not None, "an owned document"
READER: Final[MemberId] = FEED.member
AUTHOR: Final = MemberId(b"\xa0" * 32)
SECRET: Final = Secret(bytes(range(32)))
NONCE: Final = bytes(range(NONCE_BYTES))
SEEDS: Final = tuple(Secret(bytes([number]) * 32) for number in range(1, 5))  # of two devices, and of nobody's keys
DOCUMENT: Final = Descriptor(DocumentKind.OWNED, "seen/2026-09", READER).document_id(GROUP)
KEY: Final = "seen:0011223344556677"
POSTS: Final = (bytes(range(16)), b"\xff" * 16)

PROFILES: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("everything", {"about": "Bakes on Sundays", "picture": bytes(range(16)), "quiet": True, "seen": True}),
    ("nothing", {}),
    ("other keys are ignored", {"about": "Sings", "color": "red"}),
    ("a line is one line", {"about": " Bakes\non  Sundays\t"}),
    ("a line that reads backwards", {"about": "\u202esyadnuS"}),
    ("a line is cut", {"about": "é" * 300}),
    ("odd values are as absent", {"about": 5, "picture": bytes(15), "quiet": 1, "seen": "yes"}),
)


def make_ciphertexts() -> Json:
    """The random ciphertext, made anew."""
    keys = [HpkeKey(seed).public for seed in SEEDS]
    return {"box": make_box(SECRET, keys, GROUP, READER, AUTHOR).hex()}


def make_people() -> Json:
    """What is read of profiles; a box that brings a secret to an author's devices, and notices under it."""
    box = bytes.fromhex(json.loads(CIPHERTEXTS.read_text("utf-8"))["box"])
    notice = seal_notice(POSTS, SECRET, NONCE, DOCUMENT, KEY)
    strangers = [HpkeKey(Secret(b"\x09" * 32))]
    devices = [HpkeKey(seed) for seed in SEEDS[:2]]
    bad_boxes = [
        ("keys of somebody else", "for the author's devices alone", box, strangers, READER),
        ("another reader", "bound to who tells", box, devices, AUTHOR),
        ("a byte less", "of three sizes", box[:-1], devices, READER),
    ]
    bad_notices = [
        ("a flipped bit", "the tag", flip(notice, -1), KEY),
        ("under another key", "bound to its place", notice, KEY[:-1] + "8"),
        ("a byte less", "of one size", notice[:-1], KEY),
        ("no id", "at least one", _notice(b"\x80"), KEY),
        ("15 bytes", "whole ids", _notice(bytes(15) + b"\x80"), KEY),
        ("no end", "a mark ends it", _notice(bytes(32)), KEY),
    ]
    return {
        "group": GROUP.hex(),
        "reader": READER.hex(),
        "author": AUTHOR.hex(),
        "profiles": [
            {"name": name, "map": encode(said).hex(), "profile": read_as_json(said)} for name, said in PROFILES
        ],
        "box": {
            "secret": SECRET.reveal().hex(),
            "hpke_seeds": [seed.reveal().hex() for seed in SEEDS[:2]],
            "box": box.hex(),
        },
        "bad_boxes": [
            refused(
                name,
                why,
                {"box": raw.hex(), "reader": reader.hex(), "strangers": keys is strangers},
                open_box,
                raw,
                keys,
                GROUP,
                reader,
                AUTHOR,
            )
            for name, why, raw, keys, reader in bad_boxes
        ],
        "notice": {
            "document": DOCUMENT.hex(),
            "key": KEY,
            "nonce": NONCE.hex(),
            "posts": [post.hex() for post in POSTS],
            "notice": notice.hex(),
        },
        "bad_notices": [
            refused(name, why, {"notice": raw.hex(), "key": key}, open_notice, raw, SECRET, DOCUMENT, key)
            for name, why, raw, key in bad_notices
        ],
    }


def read_as_json(said: dict[str, Any]) -> Json:
    """What is read of a document with these root keys."""
    profile = read_profile(said.get)
    return {
        "about": profile.about,
        "picture": None if profile.picture is None else profile.picture.hex(),
        "quiet": profile.quiet,
        "seen": profile.tells_seen,
    }


def _notice(plain: bytes) -> bytes:
    ad = LABEL_SEEN.encode() + b"\0" + DOCUMENT + KEY.encode()
    return NONCE + seal(SECRET, NONCE, plain.ljust(256, b"\0"), ad)
