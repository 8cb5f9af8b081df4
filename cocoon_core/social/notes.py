"""Notes that all members write together, each a text in which several can write at once. Spec: specs/together.md §5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_NOTE_BYTES
from cocoon_core.social.item_view import fold
from cocoon_core.social.note_view import TEXT, NotesView
from cocoon_core.social.shared_documents import SharedDocuments, Write
from cocoon_core.social.shared_view import ABOUT
from cocoon_core.social.splices import Splice, apply_splices, find_splices, rebase_splices
from cocoon_core.social.times import time_of
from cocoon_core.sync.events import GroupEvent

OPS_A_CHANGE: Final = 8_000  # characters that one change takes out or puts in


@dataclass(frozen=True, slots=True)
class Note:
    """A note. `edited` is when its text was last changed, by the clock of who did."""

    id: str
    name: str
    text: str
    time: datetime
    edited: datetime
    removed: bool


class Notes(SharedDocuments):
    """The notes of one group. Edits are durable when the call returns, and are sent with the next sync.

    A note is named by its name, where one note alone has it, or by its id or a beginning of that. Any member may change
    everything.
    """

    word: ClassVar = "note"
    kind: ClassVar = NotesView

    async def new(self, name: str, text: str = "") -> Note:
        """Begin a note.

        Raises:
            UsageError: the name is empty or too long, or the text too long.
        """
        _require_text(text, 0)
        return self._get(self._make(name, *_steps([Splice(0, 0, text)] if text else [], None)))

    async def all(self, *, removed: bool = False) -> list[Note]:
        """All notes, by name.

        Args:
            removed: those that were put aside too.
        """
        rows = self._db.query(
            "SELECT note, name, text, time_ms, edited_ms, gone_ms FROM notes WHERE group_no=?", (self._no,)
        )
        found = [
            Note(note.hex(), name, text, time_of(time_ms), time_of(edited), gone is not None)
            for note, name, text, time_ms, edited, gone in rows
            if removed or gone is None
        ]
        return sorted(found, key=lambda note: (fold(note.name), note.id))

    async def changed(self, event: GroupEvent) -> list[Note]:
        """The note that an event of `Group.events` is about; none for others."""
        named = self._named_by(event)
        here = "SELECT 1 FROM notes WHERE group_no=? AND note=?"
        return [self._get(named)] if named is not None and self._db.query_value(here, (self._no, named)) else []

    async def get(self, reference: str) -> Note:
        """One note.

        Raises:
            UnknownItemError: it is not here.
        """
        return self._get(self._find(reference))

    async def write(self, reference: str, text: str, *, base: str | None = None) -> Note:
        """Make the text of a note what was made of it. Only what differs is written, so what others write is kept.

        Args:
            text: the whole text as it should be.
            base: the text that it was made of, as `get` gave it. What has come since then stays. Without it, the text
                as it is now: what others wrote and `text` lacks is taken out.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it would be over 64 KiB of UTF-8.
        """
        found = self._find(reference)
        current = str(self._replica.shelf.get(self._descriptor(found)).read()[TEXT])
        base = current if base is None else base
        splices = rebase_splices(find_splices(base, text), base, current)
        _require_text(apply_splices(current, splices), len(current.encode()))
        self._splice(found, splices)
        return self._get(found)

    async def append(self, reference: str, text: str) -> Note:
        """Put a text at the end of a note, on a line of its own.

        Raises:
            UnknownItemError: it is not here.
            UsageError: it would be over 64 KiB of UTF-8.
        """
        current = (await self.get(reference)).text
        line = "\n" if current and not current.endswith("\n") else ""
        return await self.write(reference, f"{current}{line}{text}", base=current)

    # --- inside

    def _splice(self, found: bytes, splices: Sequence[Splice]) -> None:
        if splices:
            self._write(found, *_steps(splices, self._replica.clock()))

    def _get(self, found: bytes) -> Note:
        row = self._db.query_one(
            "SELECT name, text, time_ms, edited_ms, gone_ms FROM notes WHERE group_no=? AND note=?", (self._no, found)
        )
        if row is None:
            raise UnknownItemError("this note is not here any more")
        name, text, time_ms, edited, gone = row
        return Note(found.hex(), name, text, time_of(time_ms), time_of(edited), gone is not None)


def _steps(splices: Sequence[Splice], edited_ms: int | None) -> list[Write]:
    """Edits that make the splices, from the back to the front, each small enough for one change."""
    parts: list[Splice] = []
    for splice in reversed(splices):
        for taken in range(0, splice.removed, OPS_A_CHANGE):
            parts.append(Splice(splice.at, min(OPS_A_CHANGE, splice.removed - taken), ""))
        for put in range(0, len(splice.text), OPS_A_CHANGE):
            parts.append(Splice(splice.at + put, 0, splice.text[put : put + OPS_A_CHANGE]))
    lots: list[list[Splice]] = []
    room = 0
    for part in parts:
        size = part.removed + len(part.text)
        if not lots or size > room:
            lots.append([])
            room = OPS_A_CHANGE
        lots[-1].append(part)
        room -= size

    def step(lot: Sequence[Splice]) -> Write:
        def write(root: MapEdit) -> None:
            text = root[TEXT]
            for part in lot:
                text.delete(part.at, part.removed)
                text.insert(part.at, part.text)
            if edited_ms is not None and lot is lots[-1]:
                root[ABOUT]["edited"] = edited_ms

        return write

    return [step(lot) for lot in lots]


def _require_text(text: str, before: int) -> None:
    """Args:
    before: bytes that it has now; one that is too long already may become shorter.
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_NOTE_BYTES and size >= before:
        raise UsageError(f"a note is at most {MAX_NOTE_BYTES // 1024} KiB of text; begin another")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("this text has half a character in it (a lone surrogate), which UTF-8 cannot hold")
