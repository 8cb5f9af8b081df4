"""The vectors of bundles and of the local network, read from their files as a stranger would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cocoon_core import errors
from cocoon_core.protocol.bundle import HEAD, Order, first_digest, frame_part, read_length, read_part
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.lan import (
    Instance,
    lan_key,
    make_announcement,
    make_token,
    read_announcement,
    read_instance,
    recognise,
    slot_of,
)
from cocoon_core.protocol.primitives import Secret
from tests.support.bundle_parsers import read_whole
from tests.vectors.generate import DIRECTORY


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    return value


BUNDLE = read("bundle")


def test_a_bundle_is_its_head_and_its_parts() -> None:
    assert BUNDLE["head"] == HEAD.hex()
    assert BUNDLE["first_digest"] == first_digest().hex()
    assert BUNDLE["file"] == BUNDLE["head"] + "".join(part["raw"] for part in BUNDLE["parts"])
    assert len(read_whole(bytes.fromhex(BUNDLE["file"]))) == 2


def test_every_part_is_read_and_written_alike() -> None:
    order = Order()
    for given in BUNDLE["parts"]:
        raw, before = bytes.fromhex(given["raw"]), bytes.fromhex(given["before"])
        part, digest = read_part(raw[4:], read_length(raw[:4]), before)
        order.take(part)
        assert digest.hex() == given["digest"]
        assert frame_part(part, before) == (raw, digest)
    assert order.is_whole


@pytest.mark.parametrize("case", BUNDLE["refused"], ids=lambda case: case["name"])
def test_files_that_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(errors.CocoonError) as caught:
        read_whole(bytes.fromhex(case["file"]))
    assert type(caught.value).__name__ == case["error"]


# --- the local network

LAN = read("lan")
INSTANCE = Instance(bytes.fromhex(LAN["instance"]), LAN["port"])


def record_from(shown: dict[str, str]) -> dict[bytes, bytes]:
    return {key.encode(): bytes.fromhex(value) for key, value in shown.items()}


def test_a_token_is_that_of_its_epoch_hour_instance_and_port() -> None:
    key = lan_key(Epoch(Secret(bytes.fromhex(LAN["epoch_secret"]))))
    assert key.reveal().hex() == LAN["lan_key"]
    assert slot_of(LAN["slot_of_ms"]) == LAN["slot"]
    assert make_token(key, LAN["slot"], INSTANCE).hex() == LAN["token"]


@pytest.mark.parametrize("count", [1, 25])
def test_an_announcement_is_written_and_read(count: int) -> None:
    keys = [Secret(bytes.fromhex(key)) for key in LAN["keys_of_25"]][:count]
    record = make_announcement(keys, LAN["slot"], INSTANCE, bytes.fromhex(LAN["filling"]))
    assert record == record_from(LAN["announcement" if count == 1 else "announcement_of_25"])
    tokens = read_announcement(record)
    assert len(tokens) == (24 if count == 1 else 48)
    assert recognise(tokens, keys, LAN["slot"], INSTANCE) == list(range(count))


@pytest.mark.parametrize("case", LAN["recognised"], ids=str)
def test_what_is_recognised_when(case: dict[str, Any]) -> None:
    tokens = read_announcement(record_from(LAN["announcement"]))
    found = recognise(
        tokens, [Secret(bytes.fromhex(LAN["lan_key"]))], case["slot"], Instance(INSTANCE.nonce, case["port"])
    )
    assert bool(found) is case["found"]


@pytest.mark.parametrize("case", LAN["refused_names"], ids=lambda case: case["name"])
def test_names_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(errors.MalformedError):
        read_instance(case["instance"], case["port"])


@pytest.mark.parametrize("case", LAN["refused_records"], ids=lambda case: case["name"])
def test_records_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(errors.MalformedError):
        read_announcement(record_from(case["record"]))
