"""What is kept of the relays of one group beside their addresses: how this device stands to each, what it owes them.

Decides nothing: which relays are used is for sync/relay_list.py. Spec: specs/storage.md §3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.ids import EntryId, TopicId
from cocoon_core.storage.database import Database, Migration

RELAYS: Final = Migration(
    "relays",
    """
ALTER TABLE relays ADD COLUMN on_trial INTEGER NOT NULL DEFAULT 0;
ALTER TABLE relays ADD COLUMN left_ms INTEGER;
ALTER TABLE relays ADD COLUMN failed_ms INTEGER;
ALTER TABLE relays ADD COLUMN signposted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN spare INTEGER NOT NULL DEFAULT 0;
CREATE TABLE signposts (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay     TEXT NOT NULL,
    topic     BLOB NOT NULL,
    operation BLOB NOT NULL,
    urls      BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE restock (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    topic    BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, topic)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class RelayState:
    """How this device stands to one relay.

    Attributes:
        on_trial: a signpost or the user named it, and nothing says yet that the group is there: it is only read.
        left_ms: since when the policy, as known here, does not name it; None where it does.
        failed_ms: when it was last found unreachable after that.
        signposted: a sealed topic there tells who comes late where the group went.
    """

    url: str
    on_trial: bool = False
    left_ms: int | None = None
    failed_ms: int | None = None
    signposted: bool = False


class RelayTable:
    """Reads and writes the tables above, for one group. All writing is inside the caller's transaction."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- how this device stands to them

    def all(self) -> list[RelayState]:
        """Every relay that this device uses for the group, those on trial among them, in the order of the list."""
        rows = self._db.query(
            "SELECT url, on_trial, left_ms, failed_ms, signposted FROM relays WHERE group_no=? ORDER BY place",
            (self._no,),
        )
        return [RelayState(url, bool(trial), left, failed, bool(post)) for url, trial, left, failed, post in rows]

    def find(self, url: str) -> RelayState | None:
        return next((state for state in self.all() if state.url == url), None)

    def add(self, url: str, *, on_trial: bool = False) -> None:
        """Use a relay from now on; one that was on trial or was being left is used for good now, but by `on_trial`."""
        self._db.execute(
            "INSERT INTO relays (group_no, place, url, on_trial) VALUES (?1,"
            "(SELECT coalesce(max(place) + 1, 0) FROM relays WHERE group_no=?1),?2,?3) ON CONFLICT DO NOTHING",
            (self._no, url, int(on_trial)),
        )
        if not on_trial:
            self._db.execute(
                "UPDATE relays SET on_trial=0, left_ms=NULL, failed_ms=NULL, signposted=0 WHERE group_no=? AND url=?",
                (self._no, url),
            )

    def set_left(self, url: str, now_ms: int) -> None:
        """The policy names it no more."""
        self._db.execute("UPDATE relays SET left_ms=? WHERE group_no=? AND url=?", (now_ms, self._no, url))

    def set_failed(self, url: str, now_ms: int | None) -> None:
        self._db.execute("UPDATE relays SET failed_ms=? WHERE group_no=? AND url=?", (now_ms, self._no, url))

    def set_signposted(self, url: str) -> None:
        self._db.execute("UPDATE relays SET signposted=1 WHERE group_no=? AND url=?", (self._no, url))

    # --- what their topics tell of other relays

    def note_signpost(self, relay: str, topic: TopicId, operation: EntryId, urls: Sequence[str]) -> None:
        """The newest change of policy that a relay showed in a topic, and the relays that it names. Nothing is believed
        of it.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO signposts (group_no, relay, topic, operation, urls) VALUES (?,?,?,?,?)",
            (self._no, relay, bytes(topic), bytes(operation), encoding.encode(list(urls))),
        )

    def signpost(self, relay: str, topic: TopicId) -> tuple[EntryId, list[str]] | None:
        """(operation, relays) of that."""
        row = self._db.query_one(
            "SELECT operation, urls FROM signposts WHERE group_no=? AND relay=? AND topic=?",
            (self._no, relay, bytes(topic)),
        )
        return (EntryId(row[0]), list(encoding.decode(row[1]))) if row else None

    # --- blobs that are to be looked for

    def note_restock(self, relays: Iterable[str], topic: TopicId) -> None:
        """Whether these relays have every blob of that topic's manifest is to be looked into."""
        self._db.executemany(
            "INSERT OR IGNORE INTO restock (group_no, relay, topic) VALUES (?,?,?)",
            [(self._no, relay, bytes(topic)) for relay in relays],
        )

    def lacks_restock(self, relay: str, topic: TopicId) -> bool:
        return bool(
            self._db.query_value(
                "SELECT count(*) FROM restock WHERE group_no=? AND relay=? AND topic=?",
                (self._no, relay, bytes(topic)),
            )
        )

    def restocked(self, relay: str) -> None:
        """That was looked into, or concerns an epoch that has ended."""
        self._db.execute("DELETE FROM restock WHERE group_no=? AND relay=?", (self._no, relay))
