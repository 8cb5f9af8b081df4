"""One relay's store: a log store and a blob store, and what only both together can do.

An upload counts when three things have happened, in this order: its hash was checked, its bytes are durable at a place
of their own, the ledger has a row for it. A blob is let go in the opposite order: the row goes, then the bytes. So a
crash between any two steps leaves bytes without a row, never a row whose bytes were not there; `gc` sweeps them after a
day. Implements specs/relay.md §6.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.limits import DAY, Limits
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import BlobReader, BlobStore, Collected, LogStore, StoredBlob, TopicInfo, round_to_hour
from cocoon_relay.uploads import Upload, make_folder

_NOT_RECORDED: Final = {ErrorCode.NOT_OPEN, ErrorCode.SEALED, ErrorCode.QUOTA}  # refusals that say so for sure
_PLACES_A_STEP: Final = 256


class RelayStore:
    """What a relay keeps. Both halves are reached by their names; close this, not them."""

    def __init__(self, log: LogStore, blobs: BlobStore, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self.blobs = blobs
        self._limits = limits
        self._clock = clock
        self._swept = 0.0  # when bytes without a row were last swept

    async def begin_blob(self, info: TopicInfo, size: int, limits: Limits | None = None) -> Upload:
        """Somewhere to write an upload of `size` bytes; refused if there is no room under the limits of who puts."""
        limits = limits or self._limits
        await self.log.admit_blob(info, size, limits)
        free = await self.blobs.free_bytes()
        if free is not None and free - size < limits.free_bytes:
            raise Refusal(ErrorCode.FULL, "the relay's disk is full", retry_after_ms=60_000)
        return self.blobs.begin_upload(size)

    async def commit_blob(self, info: TopicInfo, blob: BlobHash, upload: Upload) -> bool:
        """Check an upload that came whole, and take it over; whether it is new."""
        place = await self.blobs.keep(blob, upload)
        try:
            new = await self.log.record_blob(info, blob, upload.size, place)
        except Refusal as refusal:
            # After any other the row may stand all the same, as when a connection broke; `gc` finds what does not.
            if refusal.code in _NOT_RECORDED:
                await self.blobs.remove([place])
            raise
        if not new:
            await self.blobs.remove([place])
        return new

    async def find_blob(self, blob: BlobHash) -> tuple[StoredBlob, Path | BlobReader] | None:
        """A blob that counts, and its bytes."""
        for stored in await self.log.find_blobs([blob]):
            source = await self.blobs.open(stored)
            if source is not None:
                return stored, source
        return None

    async def have_blobs(self, blobs: Sequence[BlobHash], *, renew: bool) -> list[BlobHash]:
        """Those of `blobs` that are kept, in the order given; with `renew`, their leases are renewed."""
        found = await self.log.find_blobs(blobs)
        gone = await self.blobs.list_gone(found) if found else set()
        for stored in found:
            if stored.place in gone:
                await self.log.forget_blob(stored)
        kept = [stored for stored in found if stored.place not in gone]
        if renew:
            stale = {stored.blob for stored in kept if stored.touched < round_to_hour(self._clock())}
            # `gc` may have taken some since they were found.
            lost = stale - await self.log.renew_blobs(sorted(stale)) if stale else set()
            kept = [stored for stored in kept if stored.blob not in lost]
        return [stored.blob for stored in kept]

    async def gc(self) -> Collected:
        """Remove what outlived its lease, in many short steps; also beside other relays that do the same."""
        done = await self.log.collect()
        while places := await self.log.condemned_places(_PLACES_A_STEP):
            await self.blobs.remove(places)
            await self.log.forget_places(places)
        return replace(done, files=await self._sweep())

    async def _sweep(self) -> int:
        """Remove bytes that a crash left without a row: at the first `gc`, then once a day."""
        now = self._clock()
        if now - self._swept < DAY:
            return 0
        swept = 0
        await self.blobs.sweep_uploads(now - DAY)
        async for places in self.blobs.list_old(now - DAY):
            unknown = await self.log.unknown_places(places)
            await self.blobs.remove(unknown)
            swept += len(unknown)
        self._swept = now
        return swept

    async def close(self) -> None:
        await self.log.close()
        await self.blobs.close()


async def open_files(
    data: Path, limits: Limits, *, clock: Callable[[], float] = time.time, exclusive: bool = True
) -> RelayStore:
    """Open a data directory: SQLite and files. What is not there yet is made.

    `exclusive` says that no other process serves it, so what a former one left half-uploaded can go.

    Raises:
        OSError, sqlite3.Error: it cannot be written.
        ProfileDamagedError: a newer relay made it.
    """
    return await open_store(data, (), None, limits, clock=clock, exclusive=exclusive)


async def open_store(
    data: Path,
    databases: Sequence[str],
    bucket: str | None,
    limits: Limits,
    *,
    clock: Callable[[], float] = time.time,
    exclusive: bool = True,
) -> RelayStore:
    """Open what the settings name: topics in SQLite or in PostgreSQL databases, blobs in files or in a bucket.

    Args:
        data: this node's own folder; what is not elsewhere is here.
        databases: URLs; none for SQLite.
        bucket: s3://BUCKET/FOLDER; None for files.
        exclusive: no other process uses `data`, so what a former one left half-uploaded can go.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written.
        LocalStateError: a database or the bucket cannot be used.
        ProfileDamagedError: a newer relay made the tables.
        UsageError: the library that this needs is not installed.
    """
    await asyncio.to_thread(make_folder, data)
    blobs = await _open_blobs(data, bucket, exclusive)
    return RelayStore(await open_log(data, databases, limits, clock), blobs, limits, clock)


async def _open_blobs(data: Path, bucket: str | None, exclusive: bool) -> BlobStore:
    if bucket is None:
        from cocoon_relay.blobs import FileBlobs

        files = FileBlobs(data)
        await asyncio.to_thread(files.prepare, alone=exclusive)
        return files
    with _needs("relay-s3"):
        from cocoon_relay.s3_blobs import S3Blobs
    objects = S3Blobs(bucket, data / "incoming", os.environ)
    await objects.prepare(alone=exclusive)
    return objects


async def open_log(data: Path, databases: Sequence[str], limits: Limits, clock: Callable[[], float]) -> LogStore:
    """Open the log store alone; as open_store."""
    if not databases:
        from cocoon_relay.sqlite_store import SqliteStore

        return await SqliteStore.open(data, limits, clock=clock)
    with _needs("relay-postgres"):
        from cocoon_relay.sharded_store import open_databases
    return await open_databases(databases, limits, clock=clock)


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(f"this needs more than is installed: pip install 'cocoon-sync[{extra}]'") from error
