"""The stream of notices of each group: numbered rows, how far each reader came, and what was let go of.

Decides only what goes where there are too many. What is a notice is social/noticing.py's. Spec: specs/events.md §3.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.constants import MAX_NOTICES
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.storage.database import Database, Migration

NOTICES: Final = Migration(
    "notices",
    """
CREATE TABLE notices (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    subject  BLOB NOT NULL,
    member   BLOB,
    words    TEXT NOT NULL,
    time_ms  INTEGER NOT NULL,
    read     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_no, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_by_subject ON notices (group_no, subject, kind);
CREATE INDEX notices_unread ON notices (group_no, number) WHERE NOT read;
CREATE TABLE notice_streams (
    group_no INTEGER PRIMARY KEY REFERENCES groups(id) ON DELETE CASCADE,
    stream   BLOB NOT NULL,
    device   BLOB NOT NULL,
    last     INTEGER NOT NULL,
    lost_to  INTEGER NOT NULL
) STRICT;
CREATE TABLE notice_readers (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    reader   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (group_no, reader)
) STRICT, WITHOUT ROWID;
""",
)

STREAM_BYTES: Final = 4  # of the name of a stream, by which a token of another one is told
_COLUMNS: Final = "number, kind, subject, member, words, time_ms, read"


@dataclass(frozen=True, slots=True)
class NewNotice:
    """What happened, before it has a number. `words` are for what is kept nowhere else."""

    kind: str
    subject: bytes
    member: bytes | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A row."""

    number: int
    kind: str
    subject: bytes
    member: bytes | None
    words: str
    time_ms: int
    read: bool


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """Where a stream is: its name, its last number, and the highest number of those that were let go of."""

    stream: bytes
    last: int
    lost_to: int


class NoticeTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no
        self._counts: dict[str, int] = {}  # of each kind, as long as it is known; only whoever adds notices asks

    # --- writing, inside a transaction

    def forget_counts(self) -> None:
        """They are other than was counted: what was added was rolled back, or one was taken away."""
        self._counts = {}

    def begin(self, device: DeviceId) -> None:
        """See to it that there is a stream of this device. Another device, as after a backup was restored, begins
        another stream: what counted on from an older copy may have numbers that were given before.
        """
        known = self._db.query_value("SELECT device FROM notice_streams WHERE group_no=?", (self._no,))
        if known != bytes(device):
            self._db.execute(
                "INSERT INTO notice_streams (group_no, stream, device, last, lost_to) VALUES (?,?,?,0,0) "
                "ON CONFLICT DO UPDATE SET stream=excluded.stream, device=excluded.device",
                (self._no, secrets.token_bytes(STREAM_BYTES), bytes(device)),
            )

    def add(self, notices: Sequence[NewNotice], now_ms: int) -> tuple[int, int]:
        """Add notices, in this order, and let go of what is too much; the first and the last number."""
        first = self.end().last + 1
        self._db.executemany(
            "INSERT INTO notices (group_no, number, kind, subject, member, words, time_ms) VALUES (?,?,?,?,?,?,?)",
            [
                (self._no, number, str(notice.kind), notice.subject, notice.member, notice.words, now_ms)
                for number, notice in enumerate(notices, first)
            ],
        )
        last = first + len(notices) - 1
        self._db.execute("UPDATE notice_streams SET last=? WHERE group_no=?", (last, self._no))
        self._let_go(notices)
        return first, last

    def _let_go(self, added: Sequence[NewNotice]) -> None:
        """Keep MAX_NOTICES: the oldest of the kind that has most go first, so that no flood of one hides another."""
        if self._counts:
            for notice in added:
                self._counts[str(notice.kind)] = self._counts.get(str(notice.kind), 0) + 1
        else:
            rows = self._db.query("SELECT kind, count(*) FROM notices WHERE group_no=? GROUP BY kind", (self._no,))
            self._counts = {kind: int(count) for kind, count in rows}
        for kind, number in _too_many(self._counts):
            self._counts[kind] -= number
            rows = self._db.query(
                "SELECT number FROM notices WHERE group_no=? AND kind=? ORDER BY number LIMIT ?",
                (self._no, kind, number),
            )
            self._db.executemany("DELETE FROM notices WHERE group_no=? AND number=?", [(self._no, n) for (n,) in rows])
            self._db.execute(
                "UPDATE notice_streams SET lost_to=max(lost_to, ?) WHERE group_no=?", (rows[-1][0], self._no)
            )

    def remove(self, number: int) -> None:
        """Another says what it said: nobody misses it."""
        self.forget_counts()
        self._db.execute("DELETE FROM notices WHERE group_no=? AND number=?", (self._no, number))

    def set_read(self, numbers: Iterable[int]) -> int:
        return self._db.executemany(
            "UPDATE notices SET read=1 WHERE group_no=? AND number=? AND NOT read", [(self._no, n) for n in numbers]
        )

    def set_read_to(self, number: int) -> int:
        """All up to that number are read; how many were not."""
        return self._db.execute(
            "UPDATE notices SET read=1 WHERE group_no=? AND number<=? AND NOT read", (self._no, number)
        )

    def set_reader(self, reader: str, number: int) -> None:
        self._db.execute(
            "INSERT INTO notice_readers (group_no, reader, number) VALUES (?,?,?) "
            "ON CONFLICT DO UPDATE SET number=excluded.number",
            (self._no, reader, number),
        )

    # --- reading

    def end(self) -> StreamEnd:
        stream, last, lost_to = self._db.query_one(
            "SELECT stream, last, lost_to FROM notice_streams WHERE group_no=?", (self._no,)
        ) or (bytes(STREAM_BYTES), 0, 0)
        return StreamEnd(stream, last, lost_to)

    def has(self, kind: str, subject: bytes) -> bool:
        found = self._db.query_value(
            "SELECT 1 FROM notices WHERE group_no=? AND subject=? AND kind=? LIMIT 1", (self._no, subject, kind)
        )
        return found is not None

    def after(self, number: int, limit: int) -> list[StoredNotice]:
        """Those after a number, in their order."""
        return self._read("number>? ORDER BY number LIMIT ?", number, limit)

    def before(self, number: int, limit: int, *, unread: bool) -> list[StoredNotice]:
        """Those before a number, the newest first."""
        only = " AND NOT read" if unread else ""
        return self._read(f"number<?{only} ORDER BY number DESC LIMIT ?", number, limit)

    def unread_about(self, kind: str, subject: bytes, member: bytes | None) -> StoredNotice | None:
        """The newest unread one of that kind about that; of that member alone, if one is named."""
        which = "subject=? AND kind=? AND NOT read AND (? IS NULL OR member=?) ORDER BY number DESC LIMIT 1"
        found = self._read(which, subject, kind, member, member)
        return found[0] if found else None

    def _read(self, which: str, *values: int | str | bytes | None) -> list[StoredNotice]:
        rows = self._db.query(f"SELECT {_COLUMNS} FROM notices WHERE group_no=? AND {which}", (self._no, *values))
        return [
            StoredNotice(number, kind, subject, member, words, time_ms, bool(read))
            for number, kind, subject, member, words, time_ms, read in rows
        ]

    def about(self, subjects: Sequence[bytes]) -> list[int]:
        """The numbers of the unread ones about any of these."""
        return [
            number
            for subject in subjects
            for (number,) in self._db.query(
                "SELECT number FROM notices WHERE group_no=? AND subject=? AND NOT read", (self._no, subject)
            )
        ]

    def count_unread(self) -> int:
        count: int = self._db.query_value("SELECT count(*) FROM notices WHERE group_no=? AND NOT read", (self._no,))
        return count

    def reader(self, reader: str) -> int | None:
        """The number up to which a reader came; None where it never read."""
        found: int | None = self._db.query_value(
            "SELECT number FROM notice_readers WHERE group_no=? AND reader=?", (self._no, reader)
        )
        return found


def _too_many(counts: dict[str, int]) -> list[tuple[str, int]]:
    """How many of each kind go, so that the largest kinds come down alike and no smaller one loses any."""
    room, found = MAX_NOTICES, []
    for place, (count, kind) in enumerate(sorted((count, kind) for kind, count in counts.items())):
        kept = min(count, room // (len(counts) - place))
        room -= kept
        if kept < count:
            found.append((kind, count - kept))
    return found
