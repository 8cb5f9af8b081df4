"""Vectors for specs/beacon.md: a beacon with its entry, whom it names, what is refused."""

from __future__ import annotations

from typing import Any

from cocoon_core.protocol.beacon import Beacon, choose_ends, read_beacon
from cocoon_core.protocol.cast import CastValue, DigestCast, EndsCast, open_cast, seal_cast, sign_presence
from cocoon_core.protocol.constants import LABEL_CAST
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.frontier import digest_of_ends
from cocoon_core.protocol.ids import EntryId, FrontierDigest
from cocoon_core.protocol.primitives import seal
from tests.support.epoch_story import BEN, NEXT, state
from tests.support.flips import flip
from tests.support.protocol_story import ANA, CREATE, EPOCH, Writer, device_keys
from tests.vectors.chains import full_form
from tests.vectors.values import Json, refused

CHI = device_keys("chi")
RELAYS = ("ws://127.0.0.1:8787", "wss://relay.example")
NONCE = bytes(range(24))
TIME_MS = 1_790_000_000_000
PLACES: dict[str, bytes | None] = {"here": None, "typing in the feed": b"", "typing in a thread": bytes(range(16))}
MANY = [device_keys(f"device {number}").id for number in range(40)]


def make_beacon() -> Json:
    """A beacon of Ana's, from what she has to the entry; the first it names of many; bodies that are refused."""
    writer = Writer()
    before = writer.operate(CREATE)
    ends = {BEN.id: (7, EntryId(b"\x07" * 32)), CHI.id: (300, EntryId(b"\x2c" * 32))}
    frontier = {**ends, ANA.id: (before.seq, before.id)}
    beacon = Beacon(3, digest_of_ends(frontier), 2, RELAYS, ends)
    body = beacon.encode_body()
    entry = state(writer, EntryKind.BEACON, body)
    return {
        "frontier": [[device.hex(), seq, at.hex()] for device, (seq, at) in sorted(frontier.items())],
        "number": beacon.number,
        "frontier_digest": beacon.digest.hex(),
        "rest": beacon.rest,
        "relays": list(RELAYS),
        "ends": [[device.hex(), seq, at.hex()] for device, (seq, at) in sorted(ends.items())],
        "entry": {"full": full_form(entry).hex(), "entry_id": entry.id.hex(), "body": encode(body).hex()},
        "choice": {
            "device_id": ANA.id.hex(),
            "number": 3,
            "news": [device.hex() for device in MANY],
            "named": [device.hex() for device in choose_ends(ANA.id, 3, MANY)],
        },
        "bad": _bad_bodies(body),
        "casts": make_casts(),
    }


def entry_with(body: Any) -> Entry:
    """An entry of Ana's of kind 4, with any body."""
    writer = Writer()
    writer.operate(CREATE)
    return state(writer, EntryKind.BEACON, body)


def _bad_bodies(body: list[Any]) -> list[Json]:
    first, second = body[5]
    end = [*first]
    many = sorted([device, 0, bytes(32)] for device in MANY)
    cases: list[tuple[str, str, list[Any]]] = [
        ("version 2", "another version", [2, *body[1:]]),
        ("version true", "true is not a number", [True, *body[1:]]),
        ("five items", "six items", body[:5]),
        ("a negative number", "beacons are counted from 0", [1, -1, *body[2:]]),
        ("a digest of 31 bytes", "32 bytes", [1, 3, bytes(31), *body[3:]]),
        ("a rest that is true", "true is not a number", [*body[:3], True, *body[4:]]),
        ("nine relays", "at most 8", [*body[:4], [f"ws://{n}" for n in range(9)], body[5]]),
        ("relays out of order", "they rise", [*body[:4], list(RELAYS[::-1]), body[5]]),
        ("a relay twice", "each once", [*body[:4], [RELAYS[0]] * 2, body[5]]),
        ("an empty relay", "an address is not empty", [*body[:4], [""], body[5]]),
        ("a relay of 257 bytes", "at most 256 bytes", [*body[:4], ["w" * 257], body[5]]),
        ("a relay of bytes", "an address is text", [*body[:4], [b"ws://relay"], body[5]]),
        ("ends out of order", "they rise by device", [*body[:5], [second, first]]),
        ("a device twice", "each once", [*body[:5], [first, first]]),
        ("33 ends", "at most 32", [*body[:5], many[:33]]),
        ("its own end", "a beacon follows its own chain", [*body[:5], [[ANA.id, 0, bytes(32)]]]),
        ("a negative seq", "a seq is not negative", [*body[:5], [[end[0], -1, end[2]]]]),
        ("an end of two items", "three items", [*body[:5], [end[:2]]]),
        ("an entry id of 31 bytes", "32 bytes", [*body[:5], [[end[0], 1, bytes(31)]]]),
    ]
    shown = []
    for name, why, bad in cases:
        shown.append(refused(name, why, {"body": encode(bad).hex()}, read_beacon, entry_with(bad)))
    return shown


def make_casts() -> Json:
    """A cast of each kind, and casts that are refused."""
    key = EPOCH.cast_key.reveal()
    ends = {BEN.id: (7, EntryId(b"\x07" * 32)), CHI.id: (300, EntryId(b"\x2c" * 32))}
    values: dict[str, CastValue] = {"digest": DigestCast(FrontierDigest(b"\xd1" * 32)), "ends": EndsCast(ends)}
    present = {name: sign_presence(ANA.signing, EPOCH, TIME_MS, place) for name, place in PLACES.items()}
    values |= present
    shown = {name: seal_cast(value, EPOCH, NONCE) for name, value in values.items()}
    small = shown["digest"]
    other = seal_cast(values["digest"], NEXT, NONCE)
    large = encode(
        [1, "ends", [[device, 0, bytes(32)] for device in sorted(MANY)] + [[b"\xff" * 32, 0, bytes(32)]] * 9]
    )
    cases = [
        ("a flipped bit", "the tag", flip(small, -1)),
        ("another epoch", "bound to the epoch", other),
        ("a byte less", "of 296 or 4,096 bytes", small[:-1]),
        ("no padding", "a mark ends it", _sealed(b"\0" * 256)),
        ("version 2", "another version", _sealed(_padded([2, "digest", bytes(32)]))),
        ("another kind", "a digest or ends", _sealed(_padded([1, "hello", bytes(32)]))),
        ("a digest of 31 bytes", "32 bytes", _sealed(_padded([1, "digest", bytes(31)]))),
        ("ends in the small size", "each has its size", _sealed(_padded([1, "ends", []]))),
        ("49 ends", "at most 48, rising", _sealed((large + b"\x80").ljust(4056, b"\0"))),
        *_bad_presence(),
    ]
    return {
        "epoch_secret": EPOCH.secret.reveal().hex(),
        "cast_key": key.hex(),
        "nonce": NONCE.hex(),
        "digest": {"digest": (b"\xd1" * 32).hex(), "cast": small.hex()},
        "ends": {
            "ends": [[device.hex(), seq, at.hex()] for device, (seq, at) in sorted(ends.items())],
            "cast": shown["ends"].hex(),
        },
        "presence": [
            {
                "name": name,
                "signing_seed": ANA.signing_seed.reveal().hex(),
                "device_id": ANA.id.hex(),
                "time": TIME_MS,
                "place": None if place is None else place.hex(),
                "signature": present[name].signature.hex(),
                "cast": shown[name].hex(),
            }
            for name, place in PLACES.items()
        ],
        "bad": [refused(name, why, {"cast": raw.hex()}, open_cast, raw, EPOCH) for name, why, raw in cases],
    }


def _bad_presence() -> list[tuple[str, str, bytes]]:
    here, typing = sign_presence(ANA.signing, EPOCH, TIME_MS), sign_presence(ANA.signing, EPOCH, TIME_MS, bytes(16))
    elsewhere = sign_presence(ANA.signing, NEXT, TIME_MS)
    bad: list[tuple[str, str, list[Any]]] = [
        ("here, of another device", "it is signed", [1, "here", BEN.id, TIME_MS, here.signature]),
        ("here, at another time", "the time is signed", [1, "here", ANA.id, TIME_MS + 1, here.signature]),
        ("here, signed for another epoch", "bound to the epoch", elsewhere.to_value()),
        ("here, in the place of typing", "the kind is signed", [1, "here", ANA.id, TIME_MS, typing.signature]),
        ("typing elsewhere", "the place is signed", [1, "typing", ANA.id, TIME_MS, b"\1" * 16, typing.signature]),
        ("typing at 15 bytes", "a post's id, or nothing", [1, "typing", ANA.id, TIME_MS, bytes(15), typing.signature]),
        ("here, before 1970", "a time is not negative", [1, "here", ANA.id, -1, here.signature]),
        ("here, with no signature", "five items", [1, "here", ANA.id, TIME_MS]),
        ("here, with a short signature", "64 bytes", [1, "here", ANA.id, TIME_MS, here.signature[:63]]),
    ]
    return [(name, why, _sealed(_padded(value))) for name, why, value in bad]


def _padded(value: Any) -> bytes:
    return (encode(value) + b"\x80").ljust(256, b"\0")


def _sealed(padded: bytes) -> bytes:
    return NONCE + seal(EPOCH.cast_key, NONCE, padded, LABEL_CAST.encode() + b"\0" + EPOCH.topic)
