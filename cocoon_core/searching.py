"""Searching what this device holds of a group. A part of `Group`.

Nothing is asked of a relay, and nothing of what is sought leaves the device. Spec: specs/search.md.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.ids import MemberId
from cocoon_core.social.search import Search
from cocoon_core.social.search_result import SearchResult
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentStore


class Searching(GroupPart):
    """The part of a group that finds things in it."""

    def __init__(self, replica: Replica, dial: RelayAccess, store: ContentStore) -> None:
        super().__init__(replica, dial, store)
        self._search = Search(replica)

    async def search(
        self,
        text: str = "",
        *,
        author: MemberId | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        kind: str | Collection[str] = (),
        limit: int = 50,
    ) -> list[SearchResult]:
        """Posts, replies, items of the vault, lists and what is in them, notes and events, of which all that is given
        fits; the latest first. What is written together has the time when it was begun, and no author.

        Every word of the text has to stand in it, in any order: a word of three letters or more anywhere, also inside
        of another, a shorter one where a word begins. So it serves while somebody types. Case, accents and width make
        no difference. In languages without spaces every character is found, and several as they stand together. What
        was erased, deleted or hidden is not found. Nothing typed is a query language.

        The first call after much has come takes it all in: some seconds for 100,000 posts, in which others get turns.

        Args:
            text: the words; without any, everything fits that the rest allows.
            since, until: times of posts and items, this one included and that one not; local if they name no zone.
            kind: post, reply, file, photo, video, audio, link, list, list-item, note or event, or several of them.
            limit: 1 to 1,000.

        Raises:
            UsageError: the text is over 1,000 characters or 16 words, or there is no such kind or limit.
            StorageFullError, LocalStateError: what has come cannot be taken in.
        """
        kinds = (kind,) if isinstance(kind, str) else tuple(kind)
        return await self._search.search(text, author, since, until, kinds, limit)
