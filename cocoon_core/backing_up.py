"""Safe copies of a whole profile: written while it is open, and restored as a new device. A part of `Cocoon`.

The file is storage/backup.py's; how a restored device enters its groups anew is sync/replacing.py's. Spec:
specs/backup.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cocoon_core.cocoon_part import CocoonPart, now_ms
from cocoon_core.storage.backup import OpenBackup, write_backup
from cocoon_core.storage.database import Database
from cocoon_core.storage.profile import Profile
from cocoon_core.storage.restored import mark_restored

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A backup that was written, and read back from the disk. `groups` counts those in it."""

    path: Path
    bytes: int
    time: datetime
    groups: int


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """A profile that was restored. `dropped` counts joins, links and requests that were under way when the backup was
    made: they are not restored, and are to be begun anew.
    """

    home: Path
    time: datetime
    groups: int
    dropped: int


class BackingUp(CocoonPart):
    """The part of a profile's façade that is about backups."""

    def backup(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> BackupReport:
        """Write everything in this profile into one file, sealed under a passphrase of its own.

        It is the state of one moment, whatever else goes on. The file has its name only once it was read back. Whoever
        has it and the passphrase has all groups, as this device has them.

        Args:
            replace: a file that is there already.
            progress: called with (rows written, rows there are).

        Raises:
            UsageError: there is a file already; or an empty passphrase.
            StorageFullError, LocalStateError: it cannot be written there.
        """
        for group in self._groups.values():
            group.close()  # saves the caches, so that what is restored opens fast
        written = write_backup(
            self._profile.database,
            Path(path).absolute(),
            passphrase,
            self._clock(),
            replace=replace,
            progress=progress,
        )
        groups = self._profile.database.query_value("SELECT count(*) FROM groups")
        return BackupReport(written.path, written.bytes, _time(written.time_ms), int(groups))

    @staticmethod
    def restore(
        path: str | os.PathLike[str],
        backup_passphrase: str,
        home: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        *,
        clock: Callable[[], int] = now_ms,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Make a profile out of a backup: a new device, which enters every group at its first sync.

        Until then groups can be read and not written to. The device that the backup was made on is replaced in them: it
        can write no more. After a crash there is no profile or a whole one.

        Args:
            home, passphrase: of the new profile, as for `init`.

        Raises:
            WrongPassphraseError: the passphrase does not open the backup.
            BackupDamagedError: it is no backup, or is damaged or cut off.
            UpdateNeededError: a newer Cocoon wrote it.
            UsageError: there is a profile in this home already.
            NoKeyRingError: no passphrase was given for the profile, and there is no safe key ring.
            StorageFullError, LocalStateError: it cannot be read or written.
        """
        dropped = 0

        def fill(database: Database) -> None:
            nonlocal dropped
            backup.load(database, progress)
            with database.transaction():
                dropped = mark_restored(database, clock())

        with OpenBackup(Path(path).absolute(), backup_passphrase) as backup:
            head = backup.verify()
            with Profile.create(home, passphrase, fill=fill) as profile:
                groups = profile.database.query_value("SELECT count(*) FROM groups")
                return RestoreReport(profile.paths.home, _time(head.time_ms), int(groups), dropped)


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
