"""The tables of what is written together: lists, notes, and events with replies, computed from documents.

Spec: specs/storage.md §6.2.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.storage.database import Migration

TOGETHER: Final = Migration(
    "written together",
    """
CREATE TABLE lists (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    list        BLOB NOT NULL,
    document_no INTEGER NOT NULL UNIQUE REFERENCES documents(id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    gone_ms     INTEGER,
    UNIQUE (group_no, list)
) STRICT;
CREATE TABLE list_items (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    item        BLOB NOT NULL,
    text        TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    done_ms     INTEGER,
    place       TEXT NOT NULL,
    UNIQUE (group_no, item)
) STRICT;
CREATE INDEX list_items_by_place ON list_items (document_no, place, item);
CREATE TABLE notes (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    note        BLOB NOT NULL,
    document_no INTEGER NOT NULL UNIQUE REFERENCES documents(id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    time_ms     INTEGER NOT NULL,
    gone_ms     INTEGER,
    edited_ms   INTEGER NOT NULL,
    text        TEXT NOT NULL,
    UNIQUE (group_no, note)
) STRICT;
CREATE TABLE events (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    event       BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    member      BLOB NOT NULL,
    generation  INTEGER NOT NULL,
    erased      INTEGER NOT NULL,
    lingers     INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    name        TEXT NOT NULL,
    begins_ms   INTEGER NOT NULL,
    ends_ms     INTEGER,
    over_ms     INTEGER NOT NULL,
    days        INTEGER NOT NULL,
    edited_ms   INTEGER,
    place       TEXT NOT NULL,
    about       TEXT NOT NULL,
    cancelled   INTEGER NOT NULL,
    UNIQUE (group_no, event)
) STRICT;
CREATE INDEX events_by_time ON events (group_no, over_ms, begins_ms, event) WHERE NOT erased;
CREATE INDEX events_by_document ON events (document_no);
CREATE INDEX events_lingering ON events (group_no, member) WHERE lingers;
CREATE TABLE event_replies (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    reply       BLOB NOT NULL,
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    member      BLOB NOT NULL,
    generation  INTEGER NOT NULL,
    erased      INTEGER NOT NULL,
    lingers     INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    event       BLOB NOT NULL,
    says        INTEGER NOT NULL,
    words       TEXT NOT NULL,
    UNIQUE (group_no, reply)
) STRICT;
CREATE INDEX event_replies_by_event ON event_replies (group_no, event, member, time_ms) WHERE NOT erased;
CREATE INDEX event_replies_by_document ON event_replies (document_no);
INSERT INTO stale_views SELECT id, 'lists' FROM groups;
INSERT INTO stale_views SELECT id, 'notes' FROM groups;
INSERT INTO stale_views SELECT id, 'events' FROM groups;
INSERT INTO stale_views SELECT id, 'event_replies' FROM groups;
""",
)
