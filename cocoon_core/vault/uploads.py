"""From a content to a relay: what that lacks is put, several blobs at once. Implements specs/vault.md §8.

What a relay took it says that it has, so whatever ends an upload, it goes on from there. A blob that is not here, since
the content was let go of or the disk damaged it, is brought from another relay.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Set
from functools import partial
from typing import Final

from cocoon_core.errors import RelayError, RelayMisbehaved
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import sha256
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.storage.vault_contents import ContentRecord
from cocoon_core.storage.vault_transfers import Lease
from cocoon_core.sync.blobs import BlobRefused, Named, put_lacking
from cocoon_core.vault.holding import Holding
from cocoon_core.vault.places import NameRow, length_at, length_of_all
from cocoon_core.vault.progress import Meter, Tell
from cocoon_core.vault.relays import NowhereError, OpenRelays
from cocoon_core.vault.threads import buffers, in_lots, work_through

CHECK_LOT: Final = 32  # blobs that are read between two tellings


async def send_file(holding: Holding, relays: OpenRelays, url: str, ref: FileRef, tell: Tell | None = None) -> int:
    """Have a relay hold a file; how many of its blobs it still lacks, because they are nowhere.

    Raises:
        RelayError: the relay could not be used to the end, or refuses. What it took it keeps.
        MalformedError, DecryptionError: whoever made the file broke its list.
    """
    record = holding.find(ref)
    if record is not None:
        holding.store.hold(record.number)
    held = holding.contents.count_blobs(record.number) if record is not None else 0
    try:
        try:
            lacking = await _send(holding, relays, url, ref, record, tell)
        except BlobRefused as error:
            if error.reason is not ErrorCode.BAD_HASH:
                raise
            if record is not None:
                await drop_damaged(holding, record)
            if record is None or holding.contents.count_blobs(record.number) == held:
                raise RelayMisbehaved("the relay says of a blob that it is not what it is") from error
            lacking = await _send(holding, relays, url, ref, record, tell)  # the damaged ones come from elsewhere
    finally:
        if record is not None:
            holding.store.release(record.number)
    with holding.transfers.transaction():
        holding.transfers.sent(url, ref.id(), Lease(holding.replica.clock(), lacking))
    return lacking


async def _send(
    holding: Holding, relays: OpenRelays, url: str, ref: FileRef, record: ContentRecord | None, tell: Tell | None
) -> int:
    names = await holding.names(ref, partial(relays.get, holding.keys))
    here = holding.here(record, ref.size)
    meter = Meter(length_of_all(ref.size), tell)
    odd = {names[place]: length_at(ref.size, place) for place in range(ref.chunks - 1, len(names))}
    usual = length_at(ref.size, 0)

    async def find(lacking: Set[BlobHash]) -> AsyncGenerator[Named, None]:
        meter.restart()  # so far it was told what is there
        for place in range(len(names)):
            name = names[place]
            if name in lacking:
                blob = await _get(holding, relays, url, record, here, place, name)
                if blob is not None:
                    yield name, blob

    left = await put_lacking(relays.store(url), holding.keys, names, find, lambda name: meter.add(odd.get(name, usual)))
    return len(left)


async def _get(
    holding: Holding,
    relays: OpenRelays,
    url: str,
    record: ContentRecord | None,
    here: NameRow,
    place: int,
    name: BlobHash,
) -> bytes | None:
    """A blob from here, or from another relay; None where it is nowhere now."""
    if record is not None and here.has(place):
        blob = await holding.read(record, place)
        if len(blob) == length_at(record.size, place):
            return blob
        holding.drop(record, [place])
    try:
        return await relays.get(holding.keys, name, besides=url)
    except (NowhereError, RelayError):
        return None


async def drop_damaged(holding: Holding, record: ContentRecord, read: Callable[[int], None] | None = None) -> int:
    """Read all that is here of a content and forget what the disk damaged; how many blobs that were.

    Args:
        read: called with the bytes that were read, a lot after the other.
    """
    here = holding.here(record, record.size)
    file = holding.open(record)
    damaged: list[int] = []

    def check(place: int) -> None:
        if sha256(file.read(place, length_at(record.size, place), buffers()[1])) != here[place]:
            damaged.append(place)

    try:
        for lot in in_lots((place for place in range(len(here)) if here.has(place)), CHECK_LOT):
            await work_through(lot, check)
            if read is not None:
                read(sum(length_at(record.size, place) for place in lot))
    finally:
        file.close()
    if damaged:
        holding.drop(record, damaged)
    return len(damaged)
