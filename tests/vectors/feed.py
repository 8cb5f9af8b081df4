"""Vectors for specs/feed.md: ids of posts, and what is read of maps and tombstones."""

from __future__ import annotations

from typing import Any, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.encoding import encode
from cocoon_core.social.post_view import PostView, post_id, read_post, read_post_tombstone
from tests.support.protocol_story import FEED, GROUP
from tests.vectors.values import Json

OWN: Final = bytes(range(16))
OTHER: Final = bytes(range(16, 32))
POST: Final[dict[str, Any]] = {"at": 1_790_000_000_000, "text": "Soup is ready."}
REPLY: Final[dict[str, Any]] = {**POST, "re": OTHER}

MAPS: Final[tuple[tuple[str, Any], ...]] = (
    ("a post, and no more than it needs", POST),
    ("a reply", REPLY),
    ("a post with all that one can have", {
        **POST, "files": OTHER * 2, "edited": 1_790_000_001_000, "quote": OTHER,
        "mentions": bytes(range(64)), "ask": 1, "until": 1_790_100_000_000,
    }),
    ("a question with two answers", {**POST, "ask": 2, "solved": OTHER + OWN}),
    ("an answer to a call", {**REPLY, "answer": 2}),
    ("it answers itself", {**POST, "re": OWN}),
    ("it quotes itself", {**POST, "quote": OWN}),
    ("a parent of another length", {**POST, "re": OTHER + b"\0"}),
    ("more mentions than count", {**POST, "mentions": b"".join(bytes([n]) * 32 for n in range(65))}),
    ("mentions that are no whole ids", {**POST, "mentions": bytes(33)}),
    ("more answers than count", {**POST, "ask": 2, "solved": b"".join(bytes([n]) * 16 for n in range(17))}),
    ("a call among replies", {**REPLY, "ask": 1, "until": 5}),
    ("a deadline of no call", {**POST, "ask": 2, "until": 5}),
    ("another kind of asking", {**POST, "ask": 3, "until": 5, "solved": OTHER}),
    ("truth is no number", {**POST, "ask": True, "edited": True}),
    ("an answer that answers nothing", {**POST, "answer": 1}),
    ("times are clamped", {**POST, "at": 2**62, "edited": -5, "ask": 1, "until": 2**62}),
    ("odd values are as absent", {
        **POST, "re": "x", "files": b"short", "edited": "1", "quote": 5, "mentions": "", "ask": "1", "until": b"9",
        "answer": None, "solved": OTHER, "other": True,
    }),
    ("no map", "post"),
    ("without a time", {"text": "x"}),
    ("without a text", {"at": 1}),
    ("a text that is none", {"at": 1, "text": b"x"}),
)  # fmt: skip

TOMBSTONES: Final[tuple[tuple[str, int, Any], ...]] = (
    ("deleted", 0, {"at": 5, "re": OTHER, "deleted": 9}),
    ("deleted, carried on by an erase", 1, {"at": 5, "deleted": 9}),
    ("erased", 1, {"at": 5, "re": OTHER}),
    ("nothing of it counts but where it stood", 2, {**REPLY, "edited": 1, "quote": OTHER, "answer": 1}),
    ("nothing can have been erased in the first generation", 0, {"at": 5}),
    ("without a time", 1, {"deleted": 9}),
    ("no map", 1, 5),
)


def make_feed() -> Json:
    """Ids of posts, and what is read of maps and tombstones; null where one is none.

    Maps are deterministic CBOR in hex, each read as the post of the id `own`.
    """
    member = FEED.member
    ids = []
    for name, key in (("feed/2026-09", "post:0011223344556677"), ("feed/2026-10", "post:é")):
        document = Descriptor(DocumentKind.OWNED, name, member).document_id(GROUP)
        ids.append({"name": name, "document": document.hex(), "key": key, "id": post_id(document, key).hex()})
    return {
        "group": GROUP.hex(),
        "member": member.hex() if member is not None else None,
        "own": OWN.hex(),
        "ids": ids,
        "read": [
            {"name": name, "map": encode(value).hex(), "post": as_json(read_post(value, OWN))} for name, value in MAPS
        ],
        "tombstones": [
            {
                "name": name,
                "generation": generation,
                "map": encode(value).hex(),
                "post": as_json(read_post_tombstone(value, OWN, generation)),
            }
            for name, generation, value in TOMBSTONES
        ],
    }


def as_json(said: tuple[Any, ...] | None) -> Json | None:
    """What was read, without what is absent."""
    if said is None:
        return None
    named = dict(zip(PostView.columns, said, strict=True))
    return {
        key: one.hex() if isinstance(one, bytes) else one
        for key, one in named.items()
        if one is not None and (one or key not in ("edited", "deleted"))
    }
