"""The body of a retire entry: a member's word that an owned document of theirs is over. Implements specs/retire.md §2.

It is a signed link of the device's chain and no roster operation. From then on nothing in that document counts, and its
next generation goes on in its place. A body that is none is still a link, and retires nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cocoon_core.errors import MalformedError, NotPermittedError
from cocoon_core.protocol.constants import MAX_RETIRE_HEADS, MAX_SEQ
from cocoon_core.protocol.descriptor import Descriptor, DocumentKind, descriptor_from_value
from cocoon_core.protocol.entry import Entry, EntryKind
from cocoon_core.protocol.ids import ChangeHash, DeviceId, EntryId
from cocoon_core.protocol.operation_forms import require_integer
from cocoon_core.protocol.roster_values import Roster

GONE_PREFIX: Final = "gone:"  # before a root key that was erased, in a later generation

Heads = Mapping[DeviceId, tuple[int, ChangeHash]]


@dataclass(frozen=True, slots=True)
class Retire:
    """A device's word that a document is over.

    Attributes:
        heads: of every device that had changed the document as far as the author knew, its newest change. What is not
            among these and what they depend on was written without knowing of it, and is made again.
    """

    device: DeviceId
    seq: int
    entry: EntryId
    descriptor: Descriptor
    heads: Heads

    @property
    def next_descriptor(self) -> Descriptor:
        """The document that goes on in its place."""
        return self.descriptor.at(self.descriptor.generation + 1)


def retire_body(descriptor: Descriptor, heads: Heads) -> list[Any]:
    """The body of the entry by which a member retires an owned document."""
    return [descriptor.to_value(), [[device, seq, change] for device, (seq, change) in sorted(heads.items())]]


def read_retire(entry: Entry) -> Retire:
    """Read a verified entry of kind RETIRE.

    Raises:
        MalformedError: not such an entry, or of a document that cannot be retired.
    """
    match entry.body:
        case [descriptor_value, list() as items] if entry.kind is EntryKind.RETIRE:
            descriptor = descriptor_from_value(descriptor_value)
            if descriptor.kind is not DocumentKind.OWNED:
                raise MalformedError("only an owned document can be retired")
            descriptor.at(descriptor.generation + 1)  # there must be a next one
            return Retire(entry.device, entry.seq, entry.id, descriptor, _heads_from(items))
    raise MalformedError("a retire is [descriptor, heads]")


def require_counted(retire: Retire, roster: Roster, final_seq: int = -1) -> None:
    """Ask whether a retire that stands in its device's chain counts by this roster.

    Args:
        final_seq: of the device's run end in the newest manifest; -1 if it names none.

    Raises:
        NotPermittedError: its author is not the owner's device, or was put out before it.
    """
    if roster.member_ever(retire.device) != retire.descriptor.member:
        raise NotPermittedError("only its owner can retire a document")
    former = roster.former_devices.get(retire.device)
    if former is not None and retire.seq > max(final_seq, former.pin.seq if former.pin is not None else -1):
        raise NotPermittedError("a document was retired by a device that was put out before")


def _heads_from(items: list[Any]) -> Heads:
    if len(items) > MAX_RETIRE_HEADS:
        raise MalformedError(f"a retire names up to {MAX_RETIRE_HEADS} devices")
    heads: dict[DeviceId, tuple[int, ChangeHash]] = {}
    last = b""
    for item in items:
        match item:
            case [bytes() as device, int() as seq, bytes() as change]:
                require_integer(seq, 1, MAX_SEQ, "the number of a change")
                heads[DeviceId(device)] = seq, ChangeHash(change)
            case _:
                raise MalformedError("a head is [device, number of the change, change hash]")
        if device <= last:
            raise MalformedError("the heads of a retire do not rise by device")
        last = device
    return heads
