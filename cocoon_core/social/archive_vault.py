"""The vault in an archive: what is said of its items, as pages and as JSON, beside the files themselves.

The files are put there by the caller, who can fetch them. Names of files are clean ones (specs/media.md §1) behind the
beginning of the item's id, so two of one name do not meet. Implements specs/archive.md §2 and §3.
"""

from __future__ import annotations

import json
from collections.abc import Container
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import quote

from cocoon_core.social.archive_files import open_private, stamp
from cocoon_core.social.archive_pages import attribute, begin_page, end_page, name_text, page_text, when_text
from cocoon_core.social.item import Item
from cocoon_core.social.item_view import LINK

FILES: Final = "files"
PAGE_ITEMS: Final = 500
_ID_DIGITS: Final = 12


def file_of(item: Item) -> str:
    """Where the file of an item stands, below the group's folder."""
    return f"{FILES}/{item.id[:_ID_DIGITS]}-{item.name}"


def item_data(item: Item, file: str | None, problem: str | None) -> dict[str, Any]:
    """An item as JSON has it; `problem` says why there is no file of it."""
    return {
        "id": item.id,
        "kind": item.kind,
        "name": item.name,
        "size": item.size,
        "mime": item.mime,
        "author": item.author,
        "author_id": str(item.author_id),
        "time": stamp(item.time),
        "caption": item.caption,
        "album": item.album,
        "width": item.width,
        "height": item.height,
        "duration": None if item.duration is None else item.duration.total_seconds(),
        "url": item.url,
        "site": item.site,
        "about": item.about,
        "file": file,
        "problem": problem,
    }


class VaultWriter:
    """Writes `vault.json` and the pages `vault.html`, `vault-2.html`, … one item after another, the oldest first."""

    def __init__(self, folder: Path, group: str, exported: datetime) -> None:
        self._folder, self._group, self._exported = folder, group, exported
        self._json: TextIO | None = None
        self._page: TextIO | None = None
        self.names: list[str] = []
        self.items = 0
        self.absent: dict[str, str] = {}  # items without their file, and why

    def add(self, item: Item, problem: str | None = None) -> None:
        """One more; its file is there unless there is a problem, or it is a link."""
        file = None if problem is not None or item.kind == LINK else file_of(item)
        if problem is not None:
            self.absent[item.id] = problem
        if self._json is None:
            self._json = open_private(self._folder / "vault.json")
            self._json.write('{"items": [')
        self._json.write((",\n" if self.items else "\n") + json.dumps(item_data(item, file, problem)))
        if self._page is None or self.items % PAGE_ITEMS == 0:
            self._begin_page()
        assert self._page is not None, "it was begun"
        self._page.write(_row(item, file, problem))
        self.items += 1

    def end(self) -> list[str]:
        """The names of what was written, `vault.json` first; none where there are no items."""
        if self._json is None:
            return []
        self._json.write("\n]}\n")
        self._json.close()
        self._end_page(None)
        return ["vault.json", *self.names]

    def _begin_page(self) -> None:
        number = len(self.names) + 1
        name = "vault.html" if number == 1 else f"vault-{number}.html"
        self._end_page(name)
        before = f'<a href="{self.names[-1]}">← Before</a>' if self.names else ""
        title = "Vault" if number == 1 else f"Vault, {number}"
        nav = f'<nav><a href="index.html">{name_text(self._group)}</a>{before}</nav>'
        self.names.append(name)
        self._page = open_private(self._folder / name)
        self._page.write(begin_page(f"{title} · {self._group}", f"{nav}<h1>{title}</h1>"))

    def _end_page(self, following: str | None) -> None:
        if self._page is not None:
            link = f'<nav><a class="next" href="{following}">After →</a></nav>' if following else ""
            self._page.write(link + end_page(self._exported))
            self._page.close()

    def close(self) -> None:
        """Close what is open; after `end`, nothing is."""
        for file in (self._json, self._page):
            if file is not None:
                file.close()


def link_to(item: Item, absent: Container[str]) -> str:
    """An item in a post or a list: a link to its file where that is in the archive."""
    shown = f'<b dir="auto">{name_text(item.name)}</b>'
    if item.kind == LINK or item.id in absent:
        return shown
    return f'<a href="{attribute(quote(file_of(item)))}">{shown}</a>'


def _row(item: Item, file: str | None, problem: str | None) -> str:
    marks = [item.kind, size_text(item.size) if item.kind != LINK else "", item.album or ""]
    quiet = " · ".join(name_text(mark) for mark in marks if mark)
    words = [text for text in (item.url, item.caption, item.about) if text]
    said = "".join(f'<p class="words" dir="auto">{page_text(text)}</p>' for text in words)
    missing = "" if problem is None else f'<p class="mark">Not in this archive: {name_text(problem)}</p>'
    return (
        f'<div class="box" id="i{attribute(item.id)}">{link_to(item, () if file else (item.id,))} '
        f'<span class="quiet">{quiet}</span><p class="quiet">{name_text(item.author)}, '
        f'<time datetime="{item.time.isoformat(timespec="milliseconds")}">{when_text(item.time)}</time></p>'
        f"{said}{missing}</div>\n"
    )


def size_text(size: int) -> str:
    """Bytes in the unit that keeps the figure short."""
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.1f} KiB" if size < 1024**2 else f"{size / 1024**2:.1f} MiB"
