"""What is kept of documents that their owners retired, and the deletes by which this device lets go of what they said.

A run in the log is named by the rows of `document_runs`; whoever deletes it takes those with it. The caller holds the
transaction and has seen to it that nothing else needs the run. Spec: specs/storage.md §5 and specs/retire.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, TopicId
from cocoon_core.storage.database import Database, Migration

RETIRES: Final = Migration(
    "retires",
    """
CREATE TABLE retires (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    entry    BLOB NOT NULL,
    wire     BLOB NOT NULL,
    counts   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_no, entry)
) STRICT, WITHOUT ROWID;
CREATE TABLE carried (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document BLOB NOT NULL,
    heads    BLOB NOT NULL,
    PRIMARY KEY (group_no, document)
) STRICT, WITHOUT ROWID;
CREATE TABLE swept_documents (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document BLOB NOT NULL,
    is_whole INTEGER NOT NULL,
    PRIMARY KEY (group_no, document)
) STRICT, WITHOUT ROWID;
CREATE TABLE swept_runs (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    last_seq INTEGER NOT NULL,
    last_id  BLOB NOT NULL,
    PRIMARY KEY (group_no, device)
) STRICT, WITHOUT ROWID;
ALTER TABLE posts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN lingers INTEGER NOT NULL DEFAULT 0;
CREATE INDEX posts_lingering ON posts (group_no, member) WHERE lingers;
""",
)


@dataclass(frozen=True, slots=True)
class StoredRetire:
    """A retire that is known here. `counts` is what it was found to do when that was last asked."""

    entry: EntryId
    wire: bytes
    counts: bool


@dataclass(frozen=True, slots=True)
class ErasableRun:
    """A run of the log that changes a retired document."""

    number: int
    device: DeviceId
    last_seq: int
    last_id: EntryId
    wire: bytes


class RetireTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- retires

    def add(self, entry: EntryId, wire: bytes) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO retires (group_no, entry, wire) VALUES (?,?,?)", (self._no, bytes(entry), wire)
        )

    def all(self) -> list[StoredRetire]:
        rows = self._db.query("SELECT entry, wire, counts FROM retires WHERE group_no=? ORDER BY entry", (self._no,))
        return [StoredRetire(EntryId(entry), wire, bool(counts)) for entry, wire, counts in rows]

    def set_counts(self, entries: Iterable[EntryId], counts: bool) -> None:
        self._db.executemany(
            "UPDATE retires SET counts=? WHERE group_no=? AND entry=?",
            [(int(counts), self._no, bytes(entry)) for entry in entries],
        )

    # --- edits that were made again in the next generation

    def carried(self, document: DocumentId) -> bytes | None:
        """The heads of a retired document up to which edits were made again in the next generation."""
        found: bytes | None = self._db.query_value(
            "SELECT heads FROM carried WHERE group_no=? AND document=?", (self._no, bytes(document))
        )
        return found

    def set_carried(self, document: DocumentId, heads: bytes) -> None:
        self._db.execute(
            "INSERT INTO carried (group_no, document, heads) VALUES (?,?,?) "
            "ON CONFLICT DO UPDATE SET heads=excluded.heads",
            (self._no, bytes(document), heads),
        )

    # --- letting go

    def runs_of(self, document_no: int) -> list[ErasableRun]:
        """The runs of the log that change a document."""
        rows = self._db.query(
            "SELECT r.id, r.device, r.last_seq, r.last_id, r.wire FROM document_runs d JOIN runs r ON r.id=d.run "
            "WHERE d.document_no=? ORDER BY d.run",
            (document_no,),
        )
        return [ErasableRun(number, DeviceId(dev), seq, EntryId(last), wire) for number, dev, seq, last, wire in rows]

    def holds_changes(self, document_no: int) -> bool:
        """Whether a run of the log, or what a manifest said, holds changes of a document."""
        return bool(
            self._db.query_value(
                "SELECT EXISTS (SELECT 1 FROM document_runs WHERE document_no=?1 AND run>0) "
                "OR EXISTS (SELECT 1 FROM snapshots WHERE document_no=?1)",
                (document_no,),
            )
        )

    def delete_run(self, number: int) -> None:
        self._db.execute("DELETE FROM document_runs WHERE run=?", (number,))
        self._db.execute("DELETE FROM runs WHERE id=?", (number,))

    def delete_said(self, document_no: int) -> None:
        """What manifests said of a document, the verdicts on it, and own changes of it that were lost."""
        for table in ("snapshots", "document_pages", "waiting", "called", "refused", "lost"):
            self._db.execute(f"DELETE FROM {table} WHERE document_no=?", (document_no,))

    def delete_uploads(self, current: TopicId) -> None:
        """Blobs of epochs that are not written to any more, still waiting for a relay: nobody will ask for them."""
        self._db.execute("DELETE FROM uploads WHERE group_no=? AND topic!=?", (self._no, bytes(current)))

    def note_swept(self, document: DocumentId, *, is_whole: bool) -> None:
        """A document's changes are not here any more, or never were read.

        Args:
            is_whole: all that is stored here was looked through for them.
        """
        self._db.execute(
            "INSERT INTO swept_documents (group_no, document, is_whole) VALUES (?,?,?) "
            "ON CONFLICT DO UPDATE SET is_whole=max(is_whole, excluded.is_whole)",
            (self._no, bytes(document), is_whole),
        )

    def forget_swept(self, document: DocumentId) -> None:
        """A manifest brought the document's changes back."""
        self._db.execute("DELETE FROM swept_documents WHERE group_no=? AND document=?", (self._no, bytes(document)))

    def swept_documents(self, *, wholly: bool = False) -> set[DocumentId]:
        """Documents whose changes were let go of.

        Args:
            wholly: only those for which all that is stored here was looked through.
        """
        rows = self._db.query(
            "SELECT document FROM swept_documents WHERE group_no=? AND is_whole>=?", (self._no, int(wholly))
        )
        return {DocumentId(document) for (document,) in rows}

    def note_swept_run(self, device: DeviceId, last_seq: int, last_id: EntryId) -> None:
        self._db.execute(
            "INSERT INTO swept_runs (group_no, device, last_seq, last_id) VALUES (?,?,?,?) ON CONFLICT DO UPDATE "
            "SET last_seq=excluded.last_seq, last_id=excluded.last_id WHERE excluded.last_seq>last_seq",
            (self._no, bytes(device), last_seq, bytes(last_id)),
        )

    def swept_runs(self) -> dict[DeviceId, tuple[int, EntryId]]:
        """Of each device, the seq and id of the last entry in a run that was let go of."""
        rows = self._db.query("SELECT device, last_seq, last_id FROM swept_runs WHERE group_no=?", (self._no,))
        return {DeviceId(device): (seq, EntryId(last)) for device, seq, last in rows}
