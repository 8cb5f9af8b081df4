"""A snapshot: where one document's changes are, packed and sealed, and the check that signed heads name exactly these.
Implements specs/manifest.md §5.

A snapshot stands in one or more pages, each a sealed part (part.py). A page can hold several documents: what did not
change keeps its page, and one newcomer's request brings many small documents. Each page has a key of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cocoon_core.errors import MalformedError, NotYetError
from cocoon_core.protocol.constants import LABEL_SNAPSHOT_PAGE, MAX_SNAPSHOT_PARTS
from cocoon_core.protocol.ids import BlobHash, DeviceId, DocumentId, GroupId
from cocoon_core.protocol.part import PackedChange, open_part, read_sections
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.sealed_pages import name_page, open_page, seal_page


@dataclass(frozen=True, slots=True)
class PageRef:
    """A page of snapshots: the blob's name, and the key that opens it."""

    name: BlobHash
    key: Secret


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """The pages that hold a document's snapshot, in order."""

    pages: tuple[PageRef, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.pages) <= MAX_SNAPSHOT_PARTS or len({page.name for page in self.pages}) < len(self.pages):
            raise MalformedError(f"a snapshot has 1 to {MAX_SNAPSHOT_PARTS} pages, each once")


def seal_part(part: bytes, key: Secret, group: GroupId) -> tuple[PageRef, bytes]:
    """Seal a packed part as a page.

    Args:
        key: fresh and random. The same part under the same key is the same page, so what a relay lost can be put again.

    Returns:
        What names and opens it, and the blob. It shows its length class; equal parts under other keys look unlike.
    """
    blob = seal_page(part, key, 0, LABEL_SNAPSHOT_PAGE, group)
    return PageRef(name_page(blob), key), blob


def unseal_part(page: PageRef, blob: bytes, group: GroupId) -> bytes:
    """Undo `seal_part`.

    Raises:
        DecryptionError: another blob than the one named, another key or group.
        MalformedError: the padding is not the one permitted.
    """
    return open_page(blob, page.name, page.key, 0, LABEL_SNAPSHOT_PAGE, group)


def read_snapshot(document: DocumentId, parts: Iterable[Mapping[DocumentId, bytes]]) -> list[PackedChange]:
    """A document's changes out of its opened parts, in order.

    Raises:
        MalformedError: one of them holds nothing of it, or what is not as it should be.
    """
    sections = []
    for part in parts:
        section = part.get(document)
        if section is None:
            raise MalformedError("a page of a snapshot holds nothing of its document")
        sections.append(section)
    return read_sections(document, sections)


def open_snapshot(
    ref: SnapshotRef, document: DocumentId, group: GroupId, pages: Mapping[BlobHash, bytes]
) -> list[PackedChange]:
    """Open all pages of a snapshot and read it.

    Raises:
        NotYetError: one of its pages is not here.
        DecryptionError: a page is not the one that was named, or of another group.
        MalformedError: it is no snapshot of this document, or a page unpacks to more than it may.
        UpdateNeededError: it is of a later version.
    """
    parts = []
    for page in ref.pages:
        blob = pages.get(page.name)
        if blob is None:
            raise NotYetError(f"page {page.name.hex()[:12]} of a snapshot is not here")
        parts.append(open_part(unseal_part(page, blob, group)))
    return read_snapshot(document, parts)


def check_heads(
    changes: Iterable[PackedChange],
    heads: Mapping[DeviceId, tuple[int, bytes]],
    ended: Collection[DeviceId] = (),
) -> None:
    """Check that a snapshot holds, of every device, all changes up to its signed head and none beyond.

    Args:
        heads: of this document, for every device that signed one.
        ended: devices whose part ends before their head, since the gate refused a change of theirs.

    Raises:
        MalformedError: one is missing, one too many, or another stands in its place.
    """
    last: dict[DeviceId, tuple[int, bytes]] = {}
    for device, _, digest, seq, _ in changes:
        before = last[device][0] if device in last else 0
        if seq != before + 1:
            raise MalformedError(f"a snapshot does not hold the changes of {device.hex()[:12]} one by one")
        last[device] = seq, digest
    for device, head in heads.items():
        found = last.pop(device, None)
        if found == head or (device in ended and (found is None or found[0] < head[0])):
            continue
        raise MalformedError(f"a snapshot does not end at what {device.hex()[:12]} signed")
    if last:
        raise MalformedError(f"a snapshot holds changes of {len(last)} devices that signed none")
