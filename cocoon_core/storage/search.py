"""What the device can be searched by: a row a thing that was written, and an index of three letters each over them.

The rows follow the tables that are computed from documents, and cannot drift from them. What is new there has a higher
rowid than any that was taken in, and so costs its writer nothing; what is changed or taken away is noted by triggers,
inside the same transaction, whoever does it. Taking in is social/search_index.py's; it may come later, and whoever
searches waits for it. Everything here can be lost: it is made again. Spec: specs/search.md §3, specs/storage.md §6.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.storage.database import Database, Migration, Value

SEARCH_INDEX: Final = "search_index"  # the table that SQLite keeps for itself
SLOTS_A_SECOND: Final = 16
_WIDEST: Final = 1 << 40  # slots among which one is looked for
_MOST_SLOT: Final = (1 << 62) - 1
_DEAR: Final = 100  # taking a row away costs as much as taking in so many: what it said is wiped out of every page
SLACK: Final = "slack"  # in `search_state`: by how many seconds a row stands above its own


def follow_table(source: int, table: str, identity: str, *columns: str) -> str:
    """The triggers by which the index follows a table of rowids: part of a step of the schema, so never to be changed.

    Args:
        source: the number of what is searched there, for ever.
        identity: the column that names a thing within its group.
        columns: all that says what is found, and whether.
    """
    names = [", ".join(f"{row}.{column}" for column in columns) for row in ("old", "new")]
    note = (
        f"INSERT INTO search_todo (source, group_no, thing) SELECT {source}, old.group_no, old.{identity} "
        f"WHERE old.rowid <= (SELECT value FROM search_state WHERE name='{table}');"
    )
    # A row that goes may have had the highest rowid, which the next one then gets: it must count as new.
    lower = (
        f"UPDATE search_state SET value=min(value, (SELECT coalesce(max(rowid), 0) FROM {table})) WHERE name='{table}';"
    )
    return f"""
CREATE TRIGGER search_{table}_changed AFTER UPDATE OF {", ".join(columns)} ON {table}
WHEN ({names[0]}) IS NOT ({names[1]}) BEGIN {note} END;
CREATE TRIGGER search_{table}_gone AFTER DELETE ON {table} BEGIN {note} {lower} END;
INSERT INTO search_state VALUES ('{table}', 0);
"""


SEARCH: Final = Migration(
    "search",
    """
CREATE TABLE search_texts (
    slot     INTEGER PRIMARY KEY,
    source   INTEGER NOT NULL,
    group_no INTEGER NOT NULL,
    thing    BLOB NOT NULL,
    time_ms  INTEGER NOT NULL,
    words    TEXT NOT NULL,
    UNIQUE (group_no, thing, source)
) STRICT;
CREATE TABLE search_todo (
    source   INTEGER NOT NULL,
    group_no INTEGER NOT NULL,
    thing    BLOB NOT NULL
) STRICT;
CREATE TABLE search_state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO search_state VALUES ('slack', 0);
CREATE VIRTUAL TABLE search_index USING fts5(
    words, content='search_texts', content_rowid='slot', detail='none', columnsize=0,
    tokenize='trigram case_sensitive 1'
);
INSERT INTO search_index (search_index, rank) VALUES ('secure-delete', 1);
INSERT INTO search_index (search_index, rank) VALUES ('pgsz', 4000);
"""
    + follow_table(1, "posts", "post", "text", "time_ms", "parent", "erased")
    + follow_table(
        *(2, "vault_items", "item", "name", "caption", "url", "site", "about", "album", "kind", "time_ms", "erased")
    )
    + follow_table(3, "lists", "list", "name", "time_ms", "gone_ms")
    + follow_table(4, "list_items", "item", "text", "time_ms")
    + follow_table(5, "notes", "note", "name", "text", "time_ms", "gone_ms")
    + follow_table(6, "events", "event", "name", "place", "about", "time_ms", "erased"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing as it is searched.

    Attributes:
        words: its text in the form of specs/search.md §2, with the marks of group, author and kind.
    """

    source: int
    group_no: int
    thing: bytes
    time_ms: int
    words: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row in which all that was sought stands somewhere."""

    slot: int
    source: int
    thing: bytes
    time_ms: int
    words: str


class SearchTable:
    """The rows and the index of all groups. What writes does so inside a transaction of its caller."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # --- how far it follows

    def reached(self, table: str) -> int:
        """The highest rowid of that table which was taken in."""
        return int(self._db.query_value("SELECT value FROM search_state WHERE name=?", (table,)) or 0)

    def set_reached(self, table: str, rowid: int) -> None:
        self._db.execute("UPDATE search_state SET value=? WHERE name=?", (rowid, table))

    def has_todo(self) -> bool:
        """Whether something that was taken in was changed or taken away since."""
        return self._db.query_value("SELECT 1 FROM search_todo LIMIT 1") is not None

    def todo(self) -> list[tuple[int, int, bytes]]:
        """(source, number of the group, thing) of what was."""
        return self._db.query("SELECT DISTINCT source, group_no, thing FROM search_todo")

    def clear_todo(self) -> None:
        self._db.execute("DELETE FROM search_todo")

    # --- rows

    def find(self, source: int, group_no: int, thing: bytes) -> tuple[int, int, str] | None:
        """(slot, time in ms, words) of what stands of a thing."""
        row = self._db.query_one(
            "SELECT slot, time_ms, words FROM search_texts WHERE group_no=? AND thing=? AND source=?",
            (group_no, thing, source),
        )
        return None if row is None else (int(row[0]), int(row[1]), str(row[2]))

    def add(self, entries: Iterable[Entry]) -> None:
        """Take in things of which nothing stands."""
        taken: set[int] = set()
        rows: list[tuple[Value, ...]] = []
        slack = 0
        for entry in entries:
            slot = self._free_slot(entry, taken)
            taken.add(slot)
            slack = max(slack, _second(slot) - entry.time_ms // 1000)
            rows.append((slot, entry.source, entry.group_no, entry.thing, entry.time_ms, entry.words))
        rows.sort()  # FTS5 begins another segment where a rowid is not above the one before
        self._db.executemany(
            "INSERT INTO search_texts (slot, source, group_no, thing, time_ms, words) VALUES (?,?,?,?,?,?)", rows
        )
        self._db.executemany("INSERT INTO search_index (rowid, words) VALUES (?,?)", [(row[0], row[5]) for row in rows])
        self._db.execute("UPDATE search_state SET value=max(value, ?) WHERE name=?", (slack, SLACK))

    def remove(self, slots: Sequence[int]) -> bool:
        """Take rows away, so that nothing of their words is left in any page.

        Returns:
            False if they are so many that everything was wiped, as `wipe` does: that and taking in anew costs less.
        """
        if len(slots) * _DEAR > self.count():
            self.wipe()
            return False
        for slot in sorted(slots):
            self._db.execute(
                "INSERT INTO search_index (search_index, rowid, words) "
                "SELECT 'delete', slot, words FROM search_texts WHERE slot=?",
                (slot,),
            )
            self._db.execute("DELETE FROM search_texts WHERE slot=?", (slot,))
        return True

    def remove_group(self, group_no: int) -> None:
        """Take away all that stands of a group, whose own tables are empty already."""
        slots = self._db.query("SELECT slot FROM search_texts WHERE group_no=?", (group_no,))
        if slots:
            self.remove([slot for (slot,) in slots])
        self._db.execute("DELETE FROM search_todo WHERE group_no=?", (group_no,))

    def wipe(self) -> None:
        """Take everything away; all that the tables hold counts as new."""
        self._db.execute("INSERT INTO search_index (search_index) VALUES ('delete-all')")
        self._db.execute("DELETE FROM search_texts")
        self._db.execute("DELETE FROM search_todo")
        self._db.execute("UPDATE search_state SET value=0")

    def count(self) -> int:
        """How many rows there are."""
        return int(self._db.query_value("SELECT count(*) FROM search_texts"))

    def _free_slot(self, entry: Entry, taken: set[int]) -> int:
        """A slot that none has, of its second or later: so going down the slots is going back in time, but for some
        that come too early, never too late.
        """
        first = entry.time_ms // 1000 * SLOTS_A_SECOND
        chance, width = int.from_bytes(entry.thing[:8]), SLOTS_A_SECOND
        while True:
            slot = first + chance % width
            if slot not in taken and self._db.query_value("SELECT 1 FROM search_texts WHERE slot=?", (slot,)) is None:
                return slot
            width = min(width * 4, _WIDEST)
            chance += chance // width + 1

    # --- asking

    def match(self, expression: str, since_ms: int | None, until_ms: int | None) -> Generator[Candidate, None, None]:
        """Rows that an expression of FTS5 fits, by falling slots.

        Args:
            since_ms, until_ms: rows that are surely outside of these times are left out.
        """
        low = 0 if since_ms is None else since_ms // 1000 * SLOTS_A_SECOND
        high = _MOST_SLOT
        if until_ms is not None:
            slack = int(self._db.query_value("SELECT value FROM search_state WHERE name=?", (SLACK,)))
            high = (until_ms // 1000 + slack + 1) * SLOTS_A_SECOND
        for row in self._db.query_each(
            "SELECT t.slot, t.source, t.thing, t.time_ms, t.words FROM search_index "
            "CROSS JOIN search_texts t ON t.slot=search_index.rowid "
            "WHERE search_index MATCH ? AND search_index.rowid BETWEEN ? AND ? ORDER BY search_index.rowid DESC",
            (expression, low, high),
        ):
            yield Candidate(*row)


def newest_in(slot: int) -> int:
    """The latest time, in ms, that a row in this slot or below it can have."""
    return _second(slot) * 1000 + 999


def _second(slot: int) -> int:
    return slot // SLOTS_A_SECOND
