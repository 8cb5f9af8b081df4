"""The blobs of a file in a row: first its chunks, then, where it has one, those of its list.

A blob's *place* is its number in that row. It is the same in rows, in the content store and in transfers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_INLINE_CHUNKS
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.vault_file import NAME_BYTES, FileRef, blob_length, count_chunks, total_length


def count_places(size: int) -> int:
    """How many blobs a file of so many bytes has, list and all."""
    chunks = count_chunks(size)
    return chunks + (count_chunks(chunks * NAME_BYTES) if chunks > MAX_INLINE_CHUNKS else 0)


def length_at(size: int, place: int) -> int:
    """How many bytes the blob in that place has."""
    chunks = count_chunks(size)
    return blob_length(size, place) if place < chunks else blob_length(chunks * NAME_BYTES, place - chunks)


def length_of_all(size: int) -> int:
    """How many bytes all blobs of a file have."""
    chunks = count_chunks(size)
    return total_length(size) + (total_length(chunks * NAME_BYTES) if chunks > MAX_INLINE_CHUNKS else 0)


def require_length(size: int, place: int, blob: bytes) -> None:
    """A blob that is longer would reach into the next one's place.

    Raises:
        MalformedError: it is not as long as the reference says: whoever made the file broke it.
    """
    if len(blob) != length_at(size, place):
        raise MalformedError(f"a blob of {len(blob)} bytes is not number {place} of a file of {size}")


class NameRow(Sequence[BlobHash]):
    """The names of a file's blobs, by place, as far as they are known: 33 bytes a name, however large the file."""

    def __init__(self, count: int, known: Iterable[tuple[int, BlobHash]] = ()) -> None:
        self._raw, self._known = bytearray(NAME_BYTES * count), bytearray(count)
        self._left = count
        for place, name in known:
            self.put(place, name)

    @classmethod
    def of_ref(cls, ref: FileRef) -> NameRow:
        """What the reference itself carries: names of all chunks, or of the list's."""
        first = ref.chunks if ref.is_listed else 0
        return cls(count_places(ref.size), ((first + number, name) for number, name in enumerate(ref.names)))

    def put(self, place: int, name: BlobHash) -> None:
        self._raw[place * NAME_BYTES : (place + 1) * NAME_BYTES] = name
        self._left -= not self._known[place]
        self._known[place] = 1

    def take(self, place: int) -> None:
        """It is not known any more."""
        self._left += self._known[place]
        self._known[place] = 0

    def has(self, place: int) -> bool:
        return bool(self._known[place])

    @property
    def is_whole(self) -> bool:
        return not self._left

    def count(self, value: object = None) -> int:
        """How many are known."""
        return len(self._known) - self._left

    def missing(self) -> Iterator[int]:
        """The places whose names are not known."""
        place = self._known.find(0)
        while place >= 0:
            yield place
            place = self._known.find(0, place + 1)

    def __len__(self) -> int:
        return len(self._known)

    @overload
    def __getitem__(self, place: int) -> BlobHash: ...
    @overload
    def __getitem__(self, place: slice) -> list[BlobHash]: ...
    def __getitem__(self, place: int | slice) -> BlobHash | list[BlobHash]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self) or not self._known[place]:
            raise IndexError(f"the name of blob {place} is not known")
        return BlobHash.unchecked(bytes(self._raw[place * NAME_BYTES : (place + 1) * NAME_BYTES]))
