"""Vectors for specs/together.md: ids of events and replies, places in lists, and what is read of maps."""

from __future__ import annotations

from typing import Any, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.encoding import encode
from cocoon_core.social.event_view import EventView, ReplyView, event_id, read_event, read_reply, reply_id
from cocoon_core.social.list_view import ListsView, read_item
from cocoon_core.social.note_view import NotesView
from cocoon_core.social.places import place_between, spread
from tests.support.protocol_story import FEED, GROUP
from tests.vectors.values import Json

AT: Final = 1_790_000_000_000
EVENT: Final[dict[str, Any]] = {"at": AT, "begins": AT + 3_600_000, "name": "Party"}
REPLY: Final[dict[str, Any]] = {"at": AT, "event": bytes(range(16)), "says": 1}
ITEM: Final[dict[str, Any]] = {"text": "milk", "at": AT, "place": "V1"}

EVENTS: Final[tuple[tuple[str, Any], ...]] = (
    ("an event, and no more than it needs", EVENT),
    (
        "an event with everything",
        {
            **EVENT,
            "ends": AT + 7_200_000,
            "place": "the pier",
            "about": "Bring\ncake",
            "edited": AT + 5,
            "cancelled": AT,
        },
    ),
    ("whole days begin at midnight, and have no other end", {**EVENT, "days": 3, "ends": AT + 1}),
    ("an end that is none", {**EVENT, "ends": AT}),
    ("too many days", {**EVENT, "days": 3_661}),
    ("times are clamped", {"at": -1, "begins": 2**60, "ends": 2**61}),
    ("odd values are as absent", {**EVENT, "name": 5, "place": b"x", "about": None, "edited": "1", "cancelled": True}),
    ("a name that shows backwards", {**EVENT, "name": "party\u202e"}),
    ("no map", "event"),
    ("without a time", {"begins": AT}),
    ("without a beginning", {"at": AT, "name": "Party"}),
)
REPLIES: Final[tuple[tuple[str, Any], ...]] = (
    ("yes", REPLY),
    ("no, with words", {**REPLY, "says": 2, "words": "I am\n\n\n\naway"}),
    ("maybe, with words that are none", {**REPLY, "says": 3, "words": 5}),
    ("another answer", {**REPLY, "says": 4}),
    ("an event that is no id", {**REPLY, "event": bytes(15)}),
    ("without a time", {"event": bytes(16), "says": 1}),
)
ITEMS: Final[tuple[tuple[str, Any], ...]] = (
    ("an item", ITEM),
    ("one that is done", {**ITEM, "done": AT + 1}),
    ("a place that is none", {**ITEM, "place": "V0"}),
    ("without time and place", {"text": "milk"}),
    ("on one line", {**ITEM, "text": " rye \n bread "}),
    ("without words", {**ITEM, "text": "\u200b"}),
    ("no map", 5),
)


def make_together() -> Json:
    """Ids, and what is read of maps; null where a map is none of that kind. Maps are deterministic CBOR in hex."""
    member = FEED.member
    assert member is not None
    ids = []
    for name, key, identify in (
        ("event/2026-09", "event:0011223344556677", event_id),
        ("event/2026-10", "event:é", event_id),
        ("reply/2026-09", "reply:0011223344556677", reply_id),
    ):
        document = Descriptor(DocumentKind.OWNED, name, member).document_id(GROUP)
        ids.append({"name": name, "document": document.hex(), "key": key, "id": identify(document, key).hex()})
    shared = [
        {"name": name, "schema": dict(schema), "document": _shared(name, schema)}
        for name, schema in (("list/0011223344556677", ListsView.schema), ("note/0011223344556677", NotesView.schema))
    ]
    return {
        "group": GROUP.hex(),
        "member": member.hex(),
        "ids": ids,
        "documents": shared,
        "events": [{"name": name, "map": encode(value).hex(), "event": event_json(value)} for name, value in EVENTS],
        "replies": [{"name": name, "map": encode(value).hex(), "reply": reply_json(value)} for name, value in REPLIES],
        "items": [{"name": name, "map": encode(value).hex(), "item": item_json(value)} for name, value in ITEMS],
        "places": [
            {"above": above, "below": below, "random": jitter, "place": place_between(above, below, jitter)}
            for above, below, jitter in (
                (None, None, 0), (None, None, 3_781), ("V1", None, 0), (None, "V1", 7), ("V1", "V2", 100),
                ("V", "VV", 61), ("zzzzzz", None, 5), (None, "000001", 5), ("V", "V", 0), ("~", None, 0), ("V", "~", 0),
            )
        ],
        "spread": spread(5),
    }  # fmt: skip


def _shared(name: str, schema: tuple[tuple[str, str], ...]) -> str:
    return Descriptor(DocumentKind.SHARED, name, schema=schema).document_id(GROUP).hex()


def event_json(value: Any) -> Json | None:
    """What is read of a map, by column."""
    return _named(EventView.columns, read_event(value))


def reply_json(value: Any) -> Json | None:
    return _named(ReplyView.columns, read_reply(value))


def item_json(value: Any) -> Json | None:
    return _named(("text", "time_ms", "done_ms", "place"), read_item(value))


def _named(columns: tuple[str, ...], said: tuple[Any, ...] | None) -> Json | None:
    if said is None:
        return None
    named = dict(zip(columns, said, strict=True))
    return {key: one.hex() if isinstance(one, bytes) else one for key, one in named.items() if one not in (None, "")}
