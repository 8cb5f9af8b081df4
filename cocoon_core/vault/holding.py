"""What transfers of one group share: its contents and rows, the proof that relays ask for, and names of blobs.

A file's names stand in its reference, or in its list, whose chunks are blobs like any other: those are here, or are
taken from a relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from cocoon_core.protocol.constants import CHUNK_BYTES
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.vault_file import NAME_BYTES, FileRef, open_list
from cocoon_core.storage.vault_contents import ContentRecord, ContentTable
from cocoon_core.storage.vault_transfers import TransferTable
from cocoon_core.sync.replica import Replica
from cocoon_core.vault.content import ContentFile, ContentStore
from cocoon_core.vault.places import NameRow, count_places, length_at, require_length
from cocoon_core.vault.threads import in_thread

NAMES_A_LIST = CHUNK_BYTES // NAME_BYTES  # names in one chunk of a list

Get = Callable[[BlobHash], Awaitable[bytes]]


class Holding:
    """The files of one group, as far as they are on this device."""

    def __init__(self, replica: Replica, store: ContentStore) -> None:
        self.replica, self.store = replica, store
        self.contents = ContentTable(replica.database, replica.record.number)
        self.transfers = TransferTable(replica.database, replica.record.number)
        self.coming: dict[tuple[int, int], asyncio.Future[None]] = {}  # content and place of what is being fetched

    @property
    def keys(self) -> TopicKeys:
        """What proves to a relay that this device is one of some group's."""
        return self.replica.epoch

    def find(self, ref: FileRef) -> ContentRecord | None:
        return self.contents.find(ref.id())

    def begin(self, ref: FileRef) -> ContentRecord:
        """The content of a file, made if nothing of it is here."""
        record = self.find(ref)
        if record is None:
            with self.contents.transaction():
                number = self.contents.add(self.store.new_place(), ref, self.replica.clock())
            record = self.contents.require(number)
        return record

    def here(self, record: ContentRecord | None, size: int) -> NameRow:
        """The names of the blobs that are here."""
        found = self.contents.blobs(record.number) if record is not None else ()
        return NameRow(count_places(size), found)

    async def names(self, ref: FileRef, get: Get, lists: range | None = None) -> NameRow:
        """The names of a file's blobs: of all, or of the chunks that some chunks of its list name.

        Args:
            get: gives a blob of the list that is not here.

        Raises:
            MalformedError, DecryptionError: whoever made the file broke its list.
        """
        names = NameRow.of_ref(ref)
        if not ref.is_listed:
            return names
        record = self.find(ref)
        here = self.here(record, ref.size)
        for number in range(len(ref.names)) if lists is None else lists:
            place = ref.chunks + number
            blob = await self.read(record, place) if record is not None and here.has(place) else b""
            if len(blob) != length_at(ref.size, place):
                blob = await get(ref.names[number])
                require_length(ref.size, place, blob)
            for at, name in enumerate(await in_thread(partial(open_list, ref, number, blob))):
                names.put(number * NAMES_A_LIST + at, name)
        return names

    async def read(self, record: ContentRecord, place: int) -> bytes:
        """A blob from this disk; shorter than it should be where that lost it."""

        def read() -> bytes:
            file = self.store.open(record.place)
            try:
                return bytes(file.read(place, length_at(record.size, place)))
            finally:
                file.close()

        return await in_thread(read)

    def open(self, record: ContentRecord) -> ContentFile:
        return self.store.open(record.place)

    def drop(self, record: ContentRecord, places: list[int]) -> None:
        """The disk damaged these."""
        with self.contents.transaction():
            self.contents.drop_blobs(record.number, places)
