"""What a profile keeps of linking devices: codes that were answered, and groups that wait to be enrolled in.

A code serves once, so the one who answers it notes its mailbox before anything is sent. A group that a new device was
offered is stored, hidden, before the device asks to be enrolled: whatever happens then, its keys are not lost.
Spec: specs/device-link.md §4.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.protocol.ids import TopicId
from cocoon_core.storage.database import Database, Migration

DEVICE_LINKS: Final = Migration(
    "device links",
    """
CREATE TABLE answered_codes (
    mailbox  BLOB PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pending_links (
    group_no INTEGER PRIMARY KEY REFERENCES groups(id) ON DELETE CASCADE,
    since_ms INTEGER NOT NULL
) STRICT;
""",
)


class DeviceLinkTable:
    """Reads and writes the tables above. The caller holds the transaction where one is needed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note_answered(self, mailbox: TopicId, now_ms: int) -> bool:
        """Note that a code is used; False if it was before."""
        if self._db.query_value("SELECT count(*) FROM answered_codes WHERE mailbox=?", (bytes(mailbox),)):
            return False
        self._db.execute("INSERT INTO answered_codes (mailbox, since_ms) VALUES (?,?)", (bytes(mailbox), now_ms))
        return True

    def add_pending(self, group_no: int, now_ms: int) -> None:
        self._db.execute("INSERT INTO pending_links (group_no, since_ms) VALUES (?,?)", (group_no, now_ms))

    def end_pending(self, group_no: int) -> None:
        self._db.execute("DELETE FROM pending_links WHERE group_no=?", (group_no,))

    def pending(self) -> dict[int, int]:
        """Since when each pending group waits, in ms, by its number; oldest first."""
        return dict(self._db.query("SELECT group_no, since_ms FROM pending_links ORDER BY since_ms, group_no"))
