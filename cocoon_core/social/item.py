"""What a member sees of the vault: items and albums. Values that hold no key. Spec: specs/vault-items.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cocoon_core.protocol.ids import MemberId


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the vault: a file, photo, video or audio, or a link.

    Attributes:
        name: a plain file name that can be saved under on any system; of a link its title.
        mime: of a fixed table; empty for a link. What its member says, so it decides what is shown and no more.
        size: bytes of the file; 0 for a link.
        time: when it was added, by its member's clock, in UTC.
        has_thumb: a small picture of it can be had with `Vault.thumbnail`.
        blur: a few bytes from which something like the picture is drawn at once (specs/media.md).
        url, site, about: of a link, and what its preview said, if its member asked for one.
    """

    id: str
    author: str
    author_id: MemberId
    kind: str
    name: str
    mime: str
    size: int
    time: datetime
    caption: str
    album: str | None
    width: int | None
    height: int | None
    duration: timedelta | None
    has_thumb: bool
    blur: bytes | None
    url: str | None
    site: str
    about: str


@dataclass(frozen=True, slots=True)
class Album:
    """A name that items stand under, whoever added them. `size` is in bytes of their files; `newest` is of an item."""

    name: str
    items: int
    size: int
    newest: datetime
