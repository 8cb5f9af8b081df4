"""The database key in the key ring of the operating system. Implements specs/storage.md §2.

Only key rings that are known to encrypt are used: Secret Service and KWallet, the Keychain of macOS, the Credential
Manager of Windows. Anything else that `keyring` may find (files in the clear, null, none) is refused, for what an
unknown one does with a secret cannot be judged from here. `keyring` is imported when first needed, never before.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from cocoon_core.errors import MalformedError, NoKeyRingError, ProfileDamagedError
from cocoon_core.protocol.primitives import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE: Final = "cocoon-sync"
SAFE_BACKENDS: Final = frozenset(
    {
        "keyring.backends.SecretService",
        "keyring.backends.libsecret",
        "keyring.backends.kwallet",
        "keyring.backends.macOS",
        "keyring.backends.Windows",
    }
)
_CHAINER: Final = "keyring.backends.chainer"
_ADVICE: Final = "set COCOON_PASSPHRASE, and the profile is sealed under it instead"


def require_key_ring() -> KeyringBackend:
    """The key ring of this system.

    Raises:
        NoKeyRingError: there is none, or one that stores in the clear, or one that is not known to encrypt.
    """
    try:
        import keyring

        backend = keyring.get_keyring()
        chain = list(getattr(backend, "backends", [])) if type(backend).__module__ == _CHAINER else [backend]
        unsafe = [one for one in chain if not _is_safe(one)]
    except Exception as error:
        raise NoKeyRingError(f"the key ring fails ({type(error).__name__}): {_ADVICE}") from error
    if unsafe or not chain:
        names = ", ".join(f"{type(one).__module__}.{type(one).__qualname__}" for one in unsafe)
        raise NoKeyRingError(f"there is no safe key ring here ({names or 'none'}): {_ADVICE}")
    return backend


def store_key(profile_id: bytes, key: Secret) -> None:
    """Put a database key into the key ring, and make sure that it is there.

    Raises:
        NoKeyRingError: there is no safe key ring, or it does not keep what it is given.
    """
    backend = require_key_ring()
    try:
        backend.set_password(SERVICE, profile_id.hex(), key.reveal().hex())
        kept = backend.get_password(SERVICE, profile_id.hex()) == key.reveal().hex()
    except Exception as error:
        raise NoKeyRingError(f"the key ring fails ({type(error).__name__}): {_ADVICE}") from error
    if not kept:
        raise NoKeyRingError(f"the key ring does not keep what it is given: {_ADVICE}")


def load_key(profile_id: bytes) -> Secret:
    """Take a database key from the key ring.

    Raises:
        NoKeyRingError: there is no safe key ring, it is locked, or it has no key for this profile.
        ProfileDamagedError: what it has is not a key.
    """
    backend = require_key_ring()
    try:
        text = backend.get_password(SERVICE, profile_id.hex())
    except Exception as error:
        raise NoKeyRingError(f"the key ring fails ({type(error).__name__}): unlock it and try again") from error
    if text is None:
        raise NoKeyRingError(f"the key of this profile is not in this key ring ({SERVICE}, {profile_id.hex()})")
    try:
        return Secret(bytes.fromhex(text))
    except (ValueError, MalformedError) as error:
        raise ProfileDamagedError(f"the key ring holds no key under {SERVICE}, {profile_id.hex()}") from error


def forget_key(profile_id: bytes) -> bool:
    """Remove a database key from the key ring, if it can be done: a key left there opens only what is on this disk.

    Returns:
        Whether it is gone, as far as the key ring says.
    """
    with contextlib.suppress(Exception):
        backend = require_key_ring()
        with contextlib.suppress(Exception):
            backend.delete_password(SERVICE, profile_id.hex())
        return backend.get_password(SERVICE, profile_id.hex()) is None
    return False


def _is_safe(backend: KeyringBackend) -> bool:
    return type(backend).__module__ in SAFE_BACKENDS and backend.priority >= 1
