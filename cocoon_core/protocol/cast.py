"""The cast: a live message to whoever has the topic open now, which nobody stores. Implements specs/beacon.md §5.

    cast = nonce(24) ‖ XChaCha20-Poly1305(cast key, nonce, ad = label ‖ 0 ‖ topic, value ‖ 80 ‖ zeros)

What a device has is signed by nobody: whoever holds the epoch's secret can make such a cast, and a relay can repeat or
drop it. So it is a hint of where to look, and nothing else. That somebody is here or typing (specs/people.md §4) is
signed, since it is shown to people beside a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import DecryptionError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.beacon import Ends, read_ends
from cocoon_core.protocol.constants import (
    CAST_DIGEST_BYTES,
    CAST_ENDS_BYTES,
    ENVELOPE_OVERHEAD,
    LABEL_CAST,
    LABEL_PRESENCE,
    MAX_CAST_ENDS,
    MAX_TIME_MS,
    NONCE_BYTES,
)
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import DeviceId, FrontierDigest, Signature
from cocoon_core.protocol.operation_forms import require_integer
from cocoon_core.protocol.primitives import SigningKey, open_sealed, seal, verify

CAST_VERSION: Final = 1
PLACE_BYTES: Final = 16  # of the id of a post (specs/feed.md §2)


@dataclass(frozen=True, slots=True)
class DigestCast:
    """A device's frontier, as its digest."""

    digest: FrontierDigest


@dataclass(frozen=True, slots=True)
class EndsCast:
    """Where it has the newest entries from: the ends of the devices that wrote last."""

    ends: Ends


@dataclass(frozen=True, slots=True)
class PresenceCast:
    """A device's word that its member is here, or typing. `sign_presence` makes one, and `open_cast`, which verifies.

    Attributes:
        time_ms: by the device's clock; of one device they rise, so that none counts twice.
        typing: where: the id of the post whose thread it is, or nothing for the feed. None: here, and not typing.
    """

    device: DeviceId
    time_ms: int
    typing: bytes | None
    signature: Signature

    def to_value(self) -> list[Any]:
        return [*_signed_value(self.device, self.time_ms, self.typing), self.signature]


CastValue = DigestCast | EndsCast | PresenceCast


def sign_presence(key: SigningKey, epoch: Epoch, time_ms: int, typing: bytes | None = None) -> PresenceCast:
    """What a device casts while its member is there. Whoever holds the epoch's secret can prove that it was signed."""
    device = DeviceId(key.public)
    return PresenceCast(device, time_ms, typing, key.sign(LABEL_PRESENCE, _signed(epoch, device, time_ms, typing)))


def seal_cast(value: CastValue, epoch: Epoch, nonce: bytes) -> bytes:
    """Seal a cast for everyone in the epoch: 4,096 bytes for ends, 296 for all others, whatever is in it.

    Args:
        nonce: 24 random bytes.
    """
    match value:
        case DigestCast(digest):
            plain, size = encoding.encode([CAST_VERSION, "digest", digest]), CAST_DIGEST_BYTES
        case EndsCast(ends):
            listed = [[device, *ends[device]] for device in sorted(ends)]
            plain, size = encoding.encode([CAST_VERSION, "ends", listed]), CAST_ENDS_BYTES
        case PresenceCast():
            plain, size = encoding.encode(value.to_value()), CAST_DIGEST_BYTES
    return nonce + seal(epoch.cast_key, nonce, (plain + b"\x80").ljust(size, b"\0"), _ad(epoch))


def open_cast(cast: bytes, epoch: Epoch) -> CastValue:
    """Undo `seal_cast`. Proves that somebody in the epoch made it once, not who or when; of presence also which device.

    Raises:
        DecryptionError: another epoch or size, or any changed bit.
        MalformedError: what is inside is no cast of this version.
        SignatureError: it says of a device that it is here, and that device did not sign it for this epoch.
    """
    if len(cast) - ENVELOPE_OVERHEAD not in (CAST_DIGEST_BYTES, CAST_ENDS_BYTES):
        raise DecryptionError(f"a cast is not {len(cast)} bytes")
    padded = open_sealed(epoch.cast_key, cast[:NONCE_BYTES], cast[NONCE_BYTES:], _ad(epoch))
    value = padded.rstrip(b"\0")
    if not value.endswith(b"\x80"):
        raise MalformedError("the padding of a cast does not end")
    is_small = len(padded) == CAST_DIGEST_BYTES
    match encoding.decode(value[:-1]):
        case [1, "digest", bytes() as digest] if is_small:
            return DigestCast(FrontierDigest(digest))
        case [1, "ends", list() as ends] if not is_small:
            return EndsCast(read_ends(ends, MAX_CAST_ENDS))
        case [1, "here", bytes() as device, int() as time_ms, bytes() as signature] if is_small:
            return _verified(epoch, DeviceId(device), time_ms, None, Signature(signature))
        case [1, "typing", bytes() as device, int() as time_ms, bytes() as place, bytes() as signature] if is_small:
            if len(place) not in (0, PLACE_BYTES):
                raise MalformedError("where somebody types is the id of a post, or nothing")
            return _verified(epoch, DeviceId(device), time_ms, place, Signature(signature))
    raise MalformedError("a cast is a digest, ends, here or typing, each of its size")


def _verified(epoch: Epoch, device: DeviceId, time_ms: int, typing: bytes | None, signature: Signature) -> PresenceCast:
    require_integer(time_ms, 0, MAX_TIME_MS, "the time of a cast")
    verify(device, LABEL_PRESENCE, _signed(epoch, device, time_ms, typing), signature)
    return PresenceCast(device, time_ms, typing, signature)


def _signed(epoch: Epoch, device: DeviceId, time_ms: int, typing: bytes | None) -> bytes:
    return epoch.topic + encoding.encode(_signed_value(device, time_ms, typing))


def _signed_value(device: DeviceId, time_ms: int, typing: bytes | None) -> list[Any]:
    if typing is None:
        return [CAST_VERSION, "here", device, time_ms]
    return [CAST_VERSION, "typing", device, time_ms, typing]


def _ad(epoch: Epoch) -> bytes:
    return LABEL_CAST.encode() + b"\0" + epoch.topic
