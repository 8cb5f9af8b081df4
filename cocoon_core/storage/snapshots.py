"""What manifests said of documents: the pages that are known here, what each document is built on, what is still owed.

Decides nothing: when a page is fetched, read or packed anew is for sync/. Spec: specs/storage.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import BlobHash, DocumentId, TopicId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.snapshot import PageRef
from cocoon_core.storage.database import Database, Migration

SNAPSHOTS: Final = Migration(
    "snapshots",
    """
CREATE TABLE pages (
    id       INTEGER PRIMARY KEY,
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    name     BLOB NOT NULL,
    key      BLOB NOT NULL,
    changes  INTEGER NOT NULL,
    part     BLOB,
    UNIQUE (group_no, name)
) STRICT;
CREATE TABLE snapshots (
    document_no INTEGER PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
    said        BLOB NOT NULL,
    last_entry  INTEGER NOT NULL
) STRICT;
CREATE TABLE document_pages (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    place       INTEGER NOT NULL,
    page        INTEGER NOT NULL REFERENCES pages(id),
    PRIMARY KEY (document_no, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX documents_in_page ON document_pages (page);
CREATE TABLE owed (
    document_no INTEGER PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
    topic       BLOB NOT NULL,
    state       BLOB NOT NULL,
    is_away     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX posts_of_document ON posts (document_no);
CREATE INDEX documents_of_run ON document_runs (run);
ALTER TABLE groups ADD COLUMN kept_months INTEGER;
""",
)


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """What a manifest said of one document.

    Attributes:
        pages: the numbers of the pages that hold its changes, in order.
        said: what was said besides, in a form of sync/arrivals.py.
        last_entry: the greatest seq of an entry that it names, of any device.
    """

    pages: tuple[int, ...]
    said: bytes
    last_entry: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A document of which a manifest knows more than was read here.

    Attributes:
        topic: whose proof reads its pages.
        state: what the manifest says of it, in a form of sync/owed.py.
        is_away: it is left where it is until somebody asks for it.
    """

    number: int
    document: DocumentId
    topic: TopicId
    state: bytes
    is_away: bool


class SnapshotTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- pages

    def add_page(self, page: PageRef, changes: int, part: bytes | None) -> int:
        """Note a page that was packed or read here, so is known to hold what it should; its number.

        Args:
            changes: how many it holds.
            part: its content, where that stands nowhere else here.
        """
        self._db.execute(
            "INSERT INTO pages (group_no, name, key, changes, part) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET part=coalesce(part, excluded.part)",
            (self._no, bytes(page.name), page.key.reveal(), changes, part),
        )
        row = self._db.query_one("SELECT id FROM pages WHERE group_no=? AND name=?", (self._no, bytes(page.name)))
        assert row is not None, "it was just stored"
        return int(row[0])

    def part(self, page: int) -> bytes | None:
        """The content of a page that a document here is built on."""
        row = self._db.query_one("SELECT part FROM pages WHERE id=?", (page,))
        return row[0] if row else None

    def find_page(self, name: BlobHash) -> tuple[PageRef, bytes | None] | None:
        """A known page, with its content where that is here."""
        row = self._db.query_one("SELECT key, part FROM pages WHERE group_no=? AND name=?", (self._no, bytes(name)))
        return (PageRef(name, Secret(row[0])), row[1]) if row else None

    def known_pages(self) -> dict[BlobHash, int]:
        """How many changes each known page holds, by its name."""
        rows = self._db.query("SELECT name, changes FROM pages WHERE group_no=?", (self._no,))
        return {BlobHash(name): changes for name, changes in rows}

    def forget_pages(self, kept: Iterable[BlobHash]) -> None:
        """Drop pages on which nothing is built here, but for some: those that the current manifest names."""
        keep = set(kept)
        rows = self._db.query(
            "SELECT p.id, p.name, EXISTS (SELECT 1 FROM document_pages d WHERE d.page=p.id) FROM pages p "
            "WHERE p.group_no=?",
            (self._no,),
        )
        gone = [(page,) for page, name, in_use in rows if not in_use and BlobHash(name) not in keep]
        self._db.executemany("DELETE FROM pages WHERE id=?", gone)

    def distrust_pages(self, names: Iterable[BlobHash]) -> None:
        """Forget pages that nobody here can make again: a manifest that is packed from now on names others."""
        self._db.executemany(
            "DELETE FROM pages WHERE group_no=? AND name=? AND part IS NULL",
            [(self._no, bytes(name)) for name in names],
        )

    def stored_pages(self) -> list[int]:
        """The numbers of the pages whose content is here."""
        rows = self._db.query("SELECT id FROM pages WHERE group_no=? AND part IS NOT NULL", (self._no,))
        return [page for (page,) in rows]

    def built_on(self, page: int) -> list[int]:
        """The numbers of the documents that are built on a page."""
        rows = self._db.query("SELECT DISTINCT document_no FROM document_pages WHERE page=?", (page,))
        return [number for (number,) in rows]

    def delete_page(self, page: int) -> None:
        """Delete a page on which nothing is built any more."""
        self._db.execute("DELETE FROM pages WHERE id=?", (page,))

    # --- what documents are built on

    def get(self, number: int) -> StoredSnapshot | None:
        row = self._db.query_one("SELECT said, last_entry FROM snapshots WHERE document_no=?", (number,))
        if row is None:
            return None
        pages = self._db.query("SELECT page FROM document_pages WHERE document_no=? ORDER BY place", (number,))
        return StoredSnapshot(tuple(page for (page,) in pages), row[0], row[1])

    def set(self, number: int, pages: Sequence[int], said: bytes, last_entry: int) -> None:
        self._db.execute(
            "INSERT INTO snapshots (document_no, said, last_entry) VALUES (?,?,?) "
            "ON CONFLICT DO UPDATE SET said=excluded.said, last_entry=excluded.last_entry",
            (number, said, last_entry),
        )
        self._db.execute("DELETE FROM document_pages WHERE document_no=?", (number,))
        self._db.executemany(
            "INSERT INTO document_pages (document_no, place, page) VALUES (?,?,?)",
            [(number, place, page) for place, page in enumerate(pages)],
        )

    def forget(self, number: int) -> None:
        """Let what a document is built on go."""
        self._db.execute("DELETE FROM document_pages WHERE document_no=?", (number,))
        self._db.execute("DELETE FROM snapshots WHERE document_no=?", (number,))

    def drop_parts(self) -> None:
        """Let the content of pages go on which nothing is built here."""
        self._db.execute(
            "UPDATE pages SET part=NULL WHERE group_no=? AND part IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM document_pages d WHERE d.page=pages.id)",
            (self._no,),
        )

    def has_any(self) -> bool:
        """True where some document here is built on pages."""
        return bool(
            self._db.query_value(
                "SELECT EXISTS (SELECT 1 FROM document_pages p JOIN documents d ON d.id=p.document_no "
                "WHERE d.group_no=?)",
                (self._no,),
            )
        )

    # --- what is owed

    def owe(self, number: int, topic: TopicId, state: bytes, *, is_away: bool = False) -> None:
        self._db.execute(
            "INSERT INTO owed (document_no, topic, state, is_away) VALUES (?,?,?,?) "
            "ON CONFLICT DO UPDATE SET topic=excluded.topic, state=excluded.state",
            (number, bytes(topic), state, is_away),
        )

    def paid(self, number: int) -> None:
        """The document was read."""
        self._db.execute("DELETE FROM owed WHERE document_no=?", (number,))

    def set_away(self, number: int, is_away: bool) -> None:
        self._db.execute("UPDATE owed SET is_away=? WHERE document_no=?", (is_away, number))

    def owed(self) -> list[Owed]:
        rows = self._db.query(
            "SELECT o.document_no, d.document, o.topic, o.state, o.is_away FROM owed o "
            "JOIN documents d ON d.id=o.document_no WHERE d.group_no=? ORDER BY o.document_no",
            (self._no,),
        )
        return [
            Owed(number, DocumentId(document), TopicId(topic), state, bool(away))
            for number, document, topic, state, away in rows
        ]
