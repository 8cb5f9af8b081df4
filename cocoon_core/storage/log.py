"""The entry log of one group: own entries not yet sent, runs as received, chains, heads, what is parked, the outbox.

Runs are the truth and are never changed; everything else about them can be computed again. Every method runs inside
the caller's transaction, so entry, chain end, heads and outbox become durable together. Spec: specs/storage.md §4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.heads import DeviceHeads
from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId
from cocoon_core.protocol.run import Run
from cocoon_core.storage.database import Database, Migration

LOG: Final = Migration(
    "log",
    """
CREATE TABLE pending (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    entry_id BLOB NOT NULL,
    entry    BLOB NOT NULL,
    PRIMARY KEY (group_no, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE chains (
    group_no     INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device       BLOB NOT NULL,
    last_seq     INTEGER NOT NULL,
    last_id      BLOB NOT NULL,
    last_time_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE heads (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    document BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    change   BLOB NOT NULL,
    PRIMARY KEY (group_no, device, document)
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device    BLOB NOT NULL,
    last_seq  INTEGER NOT NULL,
    last_id   BLOB NOT NULL,
    operation INTEGER NOT NULL,
    wire      BLOB NOT NULL
) STRICT;
CREATE INDEX runs_of_device ON runs (group_no, device, last_seq);
CREATE INDEX runs_with_operation ON runs (group_no, id) WHERE operation;
CREATE TABLE side_runs (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    last_id  BLOB NOT NULL,
    wire     BLOB NOT NULL,
    PRIMARY KEY (group_no, last_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE parked (
    id        INTEGER PRIMARY KEY,
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device    BLOB NOT NULL,
    first_seq INTEGER NOT NULL,
    last_id   BLOB NOT NULL,
    wire      BLOB NOT NULL,
    UNIQUE (group_no, device, first_seq, last_id)
) STRICT;
CREATE TABLE missed (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    topic    BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    PRIMARY KEY (group_no, relay, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    run      INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    last_id  BLOB NOT NULL,
    acked    INTEGER,
    PRIMARY KEY (group_no, relay, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_id ON outbox (group_no, relay, last_id);
CREATE TABLE forks (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    known    BLOB NOT NULL,
    other    BLOB NOT NULL,
    PRIMARY KEY (group_no, device)
) STRICT, WITHOUT ROWID;
""",
)

MOST_TOLD: Final = 64  # own operations that a device which was left out puts into a repair topic


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last entry of a device that was taken into the log."""

    last_seq: int
    last_id: EntryId
    last_time_ms: int


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it stands in the log. It was verified before it was stored."""

    number: int
    device: DeviceId
    last_seq: int
    last_id: EntryId
    wire: bytes


@dataclass(frozen=True, slots=True)
class ParkedRun:
    """A run that cannot be placed yet. Its device signed it.

    `heads` are the roster operations that it names, `statement` the id of its last entry where that carries no change.
    """

    number: int
    device: DeviceId
    first_seq: int
    wire: bytes
    heads: tuple[EntryId, ...]
    statement: EntryId | None


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """An own entry that is in no run yet; `value` is [time_ms, kind, roster heads, body]."""

    seq: int
    entry_id: EntryId
    value: list[Any]


class Log:
    """The log of one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- own entries

    def add_pending(self, seq: int, entry_id: EntryId, value: list[Any]) -> None:
        self._db.execute(
            "INSERT INTO pending (group_no, seq, entry_id, entry) VALUES (?,?,?,?)",
            (self._no, seq, bytes(entry_id), encoding.encode(value)),
        )

    def pending(self) -> list[PendingEntry]:
        rows = self._db.query("SELECT seq, entry_id, entry FROM pending WHERE group_no=? ORDER BY seq", (self._no,))
        return [PendingEntry(seq, EntryId(entry_id), encoding.decode(entry)) for seq, entry_id, entry in rows]

    def pending_count(self) -> int:
        return int(self._db.query_value("SELECT count(*) FROM pending WHERE group_no=?", (self._no,)))

    def drop_pending(self, up_to_seq: int) -> None:
        self._db.execute("DELETE FROM pending WHERE group_no=? AND seq<=?", (self._no, up_to_seq))

    # --- chains and heads

    def chains(self) -> dict[DeviceId, ChainEnd]:
        rows = self._db.query(
            "SELECT device, last_seq, last_id, last_time_ms FROM chains WHERE group_no=?", (self._no,)
        )
        return {DeviceId(device): ChainEnd(seq, EntryId(last), time_ms) for device, seq, last, time_ms in rows}

    def set_chain(self, device: DeviceId, end: ChainEnd) -> None:
        self._db.execute(
            "INSERT INTO chains (group_no, device, last_seq, last_id, last_time_ms) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET last_seq=excluded.last_seq, last_id=excluded.last_id, "
            "last_time_ms=excluded.last_time_ms",
            (self._no, bytes(device), end.last_seq, bytes(end.last_id), end.last_time_ms),
        )

    def heads(self, device: DeviceId) -> DeviceHeads:
        heads = DeviceHeads()
        for document, seq, change in self._db.query(
            "SELECT document, seq, change FROM heads WHERE group_no=? AND device=?", (self._no, bytes(device))
        ):
            heads.advance(DocumentId(document), seq, ChangeHash(change))
        return heads

    def set_heads(self, device: DeviceId, heads: Iterable[tuple[DocumentId, int, ChangeHash]]) -> None:
        self._db.executemany(
            "INSERT INTO heads (group_no, device, document, seq, change) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO UPDATE SET seq=excluded.seq, change=excluded.change",
            [(self._no, bytes(device), bytes(document), seq, bytes(change)) for document, seq, change in heads],
        )

    # --- runs

    def add_run(self, run: Run, has_operation: bool) -> int:
        self._db.execute(
            "INSERT INTO runs (group_no, device, last_seq, last_id, operation, wire) VALUES (?,?,?,?,?,?)",
            (self._no, bytes(run.device), run.last_seq, bytes(run.last_id), int(has_operation), run.wire),
        )
        return self._db.last_insert_rowid()

    def run(self, number: int) -> StoredRun:
        row = self._db.query_one("SELECT id, device, last_seq, last_id, wire FROM runs WHERE id=?", (number,))
        assert row is not None, "a run that is named is never deleted"
        return _stored(row)

    def find_wire(self, number: int) -> bytes | None:
        """A run, if it still stands in the log."""
        found: bytes | None = self._db.query_value("SELECT wire FROM runs WHERE id=?", (number,))
        return found

    def mend_run(self, number: int, wire: bytes) -> None:
        """Put back what a damaged run was: the same entries, as their device signed them."""
        self._db.execute("UPDATE runs SET wire=? WHERE id=?", (wire, number))

    def has_runs(self) -> bool:
        return self._db.query_value("SELECT 1 FROM runs WHERE group_no=? LIMIT 1", (self._no,)) is not None

    def ends_before(self, number: int, most: int) -> list[tuple[int, DeviceId, int]]:
        """(number, device, last seq) of the runs that were stored before that one, the newest first."""
        rows = self._db.query(
            "SELECT id, device, last_seq FROM runs WHERE group_no=? AND id<? ORDER BY id DESC LIMIT ?",
            (self._no, number, most),
        )
        return [(found, DeviceId.unchecked(device), last_seq) for found, device, last_seq in rows]

    def runs_with_operation(self) -> list[StoredRun]:
        rows = self._db.query(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND operation ORDER BY id",
            (self._no,),
        )
        return [_stored(row) for row in rows]

    def operations_above(self, device: DeviceId, seq: int) -> list[StoredRun]:
        """The runs of a device with an operation that end above that seq, in their order: the newest MOST_TOLD."""
        rows = self._db.query(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND operation "
            "AND last_seq>? ORDER BY last_seq DESC LIMIT ?",
            (self._no, bytes(device), seq, MOST_TOLD),
        )
        return [_stored(row) for row in reversed(rows)]

    def operation_wire(self, operation: EntryId) -> bytes | None:
        """The run of a roster operation that is here."""
        found: bytes | None = self._db.query_value(
            "SELECT wire FROM runs WHERE group_no=? AND operation AND last_id=? UNION ALL "
            "SELECT wire FROM side_runs WHERE group_no=? AND last_id=? LIMIT 1",
            (self._no, bytes(operation), self._no, bytes(operation)),
        )
        return found

    def run_covering(self, device: DeviceId, seq: int) -> StoredRun | None:
        """The run of that device which holds its entry `seq`, if any."""
        row = self._db.query_one(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND last_seq>=? "
            "ORDER BY last_seq LIMIT 1",
            (self._no, bytes(device), seq),
        )
        return _stored(row) if row else None

    def run_end_covering(self, device: DeviceId, seq: int) -> tuple[int, int, EntryId] | None:
        """(number, last seq, last entry id) of that run, without reading it."""
        row = self._db.query_one(
            "SELECT id, last_seq, last_id FROM runs WHERE group_no=? AND device=? AND last_seq>=? "
            "ORDER BY last_seq LIMIT 1",
            (self._no, bytes(device), seq),
        )
        return (row[0], row[1], EntryId(row[2])) if row else None

    def runs_before(self, device: DeviceId, seq: int) -> list[StoredRun]:
        """A device's runs that end at or before that seq, the newest first: a few of them."""
        rows = self._db.query(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND last_seq<=? "
            "ORDER BY last_seq DESC LIMIT 64",
            (self._no, bytes(device), seq),
        )
        return [_stored(row) for row in rows]

    def runs_between(self, device: DeviceId, after: int, up_to: int) -> list[StoredRun]:
        """A device's runs that end above `after`, up to the one that holds `up_to`, in their order."""
        rows = self._db.query(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND last_seq>? "
            "AND last_seq<=coalesce((SELECT min(last_seq) FROM runs WHERE group_no=? AND device=? AND last_seq>=?), ?) "
            "ORDER BY last_seq",
            (self._no, bytes(device), after, self._no, bytes(device), up_to, up_to),
        )
        return [_stored(row) for row in rows] if after < up_to else []

    def is_queued(self, run: int) -> bool:
        """True where some relay may still lack a run."""
        return bool(
            self._db.query_value("SELECT EXISTS (SELECT 1 FROM outbox WHERE group_no=? AND run=?)", (self._no, run))
        )

    def drop_runs(self, runs: Collection[int]) -> None:
        """Let runs go for which a manifest stands."""
        self._db.executemany("DELETE FROM runs WHERE group_no=? AND id=?", [(self._no, run) for run in sorted(runs)])

    def runs_above(self, seqs: Mapping[DeviceId, int]) -> Iterator[StoredRun]:
        """Every run that ends above the seq of its device, or of a device that has none, one by one in the order of the
        log.
        """
        ends = self._db.query_each("SELECT id, device, last_seq FROM runs WHERE group_no=? ORDER BY id", (self._no,))
        numbers = [number for number, device, seq in ends if seq > seqs.get(DeviceId(device), -1)]
        for number in numbers:
            yield self.run(number)

    def run_count(self) -> int:
        return int(self._db.query_value("SELECT count(*) FROM runs WHERE group_no=?", (self._no,)))

    # --- parked

    def park(self, run: Run) -> None:
        entries = run.entries
        self._db.execute(
            "INSERT OR IGNORE INTO parked (group_no, device, first_seq, last_id, wire, heads, statement) "
            "VALUES (?,?,?,?,?,?,?)",
            (
                self._no,
                bytes(run.device),
                run.first_seq,
                bytes(run.last_id),
                run.wire,
                b"".join(entries[0].roster_heads),
                int(entries[-1].kind is not EntryKind.CHANGE),
            ),
        )

    def parked_bytes(self) -> dict[DeviceId, int]:
        rows = self._db.query(
            "SELECT device, sum(length(wire)) FROM parked WHERE group_no=? GROUP BY device", (self._no,)
        )
        return {DeviceId(device): size for device, size in rows}

    def parked(self) -> list[ParkedRun]:
        """Everything parked, by device and seq."""
        rows = self._db.query(
            "SELECT id, device, first_seq, wire, heads, CASE WHEN statement THEN last_id END FROM parked "
            "WHERE group_no=? ORDER BY device, first_seq, id",
            (self._no,),
        )
        return [
            ParkedRun(number, DeviceId(device), seq, wire, _split_ids(heads), EntryId(last) if last else None)
            for number, device, seq, wire, heads, last in rows
        ]

    def unpark(self, numbers: Sequence[int]) -> None:
        self._db.executemany("DELETE FROM parked WHERE id=?", [(number,) for number in numbers])

    def note_missed(self, relay: str, topic: bytes, seq: int) -> None:
        """Remember the first place in a topic whose envelope was not kept, so that it is fetched again."""
        self._db.execute(
            "INSERT INTO missed (group_no, relay, topic, seq) VALUES (?,?,?,?) "
            "ON CONFLICT DO UPDATE SET seq=min(seq, excluded.seq)",
            (self._no, relay, topic, seq),
        )

    def take_missed(self, relay: str, topic: bytes) -> int | None:
        """The first missed place, forgotten as it is taken."""
        row = self._db.query_one(
            "SELECT seq FROM missed WHERE group_no=? AND relay=? AND topic=?", (self._no, relay, topic)
        )
        self._db.execute("DELETE FROM missed WHERE group_no=? AND relay=? AND topic=?", (self._no, relay, topic))
        return int(row[0]) if row is not None else None

    # --- outbox

    def enqueue(self, relay: str, run: int, last_id: EntryId) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO outbox (group_no, relay, run, last_id) VALUES (?,?,?,?)",
            (self._no, relay, run, bytes(last_id)),
        )

    def enqueue_above(self, relay: str, device: DeviceId, seq: int) -> None:
        """Queue every run of a device that ends above that seq; what the relay turns out to hold is taken off as it is
        seen.
        """
        self._db.execute(
            "INSERT INTO outbox (group_no, relay, run, last_id) SELECT group_no, ?, id, last_id FROM runs "
            "WHERE group_no=? AND device=? AND last_seq>? ON CONFLICT DO UPDATE SET acked=NULL",
            (relay, self._no, bytes(device), seq),
        )

    def dequeue(self, last_ids: Iterable[EntryId]) -> None:
        """Take runs out of every relay's queue: they reach it in another way."""
        self._db.executemany(
            "DELETE FROM outbox WHERE group_no=? AND last_id=?", [(self._no, bytes(last_id)) for last_id in last_ids]
        )

    def forget_acks(self) -> None:
        """What was acknowledged and not shown is put again: the topic that it went to is left behind."""
        self._db.execute("UPDATE outbox SET acked=NULL WHERE group_no=?", (self._no,))

    def queued_operations(self, device: DeviceId) -> list[StoredRun]:
        """Runs of a device with a roster operation that some relay has not shown, in the order of the log."""
        rows = self._db.query(
            "SELECT id, device, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND operation "
            "AND id IN (SELECT run FROM outbox WHERE group_no=? AND relay NOT IN "
            "(SELECT relay FROM guests WHERE group_no=?)) ORDER BY id",
            (self._no, bytes(device), self._no, self._no),
        )
        return [_stored(row) for row in rows]

    def unsent(self, relay: str, limit: int) -> list[StoredRun]:
        """Runs that this relay has not acknowledged, in the order of the log."""
        rows = self._db.query(
            "SELECT r.id, r.device, r.last_seq, r.last_id, r.wire FROM outbox o JOIN runs r ON r.id=o.run "
            "WHERE o.group_no=? AND o.relay=? AND o.acked IS NULL ORDER BY o.run LIMIT ?",
            (self._no, relay, limit),
        )
        return [_stored(row) for row in rows]

    def queued_for(self, relay: str) -> Iterator[StoredRun]:
        """The same, all of them, one by one."""
        rows = self._db.query(
            "SELECT run FROM outbox WHERE group_no=? AND relay=? AND acked IS NULL ORDER BY run", (self._no, relay)
        )
        return (self.run(number) for (number,) in rows)

    def unsent_count(self, relay: str) -> int:
        return int(
            self._db.query_value(
                "SELECT count(*) FROM outbox WHERE group_no=? AND relay=? AND acked IS NULL", (self._no, relay)
            )
        )

    def note_acked(self, relay: str, run: int, seq: int) -> None:
        """The relay says that it stored the run at that place. It stays queued until the relay shows it there."""
        self._db.execute(
            "UPDATE outbox SET acked=? WHERE group_no=? AND relay=? AND run=?", (seq, self._no, relay, run)
        )

    def note_shown(self, relay: str, last_ids: Collection[EntryId]) -> int:
        """The relay showed these runs: it has them. Of how many that was waited for."""
        if not last_ids:
            return 0
        return self._db.executemany(
            "DELETE FROM outbox WHERE group_no=? AND relay=? AND last_id=?",
            [(self._no, relay, bytes(last_id)) for last_id in last_ids],
        )

    def outbox_size(self, relay: str) -> int:
        return int(self._db.query_value("SELECT count(*) FROM outbox WHERE group_no=? AND relay=?", (self._no, relay)))

    def requeue_lost(self, relay: str, after: int) -> int:
        """Queue again what the relay acknowledged at a place up to `after` and then did not show there.

        Returns:
            How many runs it had lost.
        """
        lost = int(
            self._db.query_value(
                "SELECT count(*) FROM outbox WHERE group_no=? AND relay=? AND acked<=?", (self._no, relay, after)
            )
        )
        if lost:
            self._db.execute(
                "UPDATE outbox SET acked=NULL WHERE group_no=? AND relay=? AND acked<=?", (self._no, relay, after)
            )
        return lost

    def acked(self, relay: str) -> list[int]:
        """Runs that the relay acknowledged and has not shown yet."""
        rows = self._db.query(
            "SELECT run FROM outbox WHERE group_no=? AND relay=? AND acked IS NOT NULL", (self._no, relay)
        )
        return [run for (run,) in rows]

    def requeue(self, relay: str, runs: Sequence[int]) -> int:
        """Queue those of these runs again that the relay still has not shown, although it is level; how many."""
        return self._db.executemany(
            "UPDATE outbox SET acked=NULL WHERE group_no=? AND relay=? AND run=? AND acked IS NOT NULL",
            [(self._no, relay, run) for run in runs],
        )

    # --- forks

    def add_fork(self, device: DeviceId, known: bytes, other: bytes) -> bool:
        """Keep the proof that a device signed two histories: two runs. The first proof of a device suffices."""
        if self.has_fork(device):
            return False
        self._db.execute(
            "INSERT INTO forks (group_no, device, known, other) VALUES (?,?,?,?)",
            (self._no, bytes(device), known, other),
        )
        return True

    def has_fork(self, device: DeviceId) -> bool:
        return bool(
            self._db.query_value("SELECT count(*) FROM forks WHERE group_no=? AND device=?", (self._no, bytes(device)))
        )

    def add_side_run(self, last_id: EntryId, wire: bytes) -> None:
        """Keep a run with an operation that is in the roster, but in no chain: its device signed two histories."""
        self._db.execute(
            "INSERT OR IGNORE INTO side_runs (group_no, last_id, wire) VALUES (?,?,?)",
            (self._no, bytes(last_id), wire),
        )

    def side_runs(self) -> list[bytes]:
        rows = self._db.query("SELECT wire FROM side_runs WHERE group_no=? ORDER BY last_id", (self._no,))
        return [wire for (wire,) in rows]

    def forks(self) -> dict[DeviceId, tuple[bytes, bytes]]:
        rows = self._db.query("SELECT device, known, other FROM forks WHERE group_no=?", (self._no,))
        return {DeviceId(device): (known, other) for device, known, other in rows}


def _split_ids(raw: bytes) -> tuple[EntryId, ...]:
    length = EntryId.LENGTH
    return tuple(EntryId(raw[at : at + length]) for at in range(0, len(raw), length))


def _stored(row: tuple[int, bytes, int, bytes, bytes]) -> StoredRun:
    number, device, last_seq, last_id, wire = row
    return StoredRun(number, DeviceId(device), last_seq, EntryId(last_id), wire)
