"""Operations about members and devices that are there: removal, leaving, linking, replacing, suspending.

Implements specs/roster.md §2. Decides what is well formed and which signatures in a body hold; rights are the roster's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import LABEL_ADD_DEVICE, LABEL_REPLACE_DEVICE, MAX_RUN_BYTES
from cocoon_core.protocol.ids import DeviceId, GroupId, HpkePublicKey, MemberId, Signature
from cocoon_core.protocol.operation_forms import Pin, pins_from, pins_value, require_pins, take_items
from cocoon_core.protocol.primitives import SigningKey, verify


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Puts a member out for good. `pins` are the member's devices as the author knew them; others count for nothing."""

    CODE: ClassVar[int] = 6
    member: MemberId
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        require_pins(self.pins)

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.member, pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        member, pins = take_items(items, bytes, list)
        return cls(MemberId(member), pins_from(pins))


@dataclass(frozen=True, slots=True)
class Leave:
    """The author's member goes. The author's own device is pinned at this entry, the member's others at `pins`."""

    CODE: ClassVar[int] = 7
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        require_pins(self.pins)

    def encode_body(self) -> list[Any]:
        return [self.CODE, pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        (pins,) = take_items(items, list)
        return cls(pins_from(pins))


@dataclass(frozen=True, slots=True)
class RemoveDevice:
    """Puts one device out: by another device of its member, or by an admin. `pins` holds that device or nothing."""

    CODE: ClassVar[int] = 8
    device: DeviceId
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        _require_pins_of(self.pins, self.device)

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.device, pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        device, pins = take_items(items, bytes, list)
        return cls(DeviceId(device), pins_from(pins))


@dataclass(frozen=True, slots=True)
class AddDevice:
    """Enrols a further device of the author's member. The proof shows that whoever has the new key meant it."""

    CODE: ClassVar[int] = 9
    device: DeviceId
    hpke: HpkePublicKey
    proof: Signature

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.device, self.hpke, self.proof]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        device, hpke, proof = take_items(items, bytes, bytes, bytes)
        return cls(DeviceId(device), HpkePublicKey(hpke), Signature(proof))

    @classmethod
    def make(cls, key: SigningKey, group: GroupId, author: DeviceId, hpke: HpkePublicKey) -> Self:
        """The operation that `author` will write, with the new device's signing key."""
        return cls(DeviceId(key.public), hpke, sign_device(key, group, author, hpke))

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that the new device meant to be added by this author, with this HPKE key.

        Raises:
            SignatureError: no.
        """
        verify(self.device, LABEL_ADD_DEVICE, group + author + self.hpke, self.proof)


def sign_device(key: SigningKey, group: GroupId, author: DeviceId, hpke: HpkePublicKey) -> Signature:
    """The proof of a new device for `add_device`."""
    return key.sign(LABEL_ADD_DEVICE, group + author + hpke)


@dataclass(frozen=True, slots=True)
class ReplaceDevice:
    """Enrols its author's device in the place of `old`, whose key signed that. The first entry of the new chain.

    For a device that may not go on with its old chain: restored from an old copy, or copied. `pins` holds the old
    device or nothing.
    """

    CODE: ClassVar[int] = 10
    old: DeviceId
    hpke: HpkePublicKey
    proof: Signature
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        _require_pins_of(self.pins, self.old)

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.old, self.hpke, self.proof, pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        old, hpke, proof, pins = take_items(items, bytes, bytes, bytes, list)
        return cls(DeviceId(old), HpkePublicKey(hpke), Signature(proof), pins_from(pins))

    @classmethod
    def make(
        cls, old: SigningKey, group: GroupId, device: DeviceId, hpke: HpkePublicKey, pins: tuple[Pin, ...] = ()
    ) -> Self:
        """The operation of the fresh `device`, with the old device's signing key."""
        proof = old.sign(LABEL_REPLACE_DEVICE, group + device + hpke)
        return cls(DeviceId(old.public), hpke, proof, pins)

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that whoever holds the old key meant this device and its HPKE key.

        Raises:
            SignatureError: no.
        """
        verify(self.old, LABEL_REPLACE_DEVICE, group + author + self.hpke, self.proof)


@dataclass(frozen=True, slots=True)
class Suspend:
    """Shows that a device signed two histories, by two of its runs in short form, and puts it out.

    It counts by this proof alone, whoever wrote it. `pins` holds that device or nothing.
    """

    CODE: ClassVar[int] = 11
    device: DeviceId
    first: bytes
    second: bytes
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        _require_pins_of(self.pins, self.device)
        if not 0 < len(self.first) <= MAX_RUN_BYTES or not 0 < len(self.second) <= MAX_RUN_BYTES:
            raise MalformedError(f"each run of a proof has 1 to {MAX_RUN_BYTES} bytes")

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.device, self.first, self.second, pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        device, first, second, pins = take_items(items, bytes, bytes, bytes, list)
        return cls(DeviceId(device), first, second, pins_from(pins))


def _require_pins_of(pins: tuple[Pin, ...], device: DeviceId) -> None:
    require_pins(pins, 1)
    if pins and pins[0].device != device:
        raise MalformedError("a pin is of another device than the one that is put out")
