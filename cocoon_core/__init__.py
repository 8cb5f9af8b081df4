"""Cocoon: an end-to-end encrypted, local-first sync engine for small private groups.

    async with await Cocoon.open(home) as cocoon:
        group = await cocoon.create_group("Family", member_name="Ana", relays=["ws://127.0.0.1:8787"])

The names below are the public ones. They are imported when first used, so a relay, which needs only the frames, loads
neither automerge nor a key ring.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoon_core import errors
    from cocoon_core.cocoon import Cocoon
    from cocoon_core.group import AuditReport, Group, InviteInfo, MemberInfo, RelayReport, SyncReport
    from cocoon_core.social.feed import Feed, Post
    from cocoon_core.storage.local_proof import LocalProof

__all__ = [
    "AuditReport",
    "Cocoon",
    "Feed",
    "Group",
    "InviteInfo",
    "LocalProof",
    "MemberInfo",
    "Post",
    "RelayReport",
    "SyncReport",
    "errors",
]

_HOMES = {
    "AuditReport": "cocoon_core.group",
    "Cocoon": "cocoon_core.cocoon",
    "Feed": "cocoon_core.social.feed",
    "Group": "cocoon_core.group",
    "InviteInfo": "cocoon_core.group",
    "LocalProof": "cocoon_core.storage.local_proof",
    "MemberInfo": "cocoon_core.group",
    "Post": "cocoon_core.social.feed",
    "RelayReport": "cocoon_core.group",
    "SyncReport": "cocoon_core.group",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("cocoon_core.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
