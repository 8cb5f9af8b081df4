"""What the feed keeps beside the text of posts: what else they say, what admins marked, and what stays on this device.

`posts` and `post_marks` are computed from documents. `feed_visits`, `unread_posts` and `drafts` are this device's own:
they are sent to nobody. Spec: specs/storage.md §6.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Migration

FEED: Final = Migration(
    "feed",
    """
ALTER TABLE posts ADD COLUMN quote BLOB;
ALTER TABLE posts ADD COLUMN mentions BLOB;
ALTER TABLE posts ADD COLUMN ask INTEGER;
ALTER TABLE posts ADD COLUMN until_ms INTEGER;
ALTER TABLE posts ADD COLUMN answer INTEGER;
ALTER TABLE posts ADD COLUMN solved BLOB;
ALTER TABLE posts ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX posts_asking ON posts (group_no, ask, time_ms) WHERE ask IS NOT NULL;
CREATE INDEX posts_deleted ON posts (group_no, parent) WHERE deleted;
CREATE TABLE post_marks (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    kind        TEXT NOT NULL,
    post        BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    time_ms     INTEGER NOT NULL,
    PRIMARY KEY (group_no, kind, post)
) STRICT, WITHOUT ROWID;
CREATE INDEX post_marks_by_document ON post_marks (document_no);
CREATE TABLE feed_visits (
    group_no   INTEGER PRIMARY KEY REFERENCES groups(id) ON DELETE CASCADE,
    visited_ms INTEGER NOT NULL,
    old_month  TEXT NOT NULL
) STRICT;
CREATE TABLE unread_posts (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    post     BLOB NOT NULL,
    PRIMARY KEY (group_no, post)
) STRICT, WITHOUT ROWID;
CREATE TABLE drafts (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    reply_to BLOB NOT NULL,
    text     TEXT NOT NULL,
    quote    BLOB,
    saved_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, reply_to)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO stale_views SELECT id, 'posts' FROM groups;
INSERT OR IGNORE INTO stale_views SELECT id, 'post_marks' FROM groups;
""",
)
