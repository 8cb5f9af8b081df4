"""The sealed stream that a backup is: a head with the cost of its passphrase, and authenticated chunks.

Pure: what is in the stream, and where it is kept, is for storage/backup.py. A chunk can be opened as soon as it is
there, in its place alone, and the last one says that it is the last: what was altered, moved, cut off or added is
noticed by whoever reads to the end. Implements specs/backup.md §2 and §3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import BackupDamagedError, DecryptionError, MalformedError, UpdateNeededError
from cocoon_core.protocol.constants import (
    ARGON2_SALT_BYTES,
    BACKUP_COMMITMENT_BYTES,
    BACKUP_SUM_BYTES,
    BACKUP_VERSION,
    LABEL_BACKUP_COMMITMENT,
    LABEL_BACKUP_STREAM,
    LABEL_BACKUP_SUM,
    MAX_BACKUP_HEAD_BYTES,
)
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.primitives import (
    Secret,
    constant_time_equal,
    derive,
    hash_bytes,
    keyed_hash,
    open_bulk,
    seal_bulk,
)

MAGIC: Final = b"cocoon-backup/%d\n" % BACKUP_VERSION
_LENGTH_BYTES: Final = 2
PREFIX_BYTES: Final = len(MAGIC) + _LENGTH_BYTES
_ANY_VERSION: Final = re.compile(rb"cocoon-backup/([1-9][0-9]{0,8})\n")


@dataclass(frozen=True, slots=True)
class BackupHead:
    """How the passphrase of a backup is stretched: Argon2id with `ops` passes over `memory_kib` KiB."""

    ops: int
    memory_kib: int
    salt: bytes

    def encode(self) -> bytes:
        """Magic, length, CBOR and sum."""
        value = encode([self.ops, self.memory_kib, self.salt])
        raw = MAGIC + len(value).to_bytes(_LENGTH_BYTES, "big") + value
        return raw + hash_bytes(LABEL_BACKUP_SUM, raw, BACKUP_SUM_BYTES)


def read_prefix(prefix: bytes) -> int:
    """How many bytes of the head follow its first PREFIX_BYTES.

    Raises:
        UpdateNeededError: a newer Cocoon wrote it.
        BackupDamagedError: it is no backup.
    """
    found = _ANY_VERSION.match(prefix)
    if found is not None and int(found[1]) > BACKUP_VERSION:
        raise UpdateNeededError(f"this backup is of version {int(found[1])}; install a newer Cocoon")
    if not prefix.startswith(MAGIC) or len(prefix) != PREFIX_BYTES:
        raise BackupDamagedError("this file is no backup of a Cocoon profile")
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    if length > MAX_BACKUP_HEAD_BYTES:
        raise BackupDamagedError("the head of this backup is damaged")
    return length + BACKUP_SUM_BYTES


def decode_head(raw: bytes) -> BackupHead:
    """Read a whole head.

    Raises:
        BackupDamagedError: it is damaged: its sum does not hold, or it is not what the spec says.
        UpdateNeededError: as `read_prefix`.
    """
    if len(raw) != PREFIX_BYTES + read_prefix(raw[:PREFIX_BYTES]):
        raise BackupDamagedError("this backup is cut off")
    body, total = raw[:-BACKUP_SUM_BYTES], raw[-BACKUP_SUM_BYTES:]
    if hash_bytes(LABEL_BACKUP_SUM, body, BACKUP_SUM_BYTES) != total:
        raise BackupDamagedError("the head of this backup is damaged")
    try:
        match decode(body[PREFIX_BYTES:]):
            case [int(ops), int(memory_kib), bytes(salt)] if (
                type(ops) is int
                and type(memory_kib) is int
                and len(salt) == ARGON2_SALT_BYTES
                and 0 < ops < 2**31
                and 0 < memory_kib < 2**31
            ):
                return BackupHead(ops, memory_kib, salt)
    except MalformedError:
        pass
    raise BackupDamagedError("the head of this backup is not one of this version")


class BackupKey:
    """What opens one backup: made from its stretched passphrase and its whole head."""

    __slots__ = ("_key", "commitment")

    def __init__(self, stretched: Secret, head: bytes) -> None:
        """`commitment` stands in the file: it tells a wrong passphrase, and binds the file to one key alone."""
        self.commitment = keyed_hash(stretched.reveal(), LABEL_BACKUP_COMMITMENT, head, BACKUP_COMMITMENT_BYTES)
        self._key = derive(stretched, LABEL_BACKUP_STREAM, head)

    def is_for(self, commitment: bytes) -> bool:
        """True where the file with that commitment was written under this key."""
        return constant_time_equal(commitment, self.commitment)

    def seal_chunk(self, number: int, data: bytes, *, last: bool) -> bytes:
        """The chunk at that place, counted from 0: ciphertext ‖ tag(16)."""
        return seal_bulk(self._key, _nonce(number, last), data, b"")

    def open_chunk(self, number: int, chunk: bytes, *, last: bool) -> bytes:
        """Undo `seal_chunk`.

        Args:
            last: nothing follows it in the file.

        Raises:
            BackupDamagedError: it was altered, stands in another place, or the file is cut off behind it.
        """
        try:
            return open_bulk(self._key, _nonce(number, last), chunk, b"")
        except DecryptionError:
            pass
        try:
            open_bulk(self._key, _nonce(number, not last), chunk, b"")
        except DecryptionError:
            raise BackupDamagedError(f"chunk {number} of this backup is damaged") from None
        raise BackupDamagedError(
            f"this backup is cut off after chunk {number}" if last else "something was added to this backup at its end"
        )


def _nonce(number: int, last: bool) -> bytes:
    """11 bytes of the place, and 1 if it is the last: no nonce serves twice under a key that is used for one file."""
    return number.to_bytes(11, "big") + bytes((last,))
