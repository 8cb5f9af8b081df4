"""What a profile keeps for recovery: how to write the index, sealed seeds, and requests of lost members.

Nothing here opens a group or the index: seeds stand here sealed to the phrase alone, but for those of a recovery that
is under way. Decides nothing. Spec: specs/recovery.md §5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.ids import DeviceId, GroupId, HpkePublicKey, MemberId, RecoveryId, RequestId, Signature
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration

RECOVERY: Final = Migration(
    "recovery",
    """
CREATE TABLE recovery (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    index_key    BLOB NOT NULL,
    index_secret BLOB NOT NULL,
    tag          BLOB NOT NULL,
    superseded   BLOB NOT NULL
) STRICT;
CREATE TABLE recovery_seeds (
    group_id BLOB NOT NULL,
    recovery BLOB NOT NULL,
    hpke     BLOB NOT NULL,
    sealed   BLOB NOT NULL,
    author   BLOB,
    proof    BLOB,
    PRIMARY KEY (group_id, recovery)
) STRICT;
CREATE TABLE recovery_indexes (
    relay  TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    epochs BLOB NOT NULL,
    value  BLOB NOT NULL,
    put_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE recovering (
    group_no INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    seed     BLOB NOT NULL,
    PRIMARY KEY (group_no, seed)
) STRICT;
CREATE TABLE lost_requests (
    group_id       BLOB PRIMARY KEY,
    member         BLOB NOT NULL,
    relays         BLOB NOT NULL,
    signing_seed   BLOB NOT NULL,
    hpke_seed      BLOB NOT NULL,
    mailbox_secret BLOB NOT NULL,
    asked_ms       INTEGER NOT NULL
) STRICT;
CREATE TABLE seen_requests (
    group_no       INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    request        BLOB NOT NULL,
    seen_ms        INTEGER NOT NULL,
    delay_ms       INTEGER,
    mailbox_secret BLOB,
    PRIMARY KEY (group_no, request)
) STRICT;
CREATE TABLE recovery_hints (
    kind     TEXT PRIMARY KEY,
    shown_ms INTEGER NOT NULL
) STRICT;
""",
)


@dataclass(frozen=True, slots=True)
class IndexWriter:
    """What it takes to write the index, and not to read it."""

    key: HpkePublicKey
    secret: Secret
    tag: bytes
    superseded: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SealedSeed:
    """A group's recovery keys: the public ones, and the seed sealed to the phrase.

    `author` and `proof` are what this device signed into `set_recovery` with them, to say the same again.
    """

    recovery: RecoveryId
    hpke: HpkePublicKey
    sealed: bytes = field(repr=False)
    author: DeviceId | None = None
    proof: Signature | None = None


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """The index that was last put at a relay: digests of what it says with and without epochs, the value, the time."""

    digest: bytes
    epochs: bytes
    value: bytes
    put_ms: int


@dataclass(frozen=True, slots=True)
class LostRequest:
    """The request of this device to take the place of a lost member's devices."""

    group: GroupId
    member: MemberId
    relays: tuple[str, ...]
    keys: DeviceKeys
    mailbox_secret: Secret
    asked_ms: int


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that somebody vouched for: when this device first saw that; the rest where its own member vouched."""

    request: RequestId
    seen_ms: int
    delay_ms: int | None
    mailbox_secret: Secret | None


class RecoveryTable:
    """Reads and writes the tables above. Callers hold the transaction where several writes belong together."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # --- the phrase

    def writer(self) -> IndexWriter | None:
        row = self._db.query_one("SELECT index_key, index_secret, tag, superseded FROM recovery")
        if row is None:
            return None
        key, secret, tag, superseded = row
        return IndexWriter(HpkePublicKey(key), Secret(secret), tag, tuple(encoding.decode(superseded)))

    def set_writer(self, writer: IndexWriter) -> None:
        """Keep what another phrase's index is written with, and forget all that belonged to the one before."""
        self._db.execute("DELETE FROM recovery_seeds")
        self._db.execute("DELETE FROM recovery_indexes")
        self._db.execute(
            "INSERT OR REPLACE INTO recovery (id, index_key, index_secret, tag, superseded) VALUES (1,?,?,?,?)",
            (bytes(writer.key), writer.secret.reveal(), writer.tag, encoding.encode(list(writer.superseded))),
        )

    def add_seed(self, group: GroupId, seed: SealedSeed) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO recovery_seeds (group_id, recovery, hpke, sealed, author, proof) "
            "VALUES (?,?,?,?,?,?)",
            (
                bytes(group),
                bytes(seed.recovery),
                bytes(seed.hpke),
                seed.sealed,
                seed.author and bytes(seed.author),
                seed.proof and bytes(seed.proof),
            ),
        )

    def seeds(self, group: GroupId) -> list[SealedSeed]:
        """The newest first."""
        rows = self._db.query(
            "SELECT recovery, hpke, sealed, author, proof FROM recovery_seeds WHERE group_id=? ORDER BY rowid DESC",
            (bytes(group),),
        )
        return [
            SealedSeed(
                RecoveryId(recovery),
                HpkePublicKey(hpke),
                sealed,
                DeviceId(author) if author is not None else None,
                Signature(proof) if proof is not None else None,
            )
            for recovery, hpke, sealed, author, proof in rows
        ]

    def forget_seeds(self, group: GroupId, keep: Sequence[RecoveryId] = ()) -> None:
        """Forget the seeds of a group, but for some."""
        for seed in self.seeds(group):
            if seed.recovery not in keep:
                self._db.execute(
                    "DELETE FROM recovery_seeds WHERE group_id=? AND recovery=?", (bytes(group), bytes(seed.recovery))
                )

    # --- the index at relays

    def index_at(self, relay: str) -> StoredIndex | None:
        row = self._db.query_one("SELECT digest, epochs, value, put_ms FROM recovery_indexes WHERE relay=?", (relay,))
        return StoredIndex(*row) if row is not None else None

    def set_index(self, relay: str, index: StoredIndex) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO recovery_indexes (relay, digest, epochs, value, put_ms) VALUES (?,?,?,?,?)",
            (relay, index.digest, index.epochs, index.value, index.put_ms),
        )

    def forget_index(self, relay: str) -> None:
        """That relay may have lost it."""
        self._db.execute("DELETE FROM recovery_indexes WHERE relay=?", (relay,))

    def replace_letters(self, group_no: int, relay: str, mailbox_secret: Secret, value: bytes) -> None:
        """Have this value put into that mailbox in the place of what still waits to be."""
        self._db.execute("DELETE FROM letters WHERE mailbox_secret=?", (mailbox_secret.reveal(),))
        self._db.execute(
            "INSERT INTO letters (group_no, relay, mailbox_secret, value) VALUES (?,?,?,?)",
            (group_no, relay, mailbox_secret.reveal(), value),
        )

    def letter_waits(self, mailbox_secret: Secret) -> bool:
        """Whether something still waits to be put into that mailbox."""
        row = self._db.query_one("SELECT 1 FROM letters WHERE mailbox_secret=?", (mailbox_secret.reveal(),))
        return row is not None

    # --- a recovery by phrase that is under way

    def set_recovering(self, group_no: int, seeds: Sequence[Secret]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO recovering (group_no, seed) VALUES (?,?)",
            [(group_no, seed.reveal()) for seed in seeds],
        )

    def recovering(self, group_no: int) -> list[Secret]:
        """Seeds of the recovery keys with which this group is being recovered; none where it is not."""
        rows = self._db.query("SELECT seed FROM recovering WHERE group_no=? ORDER BY rowid", (group_no,))
        return [Secret(seed) for (seed,) in rows]

    def end_recovering(self, group_no: int) -> None:
        self._db.execute("DELETE FROM recovering WHERE group_no=?", (group_no,))

    # --- requests of lost members

    def add_lost_request(self, request: LostRequest) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO lost_requests (group_id, member, relays, signing_seed, hpke_seed, mailbox_secret, "
            "asked_ms) VALUES (?,?,?,?,?,?,?)",
            (
                bytes(request.group),
                bytes(request.member),
                encoding.encode(list(request.relays)),
                request.keys.signing_seed.reveal(),
                request.keys.hpke_seed.reveal(),
                request.mailbox_secret.reveal(),
                request.asked_ms,
            ),
        )

    def lost_requests(self) -> list[LostRequest]:
        rows = self._db.query(
            "SELECT group_id, member, relays, signing_seed, hpke_seed, mailbox_secret, asked_ms FROM lost_requests "
            "ORDER BY asked_ms, rowid"
        )
        return [
            LostRequest(
                GroupId(group),
                MemberId(member),
                tuple(encoding.decode(relays)),
                DeviceKeys(Secret(signing), Secret(hpke)),
                Secret(mailbox),
                asked,
            )
            for group, member, relays, signing, hpke, mailbox, asked in rows
        ]

    def forget_lost_request(self, group: GroupId) -> None:
        self._db.execute("DELETE FROM lost_requests WHERE group_id=?", (bytes(group),))

    def note_request(self, group_no: int, request: RequestId, now_ms: int) -> bool:
        """Keep when a request was first seen; true if that is now."""
        return bool(
            self._db.execute(
                "INSERT OR IGNORE INTO seen_requests (group_no, request, seen_ms) VALUES (?,?,?)",
                (group_no, bytes(request), now_ms),
            )
        )

    def note_vouched(self, group_no: int, request: RequestId, delay_ms: int, mailbox_secret: Secret) -> None:
        self._db.execute(
            "UPDATE seen_requests SET delay_ms=?, mailbox_secret=? WHERE group_no=? AND request=?",
            (delay_ms, mailbox_secret.reveal(), group_no, bytes(request)),
        )

    def seen_requests(self, group_no: int) -> dict[RequestId, SeenRequest]:
        rows = self._db.query(
            "SELECT request, seen_ms, delay_ms, mailbox_secret FROM seen_requests WHERE group_no=?", (group_no,)
        )
        return {
            RequestId(request): SeenRequest(
                RequestId(request), seen, delay, Secret(mailbox) if mailbox is not None else None
            )
            for request, seen, delay, mailbox in rows
        }

    # --- hints

    def hint_is_due(self, kind: str, now_ms: int, pause_ms: int) -> bool:
        """Whether a hint was not shown for that long; if so it counts as shown now."""
        shown = self._db.query_value("SELECT shown_ms FROM recovery_hints WHERE kind=?", (kind,))
        if shown is not None and 0 <= now_ms - shown < pause_ms:
            return False
        self._db.execute("INSERT OR REPLACE INTO recovery_hints (kind, shown_ms) VALUES (?,?)", (kind, now_ms))
        return True
