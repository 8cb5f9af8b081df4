"""A device's heads: for every document it has changed, its newest change. Implements specs/envelope.md §3.

Every opener keeps them for every device, from the headers of the changes, before the gate. Their digest stands in
each signed run, so any one run of a device vouches for all that it ever wrote. A change rehashes one of 256 buckets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_BUCKET, LABEL_HEADS, LABEL_HEADS_PLACE
from cocoon_core.protocol.entry import DocumentChange
from cocoon_core.protocol.ids import ChangeHash, DocumentId, HeadsDigest
from cocoon_core.protocol.primitives import hash_bytes


class DeviceHeads:
    """The heads of one device, mutable, with the bucket digests kept up to date lazily."""

    __slots__ = ("_buckets", "_digests", "_stale")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[DocumentId, tuple[int, ChangeHash]]] = {}
        self._digests = bytearray(256 * 32)
        self._stale: set[int] = set()

    def advance(self, document: DocumentId, seq: int, change: ChangeHash) -> None:
        """Take note of one more change, in chain order."""
        bucket = _bucket_of(document)
        self._buckets.setdefault(bucket, {})[document] = (seq, change)
        self._stale.add(bucket)

    def digest(self) -> HeadsDigest:
        """The digest over all buckets; an empty bucket counts as 32 zero bytes."""
        for bucket in self._stale:
            items = [[d, seq, change] for d, (seq, change) in sorted(self._buckets[bucket].items())]
            self._digests[bucket * 32 : bucket * 32 + 32] = hash_bytes(LABEL_BUCKET, encoding.encode(items))
        self._stale.clear()
        return HeadsDigest(hash_bytes(LABEL_HEADS, bytes(self._digests)))

    def items(self) -> Iterable[tuple[DocumentId, int, ChangeHash]]:
        """Every document with the seq and hash of this device's newest change in it."""
        for bucket in self._buckets.values():
            for document, (seq, change) in bucket.items():
                yield document, seq, change

    def items_of(self, documents: Iterable[DocumentId]) -> Iterable[tuple[DocumentId, int, ChangeHash]]:
        """The same of these documents, as far as the device has changed them."""
        for document in documents:
            head = self.get(document)
            if head is not None:
                yield document, *head

    def get(self, document: DocumentId) -> tuple[int, ChangeHash] | None:
        return self._buckets.get(_bucket_of(document), {}).get(document)

    def copy(self) -> DeviceHeads:
        twin = DeviceHeads()
        twin._buckets = {number: dict(bucket) for number, bucket in self._buckets.items()}
        twin._digests = bytearray(self._digests)
        twin._stale = set(self._stale)
        return twin


def advance_heads(heads: DeviceHeads, changes: Iterable[DocumentChange]) -> None:
    """Take note of an entry's changes. One whose header has no readable seq leaves the heads as they are."""
    for change in changes:
        if change.seq is not None:
            heads.advance(change.document, change.seq, change.hash)


@lru_cache(maxsize=4096)
def _bucket_of(document: DocumentId) -> int:
    return hash_bytes(LABEL_HEADS_PLACE, document, 1)[0]
