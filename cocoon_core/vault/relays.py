"""The blobs of a group's relays while files come and go: opened when they are first needed, and closed together.

A blob is taken from any relay that has it. One that cannot be reached is not asked again in the same run; one that
serves other bytes than were named is asked less, and what it served counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from cocoon_core.errors import NotYetError, RelayError, RelayMisbehaved, RelayUnavailable
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.sync.blobs import BlobRefused, BlobStore, DialBlobs

_MOST_LIES: Final = 8  # wrong answers of one relay in one run


class NowhereError(NotYetError):
    """A part of this file is at no relay that was reached."""


class OpenRelays:
    """The relays of one run.

    Args:
        urls: those that blobs are taken from, the preferred first.
    """

    def __init__(self, dial: DialBlobs, urls: Iterable[str]) -> None:
        self.urls = list(urls)
        self._dial = dial
        self._stores: dict[str, BlobStore] = {}
        self._down: dict[str, RelayError] = {}
        self._lies: Counter[str] = Counter()
        self._turn = 0

    async def __aenter__(self) -> OpenRelays:
        return self

    async def __aexit__(self, *_: object) -> None:
        for store in self._stores.values():
            await store.close()
        self._stores.clear()

    def store(self, url: str) -> BlobStore:
        """The blobs of one relay; nothing is sent before the first request."""
        if url not in self._stores:
            self._stores[url] = self._dial(url)
        return self._stores[url]

    async def get(self, keys: TopicKeys, name: BlobHash, *, besides: str = "") -> bytes:
        """A blob from any relay, whose hash was checked. They take turns.

        Args:
            besides: a relay that is not asked.

        Raises:
            NowhereError: those that were reached do not have it.
            RelayError: none could be used, or those that say they have it serve something else.
        """
        self._turn += 1
        turn = self._turn % len(self.urls) if self.urls else 0
        lie: RelayError | None = None
        reached = False
        for url in [*self.urls[turn:], *self.urls[:turn]]:
            if url == besides or url in self._down:
                continue
            try:
                return await self.store(url).get_blob(keys, name)
            except BlobRefused as error:
                if error.reason is ErrorCode.NOT_FOUND:
                    reached = True
                else:
                    self._down[url] = error
            except RelayMisbehaved as error:
                lie = error
                self._lies[url] += 1
                if self._lies[url] >= _MOST_LIES:
                    self._down[url] = error
            except RelayError as error:
                self._down[url] = error
        if lie is not None:
            raise lie
        if reached:
            raise NowhereError
        down = [error for url, error in self._down.items() if url != besides]
        raise down[0] if down else RelayUnavailable("this group has no relay to take files from")
