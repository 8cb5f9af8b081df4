"""The code against specs/vectors/together.json."""

from __future__ import annotations

import json

import pytest

from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.social.event_view import event_id, reply_id
from cocoon_core.social.places import place_between, spread
from tests.vectors.generate import DIRECTORY
from tests.vectors.together import event_json, item_json, reply_json
from tests.vectors.values import Json

VECTORS = json.loads((DIRECTORY / "together.json").read_text("utf-8"))
READ = {"events": ("event", event_json), "replies": ("reply", reply_json), "items": ("item", item_json)}


def test_ids() -> None:
    for case in VECTORS["ids"]:
        identify = event_id if case["name"].startswith("event/") else reply_id
        assert identify(DocumentId(bytes.fromhex(case["document"])), case["key"]).hex() == case["id"]


@pytest.mark.parametrize(
    ("kind", "case"), [(kind, case) for kind in READ for case in VECTORS[kind]], ids=lambda one: str(one)[:40]
)
def test_what_is_read_of_a_map(kind: str, case: Json) -> None:
    word, read = READ[kind]
    assert read(decode(bytes.fromhex(case["map"]))) == case[word]


def test_places() -> None:
    for case in VECTORS["places"]:
        assert place_between(case["above"], case["below"], case["random"]) == case["place"], case
    assert spread(5) == VECTORS["spread"]
