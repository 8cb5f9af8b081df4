"""`profile.key`: how the database key of a profile is kept. Implements specs/storage.md §2.

The file holds no key in the clear: it names the profile, and either says that the key is in the key ring or carries
it sealed under a passphrase. Its check tells a damaged file from a wrong passphrase; it is no protection, for whoever
edits the file can make a new one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cocoon_core.errors import MalformedError, ProfileDamagedError, UpdateNeededError
from cocoon_core.protocol.constants import (
    ARGON2_SALT_BYTES,
    LABEL_PROFILE_CHECK,
    NONCE_BYTES,
    PROFILE_ID_BYTES,
    PROFILE_VERSION,
    TAG_BYTES,
)
from cocoon_core.protocol.primitives import hash_bytes
from cocoon_core.storage.passphrase import Cost, SealedKey

_IN_KEY_RING = "key_ring"
_UNDER_PASSPHRASE = "passphrase"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A profile's id and its sealed key; None where the key is in the key ring."""

    profile_id: bytes
    sealed: SealedKey | None


def encode_key_file(key_file: KeyFile) -> bytes:
    """The bytes of `profile.key`: JSON, and byte strings in hexadecimal."""
    fields: dict[str, Any] = {"version": PROFILE_VERSION, "profile": key_file.profile_id.hex()}
    sealed = key_file.sealed
    if sealed is None:
        fields["kept"] = _IN_KEY_RING
    else:
        fields |= {
            "kept": _UNDER_PASSPHRASE,
            "ops": sealed.cost.ops,
            "memory_kib": sealed.cost.memory_kib,
            "salt": sealed.salt.hex(),
            "nonce": sealed.nonce.hex(),
            "sealed": sealed.ciphertext.hex(),
        }
    fields["check"] = compute_check(fields)
    return json.dumps(fields, indent=1).encode() + b"\n"


def decode_key_file(data: bytes) -> KeyFile:
    """Read `profile.key`.

    Raises:
        ProfileDamagedError: it is not such a file, or was changed.
        UpdateNeededError: a newer Cocoon wrote it.
    """
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise MalformedError("not an object")
        version = _take_number(fields, "version")
        if version > PROFILE_VERSION:
            raise UpdateNeededError(f"profile.key is of version {version}; install a newer Cocoon")
        if fields.get("check") != compute_check(fields):
            raise MalformedError("its check does not hold")
        return _build(fields)
    except (MalformedError, ValueError, RecursionError) as error:
        raise ProfileDamagedError(f"profile.key is damaged: {_reason(error)}") from error


def compute_check(fields: dict[str, Any]) -> str:
    """BLAKE2b-128 over the other fields, as JSON with sorted keys and no spaces, in hexadecimal."""
    rest = {name: value for name, value in fields.items() if name != "check"}
    return hash_bytes(LABEL_PROFILE_CHECK, json.dumps(rest, sort_keys=True, separators=(",", ":")).encode(), 16).hex()


def _build(fields: dict[str, Any]) -> KeyFile:
    if fields["version"] != PROFILE_VERSION:
        raise MalformedError("an unknown version")
    profile_id = _take_bytes(fields, "profile", PROFILE_ID_BYTES)
    if fields.get("kept") == _IN_KEY_RING:
        return KeyFile(profile_id, None)
    if fields.get("kept") != _UNDER_PASSPHRASE:
        raise MalformedError("it does not say how the key is kept")
    sealed = SealedKey(
        Cost(_take_number(fields, "ops"), _take_number(fields, "memory_kib")),
        _take_bytes(fields, "salt", ARGON2_SALT_BYTES),
        _take_bytes(fields, "nonce", NONCE_BYTES),
        _take_bytes(fields, "sealed", 32 + TAG_BYTES),
    )
    return KeyFile(profile_id, sealed)


def _take_number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < 2**31:
        raise MalformedError(f"{name} is not a number")
    return value


def _take_bytes(fields: dict[str, Any], name: str, length: int) -> bytes:
    value = fields.get(name)
    raw = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(raw) != length:
        raise MalformedError(f"{name} is not {length} bytes")
    return raw


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MalformedError) else "it cannot be read"
