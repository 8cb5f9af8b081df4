"""The cast: a live message to whoever has the topic open now, which nobody stores. Implements specs/beacon.md §5.

    cast = nonce(24) ‖ XChaCha20-Poly1305(cast key, nonce, ad = label ‖ 0 ‖ topic, value ‖ 80 ‖ zeros)

It is signed by nobody: whoever holds the epoch's secret can make one, and a relay can repeat or drop it. So what it
says is a hint of where to look, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import DecryptionError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.beacon import Ends, read_ends
from cocoon_core.protocol.constants import (
    CAST_DIGEST_BYTES,
    CAST_ENDS_BYTES,
    ENVELOPE_OVERHEAD,
    LABEL_CAST,
    MAX_CAST_ENDS,
    NONCE_BYTES,
)
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import FrontierDigest
from cocoon_core.protocol.primitives import open_sealed, seal

CAST_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class DigestCast:
    """A device's frontier, as its digest."""

    digest: FrontierDigest


@dataclass(frozen=True, slots=True)
class EndsCast:
    """Where it has the newest entries from: the ends of the devices that wrote last."""

    ends: Ends


CastValue = DigestCast | EndsCast


def seal_cast(value: CastValue, epoch: Epoch, nonce: bytes) -> bytes:
    """Seal a cast for everyone in the epoch: 296 bytes for a digest, 4,096 for ends, whatever is in it.

    Args:
        nonce: 24 random bytes.
    """
    match value:
        case DigestCast(digest):
            plain, size = encoding.encode([CAST_VERSION, "digest", digest]), CAST_DIGEST_BYTES
        case EndsCast(ends):
            listed = [[device, *ends[device]] for device in sorted(ends)]
            plain, size = encoding.encode([CAST_VERSION, "ends", listed]), CAST_ENDS_BYTES
    return nonce + seal(epoch.cast_key, nonce, (plain + b"\x80").ljust(size, b"\0"), _ad(epoch))


def open_cast(cast: bytes, epoch: Epoch) -> CastValue:
    """Undo `seal_cast`. Proves that somebody in the epoch made it once, not who or when.

    Raises:
        DecryptionError: another epoch or size, or any changed bit.
        MalformedError: what is inside is no cast of this version.
    """
    if len(cast) - ENVELOPE_OVERHEAD not in (CAST_DIGEST_BYTES, CAST_ENDS_BYTES):
        raise DecryptionError(f"a cast is not {len(cast)} bytes")
    padded = open_sealed(epoch.cast_key, cast[:NONCE_BYTES], cast[NONCE_BYTES:], _ad(epoch))
    value = padded.rstrip(b"\0")
    if not value.endswith(b"\x80"):
        raise MalformedError("the padding of a cast does not end")
    match encoding.decode(value[:-1]):
        case [1, "digest", bytes() as digest] if len(padded) == CAST_DIGEST_BYTES:
            return DigestCast(FrontierDigest(digest))
        case [1, "ends", list() as ends] if len(padded) == CAST_ENDS_BYTES:
            return EndsCast(read_ends(ends, MAX_CAST_ENDS))
    raise MalformedError('a cast is [1, "digest", digest] or [1, "ends", ends], each of its size')


def _ad(epoch: Epoch) -> bytes:
    return LABEL_CAST.encode() + b"\0" + epoch.topic
