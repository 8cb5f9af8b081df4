"""The blobs that an epoch needs at a relay: pages of its manifest and snapshots, and of the wraps of its rotation.

What this device has of them it finds or makes again: they wait for a relay; or their content is stored here, and every
device packs the same changes into the same pages. So nobody has to keep the sealed form. Whatever is made is the blob
that the manifest names, or is none. Spec: specs/manifest.md §5 and specs/bundle.md §4.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Set
from typing import TYPE_CHECKING

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import LABEL_MANIFEST_PAGE, MAX_PAGE_BYTES
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.manifest import DocumentState, ManifestBody, decode_manifest, read_manifest_body
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.part import Said
from cocoon_core.protocol.run import parse_run
from cocoon_core.protocol.sealed_pages import seal_page
from cocoon_core.protocol.snapshot import PageRef, seal_part
from cocoon_core.storage.documents import DocumentRecord
from cocoon_core.storage.epochs import StoredEpoch
from cocoon_core.sync.blobs import BlobStore, Named, name_blob, put_lacking
from cocoon_core.sync.paging import pack_in_order, read_changes

if TYPE_CHECKING:
    from cocoon_core.sync.replica import Replica


def blobs_of_epoch(replica: Replica, stored: StoredEpoch) -> list[BlobHash]:
    """The names of all blobs that whoever comes to this epoch may need; its manifest was followed here."""
    found = [*_wrap_pages(replica, stored), *(_body(replica, stored).pages if stored.manifest is not None else ())]
    for state in _documents(replica, stored):
        found += [page.name for page in state.snapshot.pages] if state.snapshot is not None else ()
    return list(dict.fromkeys(found))


def find_blobs(replica: Replica, stored: StoredEpoch, wanted: Set[BlobHash]) -> Iterator[bytes]:
    """Those of these blobs that are here or can be made again, each once, one by one."""
    left = set(wanted)
    for data in replica.epochs.table.waiting_blobs(stored.epoch.topic, wanted):
        left.discard(name_blob(data))
        yield data
    for data in _made_again(replica, stored, left):
        if name_blob(data) in left:
            left.discard(name_blob(data))
            yield data


async def fill_blobs(replica: Replica, store: BlobStore, stored: StoredEpoch) -> set[BlobHash]:
    """Put those that a store lacks, as far as they are here; the names of what it still lacks.

    Raises:
        BlobRefused, RelayUnavailable, RelayMisbehaved: as BlobStore.put_blobs.
    """

    async def find(lacking: Set[BlobHash]) -> AsyncGenerator[Named, None]:
        await replica.edits_ended()
        for data in find_blobs(replica, stored, lacking):
            yield name_blob(data), data

    return await put_lacking(store, stored.epoch, blobs_of_epoch(replica, stored), find)


def _made_again(replica: Replica, stored: StoredEpoch, left: Set[BlobHash]) -> Iterator[bytes]:
    if stored.manifest is not None and not left.isdisjoint((body := _body(replica, stored)).pages):
        content = replica.epochs.table.content(stored.epoch.topic)
        if content is not None and body.key is not None:
            for place, at in enumerate(range(0, len(content), MAX_PAGE_BYTES)):
                part = content[at : at + MAX_PAGE_BYTES]
                yield seal_page(part, body.key, place, LABEL_MANIFEST_PAGE, stored.epoch.topic)
    pages: dict[BlobHash, list[DocumentState]] = {}
    for state in _documents(replica, stored):
        for page in state.snapshot.pages if state.snapshot is not None else ():
            pages.setdefault(page.name, []).append(state)
    for name in sorted(left & pages.keys()):
        blob = _page_again(replica, name, pages[name])
        if blob is not None:
            yield blob


def _page_again(replica: Replica, name: BlobHash, states: list[DocumentState]) -> bytes | None:
    """A page of snapshots: from its stored content, or from the documents that stand in it."""
    known = replica.snapshots.find_page(name)
    if known is not None and known[1] is not None:
        return seal_part(known[1], known[0].key, replica.group)[1]
    documents: list[tuple[DocumentRecord, list[Said]]] = []
    refs: tuple[PageRef, ...] = ()
    for state in states:
        record = replica.documents.find(state.descriptor.document_id(replica.group))
        if record is None or state.snapshot is None or replica.debts.find(record.document) is not None:
            return None
        refs = state.snapshot.pages
        documents.append((record, read_changes(replica, record, state.heads)[0]))
    place = [ref.name for ref in refs].index(name)
    try:
        parts = pack_in_order(documents)
    except UsageError:
        return None
    return seal_part(parts[place].data, refs[place].key, replica.group)[1] if place < len(parts) else None


def _body(replica: Replica, stored: StoredEpoch) -> ManifestBody:
    assert stored.manifest is not None, "asked for by the caller"
    return read_manifest_body(parse_run(stored.manifest, replica.group).stored().entries[-1].body)


def _documents(replica: Replica, stored: StoredEpoch) -> tuple[DocumentState, ...]:
    content = replica.epochs.table.content(stored.epoch.topic)
    return decode_manifest(content, replica.group).stored_documents() if content is not None else ()


def _wrap_pages(replica: Replica, stored: StoredEpoch) -> list[BlobHash]:
    graph = replica.members.graph
    if stored.rotation is None or stored.rotation not in graph:
        return []
    body = graph.operation(stored.rotation).body
    return list(body.pages) if isinstance(body, Rotation) else []
