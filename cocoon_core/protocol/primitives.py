"""The cryptographic operations, and the only importer of nacl and cryptography. Implements specs/conventions.md §4
and §5.

One suite, always: BLAKE2b, Ed25519, XChaCha20-Poly1305 (libsodium), ChaCha20-Poly1305 and SHA-256 for bulk data, and
HPKE with MLKEM768-X25519, HKDF-SHA256 and ChaCha20-Poly1305. Every call names its label; no two uses share one.
Keys arrive as arguments; nothing here makes randomness except HPKE's own ephemeral keys.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import nacl.bindings as sodium
import nacl.exceptions
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from cocoon_core.errors import DecryptionError, LocalStateError, MalformedError, SignatureError
from cocoon_core.protocol.constants import LABEL_HPKE_MLKEM, LABEL_HPKE_X25519, LABEL_SECRET_HASH
from cocoon_core.protocol.ids import HpkePublicKey, Signature

_MLKEM_PUBLIC: Final = 1184
_MLKEM_SEED: Final = 64
_HPKE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


class Secret:
    """Key material that neither prints nor pickles. `reveal` is for primitives and the key store alone."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes, length: int = 32) -> None:
        if len(raw) != length:
            raise MalformedError(f"a secret is {length} bytes, not {len(raw)}")
        self._raw = bytes(raw)

    def reveal(self) -> bytes:
        return self._raw

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and constant_time_equal(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(hash_bytes(LABEL_SECRET_HASH, self._raw))

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


# --- hashing and derivation


@lru_cache(maxsize=128)
def _person(label: str) -> bytes:
    return hashlib.blake2b(label.encode(), digest_size=16).digest()


def hash_bytes(label: str, data: bytes, size: int = 32) -> bytes:
    """BLAKE2b of `size` bytes over data, personalised with BLAKE2b-128(label)."""
    return hashlib.blake2b(data, digest_size=size, person=_person(label)).digest()


def make_hasher(label: str, size: int = 32) -> Callable[[bytes], bytes]:
    """`hash_bytes` of one size under one label, for where thousands are made."""
    begun = hashlib.blake2b(digest_size=size, person=_person(label))

    def hash_one(data: bytes) -> bytes:
        hasher = begun.copy()
        hasher.update(data)
        return hasher.digest()

    return hash_one


def keyed_hash(key: bytes, label: str, data: bytes, size: int = 32) -> bytes:
    """BLAKE2b as above, keyed with 32 bytes: a PRF and a key derivation."""
    return hashlib.blake2b(data, digest_size=size, key=key, person=_person(label)).digest()


def derive(secret: Secret, label: str, context: bytes = b"") -> Secret:
    """Another secret of 32 bytes. Knowing it says nothing of the first, nor of those under other labels."""
    return Secret(keyed_hash(secret.reveal(), label, context))


def argon2id(passphrase: bytes, salt: bytes, ops: int, memory_kib: int) -> Secret:
    """Stretch a passphrase into a secret of 32 bytes: Argon2id 1.3, one lane, `ops` passes over `memory_kib` KiB.

    It makes guessing dear, not impossible: the secret is as strong as the passphrase times this cost.

    Raises:
        MalformedError: a salt that is not 16 bytes, or a cost that Argon2id does not have.
        LocalStateError: this machine cannot give that much memory.
    """
    try:
        raw = sodium.crypto_pwhash_alg(
            32, passphrase, salt, ops, memory_kib * 1024, sodium.crypto_pwhash_ALG_ARGON2ID13
        )
    except nacl.exceptions.RuntimeError as error:
        raise LocalStateError(f"there are no {memory_kib} KiB of memory to stretch a passphrase in") from error
    except (nacl.exceptions.ValueError, nacl.exceptions.TypeError) as error:
        raise MalformedError(f"not a salt and cost of Argon2id: {len(salt)} bytes, {ops}, {memory_kib} KiB") from error
    return Secret(raw)


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def constant_time_equal(left: bytes, right: bytes) -> bool:
    return hmac.compare_digest(left, right)


# --- signatures


def _labelled(label: str, message: bytes) -> bytes:
    return label.encode() + b"\0" + message


class SigningKey:
    """An Ed25519 key pair made from a 32-byte seed."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: Secret) -> None:
        public, secret = sodium.crypto_sign_seed_keypair(seed.reveal())
        self._secret: bytes = secret
        self.public: bytes = public

    def sign(self, label: str, message: bytes) -> Signature:
        """Sign label ‖ 0x00 ‖ message. Deterministic: the same message has one signature."""
        return Signature(sodium.crypto_sign(_labelled(label, message), self._secret)[:64])

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()[:12]}…, hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


def verify(public: bytes, label: str, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature (libsodium's rules: canonical, no small-order key).

    Raises:
        SignatureError: it does not hold.
    """
    if len(public) != 32 or len(signature) != 64:
        raise SignatureError(f"a key of {len(public)} and a signature of {len(signature)} bytes cannot match")
    try:
        sodium.crypto_sign_open(signature + _labelled(label, message), public)
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise SignatureError("the signature does not hold") from error


def require_good_signing_key(public: bytes) -> None:
    """Refuse an Ed25519 key of small or mixed order, or not canonical: its signatures would not bind.

    Raises:
        MalformedError: such a key.
    """
    if len(public) != 32 or not sodium.crypto_core_ed25519_is_valid_point(public):
        raise MalformedError("not a public key of the prime-order group")


# --- sealing


def seal(key: Secret, nonce: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """XChaCha20-Poly1305-IETF: ciphertext ‖ tag(16). The caller sees to it that a nonce never serves two plaintexts.

    Not key-committing by itself; see specs/envelope.md §4 for what makes the envelope so.
    """
    return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, ad, nonce, key.reveal())


def open_sealed(key: Secret, nonce: bytes, ciphertext: bytes, ad: bytes) -> bytes:
    """Undo `seal`.

    Raises:
        DecryptionError: another key, nonce or associated data, or any changed bit.
    """
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, ad, nonce, key.reveal())
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise DecryptionError(f"{len(ciphertext)} bytes do not open under this key") from error


def seal_bulk(key: Secret, nonce: bytes, plaintext: bytes | bytearray | memoryview, ad: bytes) -> bytes:
    """ChaCha20-Poly1305-IETF (12-byte nonce) for chunks of files. Other threads run meanwhile."""
    return ChaCha20Poly1305(key.reveal()).encrypt(nonce, plaintext, ad)


def seal_bulk_into(
    key: Secret, nonce: bytes, plaintext: bytes | bytearray | memoryview, ad: bytes, out: memoryview
) -> None:
    """`seal_bulk` into memory that the caller has, 16 bytes longer than the plaintext: no page of it is made anew."""
    ChaCha20Poly1305(key.reveal()).encrypt_into(nonce, plaintext, ad, out)


def open_bulk_into(
    key: Secret, nonce: bytes, ciphertext: bytes | bytearray | memoryview, ad: bytes, out: memoryview
) -> None:
    """`open_bulk` into memory that the caller has, 16 bytes shorter than the ciphertext. What a failure leaves there is
    nothing to use.

    Raises:
        DecryptionError: as `open_bulk`.
    """
    try:
        ChaCha20Poly1305(key.reveal()).decrypt_into(nonce, ciphertext, ad, out)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError(f"{len(ciphertext)} bytes do not open under this key") from error


def open_bulk(key: Secret, nonce: bytes, ciphertext: bytes | bytearray | memoryview, ad: bytes) -> bytes:
    """Undo `seal_bulk`.

    Raises:
        DecryptionError: another key, nonce or associated data, or any changed bit.
    """
    try:
        return ChaCha20Poly1305(key.reveal()).decrypt(nonce, ciphertext, ad)
    except (InvalidTag, ValueError) as error:
        raise DecryptionError(f"{len(ciphertext)} bytes do not open under this key") from error


# --- wrapping to one reader


class HpkeKey:
    """An MLKEM768-X25519 key pair made from a 32-byte seed: secure while either of the two is."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: Secret) -> None:
        mlkem_seed = keyed_hash(seed.reveal(), LABEL_HPKE_MLKEM, b"", _MLKEM_SEED)
        x25519_seed = keyed_hash(seed.reveal(), LABEL_HPKE_X25519, b"")
        mlkem_private = mlkem.MLKEM768PrivateKey.from_seed_bytes(mlkem_seed)
        x25519_private = x25519.X25519PrivateKey.from_private_bytes(x25519_seed)
        self._private = hpke.MLKEM768X25519PrivateKey(mlkem_private, x25519_private)
        self.public = HpkePublicKey(
            mlkem_private.public_key().public_bytes_raw() + x25519_private.public_key().public_bytes_raw()
        )

    def open(self, ciphertext: bytes, info: bytes) -> bytes:
        """Open what `wrap` made for this key.

        Raises:
            DecryptionError: it was made for another key or info, or was changed.
        """
        try:
            return _HPKE.decrypt(ciphertext, self._private, info=info)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError(f"a wrap of {len(ciphertext)} bytes does not open") from error

    def __repr__(self) -> str:
        return f"HpkeKey({self.public.hex()[:12]}…, hidden)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


def wrap(public: HpkePublicKey, plaintext: bytes, info: bytes) -> bytes:
    """Seal for the holder of one HPKE key. Says nothing of who sealed it. 1136 bytes longer than the plaintext.

    Raises:
        MalformedError: the key is not one of this suite.
    """
    key = _hpke_public(public)
    try:
        return _HPKE.encrypt(plaintext, key, info=info)
    except ValueError as error:  # an X25519 part of small order has no shared secret
        raise MalformedError("not an HPKE key of this suite") from error


def require_good_hpke_key(public: HpkePublicKey) -> None:
    """Refuse a key whose ML-KEM part is not canonical or whose X25519 part is of small order.

    Raises:
        MalformedError: such a key.
    """
    _hpke_public(public)
    probe = x25519.X25519PrivateKey.from_private_bytes(b"\x01" * 32)
    try:
        probe.exchange(x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]))
    except ValueError as error:
        raise MalformedError("an X25519 key of small order") from error


def _hpke_public(public: HpkePublicKey) -> hpke.MLKEM768X25519PublicKey:
    try:
        mlkem_public = mlkem.MLKEM768PublicKey.from_public_bytes(bytes(public[:_MLKEM_PUBLIC]))
        x25519_public = x25519.X25519PublicKey.from_public_bytes(bytes(public[_MLKEM_PUBLIC:]))
    except ValueError as error:
        raise MalformedError("not an HPKE key of this suite") from error
    return hpke.MLKEM768X25519PublicKey(mlkem_public, x25519_public)
