"""How devices of a group recognise each other on a local network, and nobody else does. Implements specs/lan.md §2.

    lan key = derive(epoch secret, "cocoon/v1/lan")
    token   = keyed hash(lan key, "cocoon/v1/lan-token", slot(8) ‖ instance(16) ‖ port(2))       8 bytes

An announcement carries a token for each epoch that its device would be found by, among random ones. A token serves for
one hour, one start of the program and one port: seen again elsewhere it matches nothing. It proves nothing either,
since whoever hears it can say it again; what counts is proved to the relay behind it, and by all that comes from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import MalformedError, UsageError
from cocoon_core.protocol.constants import (
    LABEL_LAN,
    LABEL_LAN_TOKEN,
    LAN_INSTANCE_BYTES,
    LAN_SLOT_SECONDS,
    LAN_TOKEN_BYTES,
    LAN_TOKENS_A_STRING,
    MAX_LAN_STRINGS,
)
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.primitives import Secret, derive, keyed_hash

SERVICE_TYPE: Final = "_cocoon._tcp.local."
MOST_TOKENS: Final = LAN_TOKENS_A_STRING * MAX_LAN_STRINGS
_VERSION_KEY: Final = b"v"
_VERSION: Final = b"1"
_STRING_BYTES: Final = LAN_TOKENS_A_STRING * LAN_TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class Instance:
    """One start of a program that announces itself: 16 random bytes, and the port that it listens at."""

    nonce: bytes
    port: int

    def __post_init__(self) -> None:
        if len(self.nonce) != LAN_INSTANCE_BYTES or not 0 < self.port <= 0xFFFF:
            raise MalformedError("an instance is 16 bytes and a port")

    @property
    def name(self) -> str:
        """Its name in DNS: 32 digits of lower-case hex."""
        return self.nonce.hex()


def read_instance(name: str, port: int) -> Instance:
    """The instance that announces itself under a name.

    Raises:
        MalformedError: nobody who follows the specification has such a name or port.
    """
    try:
        nonce = bytes.fromhex(name)
    except ValueError as error:
        raise MalformedError("the name of an instance is 32 digits of hex") from error
    if nonce.hex() != name:
        raise MalformedError("the name of an instance is 32 digits of lower-case hex")
    return Instance(nonce, port)


def slot_of(now_ms: int) -> int:
    """The hour that a time lies in."""
    return now_ms // (1000 * LAN_SLOT_SECONDS)


def lan_key(epoch: Epoch) -> Secret:
    """What tokens of an epoch are made with. It opens and proves nothing else."""
    return derive(epoch.secret, LABEL_LAN)


def make_token(key: Secret, slot: int, instance: Instance) -> bytes:
    """The token of one epoch, hour and instance."""
    value = slot.to_bytes(8) + instance.nonce + instance.port.to_bytes(2)
    return keyed_hash(key.reveal(), LABEL_LAN_TOKEN, value, LAN_TOKEN_BYTES)


def make_announcement(keys: Sequence[Secret], slot: int, instance: Instance, filling: bytes) -> dict[bytes, bytes]:
    """The TXT record of an instance: tokens and random fill, by rising value, in as few full strings as hold them.

    Args:
        keys: of the epochs, the most wanted first; beyond MOST_TOKENS the last are left out.
        filling: MOST_TOKENS × 8 random bytes, fresh for each announcement.

    Raises:
        UsageError: too little filling.
    """
    if len(filling) < MOST_TOKENS * LAN_TOKEN_BYTES:
        raise UsageError("an announcement is filled with fresh random bytes")
    real = {make_token(key, slot, instance) for key in keys[:MOST_TOKENS]}
    strings = max(1, -(-len(real) // LAN_TOKENS_A_STRING))
    tokens = set(real)
    for at in range(0, len(filling), LAN_TOKEN_BYTES):
        if len(tokens) == strings * LAN_TOKENS_A_STRING:
            break
        tokens.add(filling[at : at + LAN_TOKEN_BYTES])
    joined = b"".join(sorted(tokens))
    record = {_VERSION_KEY: _VERSION}
    for number, at in enumerate(range(0, len(joined), _STRING_BYTES)):
        record[b"t%d" % number] = joined[at : at + _STRING_BYTES]
    return record


def read_announcement(record: Mapping[bytes, bytes | None]) -> frozenset[bytes]:
    """The tokens in a TXT record. Keys that are not named in the specification are passed over.

    Raises:
        MalformedError: it is none of this version.
    """
    if record.get(_VERSION_KEY) != _VERSION:
        raise MalformedError("an announcement of another version, or none")
    tokens: list[bytes] = []
    for number in range(MAX_LAN_STRINGS):
        string = record.get(b"t%d" % number)
        if string is None:
            break
        if len(string) != _STRING_BYTES:
            raise MalformedError(f"a string of an announcement holds {LAN_TOKENS_A_STRING} tokens")
        tokens += (string[at : at + LAN_TOKEN_BYTES] for at in range(0, _STRING_BYTES, LAN_TOKEN_BYTES))
    if not tokens:
        raise MalformedError("an announcement has a token at least")
    if tokens != sorted(set(tokens)):
        raise MalformedError("the tokens of an announcement do not rise")
    return frozenset(tokens)


def recognise(tokens: frozenset[bytes], keys: Iterable[Secret], slot: int, instance: Instance) -> list[int]:
    """Which of these keys an announcement has a token of, by their places. Clocks may be an hour apart."""
    return [
        place
        for place, key in enumerate(keys)
        if any(make_token(key, near, instance) in tokens for near in (slot, slot - 1, slot + 1) if near >= 0)
    ]
