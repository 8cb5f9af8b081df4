"""Which files are to be sent to which relay, and when each relay was last asked for them. Implements specs/storage.md
§6.1.

Decides nothing: what is sent and renewed, when and by whom, is for cocoon_core/vault.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.vault_contents import decode_ref, encode_ref

VAULT_TRANSFERS: Final = Migration(
    "vault_transfers",
    """
CREATE TABLE vault_uploads (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay     TEXT NOT NULL,
    file      BLOB NOT NULL,
    ref       BLOB NOT NULL,
    queued_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX vault_uploads_file ON vault_uploads (group_no, file);
CREATE TABLE vault_leases (
    group_no   INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay      TEXT NOT NULL,
    file       BLOB NOT NULL,
    renewed_ms INTEGER NOT NULL,
    lacking    INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay, file)
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_rounds (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    ended_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class Lease:
    """What is known of a file at a relay.

    Attributes:
        renewed_ms: when that relay was last asked for all of it; or when this device first saw it, if another's.
        lacking: how many of its blobs the relay did not have then.
    """

    renewed_ms: int
    lacking: int = 0


class TransferTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def transaction(self) -> AbstractContextManager[None]:
        """All of the block's writes, or none."""
        return self._db.transaction()

    # --- what is to be sent

    def queue(self, relay: str, ref: FileRef, now_ms: int) -> None:
        """Have a file put at a relay, as far as that lacks it."""
        self._db.execute(
            "INSERT OR IGNORE INTO vault_uploads (group_no, relay, file, ref, queued_ms) VALUES (?,?,?,?,?)",
            (self._no, relay, ref.id(), encode_ref(ref), now_ms),
        )

    def queued(self, relay: str) -> list[FileRef]:
        """The files that this relay has not taken yet, in the order in which they were queued."""
        rows = self._db.query(
            "SELECT ref FROM vault_uploads WHERE group_no=? AND relay=? ORDER BY queued_ms, file", (self._no, relay)
        )
        return [decode_ref(ref) for (ref,) in rows]

    def relays_lacking(self, file: bytes) -> list[str]:
        """The relays that are still to take this file."""
        rows = self._db.query(
            "SELECT relay FROM vault_uploads WHERE group_no=? AND file=? ORDER BY relay", (self._no, file)
        )
        return [relay for (relay,) in rows]

    def queued_anywhere(self) -> list[FileRef]:
        """The files that some relay has not taken yet."""
        rows = self._db.query("SELECT ref FROM vault_uploads WHERE group_no=? GROUP BY file", (self._no,))
        return [decode_ref(ref) for (ref,) in rows]

    def count_queued(self) -> int:
        """Files that some relay has not taken yet."""
        sql = "SELECT count(DISTINCT file) FROM vault_uploads WHERE group_no=?"
        return int(self._db.query_value(sql, (self._no,)))

    def sent(self, relay: str, file: bytes, lease: Lease) -> None:
        """The relay said that it has all of it, or all that is to be had."""
        self._db.execute("DELETE FROM vault_uploads WHERE group_no=? AND relay=? AND file=?", (self._no, relay, file))
        self.set_leases(relay, [(file, lease)])

    # --- leases

    def leases(self, relay: str) -> dict[bytes, Lease]:
        """What is known of every file at a relay, by the file's id."""
        rows = self._db.query(
            "SELECT file, renewed_ms, lacking FROM vault_leases WHERE group_no=? AND relay=?", (self._no, relay)
        )
        return {file: Lease(renewed_ms, lacking) for file, renewed_ms, lacking in rows}

    def set_leases(self, relay: str, leases: Iterable[tuple[bytes, Lease]]) -> None:
        self._db.executemany(
            "INSERT INTO vault_leases (group_no, relay, file, renewed_ms, lacking) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET renewed_ms=excluded.renewed_ms, lacking=excluded.lacking",
            [(self._no, relay, file, lease.renewed_ms, lease.lacking) for file, lease in leases],
        )

    def round_ended(self, relay: str) -> int:
        """When all that was due at a relay was last renewed; 0 if never."""
        sql = "SELECT ended_ms FROM vault_rounds WHERE group_no=? AND relay=?"
        return int(self._db.query_value(sql, (self._no, relay)) or 0)

    def end_round(self, relay: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO vault_rounds (group_no, relay, ended_ms) VALUES (?,?,?)", (self._no, relay, now_ms)
        )

    def forget_relay(self, relay: str) -> None:
        """What is known of a relay's files is not true any more: it is asked for all of them again."""
        for table in ("vault_leases", "vault_rounds"):
            self._db.execute(f"DELETE FROM {table} WHERE group_no=? AND relay=?", (self._no, relay))

    # --- the end of a file

    def forget(self, files: Iterable[bytes]) -> None:
        """No item names these any more: nothing of them is sent or renewed."""
        rows = [(self._no, file) for file in files]
        for table in ("vault_uploads", "vault_leases"):
            self._db.executemany(f"DELETE FROM {table} WHERE group_no=? AND file=?", rows)
