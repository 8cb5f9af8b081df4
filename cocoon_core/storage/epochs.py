"""The epochs of one group: secrets, how each began, what is known of its topic at each relay, and blobs to upload.

Decides nothing: which epoch is written to is for sync/epochs.py. Spec: specs/storage.md §3.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import BlobHash, DeviceId, EntryId, TopicId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration

EPOCHS: Final = Migration(
    "epochs",
    """
ALTER TABLE epochs ADD COLUMN rotation BLOB;
ALTER TABLE epochs ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE epochs ADD COLUMN manifest BLOB;
ALTER TABLE epochs ADD COLUMN frontier BLOB;
ALTER TABLE epochs ADD COLUMN content BLOB;
ALTER TABLE epochs ADD COLUMN handover BLOB;
ALTER TABLE epochs ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE parked ADD COLUMN heads BLOB NOT NULL DEFAULT x'';
ALTER TABLE parked ADD COLUMN statement INTEGER NOT NULL DEFAULT 0;
CREATE TABLE topics (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay     TEXT NOT NULL,
    topic     BLOB NOT NULL,
    finished  INTEGER NOT NULL DEFAULT 0,
    envelopes INTEGER NOT NULL DEFAULT 0,
    bytes     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_no, relay, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE untold (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay     TEXT NOT NULL,
    operation BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, operation)
) STRICT, WITHOUT ROWID;
CREATE TABLE uploads (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    topic    BLOB NOT NULL,
    blob     BLOB NOT NULL,
    data     BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, topic, blob)
) STRICT, WITHOUT ROWID;
CREATE TABLE shown_rotations (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay     TEXT NOT NULL,
    topic     BLOB NOT NULL,
    operation BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, topic, operation)
) STRICT, WITHOUT ROWID;
CREATE TABLE shown_early (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    relay    TEXT NOT NULL,
    topic    BLOB NOT NULL,
    last_id  BLOB NOT NULL,
    PRIMARY KEY (group_no, relay, topic, last_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE manifests (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    topic    BLOB NOT NULL,
    entry    BLOB NOT NULL,
    wire     BLOB NOT NULL,
    PRIMARY KEY (group_no, topic, entry)
) STRICT, WITHOUT ROWID;
CREATE TABLE repairs (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    topic    BLOB NOT NULL,
    rotation BLOB NOT NULL,
    kind     TEXT NOT NULL,
    device   BLOB NOT NULL,
    value    BLOB NOT NULL,
    PRIMARY KEY (group_no, topic, rotation, kind, device, value)
) STRICT, WITHOUT ROWID;
CREATE TABLE rekeys (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    wire     BLOB NOT NULL,
    PRIMARY KEY (group_no, device, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE hpke_seeds (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    seed     BLOB NOT NULL,
    PRIMARY KEY (group_no, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE due (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    what     TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (group_no, what)
) STRICT, WITHOUT ROWID;
""",
)

WRAPS: Final = Migration(
    "wraps",
    """
CREATE TABLE wraps (
    group_no  INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    operation BLOB NOT NULL,
    records   BLOB NOT NULL,
    PRIMARY KEY (group_no, operation)
) STRICT;
""",
)

_FOR_NOW: Final = 2  # of `finished`
_FOR_GOOD: Final = 1
MAX_REPAIRS: Final = 4_096  # complaints and repairs that are kept
MAX_REPAIRS_EACH: Final = 4  # of one device and rotation
MAX_CANDIDATES: Final = 4  # runs of one topic that say to be its manifest


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """An epoch whose secret is here.

    Attributes:
        rotation: the operation that began it; None for the group's first, and for one that a welcome named until its
            manifest was read.
        since_ms: when this device first held it.
        manifest: the run that opens its topic, as received.
        frontier: the manifest's frontier in its encoded form.
        handover: the runs that end the epoch before it: what goes into that topic with the seal.
        followed: its manifest was compared with what is here.
    """

    epoch: Epoch
    rotation: EntryId | None
    since_ms: int
    manifest: bytes | None
    frontier: bytes | None
    handover: tuple[bytes, ...]
    followed: bool


class EpochTable:
    """Reads and writes the tables above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    # --- epochs

    def add(self, epoch: Epoch, now_ms: int, rotation: EntryId | None = None) -> None:
        self._db.execute(
            "INSERT INTO epochs (topic, group_no, secret, rotation, since_ms) VALUES (?,?,?,?,?) "
            "ON CONFLICT DO NOTHING",
            (bytes(epoch.topic), self._no, epoch.secret.reveal(), rotation and bytes(rotation), now_ms),
        )

    def all(self) -> list[StoredEpoch]:
        """In the order in which they came to be held."""
        rows = self._db.query(
            "SELECT secret, rotation, since_ms, manifest, frontier, handover, followed FROM epochs "
            "WHERE group_no=? ORDER BY rowid",
            (self._no,),
        )
        return [
            StoredEpoch(
                Epoch(Secret(secret)),
                EntryId(rotation) if rotation is not None else None,
                since,
                manifest,
                frontier,
                tuple(encoding.decode(handover, max_bytes=len(handover))) if handover is not None else (),
                bool(followed),
            )
            for secret, rotation, since, manifest, frontier, handover, followed in rows
        ]

    def set_rotation(self, topic: TopicId, rotation: EntryId) -> None:
        self._db.execute("UPDATE epochs SET rotation=? WHERE topic=?", (bytes(rotation), bytes(topic)))

    def set_manifest(self, topic: TopicId, manifest: bytes) -> None:
        self._db.execute("UPDATE epochs SET manifest=? WHERE topic=?", (manifest, bytes(topic)))

    def set_followed(self, topic: TopicId, frontier: bytes, content: bytes, handover: Sequence[bytes]) -> None:
        """Keep what the manifest made final, all that it says, and what leads to its epoch."""
        self._db.execute(
            "UPDATE epochs SET frontier=?, content=?, handover=?, followed=1 WHERE topic=?",
            (frontier, content, encoding.encode(list(handover)), bytes(topic)),
        )

    def set_told(self, topic: TopicId, frontier: bytes) -> None:
        """Keep what the manifest of an epoch says to be final that is not followed."""
        self._db.execute("UPDATE epochs SET frontier=? WHERE topic=? AND NOT followed", (frontier, bytes(topic)))

    def content(self, topic: TopicId) -> bytes | None:
        """All that the followed manifest of an epoch says."""
        found: bytes | None = self._db.query_value("SELECT content FROM epochs WHERE topic=?", (bytes(topic),))
        return found

    # --- manifests that came, before one of them was followed

    def add_candidate(self, topic: TopicId, entry: EntryId, wire: bytes) -> None:
        """Keep a run that says to be the manifest of this topic; a few at most."""
        count = self._db.query_value(
            "SELECT count(*) FROM manifests WHERE group_no=? AND topic=?", (self._no, bytes(topic))
        )
        if int(count) < MAX_CANDIDATES:
            self._db.execute(
                "INSERT OR IGNORE INTO manifests (group_no, topic, entry, wire) VALUES (?,?,?,?)",
                (self._no, bytes(topic), bytes(entry), wire),
            )

    def candidates(self, topic: TopicId) -> list[tuple[EntryId, bytes]]:
        rows = self._db.query(
            "SELECT entry, wire FROM manifests WHERE group_no=? AND topic=? ORDER BY entry", (self._no, bytes(topic))
        )
        return [(EntryId(entry), wire) for entry, wire in rows]

    def drop_candidate(self, topic: TopicId, entry: EntryId) -> None:
        self._db.execute(
            "DELETE FROM manifests WHERE group_no=? AND topic=? AND entry=?", (self._no, bytes(topic), bytes(entry))
        )

    # --- complaints and repairs

    def add_repair(self, topic: TopicId, rotation: EntryId, kind: str, device: DeviceId, value: bytes) -> None:
        """Keep a complaint of a device, or a repair for it; of each device a few, and not more than MAX_REPAIRS."""
        count = self._db.query_value("SELECT count(*) FROM repairs WHERE group_no=?", (self._no,))
        of_device = self._db.query_value(
            "SELECT count(*) FROM repairs WHERE group_no=? AND rotation=? AND kind=? AND device=?",
            (self._no, bytes(rotation), kind, bytes(device)),
        )
        if int(count) < MAX_REPAIRS and int(of_device) < MAX_REPAIRS_EACH:
            self._db.execute(
                "INSERT OR IGNORE INTO repairs (group_no, topic, rotation, kind, device, value) VALUES (?,?,?,?,?,?)",
                (self._no, bytes(topic), bytes(rotation), kind, bytes(device), value),
            )

    def repairs(self, kind: str, device: DeviceId) -> list[bytes]:
        """What was said of a device."""
        rows = self._db.query(
            "SELECT value FROM repairs WHERE group_no=? AND kind=? AND device=?", (self._no, kind, bytes(device))
        )
        return [value for (value,) in rows]

    def repairs_in(self, topic: TopicId) -> list[bytes]:
        """The repairs that are known of a repair topic."""
        rows = self._db.query(
            "SELECT value FROM repairs WHERE group_no=? AND topic=? AND kind='repair'", (self._no, bytes(topic))
        )
        return [value for (value,) in rows]

    def open_complaints(self, topic: TopicId) -> list[tuple[EntryId, DeviceId]]:
        """(rotation, device) of complaints in a repair topic for which no repair is known."""
        rows = self._db.query(
            "SELECT DISTINCT c.rotation, c.device FROM repairs c WHERE c.group_no=? AND c.topic=? "
            "AND c.kind='complaint' AND NOT EXISTS "
            "(SELECT 1 FROM repairs r WHERE r.group_no=c.group_no AND r.rotation=c.rotation "
            "AND r.device=c.device AND r.kind='repair')",
            (self._no, bytes(topic)),
        )
        return [(EntryId(rotation), DeviceId(device)) for rotation, device in rows]

    # --- rekeys

    def add_rekey(self, device: DeviceId, seq: int, wire: bytes) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO rekeys (group_no, device, seq, wire) VALUES (?,?,?,?)",
            (self._no, bytes(device), seq, wire),
        )

    def rekeys(self) -> list[bytes]:
        rows = self._db.query("SELECT wire FROM rekeys WHERE group_no=? ORDER BY device, seq", (self._no,))
        return [wire for (wire,) in rows]

    def add_hpke_seed(self, seq: int, seed: Secret) -> None:
        """Keep the key of an own rekey, by the seq of its entry."""
        self._db.execute("INSERT INTO hpke_seeds (group_no, seq, seed) VALUES (?,?,?)", (self._no, seq, seed.reveal()))

    def hpke_seeds(self) -> list[tuple[int, Secret]]:
        """The newest first."""
        rows = self._db.query("SELECT seq, seed FROM hpke_seeds WHERE group_no=? ORDER BY seq DESC", (self._no,))
        return [(seq, Secret(seed)) for seq, seed in rows]

    def drop_hpke_seeds(self, up_to_seq: int) -> None:
        self._db.execute("DELETE FROM hpke_seeds WHERE group_no=? AND seq<=?", (self._no, up_to_seq))

    # --- erasing

    def forget(self, topic: TopicId) -> None:
        """Erase an epoch's secret and all that is known of its topic."""
        self._db.execute("DELETE FROM epochs WHERE topic=?", (bytes(topic),))
        for table in ("topics", "uploads", "cursors", "shown_rotations", "shown_early", "manifests"):
            self._db.execute(f"DELETE FROM {table} WHERE group_no=? AND topic=?", (self._no, bytes(topic)))

    # --- topics at relays

    def note_received(self, relay: str, topic: TopicId, envelopes: int, size: int, *, is_anew: bool = False) -> None:
        """Count what the topic holds that opens, for the age of an epoch in bytes and envelopes.

        Args:
            is_anew: it is read from its start, so what was counted before is counted again.
        """
        self._db.execute(
            "INSERT INTO topics (group_no, relay, topic, envelopes, bytes) VALUES (?1,?2,?3,?4,?5) "
            "ON CONFLICT DO UPDATE SET envelopes=iif(?6, 0, envelopes)+?4, bytes=iif(?6, 0, bytes)+?5",
            (self._no, relay, bytes(topic), envelopes, size, int(is_anew)),
        )

    def size(self, topic: TopicId) -> tuple[int, int]:
        """(envelopes, bytes) at the relay that showed most of it."""
        row = self._db.query_one(
            "SELECT max(envelopes), max(bytes) FROM topics WHERE group_no=? AND topic=?", (self._no, bytes(topic))
        )
        return (row[0] or 0, row[1] or 0) if row else (0, 0)

    def finish(self, relay: str, topic: TopicId, *, for_now: bool = False) -> None:
        """That relay's topic is sealed, was read to its end, and leads on: it need not be opened again.

        Args:
            for_now: it is not sealed, since its epoch stands beside the chosen one; it was told of that, until another
                is chosen.
        """
        self._db.execute(
            "INSERT INTO topics (group_no, relay, topic, finished) VALUES (?1,?2,?3,?4) "
            "ON CONFLICT DO UPDATE SET finished=?4",
            (self._no, relay, bytes(topic), _FOR_NOW if for_now else _FOR_GOOD),
        )

    def reopen_forks(self) -> None:
        """Another epoch is chosen: those beside the one before are to be told of it, or to be ended by it."""
        self._db.execute("UPDATE topics SET finished=0 WHERE group_no=? AND finished=?", (self._no, _FOR_NOW))

    def unfinish(self, relay: str) -> None:
        """That relay has lost what it had: every topic is to be read, and ended, once more."""
        self._db.execute("UPDATE topics SET finished=0 WHERE group_no=? AND relay=?", (self._no, relay))

    def look_again(self, relay: str, topics: Iterable[TopicId]) -> None:
        """Open these once more there, to see whether they still are what they were found to be."""
        self._db.executemany(
            "UPDATE topics SET finished=0 WHERE group_no=? AND relay=? AND topic=?",
            [(self._no, relay, bytes(topic)) for topic in topics],
        )

    def finished(self, relay: str) -> set[TopicId]:
        rows = self._db.query("SELECT topic FROM topics WHERE group_no=? AND relay=? AND finished", (self._no, relay))
        return {TopicId(topic) for (topic,) in rows}

    def tell(self, relays: Iterable[str], operation: EntryId) -> None:
        """An operation that is in no chain here came from another topic: the current one is to hold it too."""
        self._db.executemany(
            "INSERT OR IGNORE INTO untold (group_no, relay, operation) VALUES (?,?,?)",
            [(self._no, relay, bytes(operation)) for relay in relays],
        )

    def untold(self, relay: str, most: int) -> list[tuple[EntryId, bytes]]:
        """Operations that this relay's current topic is to be told of, each with its run."""
        rows = self._db.query(
            "SELECT operation, wire FROM untold JOIN side_runs ON side_runs.group_no=untold.group_no AND "
            "last_id=operation WHERE untold.group_no=? AND relay=? LIMIT ?",
            (self._no, relay, most),
        )
        return [(EntryId(operation), wire) for operation, wire in rows]

    def told(self, operations: Container[EntryId], relay: str | None = None) -> None:
        """That relay's current topic holds these operations; or every relay's will, by a manifest."""
        rows = self._db.query("SELECT relay, operation FROM untold WHERE group_no=?", (self._no,))
        self._db.executemany(
            "DELETE FROM untold WHERE group_no=? AND relay=? AND operation=?",
            [(self._no, at, one) for at, one in rows if relay in (None, at) and EntryId(one) in operations],
        )

    def note_rotation_shown(self, relay: str, topic: TopicId, operation: EntryId) -> None:
        """The relay showed what says to be a rotation in that topic."""
        self._db.execute(
            "INSERT OR IGNORE INTO shown_rotations (group_no, relay, topic, operation) VALUES (?,?,?,?)",
            (self._no, relay, bytes(topic), bytes(operation)),
        )

    def shown_rotations(self, relay: str, topic: TopicId) -> set[EntryId]:
        rows = self._db.query(
            "SELECT operation FROM shown_rotations WHERE group_no=? AND relay=? AND topic=?",
            (self._no, relay, bytes(topic)),
        )
        return {EntryId(operation) for (operation,) in rows}

    def note_shown_early(self, relay: str, topic: TopicId, last_ids: Sequence[EntryId]) -> None:
        """Runs that the relay showed in a topic before its manifest was followed, or what it showed in a repair topic,
        by the hash: they need not be put there again.
        """
        self._db.executemany(
            "INSERT OR IGNORE INTO shown_early (group_no, relay, topic, last_id) VALUES (?,?,?,?)",
            [(self._no, relay, bytes(topic), bytes(last_id)) for last_id in last_ids],
        )

    def shown_early(self, relay: str, topic: TopicId) -> list[EntryId]:
        rows = self._db.query(
            "SELECT last_id FROM shown_early WHERE group_no=? AND relay=? AND topic=?", (self._no, relay, bytes(topic))
        )
        return [EntryId(last_id) for (last_id,) in rows]

    def forget_shown(self, relay: str, topic: TopicId) -> None:
        """The relay lost what it had shown."""
        self._db.execute(
            "DELETE FROM shown_early WHERE group_no=? AND relay=? AND topic=?", (self._no, relay, bytes(topic))
        )

    # --- wraps that stand beside rotations

    def add_wraps(self, operation: EntryId, records: bytes) -> bool:
        """Keep the wraps of a rotation. False where they were here already."""
        if self.has_wraps(operation):
            return False
        self._db.execute(
            "INSERT INTO wraps (group_no, operation, records) VALUES (?,?,?)", (self._no, bytes(operation), records)
        )
        return True

    def has_wraps(self, operation: EntryId) -> bool:
        found = self._db.query_value(
            "SELECT 1 FROM wraps WHERE group_no=? AND operation=?", (self._no, bytes(operation))
        )
        return found is not None

    def wraps(self, operation: EntryId) -> bytes | None:
        """The wraps that stand beside a rotation, if they are here."""
        found: bytes | None = self._db.query_value(
            "SELECT records FROM wraps WHERE group_no=? AND operation=?", (self._no, bytes(operation))
        )
        return found

    def with_wraps(self) -> list[tuple[EntryId, int]]:
        """The rotations of which the wraps are here, each with their bytes."""
        rows = self._db.query("SELECT operation, length(records) FROM wraps WHERE group_no=?", (self._no,))
        return [(EntryId(operation), size) for operation, size in rows]

    def drop_wraps(self, operations: Iterable[EntryId]) -> None:
        self._db.executemany(
            "DELETE FROM wraps WHERE group_no=? AND operation=?", [(self._no, bytes(one)) for one in operations]
        )

    # --- blobs on their way to relays

    def add_uploads(self, relays: Sequence[str], topic: TopicId, blobs: Sequence[tuple[BlobHash, bytes]]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO uploads (group_no, relay, topic, blob, data) VALUES (?,?,?,?,?)",
            [(self._no, relay, bytes(topic), bytes(blob), data) for relay in relays for blob, data in blobs],
        )

    def has_uploads(self, relay: str, topic: TopicId) -> bool:
        return bool(
            self._db.query_value(
                "SELECT count(*) FROM uploads WHERE group_no=? AND relay=? AND topic=?",
                (self._no, relay, bytes(topic)),
            )
        )

    def uploads(self, relay: str, topic: TopicId) -> list[BlobHash]:
        """The names of the blobs that a relay must have."""
        rows = self._db.query(
            "SELECT blob FROM uploads WHERE group_no=? AND relay=? AND topic=? ORDER BY blob",
            (self._no, relay, bytes(topic)),
        )
        return [BlobHash(name) for (name,) in rows]

    def waiting_blobs(self, topic: TopicId, wanted: Set[BlobHash]) -> Iterator[bytes]:
        """Blobs of these names that wait for a relay, one by one."""
        for name in sorted(wanted):
            data: bytes | None = self._db.query_value(
                "SELECT data FROM uploads WHERE group_no=? AND topic=? AND blob=? AND length(data)>0 LIMIT 1",
                (self._no, bytes(topic), bytes(name)),
            )
            if data is not None:
                yield data

    def drop_uploads(self, relay: str, topic: TopicId) -> None:
        self._db.execute(
            "DELETE FROM uploads WHERE group_no=? AND relay=? AND topic=?", (self._no, relay, bytes(topic))
        )

    # --- since when something waits to be done

    def due_since(self, what: str) -> int | None:
        """When it was first noticed that this is to be done, by this device's clock; None where it was not yet."""
        found: int | None = self._db.query_value(
            "SELECT since_ms FROM due WHERE group_no=? AND what=?", (self._no, what)
        )
        return found

    def forget_due(self, what: str) -> None:
        self._db.execute("DELETE FROM due WHERE group_no=? AND what=?", (self._no, what))

    def note_due(self, what: str, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO due (group_no, what, since_ms) VALUES (?,?,?) ON CONFLICT DO NOTHING", (self._no, what, now_ms)
        )

    def all_due(self) -> dict[str, int]:
        """All that waits, with when it was first noticed."""
        return dict(self._db.query("SELECT what, since_ms FROM due WHERE group_no=?", (self._no,)))
