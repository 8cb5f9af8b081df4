"""The vectors of bundles, read from their file as a stranger would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cocoon_core import errors
from cocoon_core.protocol.bundle import HEAD, Order, first_digest, frame_part, read_length, read_part
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
