"""The code against specs/vectors/vault-items.json."""

from __future__ import annotations

import json

import pytest

from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.social.item_view import item_id
from tests.vectors.generate import DIRECTORY
from tests.vectors.values import Json
from tests.vectors.vault_items import read_as_json

VECTORS = json.loads((DIRECTORY / "vault-items.json").read_text("utf-8"))


def test_ids() -> None:
    for case in VECTORS["ids"]:
        assert item_id(DocumentId(bytes.fromhex(case["document"])), case["key"]).hex() == case["id"]


@pytest.mark.parametrize("case", VECTORS["read"], ids=lambda case: case["name"])
def test_what_is_read_of_a_map(case: Json) -> None:
    assert read_as_json(decode(bytes.fromhex(case["map"]))) == case["item"]
