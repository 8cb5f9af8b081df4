"""Where the changes of each document stand in the log, its cache, and the changes that wait or were refused.

A cache is a convenience: it names the last run that it holds, and is thrown away when anything about it does not fit.
Spec: specs/storage.md §5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.descriptor import Descriptor, descriptor_from_value
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId
from cocoon_core.storage.database import Database, Migration, Row

DOCUMENTS: Final = Migration(
    "documents",
    """
CREATE TABLE documents (
    id         INTEGER PRIMARY KEY,
    group_no   INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document   BLOB NOT NULL,
    descriptor BLOB NOT NULL,
    cache      BLOB,
    cached_run INTEGER NOT NULL DEFAULT 0,
    UNIQUE (group_no, document)
) STRICT;
CREATE TABLE document_runs (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    run         INTEGER NOT NULL,
    PRIMARY KEY (document_no, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiting (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    missing     BLOB NOT NULL,
    change      BLOB NOT NULL,
    run         INTEGER NOT NULL,
    PRIMARY KEY (document_no, missing, change)
) STRICT, WITHOUT ROWID;
CREATE TABLE called (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    change      BLOB NOT NULL,
    PRIMARY KEY (document_no, change)
) STRICT, WITHOUT ROWID;
CREATE TABLE refused (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    change      BLOB NOT NULL,
    device      BLOB NOT NULL,
    code        TEXT NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (document_no, change)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document that is known here."""

    number: int
    document: DocumentId
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class DocumentRun:
    """A run that changes a document. Its entries up to `last_seq` stand in the chain; of one apart, none do."""

    number: int
    wire: bytes
    last_seq: int


class DocumentTable:
    """The documents of one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def ensure(self, document: DocumentId, descriptor: Descriptor) -> DocumentRecord:
        """Its record, made if it is new."""
        found = self.find(document)
        if found is None:
            self._db.execute(
                "INSERT INTO documents (group_no, document, descriptor) VALUES (?,?,?)",
                (self._no, bytes(document), encoding.encode(descriptor.to_value())),
            )
            found = DocumentRecord(self._db.last_insert_rowid(), document, descriptor)
        return found

    def find(self, document: DocumentId) -> DocumentRecord | None:
        row = self._db.query_one(
            "SELECT id, descriptor FROM documents WHERE group_no=? AND document=?", (self._no, bytes(document))
        )
        return DocumentRecord(row[0], document, descriptor_from_value(encoding.decode(row[1]))) if row else None

    def get(self, number: int) -> DocumentRecord:
        """A record that is named by its number."""
        row = self._db.query_one("SELECT document, descriptor FROM documents WHERE id=?", (number,))
        assert row is not None, "what is named is not deleted"
        return DocumentRecord(number, DocumentId(row[0]), descriptor_from_value(encoding.decode(row[1])))

    def all(self) -> list[DocumentRecord]:
        rows = self._db.query(
            "SELECT id, document, descriptor FROM documents WHERE group_no=? ORDER BY id", (self._no,)
        )
        return [
            DocumentRecord(number, DocumentId(document), descriptor_from_value(encoding.decode(descriptor)))
            for number, document, descriptor in rows
        ]

    # --- runs

    def add_runs(self, pairs: set[tuple[int, int]]) -> None:
        """Note (document number, run) for every document that a run changes."""
        self._db.executemany("INSERT OR IGNORE INTO document_runs (document_no, run) VALUES (?,?)", sorted(pairs))

    def wires(self, number: int, after_run: int = 0) -> list[DocumentRun]:
        """Every run that changes a document, in the order of the log; before them those that stand apart.

        Args:
            after_run: only the runs of the log that come after that one.
        """
        rows = self._db.query(
            "SELECT r.id, r.wire, r.last_seq FROM document_runs d JOIN runs r ON r.id=d.run "
            "WHERE d.document_no=? AND d.run>? ORDER BY d.run",
            (number, after_run),
        )
        if not after_run:
            rows = [*self._apart(number), *rows]
        return [DocumentRun(run, wire, last_seq) for run, wire, last_seq in rows]

    def changed_by(self, run: int) -> list[int]:
        """The numbers of the documents that a run changes."""
        return [number for (number,) in self._db.query("SELECT document_no FROM document_runs WHERE run=?", (run,))]

    def forget_content(self, number: int) -> None:
        """Let go of all that is known of a document but what it is."""
        self.forget_verdicts(number)
        self.set_cache(number, None, 0)
        self._db.execute("DELETE FROM document_runs WHERE document_no=?", (number,))

    def has_runs(self, number: int) -> bool:
        """True where some run here changes the document, in the log or apart."""
        return bool(self._db.query_value("SELECT EXISTS (SELECT 1 FROM document_runs WHERE document_no=?)", (number,)))

    def _apart(self, number: int) -> list[Row]:
        return self._db.query(
            "SELECT -l.id, l.wire, -1 FROM document_runs d JOIN loose_runs l ON l.id=-d.run "
            "WHERE d.document_no=? AND d.run<0 ORDER BY l.id",
            (number,),
        )

    def run(self, run: int) -> DocumentRun:
        """One of these runs, by its number."""
        sql = "SELECT wire, last_seq FROM runs WHERE id=?" if run > 0 else "SELECT wire, -1 FROM loose_runs WHERE id=?"
        row = self._db.query_one(sql, (abs(run),))
        assert row is not None, "a run that is named is not deleted without its name"
        return DocumentRun(run, row[0], row[1])

    # --- cache

    def cache(self, number: int) -> tuple[bytes | None, int]:
        """The saved document and the last run that it holds."""
        row = self._db.query_one("SELECT cache, cached_run FROM documents WHERE id=?", (number,))
        assert row is not None, "the caller has the document's record"
        return row[0], row[1]

    def set_cache(self, number: int, cache: bytes | None, run: int) -> None:
        self._db.execute("UPDATE documents SET cache=?, cached_run=? WHERE id=?", (cache, run, number))

    def last_run(self, number: int) -> int:
        value = self._db.query_value("SELECT max(run) FROM document_runs WHERE document_no=?", (number,))
        return int(value or 0)

    # --- waiting and refused

    def wait(self, number: int, missing: ChangeHash, change: ChangeHash, run: int) -> None:
        """Note that a change of a stored run waits for another one."""
        self._db.execute(
            "INSERT OR IGNORE INTO waiting (document_no, missing, change, run) VALUES (?,?,?,?)",
            (number, bytes(missing), bytes(change), run),
        )

    def waiting_for(self, number: int, arrived: ChangeHash) -> list[tuple[ChangeHash, int]]:
        """(change, run) of everything that waited for this one; no longer waiting after the call."""
        rows = self._db.query(
            "SELECT change, run FROM waiting WHERE document_no=? AND missing=?", (number, bytes(arrived))
        )
        if rows:
            self._db.execute("DELETE FROM waiting WHERE document_no=? AND missing=?", (number, bytes(arrived)))
        return [(ChangeHash(change), run) for change, run in rows]

    def is_awaited(self, number: int, change: ChangeHash) -> bool:
        """Whether something of the document waits for this change."""
        return bool(
            self._db.query_value(
                "SELECT count(*) FROM waiting WHERE document_no=? AND missing=?", (number, bytes(change))
            )
        )

    def waiting_count(self) -> int:
        return int(
            self._db.query_value(
                "SELECT count(*) FROM waiting w JOIN documents d ON d.id=w.document_no WHERE d.group_no=?",
                (self._no,),
            )
        )

    def waiting_changes(self, number: int) -> set[ChangeHash]:
        rows = self._db.query("SELECT DISTINCT change FROM waiting WHERE document_no=?", (number,))
        return {ChangeHash(change) for (change,) in rows}

    def has_waiting(self, number: int) -> bool:
        return bool(self._db.query_value("SELECT count(*) FROM waiting WHERE document_no=?", (number,)))

    def forget_verdicts(self, number: int) -> None:
        """Before a document is built anew from the log."""
        self._db.execute("DELETE FROM waiting WHERE document_no=?", (number,))
        self._db.execute("DELETE FROM refused WHERE document_no=?", (number,))
        self._db.execute("DELETE FROM called WHERE document_no=?", (number,))

    def call(self, number: int, changes: Sequence[ChangeHash]) -> None:
        """Note changes that count, whoever wrote them, because a change that counts depends on them."""
        self._db.executemany(
            "INSERT OR IGNORE INTO called (document_no, change) VALUES (?,?)",
            [(number, bytes(change)) for change in changes],
        )

    def called(self, number: int) -> set[ChangeHash]:
        rows = self._db.query("SELECT change FROM called WHERE document_no=?", (number,))
        return {ChangeHash(change) for (change,) in rows}

    def refuse(self, number: int, change: ChangeHash, device: DeviceId, code: str, reason: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO refused (document_no, change, device, code, reason) VALUES (?,?,?,?,?)",
            (number, bytes(change), bytes(device), code, reason),
        )

    def refused(self, number: int) -> dict[ChangeHash, tuple[DeviceId, str, str]]:
        rows = self._db.query("SELECT change, device, code, reason FROM refused WHERE document_no=?", (number,))
        return {ChangeHash(change): (DeviceId(device), code, reason) for change, device, code, reason in rows}
