"""Bytes that were stored as something signed and do not prove to be that: kept apart, and never taken for it again.

A run is the truth, so a check never throws one away: what is damaged is moved here, where nothing reads it, and the
place in the log becomes a gap that the next sync fills. Spec: specs/check.md §3.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Database, Migration

SET_ASIDE: Final = Migration(
    "set aside",
    """
CREATE TABLE set_aside (
    id       INTEGER PRIMARY KEY,
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    place    TEXT NOT NULL,
    value    BLOB NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT;
""",
)


def set_aside(database: Database, group_no: int, place: str, value: bytes, now_ms: int) -> None:
    """Keep damaged bytes, and where they stood. Inside the transaction that takes them from there."""
    database.execute(
        "INSERT INTO set_aside (group_no, place, value, since_ms) VALUES (?,?,?,?)", (group_no, place, value, now_ms)
    )
