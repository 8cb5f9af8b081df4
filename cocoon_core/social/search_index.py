"""Takes in what is searched, behind the tables that it follows: some at a time, in transactions of its own.

What the triggers noted goes first: words that were erased leave the index with the next call, whoever makes it. A
thing that stands as it is to stand costs a comparison. Spec: specs/search.md §3; the tables are storage/search.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from cocoon_core.social.search_sources import SOURCES, SearchSource
from cocoon_core.social.search_words import mark_group, mark_kind, mark_member, spell_text
from cocoon_core.storage.database import Database, Value
from cocoon_core.storage.search import Entry, SearchTable

AT_ONCE: Final = 1_000  # things in one transaction: some 20 ms

_Thing = tuple[SearchSource, int, bytes, tuple[Any, ...] | None]  # source, number of the group, id, its row


class SearchIndex:
    """The index of a profile, all its groups together."""

    def __init__(self, database: Database, sources: Sequence[SearchSource] = SOURCES) -> None:
        self._db, self._sources = database, sources
        self.table = SearchTable(database)

    def is_level(self) -> bool:
        """Whether all that the tables hold is taken in."""
        return not self.table.has_todo() and not self.behind()

    def behind(self) -> int:
        """About how many new things are not taken in."""
        return sum(map(self._behind_in, self._sources))

    def follow(self, limit: int = AT_ONCE) -> bool:
        """Take in some of what is new or was changed, and all that was taken away. Not inside a transaction.

        Returns:
            Whether there is nothing more.

        Raises:
            StorageFullError, LocalStateError: the database cannot be written; nothing was changed.
        """
        if self.is_level():
            return True
        with self._db.transaction():
            if self.table.has_todo():
                if not self._settle(self._noted()):
                    return False
                self.table.clear_todo()
            for source in self._sources:
                rows = self._rows(source, "rowid>? ORDER BY rowid LIMIT ?", (self.table.reached(source.table), limit))
                if rows:
                    if not self._settle([(source, row[1], row[2], row) for row in rows]):
                        return False
                    self.table.set_reached(source.table, rows[-1][0])
        return self.is_level()

    # --- inside

    def _behind_in(self, source: SearchSource) -> int:
        newest = int(self._db.query_value(f"SELECT max(rowid) FROM {source.table}") or 0)
        return max(0, newest - self.table.reached(source.table))

    def _noted(self) -> list[_Thing]:
        """What was changed or taken away, each with its row as far as it is there."""
        sources = {source.number: source for source in self._sources}
        found: list[_Thing] = []
        for number, group_no, thing in self.table.todo():
            source = sources[number]
            rows = self._rows(source, f"group_no=? AND {source.identity}=?", (group_no, thing))
            found.append((source, group_no, thing, rows[0] if rows else None))
        return found

    def _rows(self, source: SearchSource, where: str, values: tuple[Value, ...]) -> list[tuple[Any, ...]]:
        columns = f"{source.identity}, {source.is_kept}, {source.time_ms}, {source.member}, {source.kind}"
        return self._db.query(
            f"SELECT rowid, group_no, {columns}, {', '.join(source.texts)} FROM {source.table} WHERE {where}", values
        )

    def _settle(self, things: Iterable[_Thing]) -> bool:
        """Let what stands of each thing be what is to stand.

        Returns:
            False if so much was to be taken away that nothing stands any more, and everything counts as new.
        """
        gone: list[int] = []
        fresh: list[Entry] = []
        for source, group_no, thing, row in things:
            stands = self.table.find(source.number, group_no, thing)
            wanted = None if row is None or not row[3] else _entry(source, row)
            if wanted is not None and stands is not None and stands[1:] == (wanted.time_ms, wanted.words):
                continue
            if stands is not None:
                gone.append(stands[0])
            if wanted is not None:
                fresh.append(wanted)
        if gone and not self.table.remove(gone):
            return False
        self.table.add(fresh)
        return True


def _entry(source: SearchSource, row: tuple[Any, ...]) -> Entry:
    _, group_no, thing, _, time_ms, member, kind, *texts = row
    marks = mark_group(group_no) + ("" if member is None else mark_member(member)) + mark_kind(kind)
    return Entry(source.number, group_no, thing, time_ms, spell_text(texts) + marks)
