"""The operation that begins a new epoch: its body. Implements specs/roster.md §2 and specs/epoch.md §4.

Who must be wrapped for, and how a wrap is opened, is in rotation.py; which of several is followed, in epochs.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_INLINE_WRAPS, MAX_PARENT_TOPICS, MAX_WRAP_PAGES, WRAP_BYTES
from cocoon_core.protocol.ids import BlobHash, RecipientId, TopicId
from cocoon_core.protocol.operation_forms import require_rising, take_items
from cocoon_core.protocol.primitives import Secret


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
class WrapPages:
    """Where the wraps are that do not stand in the rotation: sealed pages, each with the first recipient in it."""

    key: Secret
    pages: tuple[tuple[RecipientId, BlobHash], ...]

    def __post_init__(self) -> None:
        require_rising(tuple(first for first, _ in self.pages), MAX_WRAP_PAGES, "wrap pages")
        if not self.pages:
            raise MalformedError("there is one page of wraps at least")


@dataclass(frozen=True, slots=True)
class Rotation:
    """Ends the epochs of `parents` and begins that of `topic`, whose secret is wrapped for each recipient.

    Up to MAX_INLINE_WRAPS wraps stand in it, by rising recipient id; beyond that it names pages that hold them.
    """

    CODE: ClassVar[int] = 16
    reason: Reason
    parents: tuple[TopicId, ...]
    topic: TopicId
    wraps: tuple[tuple[RecipientId, bytes], ...] = ()
    paged: WrapPages | None = None

    def __post_init__(self) -> None:
        require_rising(self.parents, MAX_PARENT_TOPICS, "parent topics")
        require_rising(tuple(recipient for recipient, _ in self.wraps), MAX_INLINE_WRAPS, "wraps")
        if not self.parents or self.topic in self.parents:
            raise MalformedError("a rotation ends one epoch at least, and not the one that it begins")
        if any(len(wrapped) != WRAP_BYTES for _, wrapped in self.wraps):
            raise MalformedError(f"a wrap has {WRAP_BYTES} bytes")
        if bool(self.wraps) == (self.paged is not None):
            raise MalformedError("a rotation carries its wraps or names their pages")

    @property
    def pages(self) -> tuple[BlobHash, ...]:
        """The blobs that hold the wraps; none where they stand in it."""
        return () if self.paged is None else tuple(page for _, page in self.paged.pages)

    def encode_body(self) -> list[Any]:
        if self.paged is None:
            where: list[Any] = [[recipient, wrapped] for recipient, wrapped in self.wraps]
            key = b""
        else:
            where = [[first, page] for first, page in self.paged.pages]
            key = self.paged.key.reveal()
        return [self.CODE, str(self.reason), list(self.parents), self.topic, key, where]

    @classmethod
    def from_items(cls, items: list[Any]) -> Self:
        reason, parents, topic, key, where = take_items(items, str, list, bytes, bytes, list)
        head = _reason_from(reason), tuple(TopicId(parent) for parent in parents), TopicId(topic)
        pairs = [_pair_from(value) for value in where]
        if not key:
            return cls(*head, tuple(pairs))
        pages = tuple((first, BlobHash(page)) for first, page in pairs)
        return cls(*head, (), WrapPages(Secret(key), pages))


def _reason_from(value: str) -> Reason:
    try:
        return Reason(value)
    except ValueError:
        raise MalformedError("a rotation has a reason of no known kind") from None


def _pair_from(value: object) -> tuple[RecipientId, bytes]:
    match value:
        case [bytes() as recipient, bytes() as item]:
            return RecipientId(recipient), item
    raise MalformedError("a wrap is [recipient id, bytes], a page [first recipient id, blob hash]")
