"""Whom this profile's owner compared safety numbers with, and which devices they saw then.

Decides nothing: when a mark no longer holds is for the façade (specs/verification.md §4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol import encoding
from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.storage.database import Database, Migration

VERIFICATIONS: Final = Migration(
    "verifications",
    """
CREATE TABLE verifications (
    group_no   INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
    member     BLOB NOT NULL,
    devices    BLOB NOT NULL,
    since_ms   INTEGER NOT NULL,
    changed_ms INTEGER,
    PRIMARY KEY (group_no, member)
) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True)
class StoredVerification:
    """A mark. `devices` are those that were compared; `changed_ms` says when they were seen to be others, else None."""

    member: MemberId
    devices: frozenset[DeviceId]
    since_ms: int
    changed_ms: int | None


class VerificationTable:
    """Reads and writes the table above, for one group."""

    def __init__(self, database: Database, group_no: int) -> None:
        self._db, self._no = database, group_no

    def set(self, member: MemberId, devices: Iterable[DeviceId], now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO verifications (group_no, member, devices, since_ms) VALUES (?,?,?,?) ON CONFLICT DO UPDATE "
            "SET devices=excluded.devices, since_ms=excluded.since_ms, changed_ms=NULL",
            (self._no, bytes(member), encoding.encode(sorted(map(bytes, devices))), now_ms),
        )

    def note_changed(self, member: MemberId, now_ms: int) -> None:
        self._db.execute(
            "UPDATE verifications SET changed_ms=? WHERE group_no=? AND member=?", (now_ms, self._no, bytes(member))
        )

    def forget(self, member: MemberId) -> None:
        self._db.execute("DELETE FROM verifications WHERE group_no=? AND member=?", (self._no, bytes(member)))

    def all(self) -> dict[MemberId, StoredVerification]:
        rows = self._db.query(
            "SELECT member, devices, since_ms, changed_ms FROM verifications WHERE group_no=?", (self._no,)
        )
        return {
            MemberId(member): StoredVerification(
                MemberId(member), frozenset(map(DeviceId, encoding.decode(devices))), since, changed
            )
            for member, devices, since, changed in rows
        }
