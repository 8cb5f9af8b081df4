"""The first change of a document with a schema: frozen bytes that every replica makes alone and automerge takes."""

from __future__ import annotations

import pytest
from automerge.core import ROOT, ObjType
from automerge.core import Document as Automerge

from cocoon_core.documents import encode_schema_change, normalise_schema, parse_change, schema_actor
from cocoon_core.errors import UsageError
from cocoon_core.protocol.ids import DocumentId
from tests.support.documents import SHARED

DOCUMENT = DocumentId(bytes(range(32)))
VECTOR = (
    "856f4a83a268e50f013e00103b7c9e0ad0c9229a1ca06cf88ec87479010100000005151334014204560270027d056974656d"
    "73056c696e6573056e6f746573037d00020403000300"
)


def test_the_first_change_is_these_bytes() -> None:
    assert encode_schema_change(SHARED.schema, DOCUMENT).hex() == VECTOR


def test_automerge_takes_the_first_change_and_writes_the_same_bytes_again() -> None:
    raw = encode_schema_change(SHARED.schema, DOCUMENT)
    loaded = Automerge.load(raw)
    assert loaded.keys(ROOT) == ["items", "lines", "notes"]
    kinds = [(loaded.get(ROOT, key) or (None,))[0] for key in ("items", "lines", "notes")]
    assert kinds == [ObjType.Map, ObjType.List, ObjType.Text]
    again = Automerge.load(loaded.save())
    assert [change.raw_bytes for change in again.get_changes([])] == [raw]


def test_automerge_itself_would_write_the_first_change_so() -> None:
    for schema in (SHARED.schema, (("a", "text"),), (("a", "map"), ("b", "map"))):
        peer = Automerge(actor_id=bytes(schema_actor(DOCUMENT)))
        with peer.transaction() as transaction:
            for key, kind in schema:
                made = {"map": ObjType.Map, "list": ObjType.List, "text": ObjType.Text}[kind]
                transaction.put_object(ROOT, key, made)
        assert peer.get_changes([])[0].raw_bytes == encode_schema_change(schema, DOCUMENT)


def test_the_first_change_belongs_to_one_document_and_schema() -> None:
    other = DocumentId(bytes(32))
    assert encode_schema_change(SHARED.schema, DOCUMENT) != encode_schema_change(SHARED.schema, other)
    assert parse_change(encode_schema_change(SHARED.schema, other)).actor == schema_actor(other)


def test_a_schema_is_said_with_types_or_names() -> None:
    assert normalise_schema({"notes": str, "items": dict, "lines": list}) == SHARED.schema
    assert normalise_schema({"notes": "text", "items": "map", "lines": "list"}) == SHARED.schema


@pytest.mark.parametrize("schema", [{}, {"a": int}, {"a": "set"}, {"a": None}, {"a": {}}])
def test_refused_schemas(schema: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        normalise_schema(schema)
