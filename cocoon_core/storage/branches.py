"""Runs of a device that stand in no chain here, and the schema of all that counting keeps.

A run stands apart where its device signed two histories and this one does not decide, or where it lies beyond a gap of
a device that is out. Nothing in it counts by its device's right; a change in it may count because one that counts
depends on it (specs/counting.md §3). In `document_runs` such a run has its number negated.
Spec: specs/storage.md §4 and §5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import ChangeHash, DeviceId, DocumentId, EntryId
from cocoon_core.protocol.run import Run, UnverifiedRun
from cocoon_core.storage.database import Database, Migration

COUNTING: Final = Migration(
    "counting",
    """
CREATE TABLE loose_runs (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device    BLOB NOT NULL,
    first_seq INTEGER NOT NULL,
    last_id   BLOB NOT NULL,
    wire      BLOB NOT NULL,
    UNIQUE (group_no, device, first_seq, last_id)
) STRICT;
CREATE TABLE lost (
    document_no INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    change      BLOB NOT NULL,
    raw         BLOB NOT NULL,
    done        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (document_no, change)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class ApartRun:
    """A verified run that stands in no chain."""

    number: int
    device: DeviceId
    wire: bytes


@dataclass(frozen=True, slots=True)
class LostChange:
    """An own change that cannot count any more, and is to be made again."""

    document_no: int
    document: DocumentId
    change: ChangeHash
    raw: bytes


class BranchTable:
    """The runs of one group that stand apart, the chains as far as switching them needs it, and lost own changes."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- runs apart

    def add(self, run: Run | UnverifiedRun) -> int | None:
        """Keep a verified run apart; its number, or None where it is here already."""
        added = self._db.execute(
            "INSERT OR IGNORE INTO loose_runs (group_no, device, first_seq, last_id, wire) VALUES (?,?,?,?,?)",
            (self._no, bytes(run.device), run.first_seq, bytes(run.last_id), run.wire),
        )
        return self._db.last_insert_rowid() if added else None

    def of(self, device: DeviceId) -> list[ApartRun]:
        rows = self._db.query(
            "SELECT id, wire FROM loose_runs WHERE group_no=? AND device=? ORDER BY first_seq, id",
            (self._no, bytes(device)),
        )
        return [ApartRun(number, device, wire) for number, wire in rows]

    def devices(self) -> list[DeviceId]:
        rows = self._db.query("SELECT DISTINCT device FROM loose_runs WHERE group_no=? ORDER BY device", (self._no,))
        return [DeviceId(device) for (device,) in rows]

    def size(self, device: DeviceId) -> int:
        """Bytes of a device's runs that stand apart."""
        return int(
            self._db.query_value(
                "SELECT coalesce(sum(length(wire)), 0) FROM loose_runs WHERE group_no=? AND device=?",
                (self._no, bytes(device)),
            )
        )

    def remove(self, number: int) -> None:
        self._db.execute("DELETE FROM loose_runs WHERE id=?", (number,))

    # --- chains

    def standing(self, device: DeviceId, from_seq: int) -> list[tuple[int, int, EntryId, bytes]]:
        """(number, last seq, last id, wire) of the runs in a device's chain that reach that seq, in their order.

        Of a run that was cut, last seq and id are those of its last entry that stands; the wire is whole.
        """
        rows = self._db.query(
            "SELECT id, last_seq, last_id, wire FROM runs WHERE group_no=? AND device=? AND last_seq>=? "
            "ORDER BY last_seq, id",
            (self._no, bytes(device), from_seq),
        )
        return [(number, last_seq, EntryId(last_id), wire) for number, last_seq, last_id, wire in rows]

    def cut(self, number: int, last_seq: int, last_id: EntryId) -> None:
        """Let a run of the log stand up to this entry alone. Its wire stays whole, as it was signed."""
        self._db.execute("UPDATE runs SET last_seq=?, last_id=? WHERE id=?", (last_seq, bytes(last_id), number))

    def take_out(self, number: int) -> None:
        """Take a run out of the log, and off every relay's queue."""
        self._db.execute("DELETE FROM runs WHERE id=?", (number,))

    def renumber(self, old: int, new: int) -> None:
        """What a run changes is found under another number from now on."""
        self._db.execute("UPDATE OR IGNORE document_runs SET run=? WHERE run=?", (new, old))
        self._db.execute("DELETE FROM document_runs WHERE run=?", (old,))

    def set_head(self, device: DeviceId, document: DocumentId, head: tuple[int, ChangeHash] | None) -> None:
        """The newest change of a device in a document, after its chain was switched; None where there is none."""
        key = (self._no, bytes(device), bytes(document))
        if head is None:
            self._db.execute("DELETE FROM heads WHERE group_no=? AND device=? AND document=?", key)
        else:
            self._db.execute(
                "INSERT INTO heads (group_no, device, document, seq, change) VALUES (?,?,?,?,?) "
                "ON CONFLICT DO UPDATE SET seq=excluded.seq, change=excluded.change",
                (*key, head[0], bytes(head[1])),
            )

    def was_shown(self, number: int, last_id: EntryId) -> bool:
        """Whether a relay may have an own run: one acknowledged it, or showed it, which took it off that queue."""
        return not bool(
            self._db.query_value(
                "SELECT count(*) FROM relays r WHERE r.group_no=:g HAVING count(*)>0 AND count(*)="
                "(SELECT count(*) FROM outbox o WHERE o.group_no=:g AND o.run=:run AND o.acked IS NULL "
                "AND o.relay NOT IN (SELECT relay FROM guests WHERE group_no=:g))",
                {"g": self._no, "run": number},
            )
        )

    # --- lost own changes

    def lose(self, document_no: int, changes: Iterable[tuple[ChangeHash, bytes]]) -> None:
        """Note own changes that are to be made again."""
        self._db.executemany(
            "INSERT OR IGNORE INTO lost (document_no, change, raw) VALUES (?,?,?)",
            [(document_no, bytes(change), raw) for change, raw in changes],
        )

    def lost(self) -> list[LostChange]:
        """Those that were not made again yet, by document."""
        rows = self._db.query(
            "SELECT l.document_no, d.document, l.change, l.raw FROM lost l JOIN documents d ON d.id=l.document_no "
            "WHERE d.group_no=? AND NOT l.done ORDER BY l.document_no, l.change",
            (self._no,),
        )
        return [LostChange(number, DocumentId(doc), ChangeHash(change), raw) for number, doc, change, raw in rows]

    def settle_lost(self, document_no: int) -> None:
        """What was lost in that document was made again, or cannot be."""
        self._db.execute("UPDATE lost SET done=1 WHERE document_no=?", (document_no,))

    def shown_again(self) -> list[tuple[int, ChangeHash]]:
        """(document number, change) of those that were made again, and are not refused any more."""
        rows = self._db.query(
            "SELECT l.document_no, l.change FROM lost l JOIN documents d ON d.id=l.document_no "
            "WHERE d.group_no=? AND l.done AND NOT EXISTS "
            "(SELECT 1 FROM refused r WHERE r.document_no=l.document_no AND r.change=l.change)",
            (self._no,),
        )
        return [(number, ChangeHash(change)) for number, change in rows]

    def forget_lost(self, changes: Iterable[tuple[int, ChangeHash]]) -> None:
        """Should they be lost once more, they are made again once more."""
        self._db.executemany(
            "DELETE FROM lost WHERE document_no=? AND change=?", [(number, bytes(change)) for number, change in changes]
        )

    def own_refused(self, device: DeviceId) -> list[tuple[int, ChangeHash]]:
        """(document number, change) of what this device wrote, its gate refused, and was not noted as lost yet."""
        rows = self._db.query(
            "SELECT r.document_no, r.change FROM refused r JOIN documents d ON d.id=r.document_no "
            "WHERE d.group_no=? AND r.device=? AND NOT EXISTS "
            "(SELECT 1 FROM lost l WHERE l.document_no=r.document_no AND l.change=r.change)",
            (self._no, bytes(device)),
        )
        return [(number, ChangeHash(change)) for number, change in rows]
