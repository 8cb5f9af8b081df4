"""The code agrees with the vectors of beacons, from their file."""

from __future__ import annotations

from typing import Any

import cbor2

from cocoon_core.protocol.beacon import choose_ends, read_beacon
from cocoon_core.protocol.cast import CastValue, DigestCast, EndsCast, open_cast, seal_cast, sign_presence
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frontier import digest_of_ends
from cocoon_core.protocol.ids import DeviceId, EntryId, FrontierDigest
from cocoon_core.protocol.primitives import SigningKey, hash_bytes
from tests.vectors.beacons import entry_with
from tests.vectors.test_epoch_vectors import entry_from
from tests.vectors.test_vectors import read, require_refused, secret, unhex


def ends_from(ends: list[list[Any]]) -> dict[DeviceId, tuple[int, EntryId]]:
    return {DeviceId(unhex(device)): (seq, EntryId(unhex(entry))) for device, seq, entry in ends}


def test_a_beacon() -> None:
    case = read("beacon")
    entry = entry_from(case["entry"]["full"])
    assert entry.id.hex() == case["entry"]["entry_id"]
    assert encode(entry.body).hex() == case["entry"]["body"]
    beacon = read_beacon(entry)
    assert beacon.number == case["number"]
    assert beacon.rest == case["rest"]
    assert list(beacon.relays) == case["relays"]
    assert beacon.ends == ends_from(case["ends"])
    assert encode(beacon.encode_body()).hex() == case["entry"]["body"]
    assert digest_of_ends(ends_from(case["frontier"])).hex() == beacon.digest.hex() == case["frontier_digest"]


def test_whom_a_beacon_names() -> None:
    case = read("beacon")["choice"]
    device, news = DeviceId(unhex(case["device_id"])), [DeviceId(unhex(one)) for one in case["news"]]
    assert [one.hex() for one in choose_ends(device, case["number"], news)] == case["named"]

    def place(one: str) -> bytes:
        body: bytes = cbor2.dumps([bytes(device), case["number"], unhex(one)])
        return hash_bytes("cocoon/v1/beacon-order", body)

    assert case["named"] == sorted(case["news"], key=place)[:32]


def test_refused_beacons() -> None:
    require_refused(read("beacon")["bad"], lambda case: read_beacon(entry_with(decode(unhex(case["body"])))))


def test_casts() -> None:
    case = read("beacon")["casts"]
    epoch, nonce = Epoch(secret(case["epoch_secret"])), unhex(case["nonce"])
    assert epoch.cast_key == secret(case["cast_key"])
    digest, ends = FrontierDigest(unhex(case["digest"]["digest"])), ends_from(case["ends"]["ends"])
    values: list[tuple[CastValue, str]] = [(DigestCast(digest), "digest"), (EndsCast(ends), "ends")]
    for value, name in values:
        cast = unhex(case[name]["cast"])
        assert seal_cast(value, epoch, nonce) == cast
        assert open_cast(cast, epoch) == value
        assert len(cast) in (296, 4096)
    for one in case["presence"]:
        place = None if one["place"] is None else unhex(one["place"])
        key = SigningKey(secret(one["signing_seed"]))
        made = sign_presence(key, epoch, one["time"], place)
        assert (made.device.hex(), made.signature.hex()) == (one["device_id"], one["signature"])
        assert seal_cast(made, epoch, nonce).hex() == one["cast"]
        assert open_cast(unhex(one["cast"]), epoch) == made
        assert len(one["cast"]) == 2 * 296
    require_refused(case["bad"], lambda bad: open_cast(unhex(bad["cast"]), epoch))
