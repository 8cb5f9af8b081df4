"""Operations by which members decide who comes in or comes back: vouch, admit, and the keys for recovery.

A *request* is signed by the device that wants in. Members vouch for it, and the last of them admits it. The same serves
a newcomer (by an invite's mailbox) and a lost member (whose guardians vouch). Implements specs/roster.md §2 and
specs/recovery.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cocoon_core.errors import MalformedError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_RECOVER,
    LABEL_RECOVERY_PROOF,
    LABEL_REQUEST,
    LABEL_REQUEST_ID,
    LABEL_REQUEST_INVITE,
    MAX_GUARDIANS,
)
from cocoon_core.protocol.ids import (
    DeviceId,
    GroupId,
    HpkePublicKey,
    InviteId,
    MemberId,
    RecoveryId,
    RequestId,
    Signature,
)
from cocoon_core.protocol.names import require_good_name
from cocoon_core.protocol.operation_forms import (
    Pin,
    pins_from,
    pins_value,
    require_integer,
    require_pins,
    require_rising,
    take_items,
)
from cocoon_core.protocol.primitives import SigningKey, hash_bytes, verify


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Somebody with an invite's link asks to become a member. Signed by the link's key and by the device's."""

    device: DeviceId
    hpke: HpkePublicKey
    invite: InviteId
    name: str
    invite_proof: Signature
    proof: Signature

    def __post_init__(self) -> None:
        require_good_name(self.name)

    def to_value(self) -> list[Any]:
        return [0, self.device, self.hpke, self.invite, self.name, self.invite_proof, self.proof]

    @classmethod
    def make(cls, key: SigningKey, invite: SigningKey, group: GroupId, hpke: HpkePublicKey, name: str) -> Self:
        """The request of the device with that key, by the link that yields `invite`."""
        meant = _newcomer_message(group, DeviceId(key.public), hpke, InviteId(invite.public), name)
        proofs = invite.sign(LABEL_REQUEST_INVITE, meant), key.sign(LABEL_REQUEST, meant)
        return cls(DeviceId(key.public), hpke, InviteId(invite.public), name, *proofs)

    def verify_proofs(self, group: GroupId) -> None:
        """Raises:
        SignatureError: the link's key or the device's did not sign this.
        """
        meant = _newcomer_message(group, self.device, self.hpke, self.invite, self.name)
        verify(self.invite, LABEL_REQUEST_INVITE, meant, self.invite_proof)
        verify(self.device, LABEL_REQUEST, meant, self.proof)


@dataclass(frozen=True, slots=True)
class LostMember:
    """A member who has no device left asks, through the guardians, that this device take the place of all others."""

    device: DeviceId
    hpke: HpkePublicKey
    member: MemberId
    proof: Signature

    def to_value(self) -> list[Any]:
        return [1, self.device, self.hpke, self.member, self.proof]

    @classmethod
    def make(cls, key: SigningKey, group: GroupId, hpke: HpkePublicKey, member: MemberId) -> Self:
        """The request of the device with that key."""
        meant = encoding.encode([1, group, DeviceId(key.public), hpke, member])
        return cls(DeviceId(key.public), hpke, member, key.sign(LABEL_REQUEST, meant))

    def verify_proofs(self, group: GroupId) -> None:
        """Raises:
        SignatureError: the device did not sign this.
        """
        verify(self.device, LABEL_REQUEST, encoding.encode([1, group, self.device, self.hpke, self.member]), self.proof)


Request = Newcomer | LostMember


def request_id(request: Request, group: GroupId) -> RequestId:
    """What vouches for one request have in common."""
    return RequestId(hash_bytes(LABEL_REQUEST_ID, group + encoding.encode(request.to_value())))


def request_from(value: list[Any]) -> Request:
    """Read a request.

    Raises:
        MalformedError: of no known form.
    """
    match value:
        case [
            kind,
            bytes() as device,
            bytes() as hpke,
            bytes() as invite,
            str() as name,
            bytes() as ours,
            bytes() as own,
        ]:
            if type(kind) is int and kind == 0:
                keys = DeviceId(device), HpkePublicKey(hpke), InviteId(invite)
                return Newcomer(*keys, name, Signature(ours), Signature(own))
        case [kind, bytes() as device, bytes() as hpke, bytes() as member, bytes() as own]:
            if type(kind) is int and kind == 1:
                return LostMember(DeviceId(device), HpkePublicKey(hpke), MemberId(member), Signature(own))
    raise MalformedError("a request is of no known form")


def _newcomer_message(group: GroupId, device: DeviceId, hpke: HpkePublicKey, invite: InviteId, name: str) -> bytes:
    return encoding.encode([0, group, device, hpke, invite, name])


@dataclass(frozen=True, slots=True)
class Vouch:
    """The author wants this request granted. It enrols nobody, and tells everybody of the request."""

    CODE: ClassVar[int] = 12
    request: Request

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.request.to_value()]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        (request,) = take_items(items, list)
        return cls(request_from(request))


@dataclass(frozen=True, slots=True)
class Admit:
    """Grants a request: enrols its device, as a new member's or in the place of a lost member's devices.

    The author and those who vouch in its past must be as many as policy or the lost member asked for. `pins` are the
    lost member's devices as the author knew them; none for a newcomer.
    """

    CODE: ClassVar[int] = 13
    request: Request
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        require_pins(self.pins)
        if self.pins and isinstance(self.request, Newcomer):
            raise MalformedError("to admit a newcomer pins nobody")

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.request.to_value(), pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        request, pins = take_items(items, list, list)
        return cls(request_from(request), pins_from(pins))


@dataclass(frozen=True, slots=True)
class SetRecovery:
    """How the author's member may come back: by a phrase (its keys), by `threshold` of the guardians, or neither.

    The newest counts. Without a phrase `recovery` is None; without guardians the threshold is 0.
    """

    CODE: ClassVar[int] = 14
    recovery: tuple[RecoveryId, HpkePublicKey, Signature] | None
    guardians: tuple[MemberId, ...] = ()
    threshold: int = 0

    def __post_init__(self) -> None:
        require_rising(self.guardians, MAX_GUARDIANS, "guardians")
        require_integer(self.threshold, 1 if self.guardians else 0, len(self.guardians), "the threshold")

    def encode_body(self) -> list[Any]:
        return [self.CODE, list(self.recovery or ()), list(self.guardians), self.threshold]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        recovery, guardians, threshold = take_items(items, list, list, int)
        members = tuple(MemberId(guardian) for guardian in guardians)
        match recovery:
            case []:
                return cls(None, members, threshold)
            case [bytes() as key, bytes() as hpke, bytes() as proof]:
                return cls((RecoveryId(key), HpkePublicKey(hpke), Signature(proof)), members, threshold)
        raise MalformedError("a recovery is [recovery id, HPKE key, proof] or empty")

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that the author holds the phrase's key.

        Raises:
            SignatureError: no.
        """
        if self.recovery is not None:
            key, hpke, proof = self.recovery
            verify(key, LABEL_RECOVERY_PROOF, group + author + hpke, proof)


def sign_recovery(key: SigningKey, group: GroupId, author: DeviceId, hpke: HpkePublicKey) -> Signature:
    """The proof in `set_recovery`, by the phrase's signing key."""
    return key.sign(LABEL_RECOVERY_PROOF, group + author + hpke)


@dataclass(frozen=True, slots=True)
class Recover:
    """Enrols its author's device as one of `member`'s, by the phrase's key. The first entry of the device's chain."""

    CODE: ClassVar[int] = 15
    member: MemberId
    recovery: RecoveryId
    hpke: HpkePublicKey
    proof: Signature

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.member, self.recovery, self.hpke, self.proof]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        member, key, hpke, proof = take_items(items, bytes, bytes, bytes, bytes)
        return cls(MemberId(member), RecoveryId(key), HpkePublicKey(hpke), Signature(proof))

    @classmethod
    def make(cls, key: SigningKey, group: GroupId, member: MemberId, device: DeviceId, hpke: HpkePublicKey) -> Self:
        """The operation of the fresh `device`, with the phrase's signing key."""
        proof = key.sign(LABEL_RECOVER, group + member + device + hpke)
        return cls(member, RecoveryId(key.public), hpke, proof)

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that whoever holds the phrase meant this device and its HPKE key.

        Raises:
            SignatureError: no.
        """
        verify(self.recovery, LABEL_RECOVER, group + self.member + author + self.hpke, self.proof)
