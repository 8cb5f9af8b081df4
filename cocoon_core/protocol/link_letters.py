"""What two devices write to each other while they link: the forms of their letters. Implements specs/device-link.md §3.

A letter is [version, side, step, …]. Commitments, openings and endings are as they stand; what follows the words is
sealed to the other side's linking key and signed (device_link.py), and its content is here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from cocoon_core.errors import MalformedError, UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_LINK_COMMIT, MAX_LINK_GROUPS, VERSION
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.ids import DeviceId, GroupId, HpkePublicKey, Signature
from cocoon_core.protocol.invite import require_relays
from cocoon_core.protocol.names import require_good_name
from cocoon_core.protocol.operations import Create, decode_operation
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.protocol.primitives import Secret, hash_bytes, require_good_hpke_key, require_good_signing_key


class Side(IntEnum):
    """Which of the two devices."""

    NEW = 0
    OLD = 1

    @property
    def other(self) -> Side:
        return Side.OLD if self is Side.NEW else Side.NEW


class Reason(IntEnum):
    """Why a side ended the linking before it was done."""

    STOPPED = 0  # by its person, or because it waited too long
    WORDS_DIFFER = 1
    CODE_USED = 2  # somebody else answered to the same code
    REFUSED = 3  # what the other side wrote cannot be accepted


@dataclass(frozen=True, slots=True)
class Opening:
    """A side's linking keys and random bytes, which it committed to before."""

    signing: bytes
    hpke: HpkePublicKey
    nonce: bytes

    def commitment(self, side: Side) -> bytes:
        """32 bytes that fix the opening, and say nothing of it."""
        return hash_bytes(LABEL_LINK_COMMIT, encoding.encode([int(side), self.signing, self.hpke, self.nonce]))

    def require_good(self) -> None:
        """Raises:
        MalformedError: a key that cannot be used.
        """
        require_good_signing_key(self.signing)
        require_good_hpke_key(self.hpke)


@dataclass(frozen=True, slots=True)
class CommitLetter:
    side: Side
    commitment: bytes


@dataclass(frozen=True, slots=True)
class OpenLetter:
    side: Side
    opening: Opening


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """`wrapped` is HPKE to the reader's linking key; `signature` is by the writer's, over transcript, side, place and
    `wrapped`. `place` counts a side's sealed letters from 0.
    """

    side: Side
    place: int
    wrapped: bytes
    signature: Signature


@dataclass(frozen=True, slots=True)
class EndLetter:
    side: Side
    reason: Reason


Letter = CommitLetter | OpenLetter | SealedLetter | EndLetter


def encode_letter(letter: Letter) -> bytes:
    """The value that is sealed into the mailbox."""
    match letter:
        case CommitLetter(side, commitment):
            fields: list[Any] = [0, commitment]
        case OpenLetter(side, opening):
            fields = [1, opening.signing, opening.hpke, opening.nonce]
        case SealedLetter(side, place, wrapped, signature):
            fields = [2, place, wrapped, signature]
        case EndLetter(side, reason):
            fields = [3, int(reason)]
    return encoding.encode([VERSION, int(side), *fields])


def decode_letter(value: bytes) -> Letter:
    """Read a letter. Nothing that it says is proved by that.

    Raises:
        MalformedError: not a letter.
        UpdateNeededError: a letter of a later version.
    """
    match encoding.decode(value):
        case [int() as version, *_] if version > VERSION:
            raise UpdateNeededError("the other device has a newer Cocoon; install that version on this one too")
        case [1, 0 | 1 as side, 0, bytes() as commitment] if len(commitment) == 32:
            letter: Letter = CommitLetter(Side(side), commitment)
        case [1, 0 | 1 as side, 1, bytes() as signing, bytes() as hpke, bytes() as nonce] if len(nonce) == 32:
            if len(signing) != 32:
                raise MalformedError("a linking key is 32 bytes")
            letter = OpenLetter(Side(side), Opening(signing, HpkePublicKey(hpke), nonce))
        case [1, 0 | 1 as side, 2, 0 | 1 as place, bytes() as wrapped, bytes() as signature]:
            letter = SealedLetter(Side(side), int(place), wrapped, Signature(signature))
        case [1, 0 | 1 as side, 3, 0 | 1 | 2 | 3 as reason]:
            letter = EndLetter(Side(side), Reason(reason))
        case _:
            raise MalformedError("not a letter between linking devices")
    if encode_letter(letter) != value:  # True equals 1 to a pattern
        raise MalformedError("not a letter between linking devices")
    return letter


# --- what the sealed letters hold


@dataclass(frozen=True, slots=True)
class GroupOffer:
    """A group that the old device offers: all that a device of the same member needs to open it.

    `author` is the old device's id in that group, which the new device's proof is bound to.
    """

    create: Create
    epoch: Epoch
    relays: tuple[str, ...]
    member_name: str
    author: DeviceId

    @property
    def group(self) -> GroupId:
        return self.create.group_id()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the new device wants to be enrolled with in one group: `add_device` ready to be written."""

    group: GroupId
    operation: AddDevice


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The old device wrote the operation; `epoch` is the one that the group was in then."""

    group: GroupId
    epoch: Epoch


_Named = TypeVar("_Named", GroupOffer, Enrolment, Enrolled)


def encode_offers(offers: Sequence[GroupOffer]) -> bytes:
    return encoding.encode(
        [
            [
                offer.create.encode_body(),
                offer.epoch.secret.reveal(),
                list(offer.relays),
                offer.member_name,
                offer.author,
            ]
            for offer in offers
        ]
    )


def decode_offers(value: bytes) -> tuple[GroupOffer, ...]:
    """Read what the old device offers.

    Raises:
        MalformedError: not one to MAX_LINK_GROUPS different groups in their form.
        UpdateNeededError: a group was created by a later version.
    """
    return _distinct([_offer_from(item) for item in _list_of(value)])


def _offer_from(item: object) -> GroupOffer:
    match item:
        case [list() as body, bytes() as secret, list() as relays, str() as name, bytes() as author]:
            create = decode_operation(body)
            if not isinstance(create, Create):
                raise MalformedError("an offer does not begin with a create")
            require_good_name(name)
            return GroupOffer(create, Epoch(Secret(secret)), require_relays(relays), name, DeviceId(author))
    raise MalformedError("an offer is [create, epoch secret, relays, name, device id]")


def encode_enrolments(enrolments: Sequence[Enrolment]) -> bytes:
    return encoding.encode(
        [
            [enrolment.group, enrolment.operation.device, enrolment.operation.hpke, enrolment.operation.proof]
            for enrolment in enrolments
        ]
    )


def decode_enrolments(value: bytes) -> tuple[Enrolment, ...]:
    """Read what the new device wants to be enrolled with. Groups that it does not want are left out.

    Raises:
        MalformedError: not up to MAX_LINK_GROUPS different groups in their form.
    """
    return _distinct([_enrolment_from(item) for item in _list_of(value, least=0)])


def _enrolment_from(item: object) -> Enrolment:
    match item:
        case [bytes() as group, bytes() as device, bytes() as hpke, bytes() as proof]:
            operation = AddDevice(DeviceId(device), HpkePublicKey(hpke), Signature(proof))
            return Enrolment(GroupId(group), operation)
    raise MalformedError("an enrolment is [group id, device id, HPKE key, proof]")


def encode_enrolled(enrolled: Sequence[Enrolled]) -> bytes:
    return encoding.encode([[one.group, one.epoch.secret.reveal()] for one in enrolled])


def decode_enrolled(value: bytes) -> tuple[Enrolled, ...]:
    """Read which groups the old device enrolled the new one in.

    Raises:
        MalformedError: not up to MAX_LINK_GROUPS different groups in their form.
    """
    return _distinct([_enrolled_from(item) for item in _list_of(value, least=0)])


def _enrolled_from(item: object) -> Enrolled:
    match item:
        case [bytes() as group, bytes() as secret]:
            return Enrolled(GroupId(group), Epoch(Secret(secret)))
    raise MalformedError("an enrolled group is [group id, epoch secret]")


def _list_of(value: bytes, least: int = 1) -> list[Any]:
    items = encoding.decode(value)
    if not isinstance(items, list) or not least <= len(items) <= MAX_LINK_GROUPS:
        raise MalformedError(f"a letter names {least} to {MAX_LINK_GROUPS} groups")
    return items


def _distinct(items: list[_Named]) -> tuple[_Named, ...]:
    if len({item.group for item in items}) != len(items):
        raise MalformedError("a letter names a group twice")
    return tuple(items)
