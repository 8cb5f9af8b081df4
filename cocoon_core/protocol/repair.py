"""What goes into the repair topic of an epoch that was ended: complaints, repairs, announced forks. Implements
specs/epoch.md §9.

The repair topic's keys derive from the ended epoch's secret, so whoever was in that epoch can read it, removed members
included. They can seal it too; then the next repair topic, derived from its secret, takes its place, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import (
    LABEL_COMPLAINT,
    LABEL_EPOCH_NONCE,
    LABEL_EPOCH_REPAIR,
    LABEL_EPOCH_SEAL,
    LABEL_EPOCH_TOPIC,
    LABEL_REPAIR,
    VERSION,
    WRAP_BYTES,
)
from cocoon_core.protocol.entry import EntryKind
from cocoon_core.protocol.epoch import Epoch, TopicKeys, wrap_epoch
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, HpkePublicKey, RecipientId, Signature, TopicId
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, derive, verify
from cocoon_core.protocol.rotation import unwrap_with_any
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, verify_run
from cocoon_core.protocol.statement import parse_statement


class RepairKeys(TopicKeys):
    """The keys of a repair topic. `following` is that of the next one, for where this one was sealed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: Secret) -> None:
        super().__init__(
            derive(secret, LABEL_EPOCH_TOPIC), derive(secret, LABEL_EPOCH_SEAL), derive(secret, LABEL_EPOCH_NONCE)
        )
        self._secret = secret

    def following(self) -> RepairKeys:
        return RepairKeys(derive(self._secret, LABEL_EPOCH_REPAIR))


def repair_keys(epoch: Epoch) -> RepairKeys:
    """The keys of the first repair topic of an epoch."""
    return RepairKeys(epoch.repair_secret)


@dataclass(frozen=True, slots=True)
class Complaint:
    """A device's word that a rotation gave it no wrap that opens. Whoever followed the rotation answers with a repair,
    if the device is a recipient by the roster.
    """

    rotation: EntryId
    device: DeviceId
    signature: Signature

    @classmethod
    def make(cls, key: SigningKey, group: GroupId, rotation: EntryId) -> Complaint:
        return cls(rotation, DeviceId(key.public), key.sign(LABEL_COMPLAINT, group + rotation))

    def verify(self, group: GroupId) -> None:
        """Raises:
        SignatureError: the device did not sign this.
        """
        verify(self.device, LABEL_COMPLAINT, group + self.rotation, self.signature)

    def to_value(self) -> list[Any]:
        return [VERSION, "complaint", self.rotation, self.device, self.signature]


@dataclass(frozen=True, slots=True)
class Repair:
    """The epoch's secret for one recipient whom the rotation left out or gave what does not open."""

    rotation: EntryId
    recipient: RecipientId
    wrapped: bytes
    device: DeviceId
    signature: Signature

    @classmethod
    def make(
        cls,
        key: SigningKey,
        group: GroupId,
        rotation: EntryId,
        epoch: Epoch,
        recipient: RecipientId,
        hpke: HpkePublicKey,
    ) -> Repair:
        """Wrap the epoch's secret. The caller has checked that the recipient is one by the roster as it knows it."""
        wrapped = wrap_epoch(epoch, hpke, group)
        signature = key.sign(LABEL_REPAIR, group + rotation + recipient + wrapped)
        return cls(rotation, recipient, wrapped, DeviceId(key.public), signature)

    def verify(self, group: GroupId) -> None:
        """Raises:
        SignatureError: the device did not sign this.
        """
        verify(self.device, LABEL_REPAIR, group + self.rotation + self.recipient + self.wrapped, self.signature)

    def open(self, keys: Sequence[HpkeKey], group: GroupId, topic: TopicId) -> Epoch:
        """Open what was wrapped for oneself, with any of one's HPKE keys.

        Args:
            topic: that of the rotation which is repaired.

        Raises:
            DecryptionError: none of them opens it to that topic's secret.
        """
        return unwrap_with_any(self.wrapped, keys, group, topic)

    def to_value(self) -> list[Any]:
        return [VERSION, "repair", self.rotation, self.recipient, self.wrapped, self.device, self.signature]


@dataclass(frozen=True, slots=True)
class Fork:
    """Another rotation that ended this epoch too, told to those who may not have met it. `run` is that one entry."""

    run: Run
    rotation: Rotation

    @classmethod
    def of(cls, run: Run) -> Fork:
        """Announce the rotation that is this run."""
        return cls(run, _rotation_of(run))

    def to_value(self) -> list[Any]:
        return [VERSION, "fork", self.run.wire]


RepairValue = Complaint | Repair | Fork


def encode_repair_value(value: RepairValue) -> bytes:
    """The value to seal into the repair topic."""
    return encoding.encode(value.to_value())


def read_repair_value(raw: bytes, group: GroupId) -> RepairValue | UnverifiedRun:
    """Read an opened envelope of a repair topic: a complaint, repair or fork whose signature holds, or a run.

    Whether its device is in the roster is for the caller to ask.

    Raises:
        MalformedError: none of these.
        SignatureError: the device that it names did not sign it.
        UpdateNeededError: of a later version.
    """
    value = encoding.decode(raw)
    match value:
        case [version, str() as kind, *rest] if type(version) is int and version == VERSION:
            found = _value_from(kind, rest, group)
        case [version, *_] if type(version) is int and version > VERSION:
            raise UpdateNeededError(f"a repair topic holds a value of version {version}; install a newer Cocoon")
        case _:
            return parse_run(raw, group)
    if not isinstance(found, Fork):
        found.verify(group)
    return found


def _value_from(kind: str, rest: list[Any], group: GroupId) -> RepairValue:
    match kind, rest:
        case "complaint", [bytes() as rotation, bytes() as device, bytes() as signature]:
            return Complaint(EntryId(rotation), DeviceId(device), Signature(signature))
        case "repair", [
            bytes() as rotation,
            bytes() as recipient,
            bytes() as wrapped,
            bytes() as device,
            bytes() as own,
        ]:
            if len(wrapped) != WRAP_BYTES:
                raise MalformedError(f"a wrap has {WRAP_BYTES} bytes")
            return Repair(EntryId(rotation), RecipientId(recipient), wrapped, DeviceId(device), Signature(own))
        case "fork", [bytes() as wire]:
            run = verify_run(parse_statement(wire, group))
            return Fork(run, _rotation_of(run))
    raise MalformedError("a value of a repair topic is a complaint, a repair or a fork")


def _rotation_of(run: Run) -> Rotation:
    entry = run.entries[-1]
    body = decode_operation(entry.body) if entry.kind is EntryKind.ROSTER else None
    if not isinstance(body, Rotation):
        raise MalformedError("a fork is announced by its rotation")
    return body
