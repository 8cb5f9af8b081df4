"""Which blobs of which files are on this device: the rows beside the content store. Implements specs/storage.md §6.1.

A content is a file of the vault as far as it is here, in one file of the folder `vault`. A row of `vault_chunks` says
that a blob of it is there, and is written when it is durable. Decides nothing: sealing, fetching and letting go are for
cocoon_core/vault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.database import Database, Migration, Row

VAULT_CONTENTS: Final = Migration(
    "vault_contents",
    """
CREATE TABLE vault_contents (
    id       INTEGER PRIMARY KEY,
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    place    TEXT NOT NULL UNIQUE,
    size     INTEGER NOT NULL,
    key      BLOB NOT NULL,
    file     BLOB,
    ref      BLOB,
    source   BLOB,
    bytes    INTEGER NOT NULL DEFAULT 0,
    wanted   INTEGER NOT NULL DEFAULT 0,
    pinned   INTEGER NOT NULL DEFAULT 0,
    used_ms  INTEGER NOT NULL,
    UNIQUE (group_no, file)
) STRICT;
CREATE INDEX vault_contents_used ON vault_contents (used_ms);
CREATE TABLE vault_chunks (
    content INTEGER NOT NULL REFERENCES vault_contents(id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    name    BLOB NOT NULL,
    length  INTEGER NOT NULL,
    PRIMARY KEY (content, number)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """A file as far as it is here.

    Attributes:
        place: the name of its file in the content store.
        ref: None while it is being sealed.
        source: what it is, or was, sealed from, in a form of vault/sources.py; None if it was fetched.
        held: bytes of its blobs that are here.
        wanted: it is to be fetched whole.
    """

    number: int
    place: str
    size: int
    key: Secret
    ref: FileRef | None
    source: bytes | None
    held: int
    wanted: bool
    pinned: bool
    used_ms: int


def encode_ref(ref: FileRef) -> bytes:
    """A reference as rows hold it."""
    return encode(ref.to_value())


def decode_ref(raw: bytes) -> FileRef:
    return FileRef.from_value(decode(raw))


_COLUMNS: Final = "id, place, size, key, ref, source, bytes, wanted, pinned, used_ms"


class ContentTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def transaction(self) -> AbstractContextManager[None]:
        """All of the block's writes, or none."""
        return self._db.transaction()

    # --- contents

    def add_sealing(self, place: str, size: int, key: Secret, source: bytes, now_ms: int) -> int:
        """A file that is about to be sealed under a fresh key; its number."""
        self._db.execute(
            "INSERT INTO vault_contents (group_no, place, size, key, source, used_ms) VALUES (?,?,?,?,?,?)",
            (self._no, place, size, key.reveal(), source, now_ms),
        )
        return self._db.last_insert_rowid()

    def add(self, place: str, ref: FileRef, now_ms: int) -> int:
        """A file of which nothing is here yet; its number."""
        self._db.execute(
            "INSERT INTO vault_contents (group_no, place, size, key, file, ref, used_ms) VALUES (?,?,?,?,?,?,?)",
            (self._no, place, ref.size, ref.key.reveal(), ref.id(), encode_ref(ref), now_ms),
        )
        return self._db.last_insert_rowid()

    def finish_sealing(self, number: int, ref: FileRef, now_ms: int) -> None:
        self._db.execute(
            "UPDATE vault_contents SET file=?, ref=?, used_ms=? WHERE id=?",
            (ref.id(), encode_ref(ref), now_ms, number),
        )

    def find(self, file: bytes) -> ContentRecord | None:
        """By the file's id."""
        return self._one("group_no=? AND file=?", self._no, file)

    def find_sealing(self, source: bytes) -> ContentRecord | None:
        """One that is being sealed from exactly this source."""
        return self._one("group_no=? AND source=? AND file IS NULL", self._no, source)

    def find_sealed(self, source: bytes) -> ContentRecord | None:
        """One that was sealed from exactly this source."""
        return self._one("group_no=? AND source=? AND file IS NOT NULL", self._no, source)

    def get(self, number: int) -> ContentRecord | None:
        return self._one("id=?", number)

    def require(self, number: int) -> ContentRecord:
        """One that is known to be there."""
        record = self.get(number)
        if record is None:
            raise UsageError(f"there is no content {number}")
        return record

    def sealed(self) -> list[tuple[int, int]]:
        """Number, and bytes that are here, of every one that is not being sealed."""
        return self._db.query("SELECT id, bytes FROM vault_contents WHERE group_no=? AND file IS NOT NULL", (self._no,))

    def finished(self) -> list[tuple[int, bytes, str, int]]:
        """Number, file id, place and last use of every one that is not being sealed, nor pinned."""
        return self._db.query(
            "SELECT id, file, place, used_ms FROM vault_contents WHERE group_no=? AND file IS NOT NULL AND NOT pinned",
            (self._no,),
        )

    def sealing_before(self, before_ms: int) -> list[tuple[int, str]]:
        """Number and place of those that were begun before then, and never sealed to their end."""
        return self._db.query(
            "SELECT id, place FROM vault_contents WHERE group_no=? AND file IS NULL AND used_ms<?",
            (self._no, before_ms),
        )

    def wanted(self) -> list[ContentRecord]:
        """Those that are to be fetched whole, the one that was used last first."""
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM vault_contents WHERE group_no=? AND wanted ORDER BY used_ms DESC, id", (self._no,)
        )
        return [_record(row) for row in rows]

    def set_wanted(self, number: int, wanted: bool) -> None:
        self._db.execute("UPDATE vault_contents SET wanted=? WHERE id=?", (int(wanted), number))

    def set_pinned(self, number: int, pinned: bool) -> None:
        self._db.execute("UPDATE vault_contents SET pinned=? WHERE id=?", (int(pinned), number))

    def touch(self, number: int, now_ms: int) -> None:
        self._db.execute("UPDATE vault_contents SET used_ms=? WHERE id=?", (now_ms, number))

    def remove(self, number: int) -> None:
        """The row; the file goes after the commit."""
        self._db.execute("DELETE FROM vault_contents WHERE id=?", (number,))

    def _one(self, where: str, *values: int | bytes) -> ContentRecord | None:
        row = self._db.query_one(f"SELECT {_COLUMNS} FROM vault_contents WHERE {where}", values)
        return None if row is None else _record(row)

    # --- blobs

    def add_blobs(self, number: int, blobs: Iterable[tuple[int, BlobHash, int]]) -> None:
        """Blobs that are durable: their places in the file, names and lengths."""
        rows = [(number, place, bytes(name), length) for place, name, length in blobs]
        self._db.executemany(
            "INSERT OR IGNORE INTO vault_chunks (content, number, name, length) VALUES (?,?,?,?)", rows
        )
        self._measure(number)

    def drop_blobs(self, number: int, places: Iterable[int]) -> None:
        """Blobs that turned out to be damaged."""
        rows = [(number, place) for place in places]
        self._db.executemany("DELETE FROM vault_chunks WHERE content=? AND number=?", rows)
        self._measure(number)

    def drop_all_blobs(self, number: int) -> None:
        self._db.execute("DELETE FROM vault_chunks WHERE content=?", (number,))
        self._measure(number)

    def blobs(self, number: int) -> Iterator[tuple[int, BlobHash]]:
        """The places and names of the blobs that are here. Write nothing of them meanwhile."""
        for place, name in self._db.query_each(
            "SELECT number, name FROM vault_chunks WHERE content=? ORDER BY number", (number,)
        ):
            yield place, BlobHash.unchecked(name)

    def count_blobs(self, number: int) -> int:
        return int(self._db.query_value("SELECT count(*) FROM vault_chunks WHERE content=?", (number,)))

    def _measure(self, number: int) -> None:
        self._db.execute(
            "UPDATE vault_contents SET bytes=(SELECT coalesce(sum(length), 0) FROM vault_chunks WHERE content=?1) "
            "WHERE id=?1",
            (number,),
        )


def _record(row: Row) -> ContentRecord:
    number, place, size, key, ref, source, held, wanted, pinned, used_ms = row
    known = None if ref is None else decode_ref(ref)
    return ContentRecord(number, place, size, Secret(key), known, source, held, bool(wanted), bool(pinned), used_ms)


# --- of all groups


def places_of_all(database: Database) -> dict[str, int]:
    """The place of every content of the profile, and its number."""
    return dict(database.query("SELECT place, id FROM vault_contents"))


def held_bytes(database: Database) -> int:
    """Bytes of all blobs that are here."""
    return int(database.query_value("SELECT coalesce(sum(bytes), 0) FROM vault_contents"))


def measure_contents(database: Database, group_no: int) -> tuple[int, int, int]:
    """Bytes of all blobs that are here: of one group, of all, and of what is pinned."""
    row = database.query_one(
        "SELECT coalesce(sum(bytes) FILTER (WHERE group_no=?), 0), coalesce(sum(bytes), 0), "
        "coalesce(sum(bytes) FILTER (WHERE pinned), 0) FROM vault_contents",
        (group_no,),
    )
    assert row is not None, "an aggregate has one row"
    return int(row[0]), int(row[1]), int(row[2])


def let_go_first(database: Database, many: int) -> list[tuple[int, str, int]]:
    """The contents that can be let go of, the one that was not used for longest first: number, place and bytes.

    Not one that is pinned, or wanted, or that a relay has not taken yet.
    """
    rows = database.query(
        "SELECT id, place, bytes FROM vault_contents c WHERE NOT pinned AND NOT wanted AND NOT EXISTS "
        "(SELECT 1 FROM vault_uploads u WHERE u.group_no=c.group_no AND u.file=c.file) ORDER BY used_ms, id LIMIT ?",
        (many,),
    )
    return [(number, place, held) for number, place, held in rows]
