"""Vectors for specs/vault-items.md: ids of items, and what is read of maps."""

from __future__ import annotations

from typing import Any, Final

from cocoon_core.protocol.descriptor import Descriptor, DocumentKind
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item_view import ItemView, item_id, pack_ref, read_item
from tests.support.protocol_story import FEED, GROUP
from tests.vectors.values import Json

REF: Final = FileRef(Secret(bytes(range(32))), 70_000, (BlobHash(bytes(range(32, 64))),))
THUMB: Final = FileRef(Secret(bytes(range(64, 96))), 900, (BlobHash(bytes(range(96, 128))),))
FILE: Final[dict[str, Any]] = {"at": 1_790_000_000_000, "kind": "file", "name": "notes.txt", **REF.to_value()}
LINK: Final[dict[str, Any]] = {"at": 1_790_000_000_000, "kind": "link", "url": "https://example.org/a?b#c"}

MAPS: Final[tuple[tuple[str, Any], ...]] = (
    ("a file, and no more than it needs", FILE),
    (
        "a photo with everything",
        {
            **FILE, "kind": "photo", "name": "Pier.jpg", "type": "image/jpeg", "caption": "At the\npier",
            "album": "Summer", "width": 4032, "height": 3024, "digest": bytes(range(32)), "blur": bytes(range(28)),
            "thumb": pack_ref(THUMB),
        },
    ),
    ("a video", {**FILE, "kind": "video", "name": "clip.mp4", "type": "video/mp4", "duration": 61_500}),
    ("a link is called after its host", LINK),
    ("a link with a preview", {**LINK, "name": "A title", "caption": "a note", "site": "Example", "about": "A page"}),
    ("another kind is a file", {**FILE, "kind": "program"}),
    ("another type is unknown", {**FILE, "type": "text/html; charset=utf-8"}),
    ("a name with a path", {**FILE, "name": "../../.bashrc"}),
    ("a name that shows backwards", {**FILE, "name": "photo\u202egpj.exe"}),
    ("times are clamped", {**FILE, "at": -5}),
    ("odd values are as absent", {
        **FILE, "type": 5, "caption": b"x", "album": "", "width": 0, "height": "3", "duration": -1, "digest": b"short",
        "blur": bytes(65), "thumb": b"\xff", "other": True,
    }),
    ("no map", "item"),
    ("without a time", {key: value for key, value in FILE.items() if key != "at"}),
    ("without a kind", {key: value for key, value in FILE.items() if key != "kind"}),
    ("without a reference", {"at": 1, "kind": "photo", "name": "a.jpg"}),
    ("a reference that does not fit its size", {**FILE, "size": 2**21}),
    ("a link that leads nowhere", {"at": 1, "kind": "link", "name": "a"}),
    ("a link that runs", {**LINK, "url": "javascript:alert(1)"}),
    ("a link with a password", {**LINK, "url": "https://a:b@example.org/"}),
    ("a link that is not ASCII", {**LINK, "url": "https://ex\u0430mple.org/"}),
)  # fmt: skip


def make_vault_items() -> Json:
    """Ids of items, and what is read of maps; null where a map is no item. Maps are deterministic CBOR in hex."""
    member = FEED.member
    ids = []
    for name, key in (("vault/2026-09", "item:0011223344556677"), ("vault/2026-10", "item:é")):
        document = Descriptor(DocumentKind.OWNED, name, member).document_id(GROUP)
        ids.append({"name": name, "document": document.hex(), "key": key, "id": item_id(document, key).hex()})
    return {
        "group": GROUP.hex(),
        "member": member.hex() if member is not None else None,
        "ids": ids,
        "read": [{"name": name, "map": encode(value).hex(), "item": read_as_json(value)} for name, value in MAPS],
    }


def read_as_json(value: Any) -> Json | None:
    """What is read of a map, without what is absent and what is only for seeking."""
    said = read_item(value)
    if said is None:
        return None
    named = dict(zip(ItemView.columns, said, strict=True))
    return {
        key: one.hex() if isinstance(one, bytes) else one
        for key, one in named.items()
        if one not in (None, "") and key not in ("sought", "has_thumb", "file_id", "thumb_id")
    }
