"""A backup of a profile as a file: written whole or not at all, read back before it counts. Implements specs/backup.md.

The file is streamed both ways, so memory does not grow with the profile. Nothing of it is ever on a disk in the clear:
what is read from the encrypted database is sealed in memory, and what is opened goes into another encrypted database.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from cocoon_core.errors import BackupDamagedError, LocalStateError, UsageError, WrongPassphraseError
from cocoon_core.protocol.backup import PREFIX_BYTES, BackupHead, BackupKey, decode_head, read_prefix
from cocoon_core.protocol.constants import (
    ARGON2_SALT_BYTES,
    BACKUP_CHUNK_BYTES,
    BACKUP_COMMITMENT_BYTES,
    TAG_BYTES,
)
from cocoon_core.protocol.primitives import argon2id
from cocoon_core.storage import paths
from cocoon_core.storage.database import Database
from cocoon_core.storage.dump import DumpHead, Progress, dump, load, read_head, read_records
from cocoon_core.storage.passphrase import Cost, normalise_passphrase, require_cost

_SEALED_BYTES: Final = BACKUP_CHUNK_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True)
class WrittenBackup:
    """A backup that was written and read back."""

    path: Path
    bytes: int
    time_ms: int


def write_backup(
    database: Database,
    path: Path,
    passphrase: str,
    time_ms: int,
    *,
    replace: bool = False,
    cost: Cost | None = None,
    progress: Progress | None = None,
) -> WrittenBackup:
    """Write all of a database into a file that only its owner may read, sealed under a passphrase.

    The state is that of one moment. The file has its name only once it was read back and is what was written; after a
    crash the old file or the new one is there, and perhaps a sealed beginning beside it under a name that begins with a
    dot.

    Raises:
        UsageError: there is a file, and it is not to be replaced, or it is the profile's; an empty passphrase, or a
            cost out of bounds.
        StorageFullError, LocalStateError: it cannot be written there.
    """
    chosen = cost or Cost()
    require_cost(chosen)
    secret = normalise_passphrase(passphrase)
    _require_place(path, replace)
    paths.require_not_of_profile(database.folder, path)
    head = BackupHead(chosen.ops, chosen.memory_kib, secrets.token_bytes(ARGON2_SALT_BYTES))
    raw = head.encode()
    key = BackupKey(argon2id(secret, head.salt, head.ops, head.memory_kib), raw)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        written = hashlib.blake2b()
        paths.create_private(fresh)
        with _converting(path), fresh.open("r+b") as file:
            file.write(raw + key.commitment)
            with database.transaction():
                for chunk in seal_chunks(key, _hashed(dump(database, time_ms, progress), written)):
                    file.write(chunk)
            file.flush()
            paths.sync_descriptor(file.fileno())
        _require_same(fresh, key, written.digest())
        paths.rename(fresh, path)
    except BaseException:
        with contextlib.suppress(LocalStateError):
            paths.remove(fresh)
        raise
    return WrittenBackup(path, paths.measure(path), time_ms)


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class OpenBackup:
    """A backup of which the passphrase is the right one. Use it in a `with`."""

    def __init__(self, path: Path, passphrase: str) -> None:
        """Raises:
        UsageError: an empty passphrase.
        WrongPassphraseError: the passphrase is another one.
        BackupDamagedError: it is no backup, or was changed.
        UpdateNeededError: a newer Cocoon wrote it.
        LocalStateError: there is no such file, or it cannot be read.
        """
        secret = normalise_passphrase(passphrase)
        self._path = path
        with _converting(path):
            self._file = path.open("rb")
        try:
            self._key = self._read_key(secret)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> OpenBackup:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self) -> DumpHead:
        """Read all of it, and make sure that it is whole and of a version that is known here. Writes nothing.

        Raises:
            BackupDamagedError, UpdateNeededError: it is not.
        """
        records = read_records(self._payload())
        head = read_head(records)
        for _ in records:
            pass
        return head

    def load(self, database: Database, progress: Progress | None = None) -> DumpHead:
        """Fill an empty database with what is in it.

        Raises:
            BackupDamagedError, UpdateNeededError: it is damaged, or newer. The database is then to be thrown away.
        """
        return load(database, read_records(self._payload()), progress)

    def _read_key(self, secret: bytes) -> BackupKey:
        with _converting(self._path):
            prefix = self._file.read(PREFIX_BYTES)
            raw = prefix + self._file.read(read_prefix(prefix))
            head = decode_head(raw)
            commitment = self._file.read(BACKUP_COMMITMENT_BYTES)
        try:
            require_cost(Cost(head.ops, head.memory_kib))
        except UsageError as error:
            raise BackupDamagedError(f"this backup was changed: {error}") from error
        if len(commitment) != BACKUP_COMMITMENT_BYTES:
            raise BackupDamagedError("this backup is cut off")
        self._start = self._file.tell()
        key = BackupKey(argon2id(secret, head.salt, head.ops, head.memory_kib), raw)
        if not key.is_for(commitment):
            raise WrongPassphraseError("the passphrase does not open this backup")
        return key

    def _payload(self) -> Iterator[bytes]:
        with _converting(self._path):
            self._file.seek(self._start)
        return open_chunks(self._key, self._file, self._path)


# --- chunks


def seal_chunks(key: BackupKey, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of a payload that comes in pieces."""
    buffer, number = bytearray(), 0
    for piece in pieces:
        buffer += piece
        while len(buffer) > BACKUP_CHUNK_BYTES:  # a full one at the end is the last: it is not known yet
            yield key.seal_chunk(number, bytes(buffer[:BACKUP_CHUNK_BYTES]), last=False)
            del buffer[:BACKUP_CHUNK_BYTES]
            number += 1
    yield key.seal_chunk(number, bytes(buffer), last=True)


def open_chunks(key: BackupKey, file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The payload of a file that is read from its first chunk on.

    Raises:
        BackupDamagedError: a chunk was altered or moved, or the file is cut off.
    """
    with _converting(path):
        chunk, number = file.read(_SEALED_BYTES), 0
        while True:
            following = file.read(_SEALED_BYTES)
            yield key.open_chunk(number, chunk, last=not following)
            if not following:
                return
            chunk, number = following, number + 1


# --- inside


def _hashed(pieces: Iterable[bytes], digest: _Digest) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _require_same(path: Path, key: BackupKey, digest: bytes) -> None:
    """Read back what the disk has: a backup that cannot be read is found out today, not on the day it is needed."""
    with _converting(path), path.open("rb") as file:
        raw = file.read(PREFIX_BYTES)
        raw += file.read(read_prefix(raw))
        decode_head(raw)
        commitment = file.read(BACKUP_COMMITMENT_BYTES)
        found = hashlib.blake2b()
        for piece in open_chunks(key, file, path):
            found.update(piece)
    if not key.is_for(commitment) or found.digest() != digest:
        raise LocalStateError("the disk does not hold what was written to it: this backup is of no use")


def _require_place(path: Path, replace: bool) -> None:
    with _converting(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the name of a file")
        if not replace and path.exists():
            raise UsageError(f"there is a file {path} already; take another name, or --force to replace it")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}")


@contextlib.contextmanager
def _converting(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise LocalStateError(f"there is no file {path}") from error
    except OSError as error:
        raise paths.convert_os_error(error, os.fspath(path)) from error
