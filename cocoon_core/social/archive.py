"""Writes one group's folder of an archive: pages for people, and the same as JSON. Implements specs/archive.md.

What is held at a time is one thread: a month of 100,000 posts is written as it is read, onto pages of PAGE_POSTS.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from cocoon_core.errors import CocoonError
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.social.archive_files import month_title, open_private, slug, stamp, write_text, writing
from cocoon_core.social.archive_pages import MemberRow, MonthPage, Shown, group_page
from cocoon_core.social.archive_together import PAGE, stands_here
from cocoon_core.social.archive_vault import VaultWriter, link_to
from cocoon_core.social.feed import Feed
from cocoon_core.social.item import Item
from cocoon_core.social.item_view import VAULT_PREFIX
from cocoon_core.social.member_profiles import PROFILE_NAME
from cocoon_core.social.post import Post
from cocoon_core.social.post_view import FEED_PREFIX
from cocoon_core.social.seen import SEEN_PREFIX
from cocoon_core.sync.replica import Replica

PAGE_POSTS: Final = 500  # posts on a page; a thread is not cut
SHOWN_BYTES: Final = 32 * 1024  # of a document on the group's page; a longer one is in its file alone

Told = Callable[[int], None]


@dataclass(slots=True)
class GroupArchive:
    """What was written of one group."""

    folder: str
    posts: int = 0
    items: int = 0
    absent: int = 0
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What the group's page says besides posts and documents. Members are as `members` and `former_members` give them,
    with the keys of specs/archive.md.
    """

    id: str
    name: str
    members: Sequence[Mapping[str, Any]]
    former_members: Sequence[Mapping[str, Any]]
    notices: Sequence[str]


class GroupWriter:
    """Writes one group into an empty folder of its own."""

    def __init__(
        self,
        folder: Path,
        facts: GroupFacts,
        replica: Replica,
        feed: Feed,
        exported: datetime,
        vault: VaultWriter,
        together: Sequence[str] = (),
    ) -> None:
        """Args:
        vault: has written all items.
        together: files of lists, notes and events that were written, the page first.
        """
        self._folder, self._facts, self._replica, self._feed = folder, facts, replica, feed
        self._exported, self._vault, self._together = exported, vault, together
        self._written = GroupArchive(folder.name, items=vault.items, absent=len(vault.absent))

    def write(self) -> Iterator[int]:
        """Write everything; gives the number of posts written so far after every thread, so that others get a turn.

        Ask `written` at the end.
        """
        months = self._feed.months()
        listed: list[dict[str, Any]] = []
        shown: list[tuple[str, str, int]] = []
        for place, month in enumerate(months):
            pages = _Pages(self._folder, self._facts.name, month, self._exported, self._vault.absent)
            if place:
                pages.before = f"{months[place - 1]}.html"
            with writing(self._folder / f"{month}.json") as file:
                file.write(f'{{"month": {json.dumps(month)}, "threads": [')
                for number, thread in enumerate(self._feed.threads(month)):
                    posts = [post_data(post) for post in thread]
                    file.write((",\n" if number else "\n") + json.dumps({"root": thread[0].id, "posts": posts}))
                    pages.add(thread)
                    self._written.posts += len(thread)
                    yield self._written.posts
                file.write("\n]}\n")
            pages.end(f"{months[place + 1]}.html" if place + 1 < len(months) else None)
            listed.append({"month": month, "file": f"{month}.json", "pages": pages.names, "posts": pages.total})
            shown.append((month_title(month), pages.names[0], pages.total))
            self._written.files += [f"{month}.json", *pages.names]
        documents, boxes = self._write_documents()
        self._write_group(listed, documents)
        members = [*map(_member_row, self._facts.members), *map(_former_row, self._facts.former_members)]
        has_vault = self._vault.items
        page = group_page(
            self._facts.name,
            members,
            shown,
            boxes,
            self._facts.notices,
            self._exported,
            has_vault,
            PAGE if self._together else None,
        )
        write_text(self._folder / "index.html", page)
        self._written.files += ["group.json", "index.html"]

    @property
    def written(self) -> GroupArchive:
        return self._written

    def _write_group(self, months: list[dict[str, Any]], documents: list[dict[str, Any]]) -> None:
        facts = self._facts
        value = {
            "id": facts.id,
            "name": facts.name,
            "members": list(facts.members),
            "former_members": list(facts.former_members),
            "months": months,
            "documents": documents,
            "vault": {"file": "vault.json", "pages": self._vault.names, "items": self._vault.items}
            if self._vault.items
            else None,
            "together": self._together[1] if self._together else None,
            "notices": list(facts.notices),
        }
        write_text(self._folder / "group.json", json.dumps(value, indent=1) + "\n")

    # --- documents

    def _write_documents(self) -> tuple[list[dict[str, Any]], list[Shown]]:
        listed: list[dict[str, Any]] = []
        boxes: list[Shown] = []
        roster = self._replica.members.roster
        for record in self._replica.documents.all():
            descriptor = record.descriptor
            if descriptor.kind is DocumentKind.OWNED and _is_shown_elsewhere(descriptor.name):
                continue
            if stands_here(descriptor):
                continue
            content: dict[str, Any] | None = None
            problem: str | None = None
            try:
                content = self._replica.shelf.get(descriptor).read().to_python()
            except CocoonError as error:  # it cannot be shown on this device, and so not here: that is said
                problem = str(error)
            if not content and problem is None:
                continue
            owner = descriptor.member
            member = roster.members.get(owner) or roster.former_members.get(owner) if owner is not None else None
            entry = {
                "id": record.document.hex(),
                "name": descriptor.name,
                "kind": descriptor.kind.name.lower(),
                "owner": member.shown_name if member else None,
                "owner_id": owner.hex() if owner is not None else None,
                "file": f"documents/{len(listed) + 1:04}-{slug(descriptor.name)}.json",
                "problem": problem,
            }
            text = json.dumps(plain(content), indent=1)
            (self._folder / "documents").mkdir(mode=0o700, exist_ok=True)
            write_text(self._folder / str(entry["file"]), text + "\n")
            self._written.files.append(str(entry["file"]))
            whose = f"of {member.shown_name}" if member else str(entry["kind"])
            short = json.dumps(plain(content), indent=1, ensure_ascii=False)
            is_short = problem is None and len(short) <= SHOWN_BYTES
            boxes.append(Shown(descriptor.name, problem or whose, str(entry["file"]), short if is_short else None))
            listed.append(entry)
        return listed, boxes


class _Pages:
    """The pages of one month."""

    def __init__(self, folder: Path, group: str, month: str, exported: datetime, absent: Mapping[str, str]) -> None:
        self._folder, self._group, self._month, self._exported = folder, group, month, exported
        self._absent = absent
        self._open_page: tuple[TextIO, MonthPage] | None = None
        self._on_page = 0
        self.before: str | None = None
        self.names: list[str] = []
        self.total = 0

    def add(self, thread: Sequence[Post]) -> None:
        if self._on_page >= PAGE_POSTS:
            self._close(self._name(len(self.names) + 1))
        file, page = self._opened()
        file.write(page.thread(thread))
        self._on_page += len(thread)
        self.total += len(thread)

    def end(self, following: str | None) -> None:
        self._close(following)

    def _opened(self) -> tuple[TextIO, MonthPage]:
        if self._open_page is None:
            name = self._name(len(self.names) + 1)
            before = self.names[-1] if self.names else self.before
            part = f", {len(self.names) + 1}" if self.names else ""
            page = MonthPage(self._group, month_title(self._month) + part, before, self._exported, self._link)
            file = open_private(self._folder / name)
            self._open_page = file, page
            self.names.append(name)
            file.write(page.head())
        return self._open_page

    def _link(self, item: Item) -> str:
        return link_to(item, self._absent)

    def _close(self, following: str | None) -> None:
        file, page = self._opened()  # a month may have lost all its posts while this was written
        with file:
            file.write(page.tail(following))
        self._open_page = None
        self._on_page = 0

    def _name(self, number: int) -> str:
        return f"{self._month}.html" if number == 1 else f"{self._month}-{number}.html"


# --- JSON


def post_data(post: Post) -> dict[str, Any]:
    """A post with the keys that `cocoon feed --json` gives it, but for what is this device's own."""
    return {
        "id": post.id,
        "author": post.author,
        "author_id": str(post.author_id),
        "text": post.text,
        "time": stamp(post.time),
        "edited": post.edited,
        "edited_at": stamp(post.edited_at) if post.edited_at else None,
        "hidden": post.hidden,
        "pinned": post.pinned,
        "deleted": post.deleted,
        "erased": post.erased,
        "attachments": [{"id": item.id, "name": item.name} for item in post.attachments],
        "missing": post.missing,
        "quote": post.quote,
        "mentions": [str(member) for member in post.mentions],
        "ask": post.ask,
        "until": stamp(post.until) if post.until else None,
        "answer": post.answer,
        "solved": list(post.solved),
        "replies": post.replies,
        "parent": post.parent,
    }


def plain(value: Any) -> Any:
    """A document's value as JSON can hold it: bytes as {"base64": …}, times as text, odd keys as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return stamp(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _is_shown_elsewhere(name: str) -> bool:
    """Of owned documents: posts stand on pages of their own, items without the keys that are in theirs, profiles with
    the members; and what somebody has seen is for authors alone.
    """
    return name.startswith((FEED_PREFIX, VAULT_PREFIX, SEEN_PREFIX)) or name == PROFILE_NAME


def _member_row(member: Mapping[str, Any]) -> MemberRow:
    note = " · ".join([str(member["role"]), *(["you"] if member["me"] else []), *filter(None, [member["about"]])])
    return MemberRow(str(member["id"]), str(member["name"]), note)


def _former_row(member: Mapping[str, Any]) -> MemberRow:
    return MemberRow(str(member["id"]), str(member["name"]), "left" if member["left"] else "removed")
