"""The view of all lists. How tables follow documents is shared_view.py's. Spec: specs/together.md §3."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import MAX_LIST_ITEMS, MAX_LIST_TEXT_BYTES
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.social.places import read_place
from cocoon_core.social.shared_view import SharedView, read_about, read_time
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.shelf import Readable
from cocoon_core.vault.naming import clean_text

LIST_PREFIX: Final = "list/"
ITEMS: Final = "items"
MOST_SHOWN: Final = 2 * MAX_LIST_ITEMS  # of one list, those that stand first; writers who did not know of each other
_ITEM_KEY: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)

SaidItem = tuple[str, int, int | None, str]  # text, time, when it was done, place


class ListsView(SharedView):
    """The tables `lists` and `list_items` of one group."""

    documents: ClassVar = LIST_PREFIX
    schema: ClassVar = (("about", "map"), (ITEMS, "map"))
    table: ClassVar = "lists"
    identity: ClassVar = "list"
    columns: ClassVar = ("name", "time_ms", "gone_ms")

    def read(self, record: DocumentRecord, document: Readable, touched: Set[str]) -> tuple[Any, ...] | None:
        about = read_about(document)
        if ITEMS in touched:
            items = read_items(document.plain(ITEMS))
            self._set_items(record, {item_id(record.document, key): said for key, said in items.items()})
        said = about.name, about.time_ms, about.gone_ms
        return said if about.is_there or self._has_items(record) else None

    def _has_items(self, record: DocumentRecord) -> bool:
        found = self._db.query_value("SELECT 1 FROM list_items WHERE document_no=? LIMIT 1", (record.number,))
        return found is not None

    def forget(self, record: DocumentRecord) -> None:
        self._db.execute("DELETE FROM list_items WHERE document_no=?", (record.number,))

    def _set_items(self, record: DocumentRecord, items: dict[bytes, SaidItem]) -> None:
        """Have the table say this of the list, by writing what differs alone."""
        rows = self._db.query(
            "SELECT item, text, time_ms, done_ms, place FROM list_items WHERE document_no=?", (record.number,)
        )
        stood = {row[0]: row[1:] for row in rows}
        gone = [(self._no, item) for item in stood.keys() - items.keys()]
        fresh = [(self._no, record.number, item, *said) for item, said in items.items() if stood.get(item) != said]
        self._db.executemany("DELETE FROM list_items WHERE group_no=? AND item=?", gone)
        self._db.executemany(
            "INSERT INTO list_items (group_no, document_no, item, text, time_ms, done_ms, place) "
            "VALUES (?,?,?,?,?,?,?) ON CONFLICT (group_no, item) DO UPDATE SET text=excluded.text, "
            "time_ms=excluded.time_ms, done_ms=excluded.done_ms, place=excluded.place",
            fresh,
        )


def item_id(document: DocumentId, key: str) -> bytes:
    """How the table names an item: the list's id, and the bytes that its key stands for."""
    return document + bytes.fromhex(key)


def item_key(item: bytes) -> str:
    """The key of an item in its list."""
    return item[DocumentId.LENGTH :].hex()


def read_items(value: Any) -> dict[str, SaidItem]:
    """The items under `items`, those that stand first where there are too many."""
    if type(value) is not dict:
        return {}
    found: dict[str, SaidItem] = {}
    for key, said in value.items():
        item = read_item(said) if _ITEM_KEY.fullmatch(key) else None
        if item is not None:
            found[key] = item
    if len(found) <= MOST_SHOWN:
        return found
    first = sorted(found, key=lambda key: (found[key][3], key))[:MOST_SHOWN]
    return {key: found[key] for key in first}


def read_item(value: Any) -> SaidItem | None:
    """What a map says, or None where it is no item."""
    if type(value) is not dict or type(value.get("text")) is not str:
        return None
    text = clean_text(value["text"], MAX_LIST_TEXT_BYTES)
    if not text:
        return None
    return text, read_time(value.get("at")) or 0, read_time(value.get("done")), read_place(value.get("place"))
