"""Tables of what all members write together: kept level with the shared documents, so that reading opens none.

Each thing is one shared document: its name is `<kind>/<random>`, its schema is fixed, and under the root key `about`
stands what it is called. Any member may change all of it. What is odd in it is made harmless here. Lists are in
list_view.py, notes in note_view.py. Implements specs/together.md §2.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import MAX_TITLE_BYTES
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.social.owned_view import clamp_ms
from cocoon_core.social.stale import compute_if_stale
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.replica import Replica
from cocoon_core.sync.shelf import Readable
from cocoon_core.vault.naming import clean_text

ABOUT: Final = "about"
UNNAMED: Final = "Unnamed"

Schema = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class About:
    """What stands under `about`. `is_there`: something does."""

    name: str
    time_ms: int
    gone_ms: int | None
    edited_ms: int | None
    is_there: bool


class SharedView:
    """Keeps one table of one group level with its shared documents of one kind. Implements `sync.shelf.View`.

    Attributes:
        documents: what their names begin with.
        schema: the only one that counts: a document of that name with another is something else.
        table, identity: where a row for each stands, and under which column its document's id.
        columns: what a row has beside `group_no`, the id and `document_no`.
    """

    documents: ClassVar[str]
    schema: ClassVar[Schema]
    table: ClassVar[str]
    identity: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._db, self._no = replica.database, replica.record.number
        columns = ["group_no", self.identity, "document_no", *self.columns]
        updates = ", ".join(f"{column}=excluded.{column}" for column in columns[2:])
        self._upsert = (
            f"INSERT INTO {self.table} ({', '.join(columns)}) VALUES ({','.join('?' * len(columns))}) "
            f"ON CONFLICT (group_no, {self.identity}) DO UPDATE SET {updates}"
        )

    # --- what each kind says of itself

    def read(self, record: DocumentRecord, document: Readable, touched: Set[str]) -> tuple[Any, ...] | None:
        """What its row says, in the order of `columns`; None where nothing is in the document. Writes other tables."""
        raise NotImplementedError

    def forget(self, record: DocumentRecord) -> None:
        """Delete what stands in other tables."""

    # --- following the documents

    def merged(self, record: DocumentRecord, document: Readable, touched: set[str]) -> None:
        if self.is_mine(record):
            self._update(record, document, touched)

    def rebuilt(self, record: DocumentRecord, document: Readable) -> None:
        if self.is_mine(record):
            self._update(record, document, {key for key, _ in self.schema})

    def adopted(self, record: DocumentRecord, document: Readable) -> None:
        self.rebuilt(record, document)

    def let_go(self, record: DocumentRecord) -> None:
        if self.is_mine(record):
            self._drop(record)

    def is_mine(self, record: DocumentRecord) -> bool:
        """Whether it is a document of this kind."""
        descriptor = record.descriptor
        return (
            descriptor.kind is DocumentKind.SHARED
            and descriptor.name.startswith(self.documents)
            and descriptor.schema == self.schema
        )

    def catch_up(self) -> None:
        compute_if_stale(self._replica, self)

    # --- inside

    def _update(self, record: DocumentRecord, document: Readable, touched: Set[str]) -> None:
        said = self.read(record, document, touched)
        if said is None:
            self._drop(record)
        else:
            self._db.execute(self._upsert, (self._no, bytes(record.document), record.number, *said))

    def _drop(self, record: DocumentRecord) -> None:
        self.forget(record)
        self._db.execute(f"DELETE FROM {self.table} WHERE document_no=?", (record.number,))


def read_about(document: Readable) -> About:
    """What the document says of itself; what is odd is as absent."""
    value = document.plain(ABOUT)
    said: dict[str, Any] = value if type(value) is dict else {}
    name = said.get("name")
    at = read_time(said.get("at"))
    return About(
        name=(clean_text(name, MAX_TITLE_BYTES) if type(name) is str else "") or UNNAMED,
        time_ms=0 if at is None else at,
        gone_ms=read_time(said.get("gone")),
        edited_ms=read_time(said.get("edited")),
        is_there=bool(said),
    )


def read_time(value: Any) -> int | None:
    """A time in ms, as far as it can be shown; None where it is none."""
    return clamp_ms(value) if type(value) is int else None
