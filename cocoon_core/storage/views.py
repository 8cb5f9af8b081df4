"""Tables that are computed from documents. They can be emptied and built again at any time. Spec: specs/storage.md
§6.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Migration

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
