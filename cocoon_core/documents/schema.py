"""Declared root containers: how a schema is said, and the first change that makes its containers on every replica.

The first change never travels. Each replica encodes it alone from the descriptor, to the same bytes, so the containers
of a shared or admin document are the same objects everywhere. Implements specs/documents.md §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from cocoon_core.documents.change import (
    ACTION,
    ACTOR_BYTES,
    CHUNK_CHANGE,
    INSERT,
    KEY_STRING,
    MAGIC,
    MAKE_LIST,
    MAKE_MAP,
    MAKE_TEXT,
    PRED_COUNT,
    VALUE_META,
)
from cocoon_core.documents.columns import encode_booleans, encode_strings, encode_uint, encode_uints
from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import LABEL_SCHEMA_ACTOR
from cocoon_core.protocol.ids import ActorId, DocumentId
from cocoon_core.protocol.primitives import hash_bytes

_ACTIONS: Final = {"map": MAKE_MAP, "list": MAKE_LIST, "text": MAKE_TEXT}
_NAMES: Final[dict[object, str]] = {
    dict: "map",
    list: "list",
    str: "text",
    "map": "map",
    "list": "list",
    "text": "text",
}


def normalise_schema(schema: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Turn {"items": dict, "lines": list, "notes": str} into sorted pairs of root key and "map", "list" or "text".

    Raises:
        UsageError: no keys, or a type that is none of the three.
    """
    if not schema:
        raise UsageError("a shared document declares its root containers: schema={'items': dict} for example")
    pairs = []
    for key, kind in schema.items():
        name = _NAMES.get(kind) if isinstance(kind, (type, str)) else None
        if name is None or not isinstance(key, str):
            raise UsageError(f"a schema maps a name to dict, list or str; {key!r} is mapped to {kind!r}")
        pairs.append((key, name))
    return tuple(sorted(pairs))


def schema_actor(document: DocumentId) -> ActorId:
    """The actor of the first change: no device has it, so nobody can write under it."""
    return ActorId(hash_bytes(LABEL_SCHEMA_ACTOR, document, ACTOR_BYTES))


def encode_schema_change(schema: tuple[tuple[str, str], ...], document: DocumentId) -> bytes:
    """The raw first change of a shared or admin document: one container for each key, in order, at time 0."""
    count = len(schema)
    columns = (
        (KEY_STRING, encode_strings([key for key, _ in schema])),
        (INSERT, encode_booleans([False] * count)),
        (ACTION, encode_uints([_ACTIONS[kind] for _, kind in schema])),
        (VALUE_META, encode_uints([0] * count)),
        (PRED_COUNT, encode_uints([0] * count)),
    )
    body = b"".join(
        (
            b"\0",  # dependencies
            encode_uint(ACTOR_BYTES), schema_actor(document),
            encode_uint(1), encode_uint(1),  # seq, first operation
            b"\0\0\0",  # time, message, other actors
            encode_uint(len(columns)),
            *(encode_uint(column) + encode_uint(len(data)) for column, data in columns),
            *(data for _, data in columns),
        )
    )  # fmt: skip
    return frame_change(body)


def frame_change(body: bytes) -> bytes:
    """Put magic, checksum, chunk type and length before a change's body."""
    chunk = bytes((CHUNK_CHANGE,)) + encode_uint(len(body)) + body
    return MAGIC + sha256(chunk).digest()[:4] + chunk
