"""What a replica tells those who watch a group. Sent after the commit that made it true, never before."""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_core.protocol.ids import DeviceId, DocumentId, EntryId, MemberId, RequestId


@dataclass(frozen=True, slots=True)
class DocumentChanged:
    """Root keys of a document were changed, by this device or another."""

    document: DocumentId
    name: str
    keys: frozenset[str]
    own: bool


@dataclass(frozen=True, slots=True)
class PostsMarked:
    """Admins hid posts or show them again, put them at the top or took them from there; ids of posts in hex.

    Some may not be here; `Feed.changed` gives those that are.
    """

    hidden: frozenset[str]
    shown: frozenset[str]
    pinned: frozenset[str]
    unpinned: frozenset[str]


@dataclass(frozen=True, slots=True)
class RosterChanged:
    """The roster evaluates to another state. `joined` are members that are new in it."""

    operations: tuple[EntryId, ...]
    joined: tuple[MemberId, ...]


@dataclass(frozen=True, slots=True)
class EntriesWithdrawn:
    """Entries of a device do not count any more, since the roster says so now. `documents` are built without them."""

    device: DeviceId
    member: MemberId | None
    entries: int
    documents: frozenset[DocumentId]


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Something that a member should be told: `kind` is stable, `message` is for people."""

    kind: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class SyncWanted:
    """There is something to be sent or asked for, which no edit made: whoever is connected does it now."""


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A member came, went, began or ended to type. Nothing was stored of it, and it may be told late or not at all.

    Attributes:
        typing: the id of the post in whose thread, empty for the feed; None where they do not type.
    """

    member: MemberId
    online: bool
    typing: str | None


@dataclass(frozen=True, slots=True)
class RequestMade:
    """Somebody newly asks to be let in, under this name; `Group.requests` lists them."""

    request: RequestId
    name: str


@dataclass(frozen=True, slots=True)
class NoticesAdded:
    """The stream of notices has these numbers more (specs/events.md); `first` to `last`, both among them."""

    first: int
    last: int


GroupEvent = (
    DocumentChanged
    | PostsMarked
    | RosterChanged
    | EntriesWithdrawn
    | AlarmRaised
    | SyncWanted
    | PresenceChanged
    | RequestMade
    | NoticesAdded
)
