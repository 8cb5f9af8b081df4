"""What is searched: tables that are computed from documents, one source each. Spec: specs/search.md §1.

A part of the social layer that shows texts adds a source here, with the next number, and its triggers
(`storage.search.follow_table`) in a step of the schema of its own. Nothing else is to be done: what the table holds
then is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SearchSource:
    """A table of things that are searched. All but `table` and `kinds` are columns of it, or expressions in SQL.

    Attributes:
        number: of the source, in the database; never given anew.
        identity: bytes that name a thing within its group.
        member: whose it is, or NULL.
        texts: what is searched and shown, in this order; empty ones are left out.
        parent: what it stands below, or NULL.
        is_kept: whether it is taken in at all. It, and all before, are among the columns that the triggers watch.
        is_shown: whether it is found now; looked at when asked, as `parent` is.
    """

    number: int
    table: str
    identity: str
    kinds: tuple[str, ...]
    kind: str
    texts: tuple[str, ...]
    member: str = "member"
    time_ms: str = "time_ms"
    parent: str = "NULL"
    is_kept: str = "1"
    is_shown: str = "1"


POSTS: Final = SearchSource(
    number=1,
    table="posts",
    identity="post",
    kinds=("post", "reply"),
    kind="iif(parent IS NULL, 'post', 'reply')",
    texts=("text",),
    parent="parent",
    is_kept="NOT erased",
    is_shown="NOT EXISTS (SELECT 1 FROM post_marks m WHERE m.kind='hidden' AND m.group_no=posts.group_no "
    "AND m.post=posts.post)",
)
ITEMS: Final = SearchSource(
    number=2,
    table="vault_items",
    identity="item",
    kinds=("file", "photo", "video", "audio", "link"),
    kind="kind",
    texts=("name", "caption", "album", "url", "site", "about"),
    is_kept="NOT erased",
)
LISTS: Final = SearchSource(
    number=3,
    table="lists",
    identity="list",
    kinds=("list",),
    kind="'list'",
    texts=("name",),
    member="NULL",
    is_kept="gone_ms IS NULL",
)
LIST_ITEMS: Final = SearchSource(
    number=4,
    table="list_items",
    identity="item",
    kinds=("list-item",),
    kind="'list-item'",
    texts=("text",),
    member="NULL",
    parent="(SELECT l.list FROM lists l WHERE l.document_no=list_items.document_no)",
    is_shown="EXISTS (SELECT 1 FROM lists l WHERE l.document_no=list_items.document_no AND l.gone_ms IS NULL)",
)
NOTES: Final = SearchSource(
    number=5,
    table="notes",
    identity="note",
    kinds=("note",),
    kind="'note'",
    texts=("name", "text"),
    member="NULL",
    is_kept="gone_ms IS NULL",
)
EVENTS: Final = SearchSource(
    number=6,
    table="events",
    identity="event",
    kinds=("event",),
    kind="'event'",
    texts=("name", "place", "about"),
    is_kept="NOT erased",
)
SOURCES: Final = (POSTS, ITEMS, LISTS, LIST_ITEMS, NOTES, EVENTS)
