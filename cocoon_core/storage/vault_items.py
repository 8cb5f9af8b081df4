"""The table of all items of the vault, computed from the members' documents. Spec: specs/storage.md §6.

Long values stand last in a row, so that a list of items reads no page of them; two indexes hold the size too, so that
albums and sums need no row.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Migration

VAULT_ITEMS: Final = Migration(
    "vault items",
    """
CREATE TABLE vault_items (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    item        BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    member      BLOB NOT NULL,
    generation  INTEGER NOT NULL,
    erased      INTEGER NOT NULL,
    lingers     INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    width       INTEGER,
    height      INTEGER,
    duration    INTEGER,
    album       TEXT,
    caption     TEXT NOT NULL,
    url         TEXT,
    digest      BLOB,
    has_thumb   INTEGER NOT NULL,
    blur        BLOB,
    site        TEXT NOT NULL,
    about       TEXT NOT NULL,
    sought      TEXT NOT NULL,
    file_id     BLOB,
    thumb_id    BLOB,
    thumb       BLOB,
    file        BLOB,
    UNIQUE (group_no, item)
) STRICT;
CREATE INDEX vault_items_by_time ON vault_items (group_no, time_ms, item, size) WHERE NOT erased;
CREATE INDEX vault_items_by_album ON vault_items (group_no, album, time_ms, item, size)
    WHERE album IS NOT NULL AND NOT erased;
CREATE INDEX vault_items_by_kind ON vault_items (group_no, kind, time_ms, item) WHERE NOT erased;
CREATE INDEX vault_items_by_digest ON vault_items (group_no, digest) WHERE digest IS NOT NULL;
CREATE INDEX vault_items_by_file ON vault_items (group_no, file_id) WHERE file_id IS NOT NULL;
CREATE INDEX vault_items_by_thumb ON vault_items (group_no, thumb_id) WHERE thumb_id IS NOT NULL;
CREATE INDEX vault_items_by_document ON vault_items (document_no);
CREATE INDEX vault_items_lingering ON vault_items (group_no, member) WHERE lingers;
ALTER TABLE posts ADD COLUMN files BLOB;
CREATE TABLE stale_views (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    view     TEXT NOT NULL,
    PRIMARY KEY (group_no, view)
) STRICT, WITHOUT ROWID;
INSERT INTO stale_views SELECT id, 'posts' FROM groups;
INSERT INTO stale_views SELECT id, 'vault_items' FROM groups;
""",
)
