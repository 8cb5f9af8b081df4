"""The operation that begins a new epoch: its body. Implements specs/roster.md §2 and specs/epoch.md §4.

The wraps do not stand in it, or every manifest would carry all that were ever made. They stand beside it in its
envelope (rotation_value.py), or in pages; the rotation commits to them. Who must be wrapped for, and how a wrap is
opened, is in rotation.py; which of several is followed, in epochs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Self

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import (
    MAX_PARENT_TOPICS,
    MAX_WRAP_PAGES,
    MAX_WRAPS_BESIDE,
    RECIPIENT_NAME_BYTES,
    WRAP_BYTES,
)
from cocoon_core.protocol.ids import BlobHash, RecipientId, TopicId
from cocoon_core.protocol.operation_forms import require_rising, take_items
from cocoon_core.protocol.primitives import Secret, sha256

RECORD_BYTES: Final = RecipientId.LENGTH + WRAP_BYTES  # of one wrap, with the id of its recipient before it


class Reason(StrEnum):
    """Why an epoch was ended. For display: nothing is decided by it."""

    REMOVAL = "removal"
    INVITE = "invite"
    AGE = "age"
    SIZE = "size"
    REQUEST = "request"
    REPAIR = "repair"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class WrapsBeside:
    """What a rotation says of wraps that stand beside it in its envelope.

    Fields:
        named: the first bytes of each recipient's id, in the order of the ids: whom the secret was given to, for those
            who have the operation alone. Somebody may have sought two keys that begin alike, so two may be the same.
        name: the SHA-256 of the records, `id ‖ wrap` each, rising by id.
    """

    named: tuple[bytes, ...]
    name: BlobHash

    def __post_init__(self) -> None:
        if not 0 < len(self.named) <= MAX_WRAPS_BESIDE or list(self.named) != sorted(self.named):
            raise MalformedError(f"a rotation names 1 to {MAX_WRAPS_BESIDE} recipients in their order")
        if any(len(one) != RECIPIENT_NAME_BYTES for one in self.named):
            raise MalformedError(f"a rotation names each recipient by {RECIPIENT_NAME_BYTES} bytes")

    @classmethod
    def of(cls, records: bytes) -> Self:
        """What commits to these records.

        Raises:
            MalformedError: they are none.
        """
        return cls(tuple(map(name_recipient, ids_in(records))), BlobHash(sha256(records)))

    def matches(self, records: bytes) -> bool:
        """Whether these are the wraps that the rotation's author signed for."""
        return self.name == sha256(records) and self.named == tuple(map(name_recipient, ids_in(records)))


@dataclass(frozen=True, slots=True)
class WrapPages:
    """Where the wraps are that do not stand beside the rotation: sealed pages, each with the first recipient in it."""

    key: Secret
    pages: tuple[tuple[RecipientId, BlobHash], ...]

    def __post_init__(self) -> None:
        require_rising(tuple(first for first, _ in self.pages), MAX_WRAP_PAGES, "wrap pages")
        if not self.pages:
            raise MalformedError("there is one page of wraps at least")


@dataclass(frozen=True, slots=True)
class Rotation:
    """Ends the epochs of `parents` and begins that of `topic`, whose secret is wrapped for each recipient.

    Up to MAX_WRAPS_BESIDE wraps stand beside it; beyond that it names pages that hold them.
    """

    CODE: ClassVar[int] = 16
    reason: Reason
    parents: tuple[TopicId, ...]
    topic: TopicId
    where: WrapsBeside | WrapPages

    def __post_init__(self) -> None:
        require_rising(self.parents, MAX_PARENT_TOPICS, "parent topics")
        if not self.parents or self.topic in self.parents:
            raise MalformedError("a rotation ends one epoch at least, and not the one that it begins")

    @property
    def beside(self) -> WrapsBeside | None:
        """What it says of the wraps beside it, unless they are in pages."""
        return self.where if isinstance(self.where, WrapsBeside) else None

    @property
    def paged(self) -> WrapPages | None:
        """The pages of its wraps, unless they stand beside it."""
        return self.where if isinstance(self.where, WrapPages) else None

    @property
    def pages(self) -> tuple[BlobHash, ...]:
        """The blobs that hold the wraps; none where they stand beside it."""
        return tuple(page for _, page in self.where.pages) if isinstance(self.where, WrapPages) else ()

    def encode_body(self) -> list[Any]:
        head = [self.CODE, str(self.reason), list(self.parents), self.topic]
        if isinstance(self.where, WrapsBeside):
            return [*head, b"".join(self.where.named), self.where.name]
        return [*head, self.where.key.reveal(), [[first, page] for first, page in self.where.pages]]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        is_beside = bool(items) and isinstance(items[-1], bytes)
        reason, parents, topic, first, last = take_items(items, str, list, bytes, bytes, bytes if is_beside else list)
        head = _reason_from(reason), tuple(TopicId(parent) for parent in parents), TopicId(topic)
        if is_beside:
            named = tuple(first[at : at + RECIPIENT_NAME_BYTES] for at in range(0, len(first), RECIPIENT_NAME_BYTES))
            return cls(*head, WrapsBeside(named, BlobHash(last)))
        return cls(*head, WrapPages(Secret(first), tuple(map(_page_from, last))))


def name_recipient(recipient: bytes) -> bytes:
    """The bytes by which a rotation names a recipient."""
    return recipient[:RECIPIENT_NAME_BYTES]


def ids_in(records: bytes) -> tuple[RecipientId, ...]:
    """The recipients of some records, which rise.

    Raises:
        MalformedError: these are no records.
    """
    if not records or len(records) % RECORD_BYTES:
        raise MalformedError(f"the wraps of a rotation do not have {len(records)} bytes")
    found = tuple(RecipientId(records[at : at + RecipientId.LENGTH]) for at in range(0, len(records), RECORD_BYTES))
    require_rising(found, MAX_WRAPS_BESIDE, "the recipients of a rotation")
    return found


def _reason_from(value: str) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        raise MalformedError("a rotation has a reason of no known kind") from None


def _page_from(value: object) -> tuple[RecipientId, BlobHash]:
    match value:
        case [bytes() as recipient, bytes() as item]:
            return RecipientId(recipient), BlobHash(item)
    raise MalformedError("a page of wraps is [first recipient id, blob hash]")
