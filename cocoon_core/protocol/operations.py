"""The bodies of roster operations: their values and their CBOR forms. Implements specs/roster.md §2.

Decides what is well formed, and nothing about rights: that is the roster's. A body is an array whose first item is the
operation's code. An unknown code stops the group with UpdateNeededError and is never skipped, because two versions must
not count differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_GROUP,
    LABEL_INVITE_PROOF,
    LABEL_JOIN,
    LABEL_MEMBER,
    MAX_INVITE_USES,
    MAX_TIME_MS,
)
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, HpkePublicKey, InviteId, MemberId, Signature, TopicId
from cocoon_core.protocol.names import require_good_name
from cocoon_core.protocol.operation_forms import (
    Pin,
    Policy,
    Role,
    pins_from,
    pins_value,
    policy_from,
    require_integer,
    require_pins,
    require_rising,
    role_from,
    take_items,
)
from cocoon_core.protocol.operations_admission import Admit, Recover, SetRecovery, Vouch
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import Secret, SigningKey, hash_bytes, verify


@dataclass(frozen=True, slots=True)
class Create:
    """The first operation: its hash is the group's id, and its author the first member and admin."""

    CODE: ClassVar[int] = 0
    salt: bytes
    device: DeviceId
    hpke: HpkePublicKey
    topic: TopicId
    group_name: str
    member_name: str
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        if len(self.salt) != 32:
            raise MalformedError("the salt of a group is 32 bytes")
        require_good_name(self.group_name)
        require_good_name(self.member_name)

    def encode_body(self) -> list[Any]:
        names = [self.group_name, self.member_name]
        return [self.CODE, self.salt, self.device, self.hpke, self.topic, *names, self.policy.to_value()]

    def group_id(self) -> GroupId:
        return GroupId(hash_bytes(LABEL_GROUP, encoding.encode(self.encode_body())))

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        salt, device, hpke, topic, group_name, member_name, policy = take_items(
            items, bytes, bytes, bytes, bytes, str, str, dict
        )
        keys = DeviceId(device), HpkePublicKey(hpke), TopicId(topic)
        return cls(salt, *keys, group_name, member_name, policy_from(policy))


@dataclass(frozen=True, slots=True)
class Invite:
    """Lets up to `uses` holders of a link join. `expires_ms` is for display and for the device that then revokes it.

    The proof shows that its author holds the invite's signing key, so nobody can put an operation of their own in the
    place of another's link.
    """

    CODE: ClassVar[int] = 1
    invite: InviteId
    hpke: HpkePublicKey
    mailbox_secret: Secret
    uses: int
    expires_ms: int
    role: Role
    proof: Signature

    def __post_init__(self) -> None:
        require_integer(self.uses, 1, MAX_INVITE_USES, "uses")
        require_integer(self.expires_ms, 0, MAX_TIME_MS, "expires_ms")

    def encode_body(self) -> list[Any]:
        secret = self.mailbox_secret.reveal()
        return [self.CODE, self.invite, self.hpke, secret, self.uses, self.expires_ms, str(self.role), self.proof]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        invite, hpke, secret, uses, expires, role, proof = take_items(items, bytes, bytes, bytes, int, int, str, bytes)
        keys = InviteId(invite), HpkePublicKey(hpke), Secret(secret)
        return cls(*keys, uses, expires, role_from(role), Signature(proof))

    @classmethod
    def make(
        cls,
        key: SigningKey,
        hpke: HpkePublicKey,
        mailbox_secret: Secret,
        group: GroupId,
        author: DeviceId,
        *,
        uses: int = 1,
        expires_ms: int = 0,
        role: Role = Role.MEMBER,
    ) -> Self:
        """The operation of `author` for the link that yields `key`, `hpke` and the mailbox secret."""
        proof = key.sign(LABEL_INVITE_PROOF, group + author)
        return cls(InviteId(key.public), hpke, mailbox_secret, uses, expires_ms, role, proof)

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that the author holds the invite's key.

        Raises:
            SignatureError: no.
        """
        verify(self.invite, LABEL_INVITE_PROOF, group + author, self.proof)


@dataclass(frozen=True, slots=True)
class RevokeInvite:
    """Closes an invite. `joins` are those of its joins that the author knew; later and unknown ones do not stand."""

    CODE: ClassVar[int] = 2
    invite: InviteId
    joins: tuple[EntryId, ...] = ()

    def __post_init__(self) -> None:
        require_rising(self.joins, MAX_INVITE_USES, "joins")

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.invite, list(self.joins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        invite, joins = take_items(items, bytes, list)
        return cls(InviteId(invite), tuple(EntryId(join) for join in joins))


@dataclass(frozen=True, slots=True)
class Join:
    """Enrols its author's device, as a new member, by an invite. The first entry of the device's chain."""

    CODE: ClassVar[int] = 3
    invite: InviteId
    hpke: HpkePublicKey
    name: str
    proof: Signature

    def __post_init__(self) -> None:
        require_good_name(self.name)

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.invite, self.hpke, self.name, self.proof]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        invite, hpke, name, proof = take_items(items, bytes, bytes, str, bytes)
        return cls(InviteId(invite), HpkePublicKey(hpke), name, Signature(proof))

    @classmethod
    def make(cls, key: SigningKey, group: GroupId, device: DeviceId, hpke: HpkePublicKey, name: str) -> Self:
        """The operation of `device` with the invite's signing key."""
        return cls(InviteId(key.public), hpke, name, key.sign(LABEL_JOIN, group + device + hpke))

    def verify_proof(self, group: GroupId, author: DeviceId) -> None:
        """Check that whoever holds the invite's key meant this device and its HPKE key.

        Raises:
            SignatureError: no.
        """
        verify(self.invite, LABEL_JOIN, group + author + self.hpke, self.proof)


@dataclass(frozen=True, slots=True)
class SetRole:
    """Gives a member a role. `pins` (where it takes rights away) are the target's devices as the author knew them."""

    CODE: ClassVar[int] = 4
    member: MemberId
    role: Role
    pins: tuple[Pin, ...] = ()

    def __post_init__(self) -> None:
        require_pins(self.pins)
        if self.pins and self.role is Role.ADMIN:
            raise MalformedError("a promotion takes no right and pins nothing")

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.member, str(self.role), pins_value(self.pins)]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        member, role, pins = take_items(items, bytes, str, list)
        return cls(MemberId(member), role_from(role), pins_from(pins))


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Gives the group other rules. Only admins may."""

    CODE: ClassVar[int] = 5
    policy: Policy

    def encode_body(self) -> list[Any]:
        return [self.CODE, self.policy.to_value()]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        (policy,) = take_items(items, dict)
        return cls(policy_from(policy))


OperationBody = (
    Create | Invite | RevokeInvite | Join | SetRole | SetPolicy
    | RemoveMember | Leave | RemoveDevice | AddDevice | ReplaceDevice | Suspend
    | Vouch | Admit | SetRecovery | Recover | Rotation
)  # fmt: skip

_DECODERS: Final[dict[int, Callable[[list[Any]], OperationBody]]] = {
    Create.CODE: Create.from_items,
    Invite.CODE: Invite.from_items,
    RevokeInvite.CODE: RevokeInvite.from_items,
    Join.CODE: Join.from_items,
    SetRole.CODE: SetRole.from_items,
    SetPolicy.CODE: SetPolicy.from_items,
    RemoveMember.CODE: RemoveMember.from_items,
    Leave.CODE: Leave.from_items,
    RemoveDevice.CODE: RemoveDevice.from_items,
    AddDevice.CODE: AddDevice.from_items,
    ReplaceDevice.CODE: ReplaceDevice.from_items,
    Suspend.CODE: Suspend.from_items,
    Vouch.CODE: Vouch.from_items,
    Admit.CODE: Admit.from_items,
    SetRecovery.CODE: SetRecovery.from_items,
    Recover.CODE: Recover.from_items,
    Rotation.CODE: Rotation.from_items,
}


def decode_operation(body: object) -> OperationBody:
    """Read the body of a roster operation.

    Raises:
        MalformedError: not an array that starts with a code, or not exactly the form of that code.
        UpdateNeededError: a code that this version does not know.
    """
    if not isinstance(body, list) or not body or type(body[0]) is not int or body[0] < 0:
        raise MalformedError("a roster operation is an array that starts with its code")
    decoder = _DECODERS.get(body[0])
    if decoder is None:
        raise UpdateNeededError(f"this group uses roster operation {body[0]}, which this version does not know")
    return decoder(body[1:])


def member_id_of(group: GroupId, first_device: DeviceId) -> MemberId:
    """The id of the member whose first device this is."""
    return MemberId(hash_bytes(LABEL_MEMBER, group + first_device))
