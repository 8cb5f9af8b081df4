"""A file as encrypted chunks, and what names and opens it. Implements specs/vault.md §2 to §5.

    content = the file's bytes ‖ 0x80 ‖ zeros     cut into chunks of 1 MiB, of which the last is padded to its class
    chunk n = ChaCha20-Poly1305(chunk key, n ‖ last?, data)     its name = SHA-256 of it, and it is one blob

A chunk opens in its own place of its own file and nowhere else, and the last one says that it is the last. The same
bytes under the same key are the same blobs, so whatever is done again checks itself against names. Pure: bytes and
keys arrive as arguments. Where chunks are kept and how they travel is for cocoon_core/vault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

from cocoon_core.errors import DecryptionError, MalformedError, UsageError
from cocoon_core.protocol.constants import (
    CHUNK_BYTES,
    DIGEST_PIECE_BYTES,
    DIGEST_PIECES,
    LABEL_VAULT_CHUNK,
    LABEL_VAULT_DIGEST,
    LABEL_VAULT_FILE,
    LABEL_VAULT_LIST,
    MAX_FILE_BYTES,
    MAX_INLINE_CHUNKS,
    TAG_BYTES,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.envelope import padded_size
from cocoon_core.protocol.ids import BlobHash, GroupId
from cocoon_core.protocol.primitives import (
    Secret,
    derive,
    hash_bytes,
    keyed_hash,
    open_bulk,
    open_bulk_into,
    seal_bulk,
    seal_bulk_into,
    sha256,
)

NAME_BYTES: Final = BlobHash.LENGTH
_LIST_NAMES: Final = CHUNK_BYTES // NAME_BYTES  # names in one chunk of a list
_END: Final = b"\x80"

Data = bytes | bytearray | memoryview


# --- where a file is cut


def count_chunks(size: int) -> int:
    """How many chunks a file of so many bytes has. One that fills its last chunk is followed by one of padding."""
    return size // CHUNK_BYTES + 1


def data_length(size: int, number: int) -> int:
    """How many bytes of a file of `size` bytes are in its chunk at that place: 0 to CHUNK_BYTES."""
    return min(CHUNK_BYTES, size - number * CHUNK_BYTES)


def blob_length(size: int, number: int) -> int:
    """How many bytes the chunk at that place has as a blob: what a relay sees of it."""
    data = data_length(size, number)
    return (CHUNK_BYTES if data == CHUNK_BYTES else padded_size(data)) + TAG_BYTES


def total_length(size: int) -> int:
    """How many bytes all chunks of a file have as blobs."""
    last = size // CHUNK_BYTES
    return last * (CHUNK_BYTES + TAG_BYTES) + blob_length(size, last)


# --- chunks


def chunk_key(file_key: Secret) -> Secret:
    """The key of a file's chunks."""
    return derive(file_key, LABEL_VAULT_CHUNK)


def list_key(file_key: Secret) -> Secret:
    """The key of the chunks of its list, where it has one."""
    return derive(file_key, LABEL_VAULT_LIST)


@overload
def seal_chunk(key: Secret, size: int, number: int, data: Data) -> bytes: ...
@overload
def seal_chunk(key: Secret, size: int, number: int, data: Data, out: memoryview) -> memoryview: ...
def seal_chunk(key: Secret, size: int, number: int, data: Data, out: memoryview | None = None) -> bytes | memoryview:
    """Seal one chunk of a file of `size` bytes.

    Args:
        out: memory for a whole chunk's blob, to be written over; the blob is then this memory, or a part of it.
        key: of the chunks or of the list, made from a file key that was drawn for this file alone. The caller sees to
            it that no two contents are ever sealed in one place under one key.
        data: the file's bytes in that place.

    Returns:
        The blob. It shows its length: of the last chunk its length class, of the others that they are not the last.

    Raises:
        UsageError: the data is not as long as it is in that place of such a file.
    """
    length = data_length(size, number)
    if number < 0 or len(data) != length:
        raise UsageError(f"chunk {number} of {size} bytes has {length} bytes, not {len(data)}")
    last = length < CHUNK_BYTES
    plain = _pad(data) if last else data
    if out is None:
        return seal_bulk(key, _nonce(number, last=last), plain, b"")
    blob = out[: len(plain) + TAG_BYTES]
    seal_bulk_into(key, _nonce(number, last=last), plain, b"", blob)
    return blob


@overload
def open_chunk(key: Secret, size: int, number: int, blob: Data, name: BlobHash | None) -> bytes: ...
@overload
def open_chunk(
    key: Secret, size: int, number: int, blob: Data, name: BlobHash | None, out: memoryview
) -> memoryview: ...
def open_chunk(
    key: Secret, size: int, number: int, blob: Data, name: BlobHash | None, out: memoryview | None = None
) -> bytes | memoryview:
    """Undo `seal_chunk`, in this order: length, name, key and place, padding.

    Args:
        out: memory for a whole chunk, to be written over; the data is then this memory, or a part of it.
        name: None where it was just compared with what was named.

    Raises:
        MalformedError: the blob is not as long as it is in that place of such a file, or its padding is not the one
            permitted: whoever made the file broke it.
        DecryptionError: it is not the blob that was named; or it is, and was sealed under another key, for another
            place, as the last or as not the last.
    """
    if not 0 <= number < count_chunks(size) or len(blob) != blob_length(size, number):
        raise MalformedError(f"a blob of {len(blob)} bytes is not chunk {number} of a file of {size}")
    if name is not None and sha256(blob) != name:
        raise DecryptionError(f"a blob of {len(blob)} bytes is not the chunk that was named")
    length = data_length(size, number)
    last = length < CHUNK_BYTES
    padded: bytes | memoryview
    if out is None:
        padded = open_bulk(key, _nonce(number, last=last), blob, b"")
    else:
        padded = out[: len(blob) - TAG_BYTES]
        open_bulk_into(key, _nonce(number, last=last), blob, b"", padded)
    data = padded[:length]
    if last and padded != _pad(data):
        raise MalformedError("the padding of a chunk is not the permitted one")
    return data


def _pad(data: Data) -> bytes:
    return (bytes(data) + _END).ljust(padded_size(len(data)), b"\0")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + bytes((last,))


# --- what names and opens a file


@dataclass(frozen=True, slots=True)
class FileRef:
    """What an item carries of a file: whoever has it finds and opens the file, nobody else does.

    Attributes:
        key: the file key.
        size: the file's bytes.
        names: of its chunks; where it has more than MAX_INLINE_CHUNKS, of the chunks of the list of their names.
    """

    key: Secret
    size: int
    names: tuple[BlobHash, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_FILE_BYTES:
            raise MalformedError(f"a file of {self.size} bytes is not one of 0 to {MAX_FILE_BYTES}")
        needed = count_chunks(self.list_size) if self.is_listed else self.chunks
        if len(self.names) != needed:
            raise MalformedError(f"a file of {self.size} bytes has {needed} names here, not {len(self.names)}")

    @property
    def chunks(self) -> int:
        """How many chunks the file has."""
        return count_chunks(self.size)

    @property
    def is_listed(self) -> bool:
        """True where the names of its chunks are in a list of their own."""
        return self.chunks > MAX_INLINE_CHUNKS

    @property
    def list_size(self) -> int:
        """The bytes of the list of names."""
        return self.chunks * NAME_BYTES

    def id(self) -> bytes:
        """A name of 32 bytes for this device's own tables: the same file under the same key has the same."""
        return hash_bytes(LABEL_VAULT_FILE, encode(self.to_value()))

    def to_value(self) -> dict[str, int | bytes]:
        """`size`, `key`, and `chunks` or `list`, as a map of an item carries them."""
        return {
            "size": self.size,
            "key": self.key.reveal(),
            "list" if self.is_listed else "chunks": b"".join(self.names),
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> FileRef:
        """Read those keys of a map that came from a member; others are not looked at.

        Raises:
            MalformedError: one is missing, of another type or length, or both `chunks` and `list` are there.
        """
        size, key = value.get("size"), value.get("key")
        if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            raise MalformedError("the size of a file is none")
        if type(key) is not bytes:
            raise MalformedError("the key of a file is none")
        here, other = ("list", "chunks") if count_chunks(size) > MAX_INLINE_CHUNKS else ("chunks", "list")
        names = value.get(here)
        if type(names) is not bytes or value.get(other) is not None:
            raise MalformedError(f"a file of {size} bytes carries `{here}` and not `{other}`")
        return cls(Secret(key), size, split_names(names))


def make_ref(key: Secret, size: int, names: Sequence[BlobHash]) -> tuple[FileRef, list[bytes]]:
    """The reference to a file whose chunks have these names, and the blobs of its list; none if it needs no list.

    Raises:
        MalformedError: there are not as many names as a file of that size has chunks.
    """
    if len(names) != count_chunks(size):
        raise MalformedError(f"a file of {size} bytes has {count_chunks(size)} chunks, not {len(names)}")
    if len(names) <= MAX_INLINE_CHUNKS:
        return FileRef(key, size, tuple(names)), []
    blobs = []
    listed = len(names) * NAME_BYTES
    for number in range(count_chunks(listed)):
        data = b"".join(names[number * _LIST_NAMES : (number + 1) * _LIST_NAMES])
        blobs.append(seal_chunk(list_key(key), listed, number, data))
    return FileRef(key, size, tuple(BlobHash(sha256(blob)) for blob in blobs)), blobs


def open_list(ref: FileRef, number: int, blob: Data) -> tuple[BlobHash, ...]:
    """The names that a chunk of the list holds: those of the chunks from number × 32,768 on.

    Raises:
        MalformedError, DecryptionError: as `open_chunk`.
        UsageError: the file has no list.
    """
    if not ref.is_listed:
        raise UsageError("this file has no list")
    if not 0 <= number < len(ref.names):
        raise MalformedError(f"a list of {ref.list_size} bytes has no chunk {number}")
    return split_names(open_chunk(list_key(ref.key), ref.list_size, number, blob, ref.names[number]))


def split_names(raw: bytes) -> tuple[BlobHash, ...]:
    """Names from their bytes, one after another.

    Raises:
        MalformedError: the last one is not whole.
    """
    if len(raw) % NAME_BYTES:
        raise MalformedError(f"{len(raw)} bytes are not names of {NAME_BYTES} bytes each")
    return tuple(BlobHash.unchecked(raw[at : at + NAME_BYTES]) for at in range(0, len(raw), NAME_BYTES))


# --- finding the same file again


def digest_places(size: int) -> list[tuple[int, int]]:
    """Which bytes of a file its digest is made from, as (start, length): all of a small one, 64 pieces of a large."""
    if size <= DIGEST_PIECES * DIGEST_PIECE_BYTES:
        return [(0, size)]
    room = size - DIGEST_PIECE_BYTES
    return [(room * piece // (DIGEST_PIECES - 1), DIGEST_PIECE_BYTES) for piece in range(DIGEST_PIECES)]


def digest_file(group: GroupId, size: int, sample: bytes) -> bytes:
    """What files with the same bytes have in common within one group, 32 bytes; other files may have it too.

    It only says where to look: whether a file is the same is found by sealing it under the other one's key and
    comparing names. It stands inside items, which members alone read, and is of no use in another group.

    Args:
        sample: the bytes at `digest_places`, one after another.
    """
    return keyed_hash(group, LABEL_VAULT_DIGEST, size.to_bytes(8) + sample)
