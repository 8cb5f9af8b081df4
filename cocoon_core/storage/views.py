"""Tables that are computed from documents. They can be emptied and built again at any time. Spec: specs/storage.md
§6.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Database, Migration

VIEWS: Final = Migration(
    "views",
    """
CREATE TABLE posts (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    post        BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    member      BLOB NOT NULL,
    text        TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    parent      BLOB,
    edited      INTEGER NOT NULL,
    UNIQUE (group_no, post)
) STRICT;
CREATE INDEX posts_in_feed ON posts (group_no, time_ms, post) WHERE parent IS NULL;
CREATE INDEX posts_by_parent ON posts (group_no, parent) WHERE parent IS NOT NULL;
""",
)


def is_view_stale(database: Database, group_no: int, view: str) -> bool:
    """Whether a step of the schema asked for a group's view to be computed anew, since it is read otherwise now."""
    found = database.query_value("SELECT 1 FROM stale_views WHERE group_no=? AND view=?", (group_no, view))
    return found is not None


def forget_stale_view(database: Database, group_no: int, view: str) -> None:
    """It was computed anew. Inside a transaction."""
    database.execute("DELETE FROM stale_views WHERE group_no=? AND view=?", (group_no, view))
