"""The table `meta`: single values of the profile itself. Implements specs/storage.md §7."""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Database, Migration

META: Final = Migration("meta", "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;")


def read_meta(database: Database, key: str) -> bytes | None:
    """One value, or None."""
    value: bytes | None = database.query_value("SELECT value FROM meta WHERE key = ?", (key,))
    return value


def write_meta(database: Database, key: str, value: bytes) -> None:
    """Set one value."""
    database.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
