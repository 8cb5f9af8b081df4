"""From relays to a content: several blobs at once, from any relay that has them, each named before it counts.
Implements specs/vault.md §8.

What has a row stays, so whatever ends a download, it goes on from there: at another relay, after a sleep, in another
process. A blob that somebody else here is fetching already is waited for.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from cocoon_core.errors import NotYetError
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.vault_file import FileRef, chunk_key, open_chunk, open_list
from cocoon_core.storage.vault_contents import ContentRecord
from cocoon_core.sync.blobs import IN_FLIGHT, run_together
from cocoon_core.vault.content import ContentFile
from cocoon_core.vault.holding import NAMES_A_LIST, Holding
from cocoon_core.vault.places import NameRow, length_at, require_length
from cocoon_core.vault.progress import Meter, Tell
from cocoon_core.vault.relays import NowhereError, OpenRelays
from cocoon_core.vault.threads import buffers, finished, in_thread

LOT: Final = 16  # blobs that are made durable together


async def fetch_file(
    holding: Holding, relays: OpenRelays, ref: FileRef, chunks: range | None = None, tell: Tell | None = None
) -> None:
    """Have a file here, or some of its chunks; all of it is durable when this returns.

    Args:
        chunks: the places of chunks; all, with the list, if not given.
        tell: called with how far it is, in bytes of blobs.

    Raises:
        NotYetError: no relay that was reached has all of it. What they have is here.
        RelayError: no relay could be used to the end. What came so far is here.
        MalformedError, DecryptionError: whoever made the file broke it.
        StorageFullError: the disk is full.
    """
    record = holding.begin(ref)
    holding.store.hold(record.number)
    file = holding.open(record)
    fetching = _Fetching(holding, relays, record, ref, file)
    try:
        wanted = range(ref.chunks) if chunks is None else chunks
        if ref.is_listed:
            lists = range(len(ref.names)) if chunks is None else range(*_lists(wanted))
            places = range(ref.chunks + lists.start, ref.chunks + lists.stop)
            await fetching.run(places, NameRow.of_ref(ref), None)
            names = await holding.names(ref, partial(relays.get, holding.keys), lists)
        else:
            names = NameRow.of_ref(ref)
        await fetching.run(wanted, names, tell)
    finally:
        file.close()
        holding.store.release(record.number)
    if fetching.nowhere:
        raise NotYetError(
            f"{fetching.nowhere} of {len(wanted)} chunks of this file are at no relay that was reached; "
            "whoever added it may not have sent them yet: sync again later"
        )


def _lists(chunks: range) -> tuple[int, int]:
    """Which chunks of the list name these chunks."""
    return (chunks.start // NAMES_A_LIST, (chunks.stop - 1) // NAMES_A_LIST + 1) if chunks else (0, 0)


class _Fetching:
    """The blobs of one file."""

    def __init__(
        self, holding: Holding, relays: OpenRelays, record: ContentRecord, ref: FileRef, file: ContentFile
    ) -> None:
        self._holding, self._relays, self._record, self._file = holding, relays, record, file
        self._ref, self._key = ref, chunk_key(ref.key)
        self._fresh: list[tuple[int, BlobHash, int]] = []
        self._keeping = asyncio.Lock()
        self.nowhere = 0

    async def run(self, places: range, names: NameRow, tell: Tell | None) -> None:
        """Fetch what is not here of these places."""
        size = self._record.size
        here = self._holding.here(self._record, size)
        left = (place for place in places if not here.has(place))
        meter = Meter(
            sum(length_at(size, place) for place in places),
            tell,
            sum(length_at(size, place) for place in places if here.has(place)),
        )
        meter.add(0)

        async def fetch_some() -> None:
            for place in left:  # shared by all that fetch
                if await self._fetch(place, names[place]):
                    meter.add(length_at(size, place))
                if len(self._fresh) >= LOT:
                    await self._keep()

        try:
            await run_together([fetch_some() for _ in range(min(IN_FLIGHT, len(places)))])
        finally:
            await finished(asyncio.ensure_future(self._keep()))
        await self._keep()

    async def _fetch(self, place: int, name: BlobHash) -> bool:
        holding, key = self._holding, (self._record.number, place)
        while (coming := holding.coming.get(key)) is not None:
            await asyncio.wait([coming])
            if not coming.cancelled():
                return True
        mine = holding.coming[key] = asyncio.get_running_loop().create_future()
        try:
            blob = await self._relays.get(holding.keys, name)
            await in_thread(partial(self._verify_and_write, place, blob))
            self._fresh.append((place, name, len(blob)))
            mine.set_result(None)
        except NowhereError:
            self.nowhere += 1
            return False
        finally:
            del holding.coming[key]
            mine.cancel()
        return True

    def _verify_and_write(self, place: int, blob: bytes) -> None:
        """On a thread. What has its name and does not open is refused at once: else a few bytes at a relay, named a
        million times, would fill this disk.
        """
        record, ref = self._record, self._ref
        require_length(record.size, place, blob)
        if place < ref.chunks:
            open_chunk(self._key, record.size, place, blob, None, buffers()[0])
        else:
            open_list(ref, place - ref.chunks, blob)
        self._file.write(place, blob)

    async def _keep(self) -> None:
        """Have what came durable, and then count."""
        async with self._keeping:
            fresh, self._fresh = self._fresh, []
            if not fresh:
                return
            try:
                await in_thread(self._file.sync)
                with self._holding.contents.transaction():
                    self._holding.contents.add_blobs(self._record.number, fresh)
            except BaseException:
                self._fresh += fresh
                raise
