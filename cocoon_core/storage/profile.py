"""A profile: one person's Cocoon on one device. Implements specs/storage.md §1.

Puts lock, key and database together, and sees to it that a profile comes into being whole or not at all. It exists
from the moment `profile.key` is renamed into place; a database that still has its first name then gets its last one
when the profile is next opened.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cocoon_core.errors import NoProfileError, ProfileDamagedError, UsageError, WrongPassphraseError
from cocoon_core.protocol.constants import MAX_KEY_FILE_BYTES, PROFILE_ID_BYTES
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage import keystore, paths
from cocoon_core.storage.database import PAGE_BYTES, Database
from cocoon_core.storage.keyfile import KeyFile, decode_key_file, encode_key_file
from cocoon_core.storage.local_proof import LocalProof
from cocoon_core.storage.lock import ProfileLock
from cocoon_core.storage.meta import read_meta, write_meta
from cocoon_core.storage.migrations import migrate, read_version
from cocoon_core.storage.passphrase import Cost, normalise_passphrase, open_key, require_cost, seal_key
from cocoon_core.storage.paths import ProfilePaths

_PROFILE_ID = "profile_id"  # in `meta`


class Profile:
    """An open profile, held by this process until `close`."""

    __slots__ = ("_database", "_key", "_key_file", "_lock", "_paths")

    def __init__(
        self, profile_paths: ProfilePaths, lock: ProfileLock, key_file: KeyFile, key: Secret, database: Database
    ) -> None:
        """Use `create` or `open`."""
        self._paths = profile_paths
        self._lock = lock
        self._key_file = key_file
        self._key = key
        self._database = database

    @classmethod
    def create(
        cls,
        home: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        *,
        cost: Cost | None = None,
        fill: Callable[[Database], None] = migrate,
    ) -> Profile:
        """Make a profile, its key sealed under the passphrase or, without one, kept in the key ring; and open it.

        Takes about 0.1 s of computing for a passphrase. After a crash there is no profile or a whole one.

        Args:
            fill: puts the schema, and what is to be in it, into the empty database.

        Raises:
            UsageError: there is one already; or an empty passphrase; or a cost under the floor.
            NoKeyRingError: no passphrase, and no safe key ring.
            ProfileLockedError: another process is making or using one here.
            StorageFullError: the disk is full or cannot be written.
        """
        profile_paths = ProfilePaths(paths.resolve_home(home))
        _require_sealing(passphrase, cost)
        _require_no_profile(profile_paths)
        paths.make_home(profile_paths.home)
        lock = ProfileLock.acquire(profile_paths.lock)
        try:
            _require_no_profile(profile_paths)
            profile_id, key = secrets.token_bytes(PROFILE_ID_BYTES), Secret(secrets.token_bytes(32))
            _make_database(profile_paths, key, profile_id, fill)
            key_file = _keep_key(profile_id, key, passphrase, cost)
            try:
                paths.write_private(profile_paths.key, encode_key_file(key_file))
            except BaseException:
                if key_file.sealed is None and not paths.exists(profile_paths.key):
                    keystore.forget_key(profile_id)
                raise
            return cls(profile_paths, lock, key_file, key, _open_database(profile_paths, key_file, key))
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, home: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> Profile:
        """Open the profile in this home.

        Raises:
            NoProfileError: there is none.
            WrongPassphraseError: the passphrase is another one, or none was given and one is needed.
            UsageError: an empty passphrase, or one for a profile that is kept in the key ring.
            NoKeyRingError: its key is in a key ring that cannot be used or has it not.
            ProfileLockedError: another process has it open.
            ProfileDamagedError: its files are damaged, or were changed.
            UpdateNeededError: a newer Cocoon wrote it.
            StorageFullError: the disk cannot be read or written.
        """
        profile_paths = ProfilePaths(paths.resolve_home(home))
        _require_profile(profile_paths)
        lock = ProfileLock.acquire(profile_paths.lock)
        try:
            key_file = decode_key_file(paths.read_private(profile_paths.key, MAX_KEY_FILE_BYTES))
            key = _fetch_key(key_file, passphrase)
            return cls(profile_paths, lock, key_file, key, _open_database(profile_paths, key_file, key))
        except BaseException:
            lock.release()
            raise

    @classmethod
    def derive_proof(cls, home: str | os.PathLike[str] | None = None, passphrase: str | None = None) -> LocalProof:
        """The proofs of a profile that another process may have open: whoever could open it can make them.

        Raises:
            NoProfileError, WrongPassphraseError, UsageError, NoKeyRingError, ProfileDamagedError: as `open` does.
        """
        profile_paths = ProfilePaths(paths.resolve_home(home))
        _require_profile(profile_paths)
        key_file = decode_key_file(paths.read_private(profile_paths.key, MAX_KEY_FILE_BYTES))
        return LocalProof(_fetch_key(key_file, passphrase), key_file.profile_id)

    @property
    def proof(self) -> LocalProof:
        """The proofs of this profile."""
        return LocalProof(self._key, self.profile_id)

    @property
    def database(self) -> Database:
        return self._database

    @property
    def paths(self) -> ProfilePaths:
        return self._paths

    @property
    def profile_id(self) -> bytes:
        """16 random bytes that name this profile on this device, and nowhere else."""
        return self._key_file.profile_id

    @property
    def in_key_ring(self) -> bool:
        """Whether the database key is in the key ring, and not under a passphrase."""
        return self._key_file.sealed is None

    def change_passphrase(self, passphrase: str | None, *, cost: Cost | None = None) -> bool:
        """Keep the database key under another passphrase or, with None, in the key ring.

        The database key itself stays the same: an old copy of `profile.key` still opens under the old passphrase.

        Returns:
            False where the key could not be removed from the key ring that it was in, and lies there still.

        Raises:
            UsageError: an empty passphrase, or a cost under the floor.
            NoKeyRingError: no passphrase, and no safe key ring.
            StorageFullError: the disk is full; the old way still opens the profile.
        """
        _require_sealing(passphrase, cost)
        return self._keep(self._key, passphrase, cost)

    def _keep(self, key: Secret, passphrase: str | None, cost: Cost | None) -> bool:
        before = self._key_file
        key_file = _keep_key(before.profile_id, key, passphrase, cost)
        paths.write_private(self._paths.key, encode_key_file(key_file))
        self._key_file = key_file
        if before.sealed is None and key_file.sealed is not None:
            return keystore.forget_key(before.profile_id)
        return True

    def renew_key(self, passphrase: str | None, *, cost: Cost | None = None) -> bool:
        """Write the database anew under a fresh key, and keep that under the passphrase or, with None, in the key ring.

        What opened the profile until now opens nothing of what is written from now on, old copies of `profile.key`
        included. It needs room for a second database meanwhile. The profile is closed by it: open it again. After a
        crash it opens the old way or the new way. Spec: specs/storage.md §2.

        Returns:
            As `change_passphrase`.

        Raises:
            UsageError, NoKeyRingError: as `change_passphrase`.
            StorageFullError: the disk is full; the old way still opens the profile.
        """
        _require_sealing(passphrase, cost)
        key = Secret(secrets.token_bytes(32))
        fresh = _make_room(self._paths)
        try:
            self._database.copy_to(fresh, key)
            self._database.close()  # its log is in it: none may be left beside the new one
            gone = self._keep(key, passphrase, cost)
            _take_new_database(self._paths)
        finally:
            self.close()
        return gone

    def close(self) -> None:
        """Close the database and give up the lock. A second call does nothing."""
        try:
            self._database.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _require_sealing(passphrase: str | None, cost: Cost | None) -> None:
    """Find out that a key could not be kept before anything is written."""
    if passphrase is None:
        keystore.require_key_ring()
    else:
        normalise_passphrase(passphrase)
        require_cost(cost or Cost())


def _require_no_profile(profile_paths: ProfilePaths) -> None:
    if paths.exists(profile_paths.key):
        raise UsageError(f"there is a profile in {profile_paths.home} already")
    if paths.exists(profile_paths.database):
        raise UsageError(f"there is a database without its key file in {profile_paths.home}; move it away first")


def _require_profile(profile_paths: ProfilePaths) -> None:
    if paths.exists(profile_paths.key):
        return
    if paths.exists(profile_paths.database):
        raise ProfileDamagedError(f"profile.key is missing in {profile_paths.home}; without it the database is lost")
    raise NoProfileError(f"there is no profile in {profile_paths.home} yet; `cocoon init` makes one")


def _make_room(profile_paths: ProfilePaths) -> Path:
    """An empty file under the first name of a database, in place of what an earlier attempt left."""
    _drop_new_database(profile_paths)
    paths.create_private(profile_paths.database_new)
    return profile_paths.database_new


def _drop_new_database(profile_paths: ProfilePaths) -> None:
    for leftover in _with_logs(profile_paths.database_new):
        paths.remove(leftover)


def _with_logs(database: Path) -> tuple[Path, ...]:
    return (database, *(database.with_name(database.name + end) for end in ("-wal", "-journal")))


def _take_new_database(profile_paths: ProfilePaths) -> None:
    """Let the database in the making be the one; a log of the one before would be taken for its own."""
    for log in _with_logs(profile_paths.database)[1:]:
        paths.remove(log)
    paths.rename(profile_paths.database_new, profile_paths.database)


def _make_database(
    profile_paths: ProfilePaths, key: Secret, profile_id: bytes, fill: Callable[[Database], None]
) -> None:
    """Make the database under its first name, closed and durable, in place of what an earlier attempt left."""
    fresh = _make_room(profile_paths)
    try:
        with contextlib.closing(Database.open(fresh, key)) as database:
            fill(database)
            write_meta(database, _PROFILE_ID, profile_id)
            database.move_log()
    except BaseException:
        with contextlib.suppress(Exception):
            _drop_new_database(profile_paths)
        raise


def _keep_key(profile_id: bytes, key: Secret, passphrase: str | None, cost: Cost | None) -> KeyFile:
    if passphrase is not None:
        return KeyFile(profile_id, seal_key(key, passphrase, profile_id, cost or Cost()))
    keystore.store_key(profile_id, key)
    return KeyFile(profile_id, None)


def _fetch_key(key_file: KeyFile, passphrase: str | None) -> Secret:
    if key_file.sealed is None:
        if passphrase is not None:
            raise UsageError("this profile is kept in the key ring; open it without a passphrase")
        return keystore.load_key(key_file.profile_id)
    if passphrase is None:
        raise WrongPassphraseError("this profile is sealed under a passphrase: set COCOON_PASSPHRASE to it")
    return open_key(key_file.sealed, passphrase, key_file.profile_id)


def _choose_database(profile_paths: ProfilePaths, key: Secret) -> Database:
    """The database that is under this key. Where the key was being renewed when the process ended, there are two: up
    to the moment when the new key was kept it is the old one, and the new one from then on.
    """
    try:
        database = Database.open(profile_paths.database, key)
    except ProfileDamagedError:
        if paths.measure(profile_paths.database_new) < PAGE_BYTES:
            raise
        Database.open(profile_paths.database_new, key).close()
        _take_new_database(profile_paths)
        return Database.open(profile_paths.database, key)
    _drop_new_database(profile_paths)
    return database


def _open_database(profile_paths: ProfilePaths, key_file: KeyFile, key: Secret) -> Database:
    if not paths.exists(profile_paths.database) and paths.exists(profile_paths.database_new):
        # The profile was being made when the process ended, after the step that made it whole.
        paths.rename(profile_paths.database_new, profile_paths.database)
    if paths.measure(profile_paths.database) < PAGE_BYTES:
        # SQLite would take it for a new database, and make one.
        raise ProfileDamagedError(f"profile.db is missing or empty in {profile_paths.home}")
    database = _choose_database(profile_paths, key)
    try:
        if read_version(database) < 1:
            raise ProfileDamagedError("profile.db holds nothing")
        migrate(database)
        if read_meta(database, _PROFILE_ID) != key_file.profile_id:
            raise ProfileDamagedError("profile.db and profile.key are of two profiles")
    except BaseException:
        database.close()
        raise
    return database
