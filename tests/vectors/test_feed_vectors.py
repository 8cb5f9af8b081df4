"""The code against specs/vectors/feed.json."""

from __future__ import annotations

import json

import pytest

from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.social.post_view import post_id, read_post, read_post_tombstone
from tests.vectors.feed import as_json
from tests.vectors.generate import DIRECTORY
from tests.vectors.values import Json

VECTORS = json.loads((DIRECTORY / "feed.json").read_text("utf-8"))
OWN = bytes.fromhex(VECTORS["own"])


def test_ids() -> None:
    for case in VECTORS["ids"]:
        assert post_id(DocumentId(bytes.fromhex(case["document"])), case["key"]).hex() == case["id"]


@pytest.mark.parametrize("case", VECTORS["read"], ids=lambda case: case["name"])
def test_what_is_read_of_a_map(case: Json) -> None:
    assert as_json(read_post(decode(bytes.fromhex(case["map"])), OWN)) == case["post"]


@pytest.mark.parametrize("case", VECTORS["tombstones"], ids=lambda case: case["name"])
def test_what_is_read_of_a_tombstone(case: Json) -> None:
    value = decode(bytes.fromhex(case["map"]))
    assert as_json(read_post_tombstone(value, OWN, case["generation"])) == case["post"]
