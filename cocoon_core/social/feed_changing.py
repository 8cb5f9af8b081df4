"""Changing one's own posts: editing, deleting, erasing, and what they said before. Spec: specs/feed.md §4.

An edit and a deletion change the author's document, whose history stays with everybody until it is erased. Whoever
means that nobody shall read a text any more erases it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cocoon_core.documents.proxies import MapEdit
from cocoon_core.errors import UnknownItemError, UsageError
from cocoon_core.protocol.constants import MAX_VERSIONS
from cocoon_core.protocol.descriptor import Descriptor
from cocoon_core.protocol.ids import MemberId
from cocoon_core.protocol.retire import GONE_PREFIX
from cocoon_core.social.erasing import POSTS, erase, tombstone_of
from cocoon_core.social.feed_threads import Threads
from cocoon_core.social.mentions import pack_mentions
from cocoon_core.social.post import Post
from cocoon_core.social.post_view import MAX_TEXT_BYTES, read_post
from cocoon_core.social.times import time_of

_TEXT, _TIME, _EDITED = 0, 1, 3  # places in what is read of a map


@dataclass(frozen=True, slots=True)
class PostVersion:
    """What a post said at some time.

    Attributes:
        time: since when, by its author's clock.
        is_current: it says so now. Of two edits made side by side it need not be the one with the later time.
    """

    text: str
    time: datetime
    is_current: bool


class Changing(Threads):
    """What a member does to posts of their own, and what everybody can see of it."""

    async def edit(self, post: str, text: str, mentions: Iterable[MemberId] = ()) -> Post:
        """Say something else in an own post or reply; what it said before stays in its history, which members may see.

        Args:
            mentions: whom it speaks to, besides those whom the text names with `@`.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's, or the text cannot be posted.
        """
        replica, found = self._replica, self._find(post)
        self.place_of_own(found, "edit")
        row = self._db.query_one("SELECT text, files FROM posts WHERE group_no=? AND post=?", (self._no, found))
        assert row is not None, "it was found just now"
        said, files = row
        require_text(text, bare=files is not None)
        named = pack_mentions(text, mentions, replica.members.roster)

        def write(value: MapEdit) -> None:  # all three, in this order: one of two edits side by side stands whole
            value["text"], value["edited"], value["mentions"] = text, replica.clock(), named

        if text != said or mentions:
            self.change_own(found, write)
        return self._get(found)

    async def delete(self, *posts: str) -> list[Post]:
        """Take back own posts and replies. They are shown as deleted where something answers them, else nowhere.

        Nobody is shown the text any more, but it stays in the history that every device holds, where who looks for it
        finds it; `erase` takes it from there too.

        Returns:
            What is left of each.

        Raises:
            UnknownItemError: one is not here, or was taken away before.
            UsageError: one is another member's. Nothing was deleted.
        """
        replica = self._replica
        found = list(dict.fromkeys(self._find(post) for post in posts))
        places: dict[Descriptor, list[str]] = {}
        for post in found:
            descriptor, key = self.place_of_own(post, "delete")
            places.setdefault(descriptor, []).append(key)
        now_ms = replica.clock()
        with replica.changing():
            for descriptor, keys in places.items():
                replica.change_inside(descriptor, lambda root, keys=keys: _bury(root, keys, now_ms))  # type: ignore[misc]
        return [self._get(post) for post in found]

    async def erase(self, *posts: str) -> list[Post]:
        """Erase own posts and replies, named by id or a unique beginning of it: their texts and all earlier versions.

        They are shown as erased from now on. The text itself leaves a member's device with the first rotation that it
        follows after this (`Group.rotate`), and a relay when the leases of the old topic and its blobs end. What
        somebody copied, backed up or wrote down stays; so does what a device holds that never syncs again. The history
        of everything else that was edited or deleted in that month goes with it.

        Raises:
            UnknownItemError: one is not here.
            UsageError: one is another member's. Nothing was erased.
        """
        found = [self._find(post) for post in posts]
        erase(self._replica, POSTS, found)
        return [self._get(post) for post in found]

    async def versions(self, post: str, *, reveal: bool = False) -> list[PostVersion]:
        """What a post said before and says now, by the times of its edits: the newest 100 versions that are here.

        Args:
            reveal: also of one that an admin hid.

        Raises:
            UnknownItemError: it is not here, or its author took it back.
            UsageError: it is hidden, and that was not asked for.
        """
        found = self._find(post)
        shown = self._get(found, reveal=True)
        if shown.erased or shown.deleted:
            raise UnknownItemError("its author took this post back")
        if shown.hidden and not reveal:
            raise UsageError("an admin hid this post")
        document_no, key = self._db.query(
            "SELECT document_no, key FROM posts WHERE group_no=? AND post=?", (self._no, found)
        )[0]
        replica = self._replica
        document = replica.shelf.get(replica.documents.get(document_no).descriptor)
        return _order_versions(document.versions(key, MAX_VERSIONS), document.plain(key), found)

    # --- for the modules of this package

    def change_own(self, post: bytes, write: Callable[[MapEdit], None]) -> None:
        """Change what an own post says, with one change.

        Args:
            write: is given the post's map.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's.
        """
        descriptor, key = self.place_of_own(post, "change")
        with self._replica.change(descriptor) as root:
            value = root.get(key)
            if not isinstance(value, MapEdit):
                raise UnknownItemError("this post is not here any more")
            write(value)

    def place_of_own(self, post: bytes, act: str) -> tuple[Descriptor, str]:
        """The document and root key of an own post.

        Args:
            act: what only its author can do, for the error.

        Raises:
            UnknownItemError: it is not here, or was taken away.
            UsageError: it is another member's.
        """
        replica = self._replica
        row = self._db.query_one(
            "SELECT document_no, key, member, erased FROM posts WHERE group_no=? AND post=?", (self._no, post)
        )
        if row is None:
            raise UnknownItemError("this post is not here any more")
        document_no, key, member, erased = row
        if member != replica.members.member_of(replica.keys.id):
            raise UsageError(f"only its author can {act} a post")
        if erased:
            raise UnknownItemError("this post was taken back before")
        return replica.documents.get(document_no).descriptor, key


def require_text(text: str, *, bare: bool) -> None:
    """Args:
        bare: there are attachments, and it may be empty.

    Raises:
        UsageError: it cannot be posted.
    """
    size = len(text.encode(errors="replace"))
    if not (text.strip() or bare) or size > MAX_TEXT_BYTES:
        raise UsageError(f"a post is 1 to {MAX_TEXT_BYTES} bytes of text, not {size}")
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("this text has half a character in it (a lone surrogate), which UTF-8 cannot hold")


def _bury(root: MapEdit, keys: Iterable[str], now_ms: int) -> None:
    """Put tombstones in the place of posts."""
    for key in keys:
        value = root.get(key)
        if not isinstance(value, MapEdit):
            raise UnknownItemError("this post is not here any more")
        left = tombstone_of(value.to_python())
        del root[key]
        root[GONE_PREFIX + key] = {**left, "deleted": now_ms}


def _order_versions(held: Iterable[tuple[bytes, Any]], now: Any, post: bytes) -> list[PostVersion]:
    """The different texts among what a document held, by time and then by change; the same on all devices."""
    found: dict[tuple[int, str], bytes] = {}
    for change, value in held:
        said = read_post(value, post)
        if said is not None:
            version = (said[_EDITED] or said[_TIME], said[_TEXT])
            found[version] = min(found.get(version, change), change)
    current = read_post(now, post)
    shown = (current[_EDITED] or current[_TIME], current[_TEXT]) if current is not None else None
    ordered = sorted(found, key=lambda one: (one[0], found[one]))
    return [PostVersion(text, time_of(time_ms), (time_ms, text) == shown) for time_ms, text in ordered]
