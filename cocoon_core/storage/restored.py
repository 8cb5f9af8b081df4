"""Which groups of this profile came out of a backup, and are not to be written to under the keys that were in it.

The device that the backup was made on may have gone on, or go on still: two that write one chain would sign two
histories. So a group stays read-only until this device has entered it anew (sync/replacing.py). A row holds as long as
the group's keys are those of the backup. Spec: specs/backup.md §5.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.protocol.device import DeviceKeys
from cocoon_core.protocol.ids import DeviceId
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage.database import Database, Migration
from cocoon_core.storage.groups import JOINING

RESTORED: Final = Migration(
    "restored",
    """
CREATE TABLE restored (
    group_no INTEGER PRIMARY KEY REFERENCES groups(id) ON DELETE CASCADE,
    device   BLOB NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT;
""",
)


def mark_restored(database: Database, now_ms: int) -> int:
    """Mark every group of a profile that was just filled from a backup. Inside a transaction.

    What was on its way in (an unfinished join, link, recovery or request) is dropped: its keys are not enrolled yet,
    and the device that the backup was made on may be enrolled under them.

    Returns:
        How many were on their way in.
    """
    dropped = sum(
        int(database.query_value(sql, values))
        for sql, values in (
            ("SELECT count(*) FROM groups WHERE state=?", (JOINING,)),
            ("SELECT count(*) FROM pending_joins", ()),
            ("SELECT count(*) FROM lost_requests", ()),
        )
    )
    database.execute("DELETE FROM groups WHERE state=?", (JOINING,))
    database.execute("DELETE FROM pending_joins")
    database.execute("DELETE FROM lost_requests")
    database.execute("DELETE FROM restored")
    rows = database.query("SELECT id, signing_seed, hpke_seed FROM groups")
    devices = [(number, DeviceKeys(Secret(signing), Secret(hpke)).id) for number, signing, hpke in rows]
    database.executemany(
        "INSERT INTO restored (group_no, device, since_ms) VALUES (?,?,?)",
        [(number, bytes(device), now_ms) for number, device in devices],
    )
    return dropped


def restored_since(database: Database, group_no: int, device: DeviceId) -> int | None:
    """When the keys of this device were restored, in ms; None where they were made here."""
    found: int | None = database.query_value(
        "SELECT since_ms FROM restored WHERE group_no=? AND device=?", (group_no, bytes(device))
    )
    return found
