"""Sealing the database key under a passphrase. Implements specs/storage.md §2.

Argon2id stretches the passphrase, XChaCha20-Poly1305 seals the key under the result, and the cost stands in the
associated data. A cost under the floor is refused before anything is computed, whatever a file says.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import DecryptionError, ProfileDamagedError, UsageError, WrongPassphraseError
from cocoon_core.protocol.constants import (
    ARGON2_MAX_MEMORY_KIB,
    ARGON2_MAX_OPS,
    ARGON2_MEMORY_KIB,
    ARGON2_MIN_MEMORY_KIB,
    ARGON2_MIN_OPS,
    ARGON2_OPS,
    ARGON2_SALT_BYTES,
    LABEL_PROFILE_KEY,
    NONCE_BYTES,
    PROFILE_VERSION,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.primitives import Secret, argon2id, open_sealed, seal


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess at a passphrase costs: `ops` passes over `memory_kib` KiB."""

    ops: int = ARGON2_OPS
    memory_kib: int = ARGON2_MEMORY_KIB


COST_FLOOR: Final = Cost(ARGON2_MIN_OPS, ARGON2_MIN_MEMORY_KIB)
COST_CEILING: Final = Cost(ARGON2_MAX_OPS, ARGON2_MAX_MEMORY_KIB)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A database key under a passphrase: nothing here is secret by itself."""

    cost: Cost
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def require_cost(cost: Cost) -> None:
    """Refuse a cost under the floor, or one so great that it serves only to hang or to exhaust memory.

    Raises:
        UsageError: it names the floor.
    """
    if cost.ops < COST_FLOOR.ops or cost.memory_kib < COST_FLOOR.memory_kib:
        raise UsageError(
            f"a passphrase cost of {cost.ops} passes over {cost.memory_kib} KiB is under the floor of"
            f" {COST_FLOOR.ops} over {COST_FLOOR.memory_kib}"
        )
    if cost.ops > COST_CEILING.ops or cost.memory_kib > COST_CEILING.memory_kib:
        raise UsageError(f"a passphrase cost of {cost.ops} passes over {cost.memory_kib} KiB is too great")


def normalise_passphrase(passphrase: str) -> bytes:
    """UTF-8 of the NFC form, so that one passphrase typed on two systems is the same bytes.

    Raises:
        UsageError: it is empty, or is not text.
    """
    if not passphrase:
        raise UsageError("a passphrase may not be empty")
    try:
        return unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError as error:
        raise UsageError("a passphrase must be text: this one holds bytes that are not UTF-8") from error


def seal_key(key: Secret, passphrase: str, profile_id: bytes, cost: Cost) -> SealedKey:
    """Seal a database key with a fresh salt and nonce.

    Raises:
        UsageError: an empty passphrase, or a cost out of bounds.
    """
    require_cost(cost)
    salt, nonce = secrets.token_bytes(ARGON2_SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    stretched = argon2id(normalise_passphrase(passphrase), salt, cost.ops, cost.memory_kib)
    ciphertext = seal(stretched, nonce, key.reveal(), _associated_data(profile_id, cost, salt))
    return SealedKey(cost, salt, nonce, ciphertext)


def open_key(sealed: SealedKey, passphrase: str, profile_id: bytes) -> Secret:
    """Undo `seal_key`.

    Raises:
        ProfileDamagedError: the cost is out of bounds, so the file was not written by Cocoon.
        WrongPassphraseError: the passphrase is another one.
    """
    try:
        require_cost(sealed.cost)
    except UsageError as error:
        raise ProfileDamagedError(f"profile.key was changed: {error}") from error
    stretched = argon2id(normalise_passphrase(passphrase), sealed.salt, sealed.cost.ops, sealed.cost.memory_kib)
    ad = _associated_data(profile_id, sealed.cost, sealed.salt)
    try:
        return Secret(open_sealed(stretched, sealed.nonce, sealed.ciphertext, ad))
    except DecryptionError:
        # Without its cause: the user has one thing to mend, and the tag says no more than this.
        raise WrongPassphraseError from None


def _associated_data(profile_id: bytes, cost: Cost, salt: bytes) -> bytes:
    return LABEL_PROFILE_KEY.encode() + b"\0" + encode([PROFILE_VERSION, profile_id, cost.ops, cost.memory_kib, salt])
