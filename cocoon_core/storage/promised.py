"""Heads that a manifest named and whose changes are not here, since another one that says less was followed later.

Decides nothing: when such a row is made, and when it ends, is for sync/promised.py. Spec: specs/storage.md §5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import DeviceId, DocumentId
from cocoon_core.storage.database import Database, Migration

PROMISED: Final = Migration(
    "promised",
    """
CREATE TABLE promised (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    device      BLOB NOT NULL,
    seq         INTEGER NOT NULL,
    held        INTEGER NOT NULL,
    PRIMARY KEY (document_no, device)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class PromisedHead:
    """A device's head in a document.

    Attributes:
        seq: the number of the change that a manifest named.
        held: up to which number the device's changes in that document are here.
    """

    seq: int
    held: int


class PromisedTable:
    """Reads and writes the table above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def all(self) -> list[tuple[DocumentId, DeviceId, PromisedHead]]:
        rows = self._db.query(
            "SELECT d.document, p.device, p.seq, p.held FROM promised p JOIN documents d ON d.id=p.document_no "
            "WHERE d.group_no=? ORDER BY p.document_no, p.device",
            (self._no,),
        )
        return [
            (DocumentId(document), DeviceId(device), PromisedHead(seq, held)) for document, device, seq, held in rows
        ]

    def set(self, number: int, device: DeviceId, head: PromisedHead) -> None:
        self._db.execute(
            "INSERT INTO promised (document_no, device, seq, held) VALUES (?,?,?,?) "
            "ON CONFLICT DO UPDATE SET seq=excluded.seq, held=excluded.held",
            (number, bytes(device), head.seq, head.held),
        )

    def drop(self, number: int, device: DeviceId) -> None:
        self._db.execute("DELETE FROM promised WHERE document_no=? AND device=?", (number, bytes(device)))
