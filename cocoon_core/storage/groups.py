"""The groups of a profile: keys, epochs, relays, cursors. One row a group; every other table names its number.

Decides nothing: what a state means is for the façade and sync. Spec: specs/storage.md §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.ids import GroupId, Incarnation, TopicId
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.search import SearchTable

GROUPS: Final = Migration(
    "groups",
    """
CREATE TABLE groups (
    id           INTEGER PRIMARY KEY,
    group_id     BLOB NOT NULL UNIQUE,
    state        TEXT NOT NULL,
    stopped_by   TEXT,
    signing_seed BLOB NOT NULL,
    hpke_seed    BLOB NOT NULL,
    create_body  BLOB NOT NULL,
    member_name  TEXT NOT NULL,
    link_secret  BLOB,
    created_ms   INTEGER NOT NULL
) STRICT;
CREATE TABLE relays (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    place    INTEGER NOT NULL,
    url      TEXT NOT NULL,
    PRIMARY KEY (group_no, url)
) STRICT;
CREATE TABLE epochs (
    topic    BLOB PRIMARY KEY,
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    secret   BLOB NOT NULL
) STRICT;
CREATE TABLE cursors (
    group_no    INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay       TEXT NOT NULL,
    topic       BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    after       INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay, topic)
) STRICT;
CREATE TABLE letters (
    id             INTEGER PRIMARY KEY,
    group_no       INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay          TEXT NOT NULL,
    mailbox_secret BLOB NOT NULL,
    value          BLOB NOT NULL
) STRICT;
CREATE TABLE alarms (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    message  TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, kind, subject)
) STRICT;
""",
)

GUESTS: Final = Migration(
    "guests",
    """
CREATE TABLE guests (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    PRIMARY KEY (group_no, relay)
) STRICT, WITHOUT ROWID;
""",
)

JOINING: Final = "joining"
ACTIVE: Final = "active"
STOPPED: Final = "stopped"
MAX_ALARMS: Final = 200  # rows of one group; the oldest of the kind that has most go first


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One group as stored. `stopped_by` is an error's code where the group was stopped for good."""

    number: int
    group: GroupId
    state: str
    stopped_by: str | None
    keys: DeviceKeys
    create_body: list[Any]
    member_name: str
    link_secret: Secret | None

    @property
    def create(self) -> Create:
        """The group's first operation."""
        operation = decode_operation(self.create_body)
        assert isinstance(operation, Create), "checked before it was stored"
        return operation


@dataclass(frozen=True, slots=True)
class Letter:
    """A value to be sealed into a mailbox and put at one relay; a spare one only where no other welcome is there."""

    number: int
    mailbox_secret: Secret
    value: bytes
    spare: bool = False


class GroupTable:
    """Reads and writes the tables above."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        group: GroupId,
        state: str,
        keys: DeviceKeys,
        create_body: list[Any],
        member_name: str,
        relays: Sequence[str],
        now_ms: int,
        link_secret: Secret | None = None,
    ) -> int:
        """Store a new group. The caller holds the transaction."""
        self._db.execute(
            "INSERT INTO groups (group_id, state, signing_seed, hpke_seed, create_body, member_name, link_secret, "
            "created_ms) VALUES (?,?,?,?,?,?,?,?)",
            (
                bytes(group),
                state,
                keys.signing_seed.reveal(),
                keys.hpke_seed.reveal(),
                encoding.encode(create_body),
                member_name,
                link_secret.reveal() if link_secret else None,
                now_ms,
            ),
        )
        number = self._db.last_insert_rowid()
        self._db.executemany(
            "INSERT INTO relays (group_no, place, url) VALUES (?,?,?)",
            [(number, place, url) for place, url in enumerate(relays)],
        )
        return number

    def all(self) -> list[GroupRecord]:
        rows = self._db.query(
            "SELECT id, group_id, state, stopped_by, signing_seed, hpke_seed, create_body, member_name, link_secret "
            "FROM groups ORDER BY id"
        )
        return [
            GroupRecord(
                number,
                GroupId(group),
                state,
                stopped_by,
                DeviceKeys(Secret(signing), Secret(hpke)),
                encoding.decode(create),
                name,
                Secret(link) if link is not None else None,
            )
            for number, group, state, stopped_by, signing, hpke, create, name, link in rows
        ]

    def set_state(self, number: int, state: str, stopped_by: str | None = None) -> None:
        self._db.execute("UPDATE groups SET state=?, stopped_by=? WHERE id=?", (state, stopped_by, number))

    def stopped_by(self, number: int) -> str | None:
        """The code of the error that stopped a group for good; None where nothing did."""
        found: str | None = self._db.query_value("SELECT stopped_by FROM groups WHERE id=?", (number,))
        return found

    def set_keys(self, number: int, keys: DeviceKeys) -> None:
        """Go on as another device; the old one's keys are erased."""
        self._db.execute(
            "UPDATE groups SET signing_seed=?, hpke_seed=? WHERE id=?",
            (keys.signing_seed.reveal(), keys.hpke_seed.reveal(), number),
        )

    def forget_link(self, number: int) -> None:
        """Erase the link's secret once its join was sent."""
        self._db.execute("UPDATE groups SET link_secret=NULL WHERE id=?", (number,))

    def remove(self, number: int) -> None:
        """Forget a group with all that is kept of it."""
        if not self._db.in_transaction:
            with self._db.transaction():
                self.remove(number)
            return
        self._db.execute("DELETE FROM groups WHERE id=?", (number,))
        SearchTable(self._db).remove_group(number)

    def relays(self, number: int) -> list[str]:
        """The relays that are given what is written: the policy's and those that are being left (storage/relays.py)."""
        rows = self._db.query("SELECT url FROM relays WHERE group_no=? AND NOT on_trial ORDER BY place", (number,))
        return [url for (url,) in rows]

    def guests(self, number: int) -> list[str]:
        """What is used like a relay for a while (sync/guests.py)."""
        rows = self._db.query("SELECT relay FROM guests WHERE group_no=? ORDER BY relay", (number,))
        return [name for (name,) in rows]

    def carriers(self, number: int) -> list[str]:
        """Relays and guests: all that is to be given what is written or arrives."""
        return [*self.relays(number), *self.guests(number)]

    def add_guest(self, number: int, name: str) -> None:
        """`remove_relay` forgets it."""
        self._db.execute("INSERT OR IGNORE INTO guests (group_no, relay) VALUES (?,?)", (number, name))

    def remove_relay(self, number: int, url: str) -> None:
        """Forget a relay: all that waits for it, and all that is known of what it has. Inside a transaction."""
        self._db.execute("DELETE FROM relays WHERE group_no=? AND url=?", (number, url))
        for table in self._tables_by_relay():
            self._db.execute(f"DELETE FROM {table} WHERE group_no=? AND relay=?", (number, url))
        self._db.execute("DELETE FROM recovery_indexes WHERE relay=?", (url,))  # it may have waited in a letter

    def _tables_by_relay(self) -> list[str]:
        """Every table of a group that names a relay, those of later migrations too."""
        rows = self._db.query(
            "SELECT name FROM sqlite_master AS m WHERE type='table' AND 2 = "
            "(SELECT count(*) FROM pragma_table_info(m.name) WHERE name IN ('group_no', 'relay')) ORDER BY name"
        )
        return [name for (name,) in rows]

    # --- what is kept here

    def kept_months(self, number: int) -> int | None:
        """How many months of documents this device keeps, the current one among them; None for all."""
        found: int | None = self._db.query_value("SELECT kept_months FROM groups WHERE id=?", (number,))
        return found

    def set_kept_months(self, number: int, months: int | None) -> None:
        self._db.execute("UPDATE groups SET kept_months=? WHERE id=?", (months, number))

    # --- cursors

    def cursor(self, number: int, relay: str, topic: TopicId) -> Cursor | None:
        row = self._db.query_one(
            "SELECT incarnation, after FROM cursors WHERE group_no=? AND relay=? AND topic=?",
            (number, relay, bytes(topic)),
        )
        return Cursor(Incarnation(row[0]), row[1]) if row else None

    def set_cursor(self, number: int, relay: str, topic: TopicId, cursor: Cursor) -> None:
        self._db.execute(
            "INSERT INTO cursors (group_no, relay, topic, incarnation, after) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET incarnation=excluded.incarnation, after=excluded.after",
            (number, relay, bytes(topic), bytes(cursor.incarnation), cursor.after),
        )

    # --- letters

    def add_letters(
        self, number: int, relays: Sequence[str], mailbox_secret: Secret, value: bytes, *, spare: bool = False
    ) -> None:
        self._db.executemany(
            "INSERT INTO letters (group_no, relay, mailbox_secret, value, spare) VALUES (?,?,?,?,?)",
            [(number, relay, mailbox_secret.reveal(), value, int(spare)) for relay in relays],
        )

    def letters(self, number: int, relay: str) -> list[Letter]:
        rows = self._db.query(
            "SELECT id, mailbox_secret, value, spare FROM letters WHERE group_no=? AND relay=? ORDER BY id",
            (number, relay),
        )
        return [Letter(letter, Secret(secret), value, bool(spare)) for letter, secret, value, spare in rows]

    def letter_sent(self, letter: int) -> None:
        self._db.execute("DELETE FROM letters WHERE id=?", (letter,))

    # --- alarms

    def raise_alarm(self, number: int, kind: str, subject: str, message: str, now_ms: int) -> bool:
        """Keep one alarm of a kind about a subject; true if it is new."""
        known = self._db.query_value(
            "SELECT count(*) FROM alarms WHERE group_no=? AND kind=? AND subject=?", (number, kind, subject)
        )
        if known:
            return False
        self._db.execute(
            "INSERT INTO alarms (group_no, kind, subject, message, since_ms) VALUES (?,?,?,?,?)",
            (number, kind, subject, message, now_ms),
        )
        self._db.execute(
            "DELETE FROM alarms WHERE (SELECT count(*) FROM alarms WHERE group_no=?1)>?2 AND rowid=(SELECT rowid FROM "
            "alarms WHERE group_no=?1 AND kind=(SELECT kind FROM alarms WHERE group_no=?1 GROUP BY kind "
            "ORDER BY count(*) DESC, kind LIMIT 1) ORDER BY since_ms, rowid LIMIT 1)",
            (number, MAX_ALARMS),
        )
        return True

    def reword_alarm(self, number: int, kind: str, subject: str, message: str) -> None:
        """Say it in other words, since it stands otherwise now; when it began does not change."""
        self._db.execute(
            "UPDATE alarms SET message=? WHERE group_no=? AND kind=? AND subject=?", (message, number, kind, subject)
        )

    def end_alarm(self, number: int, kind: str, subject: str) -> None:
        """What it told of was put right."""
        self._db.execute("DELETE FROM alarms WHERE group_no=? AND kind=? AND subject=?", (number, kind, subject))

    def alarms(self, number: int) -> list[tuple[str, str, str, int]]:
        """(kind, subject, message, since when in ms) of every alarm, oldest first."""
        rows = self._db.query(
            "SELECT kind, subject, message, since_ms FROM alarms WHERE group_no=? ORDER BY since_ms, rowid", (number,)
        )
        return [(kind, subject, message, since) for kind, subject, message, since in rows]
