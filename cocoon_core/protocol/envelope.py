"""The envelope: a sealed, padded value; all that a relay ever stores. Implements specs/envelope.md §4 and §5.

    envelope = nonce(24) ‖ XChaCha20-Poly1305(seal key, nonce, ad = label ‖ 0 ‖ topic, pad(value))
    nonce    = keyed BLAKE2b-192(nonce key, pad(value))

The nonce is computed from the plaintext and checked again on opening. So the same value sealed twice is the same
envelope (re-puts deduplicate; a restored disk cannot use a nonce on other bytes), and no envelope opens under two
epochs.
"""

from __future__ import annotations

from cocoon_core.errors import DecryptionError, MalformedError, UsageError
from cocoon_core.protocol.constants import (
    ENVELOPE_OVERHEAD,
    LABEL_ENVELOPE,
    LABEL_ENVELOPE_HASH,
    LABEL_ENVELOPE_NONCE,
    MAX_ENVELOPE_BYTES,
    NONCE_BYTES,
    PADDING_FLOOR,
)
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import EnvelopeHash
from cocoon_core.protocol.primitives import constant_time_equal, hash_bytes, keyed_hash, open_sealed, seal


def seal_envelope(value: bytes, keys: TopicKeys) -> bytes:
    """Seal one value for everyone who holds the topic's keys.

    Returns:
        The envelope, at least 296 bytes. It shows its length class and, to holders of the keys, whether two are equal.

    Raises:
        UsageError: the value is too long for an envelope.
    """
    padded = pad(value)
    if len(padded) + ENVELOPE_OVERHEAD > MAX_ENVELOPE_BYTES:
        raise UsageError(f"{len(value)} bytes do not fit into an envelope")
    nonce = keyed_hash(keys.nonce_key.reveal(), LABEL_ENVELOPE_NONCE, padded, NONCE_BYTES)
    return nonce + seal(keys.seal_key, nonce, padded, _ad(keys))


def open_envelope(envelope: bytes, keys: TopicKeys) -> bytes:
    """Undo `seal_envelope`. Proves that a holder of the topic's keys sealed it, not which.

    Raises:
        DecryptionError: another topic, any changed bit, or a nonce that is not the plaintext's.
        MalformedError: the padding is not the one permitted.
    """
    if not ENVELOPE_OVERHEAD + PADDING_FLOOR <= len(envelope) <= MAX_ENVELOPE_BYTES:
        raise DecryptionError(f"an envelope is not {len(envelope)} bytes")
    nonce = envelope[:NONCE_BYTES]
    padded = open_sealed(keys.seal_key, nonce, envelope[NONCE_BYTES:], _ad(keys))
    if not constant_time_equal(nonce, keyed_hash(keys.nonce_key.reveal(), LABEL_ENVELOPE_NONCE, padded, NONCE_BYTES)):
        raise DecryptionError("the nonce of an envelope is not that of its plaintext")
    return unpad(padded)


def envelope_hash(envelope: bytes) -> EnvelopeHash:
    """The name under which outbox and relay know an envelope."""
    return EnvelopeHash(hash_bytes(LABEL_ENVELOPE_HASH, envelope))


def padded_size(length: int) -> int:
    """The length class of a value: Padmé over value and end mark, 256 at least. At most 12 % more than the value."""
    needed = length + 1
    if needed <= PADDING_FLOOR:
        return PADDING_FLOOR
    exponent = needed.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (needed + mask) & ~mask


def pad(value: bytes) -> bytes:
    """Value ‖ 0x80 ‖ zeros, up to its length class."""
    return (value + b"\x80").ljust(padded_size(len(value)), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo `pad`, taking no other padding than the one it makes.

    Raises:
        MalformedError: any other.
    """
    value = padded.rstrip(b"\0")
    if not value.endswith(b"\x80") or padded_size(len(value) - 1) != len(padded):
        raise MalformedError("the padding of an envelope is not the permitted one")
    return value[:-1]


def _ad(keys: TopicKeys) -> bytes:
    return LABEL_ENVELOPE.encode() + b"\0" + keys.topic
