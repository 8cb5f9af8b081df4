"""What a document is: whose, its name, its schema. The document id is a hash of this, so none of it can be claimed
later.

Decides nothing about rights beyond what the id commits to; the admission gate (documents/) and counting (roster) do.
Spec: specs/documents.md §1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_ACTOR, LABEL_DOCUMENT, MAX_DOCUMENT_NAME, MAX_GENERATION
from cocoon_core.protocol.ids import ActorId, DeviceId, DocumentId, GroupId, MemberId
from cocoon_core.protocol.primitives import hash_bytes

MAX_SCHEMA_KEYS = 64
SCHEMA_TYPES = ("list", "map", "text")
_PERIOD = re.compile(r"/(\d{4}-(?:0[1-9]|1[0-2]))\Z", re.ASCII)


class DocumentKind(IntEnum):
    """Who may change a document: one member's devices, every member, or only admins."""

    OWNED = 0
    SHARED = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A document's kind, owner or schema, and name.

    `member` is set for owned documents alone, and so is a `generation` above 0: that of a document that goes on in
    place of a retired one. `schema` (root key and "list" | "map" | "text", sorted by key) is for shared and admin
    documents alone.
    """

    kind: DocumentKind
    name: str
    member: MemberId | None = None
    schema: tuple[tuple[str, str], ...] = ()
    generation: int = 0

    def __post_init__(self) -> None:
        if not 0 < _utf8_length(self.name) <= MAX_DOCUMENT_NAME:
            raise MalformedError(f"a document's name is 1 to {MAX_DOCUMENT_NAME} bytes of UTF-8")
        if (self.kind is DocumentKind.OWNED) != (self.member is not None):
            raise MalformedError("owned documents name a member, others none")
        if (self.kind is DocumentKind.OWNED) == bool(self.schema):
            raise MalformedError("shared and admin documents have a schema, owned ones none")
        if not 0 <= self.generation <= (MAX_GENERATION if self.kind is DocumentKind.OWNED else 0):
            raise MalformedError(f"the generation of an owned document is up to {MAX_GENERATION}; others have one")
        if len(self.schema) > MAX_SCHEMA_KEYS or any(kind not in SCHEMA_TYPES for _, kind in self.schema):
            raise MalformedError(f"a schema maps up to {MAX_SCHEMA_KEYS} root keys to list, map or text")
        keys = [key for key, _ in self.schema]
        if keys != sorted(set(keys)) or not all(0 < _utf8_length(key) <= MAX_DOCUMENT_NAME for key in keys):
            raise MalformedError("the keys of a schema are sorted, unique and 1 to 128 bytes")

    def to_value(self) -> list[Any]:
        """The CBOR form: [0, member id, name], with a generation above 0 behind it; or [1 or 2, name, schema]."""
        if self.member is not None:
            return [int(self.kind), self.member, self.name, *([self.generation] if self.generation else [])]
        return [int(self.kind), self.name, dict(self.schema)]

    @property
    def period(self) -> str | None:
        """The month that an owned document is about, "YYYY-MM", if its name ends with one after a slash."""
        found = _PERIOD.search(self.name) if self.member is not None else None
        return found[1] if found else None

    def document_id(self, group: GroupId) -> DocumentId:
        return DocumentId(hash_bytes(LABEL_DOCUMENT, group + encoding.encode(self.to_value())))

    def at(self, generation: int) -> Descriptor:
        """The same owned document in another generation.

        Raises:
            MalformedError: there is none.
        """
        return self if generation == self.generation else replace(self, generation=generation)


def descriptor_from_value(value: Any) -> Descriptor:
    """Read the CBOR form.

    Raises:
        MalformedError: anything else.
    """
    match value:
        case [0 as kind, bytes() as member, str() as name] if type(kind) is int:  # False equals 0, True equals 1
            return Descriptor(DocumentKind.OWNED, name, MemberId(member))
        case [0 as kind, bytes() as member, str() as name, int() as generation] if type(kind) is int:
            if type(generation) is not int or generation == 0:
                raise MalformedError("a generation is a number, and left out where it is 0")
            return Descriptor(DocumentKind.OWNED, name, MemberId(member), generation=generation)
        case [(1 | 2) as kind, str() as name, dict() as schema] if type(kind) is int:
            if not all(isinstance(key, str) and isinstance(kind_, str) for key, kind_ in schema.items()):
                raise MalformedError("a schema maps text to text")
            return Descriptor(DocumentKind(kind), name, schema=tuple(sorted(schema.items())))
    raise MalformedError("not a document descriptor")


def _utf8_length(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise MalformedError("a name or key is not UTF-8") from error


def actor_of(device: DeviceId, document: DocumentId) -> ActorId:
    """The automerge actor of one device in one document."""
    return ActorId(hash_bytes(LABEL_ACTOR, device + document, 16))
