"""Files as chunks: where they are cut, and that no chunk serves in another place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, MalformedError, UsageError
from cocoon_core.protocol.constants import CHUNK_BYTES, MAX_BLOB_BYTES, MAX_FILE_BYTES, MAX_INLINE_CHUNKS, TAG_BYTES
from cocoon_core.protocol.ids import BlobHash, GroupId
from cocoon_core.protocol.primitives import Secret, sha256
from cocoon_core.protocol.vault_file import (
    FileRef,
    blob_length,
    chunk_key,
    count_chunks,
    data_length,
    digest_file,
    digest_places,
    make_ref,
    open_chunk,
    open_list,
    seal_chunk,
    split_names,
    total_length,
)

KEY = Secret(bytes(range(32)))
SIZES = st.integers(0, MAX_FILE_BYTES) | st.integers(0, 4).map(lambda n: n * CHUNK_BYTES)


@given(SIZES)
def test_chunks_are_the_file_and_a_last_one_that_is_never_full(size: int) -> None:
    last = count_chunks(size) - 1
    assert last * CHUNK_BYTES + data_length(size, last) == size
    assert 0 <= data_length(size, last) < CHUNK_BYTES
    assert data_length(size, 0) == min(size, CHUNK_BYTES)
    assert blob_length(size, last) <= CHUNK_BYTES + TAG_BYTES <= MAX_BLOB_BYTES
    assert total_length(size) == last * (CHUNK_BYTES + TAG_BYTES) + blob_length(size, last)


def test_the_last_chunk_shows_its_class_alone() -> None:
    """Every length has one of few classes, and the largest is a whole chunk."""
    lengths = {blob_length(size, 0) for size in range(0, CHUNK_BYTES, 61)} | {blob_length(CHUNK_BYTES - 1, 0)}
    assert len(lengths) < 260
    assert (min(lengths), max(lengths)) == (256 + TAG_BYTES, CHUNK_BYTES + TAG_BYTES)
    for size in range(300, CHUNK_BYTES, 997):
        assert blob_length(size, 0) - TAG_BYTES <= size * 1.12 + 1


def sealed(size: int, key: Secret = KEY) -> list[bytes]:
    data = bytes(size)
    return [
        seal_chunk(chunk_key(key), size, number, data[: data_length(size, number)])
        for number in range(count_chunks(size))
    ]


def named(blobs: list[bytes]) -> list[BlobHash]:
    return [BlobHash(sha256(blob)) for blob in blobs]


@pytest.mark.parametrize("size", [3 * CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_attack_18_a_chunk_opens_in_its_own_place_alone(size: int) -> None:
    """Even where the names were swapped with the blobs, and the plaintexts are equal."""
    blobs, key = sealed(size), chunk_key(KEY)
    names = named(blobs)
    for place in range(len(blobs)):
        for number, (blob, name) in enumerate(zip(blobs, names, strict=True)):
            if number == place:
                assert open_chunk(key, size, place, blob, name) == bytes(data_length(size, place))
            else:
                with pytest.raises((DecryptionError, MalformedError)):
                    open_chunk(key, size, place, blob, name)


def test_attack_07_a_file_that_was_cut_off_does_not_open_as_a_shorter_one() -> None:
    """Whoever lies about the size: each chunk that would be the last was sealed as not the last."""
    blobs = sealed(3 * CHUNK_BYTES + 9)
    for size in (CHUNK_BYTES, 2 * CHUNK_BYTES, CHUNK_BYTES - 1, 2 * CHUNK_BYTES - 1, 3 * CHUNK_BYTES - 1):
        last = count_chunks(size) - 1
        with pytest.raises((DecryptionError, MalformedError)):
            open_chunk(chunk_key(KEY), size, last, blobs[last], named(blobs)[last])


def test_attack_15_a_chunk_of_another_file_does_not_open() -> None:
    blobs, others = sealed(10), sealed(10, Secret(bytes(32)))
    assert blobs != others
    for name in (named(blobs)[0], named(others)[0]):
        with pytest.raises(DecryptionError):
            open_chunk(chunk_key(KEY), 10, 0, others[0], name)


def test_a_chunk_is_sealed_with_the_length_of_its_place_alone() -> None:
    key = chunk_key(KEY)
    for number, data in ((0, b""), (0, bytes(11)), (1, b""), (-1, bytes(10))):
        with pytest.raises(UsageError):
            seal_chunk(key, 10, number, data)
    assert seal_chunk(key, 3, 0, memoryview(b"abc")) == seal_chunk(key, 3, 0, bytearray(b"abc"))


@settings(max_examples=25)
@given(st.integers(1, 200))
def test_names_come_back_out_of_item_and_list(count: int) -> None:
    names = [BlobHash(number.to_bytes(32)) for number in range(count)]
    ref, blobs = make_ref(KEY, (count - 1) * CHUNK_BYTES, names)
    assert ref.is_listed == (count > MAX_INLINE_CHUNKS) == bool(blobs)
    assert FileRef.from_value(ref.to_value()) == ref
    found = [name for number, blob in enumerate(blobs) for name in open_list(ref, number, blob)]
    assert (found or list(ref.names)) == names


def test_the_largest_file_has_a_list_of_few_chunks() -> None:
    names = (BlobHash(bytes(32)),) * 33
    ref = FileRef(KEY, MAX_FILE_BYTES, names)
    assert (ref.chunks, ref.list_size) == (2**20 + 1, 32 * (2**20 + 1))
    with pytest.raises(MalformedError):
        FileRef(KEY, MAX_FILE_BYTES + 1, names)


def test_a_list_is_asked_for_what_it_has() -> None:
    ref, (blob,) = make_ref(KEY, 40 * CHUNK_BYTES, [BlobHash(bytes(32))] * 41)
    for number in (-1, 1):
        with pytest.raises(MalformedError):
            open_list(ref, number, blob)
    small, _ = make_ref(KEY, 0, [BlobHash(bytes(32))])
    with pytest.raises(UsageError):
        open_list(small, 0, blob)
    with pytest.raises(MalformedError):
        make_ref(KEY, 0, [])
    with pytest.raises(MalformedError):
        split_names(bytes(33))


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=130)


@given(st.dictionaries(st.sampled_from(["size", "key", "chunks", "list", "name"]), VALUES))
def test_attack_41_a_reference_is_read_or_refused(value: dict[str, object]) -> None:
    try:
        ref = FileRef.from_value(value)
    except MalformedError:
        return
    assert ref.to_value().items() <= value.items()


def test_a_reference_does_not_print_its_key() -> None:
    ref, _ = make_ref(KEY, 0, [BlobHash(bytes(32))])
    assert KEY.reveal().hex() not in repr(ref)
    assert repr(KEY.reveal())[2:-1] not in repr(ref)
    assert ref.id() != make_ref(Secret(bytes(32)), 0, [BlobHash(bytes(32))])[0].id()


@given(SIZES)
def test_a_digest_is_made_from_a_mebibyte_at_most(size: int) -> None:
    places = digest_places(size)
    assert sum(length for _, length in places) == min(size, 2**20)
    assert all(start >= 0 and start + length <= size for start, length in places)
    assert all(one[0] + one[1] <= two[0] for one, two in pairwise(places))
    if size:
        assert (places[0][0], sum(places[-1])) == (0, size)


def test_a_digest_differs_by_group_size_and_sample() -> None:
    digest = digest_file(GroupId(bytes(32)), 3, b"abc")
    others = [(GroupId(b"\x01" * 32), 3, b"abc"), (GroupId(bytes(32)), 4, b"abc"), (GroupId(bytes(32)), 3, b"abd")]
    assert len({digest, *(digest_file(*one) for one in others)}) == 4
