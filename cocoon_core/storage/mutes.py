"""What a member wants to hear nothing of: a group, threads, people; and when nothing at all: the quiet hours of a
profile. Kept on this device alone. Decides nothing. Spec: specs/events.md §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.meta import read_meta, write_meta

MUTES: Final = Migration(
    "mutes",
    """
CREATE TABLE mutes (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    subject  BLOB NOT NULL,
    until_ms INTEGER,
    PRIMARY KEY (group_no, kind, subject)
) STRICT, WITHOUT ROWID;
""",
)

MINUTES_A_DAY: Final = 24 * 60
_QUIET_HOURS: Final = "quiet_hours"  # in `meta`


@dataclass(frozen=True, slots=True)
class StoredMute:
    """A row. `subject` is a post or a member, empty for the group; without `until_ms` it has no end."""

    kind: str
    subject: bytes
    until_ms: int | None


class MuteTable:
    """Reads and writes the table above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def set(self, mute: StoredMute) -> None:
        self._db.execute(
            "INSERT INTO mutes (group_no, kind, subject, until_ms) VALUES (?,?,?,?) "
            "ON CONFLICT DO UPDATE SET until_ms=excluded.until_ms",
            (self._no, mute.kind, mute.subject, mute.until_ms),
        )

    def remove(self, kind: str, subject: bytes) -> bool:
        sql = "DELETE FROM mutes WHERE group_no=? AND kind=? AND subject=?"
        return self._db.execute(sql, (self._no, kind, subject)) > 0

    def forget_ended(self, now_ms: int) -> None:
        self._db.execute("DELETE FROM mutes WHERE group_no=? AND until_ms<=?", (self._no, now_ms))

    def all(self, now_ms: int) -> list[StoredMute]:
        """Those that have not ended."""
        rows = self._db.query(
            "SELECT kind, subject, until_ms FROM mutes WHERE group_no=? AND (until_ms IS NULL OR until_ms>?) "
            "ORDER BY kind, subject",
            (self._no, now_ms),
        )
        return [StoredMute(*row) for row in rows]


def read_quiet_hours(database: Database) -> tuple[int, int] | None:
    """The minutes of the day at which the profile's quiet hours begin and end; None where there are none."""
    value = read_meta(database, _QUIET_HOURS)
    if not value:
        return None
    try:
        found = encoding.decode(value)
    except MalformedError:
        return None
    match found:
        case [int(start), int(end)] if 0 <= start < MINUTES_A_DAY and 0 <= end < MINUTES_A_DAY:
            return start, end
    return None


def write_quiet_hours(database: Database, hours: tuple[int, int] | None) -> None:
    """Set them, or that there are none. Inside a transaction."""
    write_meta(database, _QUIET_HOURS, b"" if hours is None else encoding.encode(list(hours)))
