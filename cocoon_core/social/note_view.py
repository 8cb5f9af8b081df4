"""The view of all notes. How a table follows documents is shared_view.py's. Spec: specs/together.md §5."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import MAX_NOTE_BYTES
from cocoon_core.social.shared_view import SharedView, read_about
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.sync.shelf import Readable

NOTE_PREFIX: Final = "note/"
TEXT: Final = "text"
MOST_SHOWN: Final = 4 * MAX_NOTE_BYTES  # characters; beyond the bound several writers went, or one who does not keep it


class NotesView(SharedView):
    """The table `notes` of one group."""

    documents: ClassVar = NOTE_PREFIX
    schema: ClassVar = (("about", "map"), (TEXT, "text"))
    table: ClassVar = "notes"
    identity: ClassVar = "note"
    columns: ClassVar = ("name", "time_ms", "gone_ms", "edited_ms", "text")

    def read(self, record: DocumentRecord, document: Readable, touched: Set[str]) -> tuple[Any, ...] | None:
        about, text = read_about(document), document.plain(TEXT)
        text = text[:MOST_SHOWN] if type(text) is str else ""
        if not about.is_there and not text:
            return None
        edited = about.time_ms if about.edited_ms is None else about.edited_ms
        return about.name, about.time_ms, about.gone_ms, edited, text
