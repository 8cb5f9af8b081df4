"""The views of events and of the replies to them. Spec: specs/together.md §6.

An event is the map under a root key `event:<random>` of its maker's document `event/<month>`, a reply the one under
`reply:<random>` of the document `reply/<month>` of who replies. So nobody changes another's event, and nobody replies
for another. How the tables follow the documents is owned_view.py's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from cocoon_core.protocol.constants import (
    EVENT_ID_BYTES,
    LABEL_EVENT,
    LABEL_EVENT_REPLY,
    MAX_EVENT_ABOUT_BYTES,
    MAX_EVENT_DAYS,
    MAX_EVENT_WORDS_BYTES,
    MAX_TITLE_BYTES,
)
from cocoon_core.protocol.ids import DocumentId
from cocoon_core.protocol.primitives import make_hasher
from cocoon_core.social.owned_view import OwnedView, Said, clamp_ms
from cocoon_core.social.shared_view import UNNAMED, read_time
from cocoon_core.sync.relay_list import DAY_MS
from cocoon_core.vault.naming import clean_text

EVENT_PREFIX: Final = "event/"
EVENT_KEY: Final = "event:"
REPLY_PREFIX: Final = "reply/"
REPLY_KEY: Final = "reply:"
YES, NO, MAYBE = 1, 2, 3
REPLIES: Final = ("yes", "no", "maybe")  # by what a reply says, less one

_hash_event: Final = make_hasher(LABEL_EVENT, EVENT_ID_BYTES)
_hash_reply: Final = make_hasher(LABEL_EVENT_REPLY, EVENT_ID_BYTES)


class EventView(OwnedView):
    """The table `events` of one group."""

    documents: ClassVar = EVENT_PREFIX
    keys: ClassVar = EVENT_KEY
    table: ClassVar = "events"
    identity: ClassVar = "event"
    stays: ClassVar = True  # an event may lie far ahead of the month in which it was written
    columns: ClassVar = (
        *("time_ms", "name", "begins_ms", "ends_ms", "over_ms", "days", "edited_ms", "place", "about", "cancelled"),
    )

    def identify(self, base: DocumentId, key: str) -> bytes:
        return event_id(base, key)

    def read(self, value: Any, identity: bytes) -> Said | None:
        return read_event(value)

    def read_tombstone(self, value: Any, identity: bytes, generation: int) -> Said | None:
        if type(value) is not dict:
            return None
        return read_event({"at": value.get("at"), "begins": value.get("at")})


class ReplyView(OwnedView):
    """The table `event_replies` of one group."""

    documents: ClassVar = REPLY_PREFIX
    keys: ClassVar = REPLY_KEY
    table: ClassVar = "event_replies"
    identity: ClassVar = "reply"
    stays: ClassVar = True
    columns: ClassVar = ("time_ms", "event", "says", "words")

    def identify(self, base: DocumentId, key: str) -> bytes:
        return reply_id(base, key)

    def read(self, value: Any, identity: bytes) -> Said | None:
        return read_reply(value)

    def read_tombstone(self, value: Any, identity: bytes, generation: int) -> Said | None:
        if type(value) is not dict:
            return None
        return read_reply({"at": value.get("at"), "event": bytes(EVENT_ID_BYTES), "says": NO})


def read_event(value: Any) -> Said | None:
    """What a map says, in the order of `EventView.columns`; None where it is no event."""
    if type(value) is not dict:
        return None
    get = value.get
    time_ms, begins = get("at"), get("begins")
    if type(time_ms) is not int or type(begins) is not int:
        return None
    begins, days, ends = clamp_ms(begins), get("days"), get("ends")
    if type(days) is int and 1 <= days <= MAX_EVENT_DAYS:
        begins -= begins % DAY_MS
        ends = clamp_ms(begins + days * DAY_MS)
    else:
        days = 0
        ends = clamp_ms(ends) if type(ends) is int and ends > begins else None
    return (
        clamp_ms(time_ms),
        _read_text(get("name"), MAX_TITLE_BYTES) or UNNAMED,
        begins,
        ends,
        begins if ends is None else ends,
        days,
        read_time(get("edited")),
        _read_text(get("place"), MAX_TITLE_BYTES),
        _read_text(get("about"), MAX_EVENT_ABOUT_BYTES, lines=True),
        int(type(get("cancelled")) is int),
    )


def read_reply(value: Any) -> Said | None:
    """What a map says, in the order of `ReplyView.columns`; None where it is no reply."""
    if type(value) is not dict:
        return None
    time_ms, event, says = value.get("at"), value.get("event"), value.get("says")
    if type(time_ms) is not int or type(event) is not bytes or len(event) != EVENT_ID_BYTES:
        return None
    if type(says) is not int or says not in (YES, NO, MAYBE):
        return None
    return clamp_ms(time_ms), event, says, _read_text(value.get("words"), MAX_EVENT_WORDS_BYTES, lines=True)


def event_id(document: DocumentId, key: str) -> bytes:
    """The id of an event: 16 bytes that name the document, in generation 0, and the key, and so its maker."""
    return _hash_event(document + key.encode())


def reply_id(document: DocumentId, key: str) -> bytes:
    """The id of a reply, made alike."""
    return _hash_reply(document + key.encode())


def _read_text(value: Any, most: int, *, lines: bool = False) -> str:
    return clean_text(value, most, lines=lines) if type(value) is str and value else ""
