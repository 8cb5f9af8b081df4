"""From a file to a content: every chunk sealed, named, written and made durable. Spec: specs/vault.md §2, §6 and §7.

    read → seal → name (→ compare) → write, on two threads → sync, row, while the next ones are sealed

The key is in a row before the first byte that is sealed under it is written, so a process that dies goes on where it
stopped, if the source is what it was; if it is not, all is thrown away, the key with it. No chunk that has a row is
sealed again. Under the key of another item nothing is written that is not exactly what that item names.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cocoon_core.errors import FileChangedError
from cocoon_core.protocol.constants import CHUNK_BYTES
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.vault_file import FileRef, chunk_key, count_chunks, data_length, make_ref, seal_chunk
from cocoon_core.storage.vault_contents import ContentRecord, ContentTable
from cocoon_core.vault.content import ContentFile, ContentStore
from cocoon_core.vault.places import NameRow, count_places
from cocoon_core.vault.progress import Meter, Tell
from cocoon_core.vault.sources import NOWHERE, Source, read_into
from cocoon_core.vault.threads import Beside, buffers, in_lots, in_thread, work_through

LOT: Final = 32  # chunks that are made durable together

Blob = tuple[int, BlobHash, int]  # place, name, length


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that somebody added before, and the names of its chunks, and of more behind them."""

    ref: FileRef
    names: Sequence[BlobHash]


class _DiffersError(Exception):
    """It is not the known file."""


async def seal_file(
    store: ContentStore,
    table: ContentTable,
    source: Source,
    clock: Callable[[], int],
    known: KnownFile | None = None,
    tell: Tell | None = None,
) -> FileRef:
    """Seal a file into the content store; all of it is durable when this returns. Room is made by the caller, when it
    is noted what is to be sent: until then nothing says that this content cannot be had again.

    Args:
        known: seal it under this one's key, as long as it turns out to be the same file. Else under a fresh key.
        tell: called with how far it is, in bytes of the file.

    Raises:
        FileChangedError: the file was changed meanwhile; nothing is left of it here.
        StorageFullError: the disk is full; what was sealed stays, and is gone on from.
        LocalStateError: it cannot be read.
    """
    if known is None:
        known = _sealed_before(table, source)
    if known is not None and known.ref.size == source.size:
        try:
            return await _seal_known(store, table, source, clock, known, tell)
        except _DiffersError:
            pass
    record = table.find_sealing(source.identity) if source.identity != NOWHERE else None
    if record is None or record.number in store.busy:
        with table.transaction():
            number = table.add_sealing(
                store.new_place(), source.size, Secret(secrets.token_bytes(32)), source.identity, clock()
            )
        record = table.require(number)
    names = NameRow(count_chunks(source.size), table.blobs(record.number))
    try:
        await _Sealing(store, table, record, source, None, tell).run(names)
    except FileChangedError:
        store.remove(record.number, record.place)
        raise
    return await _finish(store, table, record, names, clock)


def _sealed_before(table: ContentTable, source: Source) -> KnownFile | None:
    """The content that was made from this very source, if it is whole: who died before telling of it finds it again."""
    record = table.find_sealed(source.identity) if source.identity != NOWHERE else None
    if record is None or record.ref is None:
        return None
    names = NameRow(count_places(record.size), table.blobs(record.number))
    return KnownFile(record.ref, names) if names.is_whole else None


async def _seal_known(
    store: ContentStore,
    table: ContentTable,
    source: Source,
    clock: Callable[[], int],
    known: KnownFile,
    tell: Tell | None,
) -> FileRef:
    """As `seal_file`, under the key of a file that is known.

    Raises:
        _DiffersError: it is another file. Nothing was written of it.
    """
    record = table.find(known.ref.id())
    if record is None:
        with table.transaction():
            number = table.add(store.new_place(), known.ref, clock())
        record = table.require(number)
    names = NameRow(known.ref.chunks)
    await _Sealing(store, table, record, source, known.names, tell).run(names)
    if table.count_blobs(record.number) < count_places(record.size):
        await _write_list(store, table, record, names)
    with table.transaction():
        table.touch(record.number, clock())
    return known.ref


async def _finish(
    store: ContentStore,
    table: ContentTable,
    record: ContentRecord,
    names: NameRow,
    clock: Callable[[], int],
) -> FileRef:
    """Write the list, if there is one; from then on it is a content."""
    ref = await _write_list(store, table, record, names)
    with table.transaction():
        table.finish_sealing(record.number, ref, clock())
    return ref


async def _write_list(store: ContentStore, table: ContentTable, record: ContentRecord, names: NameRow) -> FileRef:
    ref, blobs = await asyncio.to_thread(make_ref, record.key, record.size, names)
    if blobs:

        def write() -> None:
            file = store.open(record.place)
            try:
                for number, blob in enumerate(blobs):
                    file.write(ref.chunks + number, blob)
                file.sync()
            finally:
                file.close()

        await in_thread(write)
        rows = [(ref.chunks + number, ref.names[number], len(blob)) for number, blob in enumerate(blobs)]
        with table.transaction():
            table.add_blobs(record.number, rows)
    return ref


class _Sealing:
    """The chunks of one file."""

    def __init__(
        self,
        store: ContentStore,
        table: ContentTable,
        record: ContentRecord,
        source: Source,
        expected: Sequence[BlobHash] | None,
        tell: Tell | None,
    ) -> None:
        self._store, self._table, self._record, self._source = store, table, record, source
        self._expected, self._tell = expected, tell
        self._key = chunk_key(record.key)
        self._here = NameRow(0)

    async def run(self, names: NameRow) -> None:
        """Seal what is not in `names` yet, which this adds to."""
        record, size = self._record, self._record.size
        self._here = NameRow(count_places(size), self._table.blobs(record.number))
        meter = Meter(size, self._tell, min(size, names.count() * CHUNK_BYTES))
        file = self._store.open(record.place)
        self._store.hold(record.number)
        syncing = Beside()
        try:
            for lot in in_lots(names.missing(), LOT):
                done = await work_through(lot, lambda place: self._seal_one(file, place))
                await syncing.done()
                for place, name, _ in done:
                    names.put(place, name)
                meter.add(sum(data_length(size, place) for place in lot))
                syncing.begin(self._keep(file, done))
            await syncing.done()
        finally:
            await syncing.ended()
            self._store.release(record.number)
            file.close()

    def _seal_one(self, file: ContentFile, place: int) -> Blob:
        """On a thread."""
        size = self._record.size
        data, blob = buffers()
        data = data[: data_length(size, place)]
        read_into(self._source, place * CHUNK_BYTES, data)
        sealed = seal_chunk(self._key, size, place, data, blob)
        name = BlobHash.unchecked(sha256(sealed))
        if self._expected is not None and self._expected[place] != name:
            raise _DiffersError
        if not self._here.has(place):
            file.write(place, sealed)
        return place, name, len(sealed)

    async def _keep(self, file: ContentFile, done: list[Blob]) -> None:
        """Have them durable, and then count."""
        fresh = [one for one in done if not self._here.has(one[0])]
        if fresh:
            await in_thread(file.sync)
        self._source.require_unchanged()
        if fresh:
            with self._table.transaction():
                self._table.add_blobs(self._record.number, fresh)
