"""Vectors for specs/vault.md: files chunk by chunk, lists of names, references, digests, and what is refused."""

from __future__ import annotations

from typing import Any

from cocoon_core.protocol.constants import (
    CHUNK_BYTES,
    DIGEST_PIECE_BYTES,
    DIGEST_PIECES,
    MAX_FILE_BYTES,
    MAX_INLINE_CHUNKS,
    TAG_BYTES,
)
from cocoon_core.protocol.ids import BlobHash, GroupId
from cocoon_core.protocol.primitives import Secret, open_bulk, seal_bulk, sha256
from cocoon_core.protocol.vault_file import (
    FileRef,
    chunk_key,
    count_chunks,
    data_length,
    digest_file,
    digest_places,
    list_key,
    make_ref,
    open_chunk,
    open_list,
    seal_chunk,
)
from tests.support.flips import flip
from tests.vectors.values import Json, refused

FILE_KEY = Secret(bytes(range(32)))
GROUP = GroupId(bytes(range(100, 132)))
SHOWN_BYTES = 300  # a blob up to this size stands in the file whole
SIZES = (0, 1, 255, 256, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 16_384)


def content(size: int) -> bytes:
    """The bytes of a file of the vectors: byte i is i mod 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def piece(size: int, number: int) -> bytes:
    start = number * CHUNK_BYTES
    return content(size)[start : start + data_length(size, number)]


def seal_all(key: Secret, data: bytes) -> list[bytes]:
    size = len(data)
    return [
        seal_chunk(key, size, number, data[number * CHUNK_BYTES :][: data_length(size, number)])
        for number in range(count_chunks(size))
    ]


def make_vault_file() -> Json:
    """Files of which byte i is i mod 251, sealed under one key: every chunk with its nonce, length, tag and name, and
    whole where it is short; references with and without a list; digests; chunks, lists and references that are refused.
    """
    return {
        "file_key": FILE_KEY.reveal().hex(),
        "chunk_key": chunk_key(FILE_KEY).reveal().hex(),
        "list_key": list_key(FILE_KEY).reveal().hex(),
        "files": [_file(size) for size in SIZES],
        "lists": [_list(count) for count in (MAX_INLINE_CHUNKS + 1, CHUNK_BYTES // 32, CHUNK_BYTES // 32 + 1)],
        "group_id": GROUP.hex(),
        "digests": [_digest(size) for size in (0, 1, DIGEST_PIECES * DIGEST_PIECE_BYTES, 2 * CHUNK_BYTES + 1)],
        "bad_chunks": _bad_chunks(),
        "bad_lists": _bad_lists(),
        "bad_refs": _bad_refs(),
    }


def _file(size: int) -> Json:
    blobs = seal_all(chunk_key(FILE_KEY), content(size))
    names = [BlobHash(sha256(blob)) for blob in blobs]
    ref, _ = make_ref(FILE_KEY, size, names)
    last = len(blobs) - 1
    return {
        "size": size,
        "chunks": [
            {
                "nonce": (number.to_bytes(11) + bytes((number == last,))).hex(),
                "data_length": data_length(size, number),
                "length": len(blob),
                "tag": blob[-TAG_BYTES:].hex(),
                "name": name.hex(),
                **({"blob": blob.hex()} if len(blob) <= SHOWN_BYTES else {}),
            }
            for number, (blob, name) in enumerate(zip(blobs, names, strict=True))
        ],
        "value": shown(ref.to_value()),
        "id": ref.id().hex(),
    }


def list_names(count: int) -> list[BlobHash]:
    """Names of chunks of a file too large for vectors: the n-th is n as 32 bytes."""
    return [BlobHash(number.to_bytes(32)) for number in range(count)]


def _list(count: int) -> Json:
    size = (count - 1) * CHUNK_BYTES
    ref, blobs = make_ref(FILE_KEY, size, list_names(count))
    return {
        "size": size,
        "chunks": count,
        "list_size": ref.list_size,
        "blobs": [{"length": len(blob), "tag": blob[-TAG_BYTES:].hex(), "name": sha256(blob).hex()} for blob in blobs],
        "value": shown(ref.to_value()),
        "id": ref.id().hex(),
    }


def _digest(size: int) -> Json:
    places = digest_places(size)
    data = content(size)
    sample = b"".join(data[start : start + length] for start, length in places)
    return {
        "size": size,
        "pieces": len(places),
        "starts": [start for start, _ in places],
        "digest": digest_file(GROUP, size, sample).hex(),
    }


def shown(value: dict[str, Any]) -> Json:
    """Byte strings as `h'…'`, as CBOR's diagnostic notation writes them, so that types are seen."""
    return {key: f"h'{one.hex()}'" if isinstance(one, bytes) else one for key, one in value.items()}


def unshown(value: Json) -> dict[str, Any]:
    return {
        key: bytes.fromhex(one[2:-1]) if isinstance(one, str) and one.startswith("h'") else one
        for key, one in value.items()
    }


def _bad_chunks() -> list[Json]:
    """Each is offered as the chunk `number` of a file of `size` bytes, under the honest one's name or its own."""
    key, size = chunk_key(FILE_KEY), 2 * CHUNK_BYTES + 300
    honest = seal_chunk(key, size, 2, piece(size, 2))
    padded = open_bulk(key, (2).to_bytes(11) + b"\x01", honest, b"")
    other = chunk_key(Secret(bytes(32)))

    def sealed(plain: bytes, number: int = 2, last: int = 1, by: Secret = key) -> bytes:
        return seal_bulk(by, number.to_bytes(11) + bytes((last,)), plain, b"")

    named = [
        ("a flipped bit", "it is not the blob that was named", flip(honest, 7)),
        ("a flipped bit of the tag", "it is not the blob that was named", flip(honest, -1)),
        ("another blob of that length", "it is not the blob that was named", bytes(len(honest))),
        ("cut off", "the length is not that of this place", honest[:-1]),
        ("longer", "the length is not that of this place", honest + b"\0"),
        ("nothing", "the length is not that of this place", b""),
    ]
    own = [
        ("sealed under another key", "it does not open", sealed(padded, by=other)),
        ("sealed under the key of lists", "it does not open", sealed(padded, by=list_key(FILE_KEY))),
        ("sealed under the file key itself", "it does not open", sealed(padded, by=FILE_KEY)),
        ("sealed for the place before", "it does not open", sealed(padded, number=1)),
        ("sealed as not the last", "it does not open", sealed(padded, last=0)),
        ("no end mark", "the padding is not the permitted one", sealed(padded[:300] + bytes(len(padded) - 300))),
        ("an end mark too early", "the size says where the bytes end", sealed(_moved_end(padded))),
        ("another byte in the padding", "zeros follow the end mark", sealed(padded[:-1] + b"\x01")),
        ("padded to another class", "the length is not that of this place", sealed(padded + bytes(16))),
    ]
    cases = [*((*one, sha256(honest)) for one in named), *((*one, sha256(one[2])) for one in own)]
    shown_cases = []
    for case, reason, blob, name in cases:
        given = {"size": size, "number": 2, "blob": blob.hex(), "name_of": name.hex()}
        shown_cases.append(refused(case, reason, given, open_chunk, key, size, 2, blob, BlobHash(name)))
    shown_cases.append(
        refused(
            "no such chunk",
            "the file has three",
            {"size": size, "number": 3, "blob": honest.hex(), "name_of": sha256(honest).hex()},
            open_chunk, key, size, 3, honest, BlobHash(sha256(honest)),
        )
    )  # fmt: skip
    return shown_cases


def _moved_end(padded: bytes) -> bytes:
    return padded[:299] + b"\x80" + bytes(len(padded) - 300)


def _bad_lists() -> list[Json]:
    """Each is offered as the first chunk of the list of a file of 33 chunks, under its own name."""
    names = list_names(MAX_INLINE_CHUNKS + 1)
    size = MAX_INLINE_CHUNKS * CHUNK_BYTES
    listed = len(names) * 32
    joined = b"".join(names)
    cases = [
        ("sealed as a chunk of the file", "it does not open", seal_chunk(chunk_key(FILE_KEY), listed, 0, joined)),
        ("one name too few", "the size says how many", seal_chunk(list_key(FILE_KEY), listed - 32, 0, joined[:-32])),
    ]
    found = []
    for case, reason, blob in cases:
        ref = FileRef(FILE_KEY, size, (BlobHash(sha256(blob)),))
        given = {"value": shown(ref.to_value()), "blob": blob.hex()}
        found.append(refused(case, reason, given, open_list, ref, 0, blob))
    return found


def _bad_refs() -> list[Json]:
    size, key, names = CHUNK_BYTES, FILE_KEY.reveal(), bytes(64)
    good = {"size": size, "key": key, "chunks": names}
    large = (MAX_INLINE_CHUNKS + 1) * CHUNK_BYTES
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("no size", "there is none", {"key": key, "chunks": names}),
        ("a size that is true", "true is not a number", {**good, "size": True}),
        ("a size that is text", "a size is a number", {**good, "size": "1"}),
        ("a negative size", "at least 0", {**good, "size": -1}),
        ("a size over the limit", "at most 2^40", {**good, "size": MAX_FILE_BYTES + 1}),
        ("no key", "there is none", {"size": size, "chunks": names}),
        ("a key of 31 bytes", "32 bytes", {**good, "key": key[:-1]}),
        ("a key that is text", "bytes", {**good, "key": "k" * 32}),
        ("no names", "there are none", {"size": size, "key": key}),
        ("names in a list of values", "one byte string", {**good, "chunks": [bytes(32), bytes(32)]}),
        ("a name too few", "two chunks", {**good, "chunks": bytes(32)}),
        ("a name too many", "two chunks", {**good, "chunks": bytes(96)}),
        ("half a name", "names have 32 bytes", {**good, "chunks": bytes(63)}),
        ("a list where none is needed", "two names stand in the item", {"size": size, "key": key, "list": bytes(32)}),
        ("chunks and a list", "one of the two", {**good, "list": bytes(32)}),
        ("chunks of a large file", "beyond 32 there is a list", {**good, "size": large, "chunks": bytes(34 * 32)}),
        ("a list of two chunks", "34 names fit in one", {"size": large, "key": key, "list": bytes(64)}),
    ]
    found = []
    for case, reason, value in cases:
        plain = {name: [part.hex() for part in one] if isinstance(one, list) else one for name, one in value.items()}
        found.append(refused(case, reason, {"value": shown(plain)}, FileRef.from_value, value))
    return found
