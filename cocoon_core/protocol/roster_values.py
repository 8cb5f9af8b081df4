"""The values that the roster takes and gives: a verified operation in, the evaluated state out.

Holds no rule of membership: those are in roster_log (what one operation and its past decide) and in roster_rules and
its helpers (what the whole set decides). Every value is immutable. Spec: specs/roster.md §1 and §9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cocoon_core.errors import UnknownMemberError
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import (
    DeviceId,
    EntryId,
    GroupId,
    HpkePublicKey,
    InviteId,
    MemberId,
    RecoveryId,
    RequestId,
)
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import OperationBody
from cocoon_core.protocol.operations_admission import Request
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import Secret


@dataclass(frozen=True, slots=True)
class Operation:
    """A roster operation whose entry was verified: its device signed it, and `parents` are the entry's roster heads."""

    id: EntryId
    device: DeviceId
    seq: int
    parents: tuple[EntryId, ...]
    body: OperationBody


class Seniority(NamedTuple):
    """Less is more senior: depth of the operation that gave the right, depth of the admission's parents, its id.

    `admission` is 0 where nobody admitted by hand, as with every join by an invite alone.
    """

    depth: int
    admission: int
    id: EntryId


@dataclass(frozen=True, slots=True)
class Member:
    """A person. `name` is what they chose, `shown_name` what tells them from those who chose alike before.

    `devices` may be empty: all were put out, and the member comes back by the phrase or the guardians.
    """

    id: MemberId
    name: str
    shown_name: str
    role: Role
    devices: tuple[DeviceId, ...]
    joined_by: EntryId
    seniority: Seniority


@dataclass(frozen=True, slots=True)
class FormerMember:
    """Who was removed or left, by the operation `out_by`. Never comes back under this id."""

    id: MemberId
    name: str
    shown_name: str
    out_by: EntryId


@dataclass(frozen=True, slots=True)
class Device:
    """An installation, the member it belongs to, and the key that secrets are wrapped to."""

    id: DeviceId
    member: MemberId
    hpke: HpkePublicKey
    enrolled_by: EntryId


@dataclass(frozen=True, slots=True)
class FormerDevice:
    """A device that was put out by `out_by`. Its entries count up to `pin`, or none does."""

    id: DeviceId
    member: MemberId
    enrolled_by: EntryId
    pin: Pin | None
    out_by: EntryId


@dataclass(frozen=True, slots=True)
class InviteState:
    """An invite that counts. `joins` won its uses (joins, or admissions where it is `by_request`); it is open while
    uses are left and nobody closed it. The holder of a link that is `by_request` may ask, and opens nothing.
    """

    id: InviteId
    operation: EntryId
    inviter: MemberId
    hpke: HpkePublicKey
    mailbox_secret: Secret
    uses: int
    expires_ms: int
    role: Role
    joins: tuple[EntryId, ...]
    revoked: bool
    by_request: bool

    @property
    def is_open(self) -> bool:
        return not self.revoked and len(self.joins) < self.uses

    @property
    def is_spent(self) -> bool:
        return len(self.joins) >= self.uses


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a member comes back: by the phrase with that id and HPKE key, by `threshold` of the guardians, or both."""

    id: RecoveryId | None
    hpke: HpkePublicKey | None
    guardians: tuple[MemberId, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class RequestState:
    """A request that somebody vouched for or granted. `vouchers` are those who did either and still belong."""

    id: RequestId
    request: Request
    vouchers: tuple[MemberId, ...]
    granted: bool


@dataclass(frozen=True, slots=True)
class RotationState:
    """A rotation that counts: its author, how senior that author's member is, and the operations that it names."""

    operation: EntryId
    device: DeviceId
    body: Rotation
    seniority: Seniority
    heads: tuple[EntryId, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an operation does not count: the name of the error class that it stands for, and a sentence."""

    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom an epoch's secret is wrapped for: a device, an open invite or a member's recovery phrase."""

    id: DeviceId | InviteId | RecoveryId
    hpke: HpkePublicKey


@dataclass(frozen=True, slots=True)
class Roster:
    """The state that a set of operations evaluates to: the same for the same set, whatever the order of arrival."""

    group_id: GroupId
    group_name: str
    heads: tuple[EntryId, ...]
    policy: Policy
    members: Mapping[MemberId, Member]
    devices: Mapping[DeviceId, Device]
    former_members: Mapping[MemberId, FormerMember]
    former_devices: Mapping[DeviceId, FormerDevice]
    invites: Mapping[InviteId, InviteState]
    admin_pins: Mapping[DeviceId, Pin]
    recoveries: Mapping[MemberId, Recovery]
    requests: Mapping[RequestId, RequestState]
    rotations: tuple[RotationState, ...]
    refused: Mapping[EntryId, Refusal]

    def member_of(self, device: DeviceId) -> Member:
        """The member whose device this is.

        Raises:
            UnknownMemberError: the device is nobody's now.
        """
        found = self.devices.get(device)
        if found is None:
            raise UnknownMemberError(f"device {device.hex()[:12]} belongs to no member")
        return self.members[found.member]

    def member_ever(self, device: DeviceId) -> MemberId | None:
        """The member whose device this is or was."""
        found = self.devices.get(device) or self.former_devices.get(device)
        return found.member if found is not None else None

    def is_admin(self, member: MemberId) -> bool:
        found = self.members.get(member)
        return found is not None and found.role is Role.ADMIN

    def open_invites(self) -> tuple[InviteState, ...]:
        return tuple(invite for invite in self.invites.values() if invite.is_open)

    def recipients(self) -> tuple[Recipient, ...]:
        """Every valid device, every open invite that lets in by its link alone, and every member's recovery phrase, by
        id: exactly whom a rotation wraps for.
        """
        found = [Recipient(device.id, device.hpke) for device in self.devices.values()]
        found += [Recipient(invite.id, invite.hpke) for invite in self.open_invites() if not invite.by_request]
        found += [
            Recipient(recovery.id, recovery.hpke)
            for recovery in self.recoveries.values()
            if recovery.id is not None and recovery.hpke is not None
        ]
        return tuple(sorted(found, key=lambda recipient: recipient.id))

    def counts(self, device: DeviceId, seq: int, kind: DocumentKind) -> bool:
        """Whether an entry counts by its device's right now, or by lying within a pin. Not whose owned document it is.

        These are the first clauses of counting. Finality by a manifest's frontier and the ancestors of counting changes
        only ever add entries, so they stand around this and not inside it.
        """
        found = self.devices.get(device)
        if found is not None and (kind is not DocumentKind.ADMIN or self.is_admin(found.member)):
            return True
        if kind is DocumentKind.ADMIN:
            pin = self.admin_pins.get(device)
        else:
            former = self.former_devices.get(device)
            pin = former.pin if former is not None else None
        return pin is not None and seq <= pin.seq
