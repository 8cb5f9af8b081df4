"""What beacons are made of and what they said: news, shown ends, the last beacon of each device, what is missing here.

Everything here can be lost without harm: it is noticed again with the next beacons. Spec: specs/storage.md §4.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import DeviceId, EntryId
from cocoon_core.storage.database import Database, Migration

BEACONS: Final = Migration(
    "beacons",
    """
CREATE TABLE beacon_news (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    PRIMARY KEY (group_no, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE own_beacons (
    group_no INTEGER PRIMARY KEY REFERENCES groups(id) ON DELETE CASCADE,
    next     INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    settled  INTEGER NOT NULL
) STRICT;
CREATE TABLE beacons (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    number   INTEGER NOT NULL,
    own_seq  INTEGER,
    wanted   INTEGER NOT NULL,
    lacking  TEXT NOT NULL,
    PRIMARY KEY (group_no, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE missing_ends (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    teller   BLOB NOT NULL,
    at_seq   INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    entry_id BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    asked_ms INTEGER,
    relays   TEXT NOT NULL,
    PRIMARY KEY (group_no, device, teller)
) STRICT, WITHOUT ROWID;
CREATE TABLE shown_ends (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    device   BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay, device)
) STRICT, WITHOUT ROWID;
""",
)

MAX_TELLERS: Final = 8  # devices whose word is kept that one device's entries are missing


@dataclass(frozen=True, slots=True)
class OwnBeacons:
    """`next` is the number of the own device's next beacon; `since_ms` when it wrote the last one, or first had news;
    `settled` the last own seq that every relay was seen to show.
    """

    next: int
    since_ms: int
    settled: int


@dataclass(frozen=True, slots=True)
class LastBeacon:
    """The newest beacon of another device.

    Attributes:
        own_seq: the last entry of this device that it is known to have; -1 for none, None where that is not known.
        wanted: the last entry of this device that its next beacon must have; -1 for none.
        lacking: relays that its device had read to their ends, which hold that entry, where it lacked it nevertheless.
    """

    number: int
    own_seq: int | None
    wanted: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MissingEnd:
    """A beacon at `at_seq` of `teller` says that this entry exists, and it is not here.

    Attributes:
        since_ms: when that was first noticed.
        asked_ms: when relays were last read anew for it; None before.
        relays: those that were read to their ends since, and did not show it.
    """

    device: DeviceId
    teller: DeviceId
    at_seq: int
    seq: int
    entry: EntryId
    since_ms: int
    asked_ms: int | None = None
    relays: tuple[str, ...] = ()


class BeaconTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- what is to be told

    def add_news(self, devices: Iterable[DeviceId]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO beacon_news (group_no, device) VALUES (?,?)",
            [(self._no, bytes(device)) for device in devices],
        )

    def news(self) -> list[DeviceId]:
        rows = self._db.query("SELECT device FROM beacon_news WHERE group_no=? ORDER BY device", (self._no,))
        return [DeviceId(device) for (device,) in rows]

    def drop_news(self, devices: Iterable[DeviceId]) -> None:
        self._db.executemany(
            "DELETE FROM beacon_news WHERE group_no=? AND device=?", [(self._no, bytes(device)) for device in devices]
        )

    def own(self) -> OwnBeacons | None:
        """None before there was any news."""
        row = self._db.query_one("SELECT next, since_ms, settled FROM own_beacons WHERE group_no=?", (self._no,))
        return OwnBeacons(*row) if row else None

    def set_own(self, own: OwnBeacons) -> None:
        self._db.execute(
            "INSERT INTO own_beacons (group_no, next, since_ms, settled) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET "
            "next=excluded.next, since_ms=excluded.since_ms, settled=excluded.settled",
            (self._no, own.next, own.since_ms, own.settled),
        )

    # --- what others said

    def last_beacon(self, device: DeviceId) -> LastBeacon | None:
        row = self._db.query_one(
            "SELECT number, own_seq, wanted, lacking FROM beacons WHERE group_no=? AND device=?",
            (self._no, bytes(device)),
        )
        return LastBeacon(row[0], row[1], row[2], tuple(row[3].split())) if row else None

    def set_last_beacon(self, device: DeviceId, last: LastBeacon) -> None:
        self._db.execute(
            "INSERT INTO beacons (group_no, device, number, own_seq, wanted, lacking) VALUES (?,?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET number=excluded.number, own_seq=excluded.own_seq, wanted=excluded.wanted, "
            "lacking=excluded.lacking",
            (self._no, bytes(device), last.number, last.own_seq, last.wanted, " ".join(last.lacking)),
        )

    def lacking(self) -> dict[DeviceId, LastBeacon]:
        """The devices that lack own entries which they should have."""
        rows = self._db.query(
            "SELECT device, number, own_seq, wanted, lacking FROM beacons WHERE group_no=? AND lacking<>'' "
            "ORDER BY device",
            (self._no,),
        )
        return {
            DeviceId(device): LastBeacon(number, own_seq, wanted, tuple(relays.split()))
            for device, number, own_seq, wanted, relays in rows
        }

    def forget_settled(self) -> None:
        """There is a relay that held nothing until now: what was read there before says nothing."""
        self._db.execute("UPDATE own_beacons SET settled=-1 WHERE group_no=?", (self._no,))
        self._db.execute("UPDATE beacons SET wanted=-1 WHERE group_no=?", (self._no,))

    def forget_own(self) -> None:
        """This device goes on as another one: nothing is known of what others have of that."""
        self._db.execute("DELETE FROM own_beacons WHERE group_no=?", (self._no,))
        self._db.execute("UPDATE beacons SET own_seq=NULL, wanted=-1, lacking='' WHERE group_no=?", (self._no,))

    # --- what is missing

    def missing(self) -> list[MissingEnd]:
        """By device, the oldest word first."""
        rows = self._db.query(
            "SELECT device, teller, at_seq, seq, entry_id, since_ms, asked_ms, relays FROM missing_ends "
            "WHERE group_no=? ORDER BY device, since_ms, teller",
            (self._no,),
        )
        return [
            MissingEnd(DeviceId(device), DeviceId(teller), at, seq, EntryId(entry), since, asked, tuple(relays.split()))
            for device, teller, at, seq, entry, since, asked, relays in rows
        ]

    def set_missing(self, end: MissingEnd) -> None:
        """Keep what a device says of another one, in the place of what it said before; of each only MAX_TELLERS."""
        tellers = int(
            self._db.query_value(
                "SELECT count(*) FROM missing_ends WHERE group_no=? AND device=? AND teller<>?",
                (self._no, bytes(end.device), bytes(end.teller)),
            )
        )
        if tellers >= MAX_TELLERS:
            return
        self._db.execute(
            "INSERT OR REPLACE INTO missing_ends (group_no, device, teller, at_seq, seq, entry_id, since_ms, asked_ms, "
            "relays) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                self._no,
                bytes(end.device),
                bytes(end.teller),
                end.at_seq,
                end.seq,
                bytes(end.entry),
                end.since_ms,
                end.asked_ms,
                " ".join(end.relays),
            ),
        )

    def drop_missing(self, ends: Iterable[MissingEnd]) -> None:
        self._db.executemany(
            "DELETE FROM missing_ends WHERE group_no=? AND device=? AND teller=?",
            [(self._no, bytes(end.device), bytes(end.teller)) for end in ends],
        )

    # --- what relays showed of the current topic

    def shown_ends(self, relay: str) -> dict[DeviceId, int]:
        rows = self._db.query("SELECT device, seq FROM shown_ends WHERE group_no=? AND relay=?", (self._no, relay))
        return {DeviceId(device): seq for device, seq in rows}

    def set_shown_ends(self, relay: str, ends: Iterable[tuple[DeviceId, int]]) -> None:
        self._db.executemany(
            "INSERT INTO shown_ends (group_no, relay, device, seq) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET "
            "seq=excluded.seq",
            [(self._no, relay, bytes(device), seq) for device, seq in ends],
        )

    def forget_shown_ends(self, relay: str | None = None) -> None:
        """Another topic is written to now; or this relay has lost what it had shown."""
        if relay is None:
            self._db.execute("DELETE FROM shown_ends WHERE group_no=?", (self._no,))
        else:
            self._db.execute("DELETE FROM shown_ends WHERE group_no=? AND relay=?", (self._no, relay))
