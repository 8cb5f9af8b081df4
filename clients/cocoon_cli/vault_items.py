"""Items of the vault as scripts and as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cocoon_cli.output import Screen
from cocoon_cli.text import age, duration_words, shorten_id, size, timestamp

if TYPE_CHECKING:
    from cocoon_core import VaultItem

KINDS = ("file", "photo", "video", "audio", "link")


def item_data(item: VaultItem) -> dict[str, Any]:
    """An item as scripts see it."""
    return {
        "id": item.id,
        "kind": item.kind,
        "name": item.name,
        "size": item.size,
        "mime": item.mime,
        "author": item.author,
        "author_id": str(item.author_id),
        "time": timestamp(item.time),
        "caption": item.caption,
        "album": item.album,
        "width": item.width,
        "height": item.height,
        "duration": None if item.duration is None else item.duration.total_seconds(),
        "thumbnail": item.has_thumb,
        "url": item.url,
        "site": item.site,
        "about": item.about,
    }


def draw_items(screen: Screen, items: Sequence[VaultItem]) -> None:
    """One line each, and a second one for what was said of it."""
    now = datetime.now(UTC)
    rows = [(shorten_id(item.id), item.kind, _extent(item), item.author, age(item.time, now)) for item in items]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(KINDS))]
    for item, (short, kind, extent, author, when) in zip(items, rows, strict=True):
        screen.line(
            (short, "cyan"),
            f"  {kind:<{widths[1]}}  {extent:>{widths[2]}}  ",
            (item.name, "bold"),
            (f"  {' · '.join(part for part in (author, when, item.album) if part)}", "dim"),
        )
        for text in filter(None, (item.url, item.caption, item.about)):
            screen.body(text, indent=len(short) + 2)


def _extent(item: VaultItem) -> str:
    """What there is to say of its size."""
    if item.duration is not None:
        return f"{duration_words(item.duration)}, {size(item.size)}"
    return size(item.size) if item.kind != "link" else "·"
