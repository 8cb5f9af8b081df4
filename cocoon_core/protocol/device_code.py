"""The code that a new device shows, and what comes from its secret. Implements specs/device-link.md §1.

Whoever has the code can talk to the new device as if they were the old one, and the other way round, but for the words
that both screens show (device_link.py). It holds no key of a group.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from cocoon_core.errors import InvalidLinkError, MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_DEVICE_CODE_CHECK,
    LABEL_EPOCH_NONCE,
    LABEL_EPOCH_SEAL,
    LABEL_EPOCH_TOPIC,
    LABEL_LINK_MAILBOX,
    VERSION,
)
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.invite import require_relays
from cocoon_core.protocol.primitives import Secret, constant_time_equal, derive, hash_bytes

CODE_PREFIX: Final = "cocoon-device:"
_CHECK_BYTES: Final = 4
_MAX_CODE: Final = 4096  # characters
_NOT_WHOLE: Final = "this is not a whole device code; copy it again, from `cocoon-device:` to its last character"


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What the new device shows: a fresh secret and the relays at which it waits."""

    secret: Secret = field(repr=False)
    relays: tuple[str, ...]

    def mailbox(self) -> TopicKeys:
        """The topic where the two devices meet."""
        secret = derive(self.secret, LABEL_LINK_MAILBOX)
        return TopicKeys(
            derive(secret, LABEL_EPOCH_TOPIC), derive(secret, LABEL_EPOCH_SEAL), derive(secret, LABEL_EPOCH_NONCE)
        )


def write_code(code: DeviceCode) -> str:
    """The code as text: `cocoon-device:` and base64url of CBOR [version, secret, relays] and a 4-byte check."""
    payload = encoding.encode([VERSION, code.secret.reveal(), list(code.relays)])
    return CODE_PREFIX + _to_base64(payload + _check(payload))


def read_code(text: str) -> DeviceCode:
    """Read a code, as scanned or pasted: white space anywhere in it does no harm.

    Raises:
        InvalidLinkError: not a code, or not all of it.
    """
    text = "".join(text.split())
    if not text.startswith(CODE_PREFIX) or len(text) > _MAX_CODE:
        if text.startswith("cocoon:"):
            raise InvalidLinkError("this is a link into a group, not the code of a device: `cocoon join` takes it")
        raise InvalidLinkError(_NOT_WHOLE)
    encoded = text[len(CODE_PREFIX) :]
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        payload, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if _to_base64(raw) != encoded or not constant_time_equal(check, _check(payload)):
            raise InvalidLinkError(_NOT_WHOLE)
        match encoding.decode(payload):
            case [int() as version, bytes() as secret, list() as relays] if version is not True and version == VERSION:
                return DeviceCode(Secret(secret), require_relays(relays))
            case [int() as version, *_] if version > VERSION:
                raise InvalidLinkError("this code was made by a newer Cocoon; install that version on this device too")
    except (binascii.Error, ValueError, MalformedError) as error:
        raise InvalidLinkError(_NOT_WHOLE) from error
    raise InvalidLinkError(_NOT_WHOLE)


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _check(payload: bytes) -> bytes:
    return hash_bytes(LABEL_DEVICE_CODE_CHECK, payload, _CHECK_BYTES)
