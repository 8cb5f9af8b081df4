"""The rules of specs/relay.md §6, by the client of the core: on the relay in memory, the real one, and as a process."""

from __future__ import annotations

import os
import random

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_BLOB_BYTES, MAX_HAVE_HASHES
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.blobs import BlobRefused, BlobStore, get_blobs, name_blob
from tests.integration.relay.conftest import AnyRelay
from tests.support.relay_client import make_envelope


def make_epoch() -> Epoch:
    return Epoch(Secret(os.urandom(32)))


async def open_epoch(relay: AnyRelay, *, seal: bool = False) -> Epoch:
    """An epoch whose topic the relay holds."""
    epoch = make_epoch()
    await open_topic(relay, epoch, seal=seal)
    return epoch


async def open_topic(relay: AnyRelay, epoch: Epoch, *, seal: bool = False) -> None:
    client = await relay.connect()
    await client.open(epoch.signing)
    await client.put(epoch.signing, make_envelope(), seal=seal)
    await client.close()


async def refused(work: object) -> ErrorCode:
    with pytest.raises(BlobRefused) as caught:
        await work  # type: ignore[misc]
    return caught.value.reason


@pytest.fixture
def blobs(relay_any: AnyRelay) -> BlobStore:
    return relay_any.dial_blobs()


async def test_what_was_put_is_there_and_comes_back(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    datas = [choose.randbytes(choose.choice([1, 300, 70_000, 1 << 20])) for _ in range(9)] + [b"x" * MAX_BLOB_BYTES]
    names = [name_blob(data) for data in datas]
    assert await blobs.have(epoch, names) == set()
    assert await blobs.put_blobs(epoch, datas) == 10
    assert await blobs.have(epoch, [*names, BlobHash(bytes(32))]) == set(names)
    assert [data async for data in get_blobs(blobs, epoch, names)] == datas


async def test_only_what_is_absent_is_put(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    one, two = os.urandom(100), os.urandom(100)
    assert await blobs.put_blobs(epoch, [one, one]) == 1
    assert await blobs.put_blobs(epoch, [two, one]) == 1
    assert await blobs.put_blobs(epoch, [two, one]) == 0
    assert await blobs.put_blobs(epoch, []) == 0


async def test_another_topic_of_the_relay_reads_what_one_has_put(relay_any: AnyRelay, blobs: BlobStore) -> None:
    data = os.urandom(1000)
    await blobs.put_blobs(await open_epoch(relay_any), [data])
    assert await blobs.get_blob(await open_epoch(relay_any), name_blob(data)) == data


async def test_a_have_of_any_length_is_answered(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    data = os.urandom(10)
    await blobs.put_blobs(epoch, [data])
    asked = [BlobHash(os.urandom(32)) for _ in range(2 * MAX_HAVE_HASHES)]
    asked.insert(MAX_HAVE_HASHES + 7, name_blob(data))
    assert await blobs.have(epoch, asked) == {name_blob(data)}
    assert await blobs.have(epoch, []) == set()


async def test_what_is_not_here_is_refused_as_not_found(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    assert await refused(blobs.get_blob(epoch, BlobHash(bytes(32)))) is ErrorCode.NOT_FOUND


async def test_a_topic_that_nobody_opened_neither_reads_nor_writes(relay_any: AnyRelay, blobs: BlobStore) -> None:
    data = os.urandom(10)
    await blobs.put_blobs(await open_epoch(relay_any), [data])
    stranger = make_epoch()
    assert await refused(blobs.put_blobs(stranger, [b"x"])) is ErrorCode.NOT_OPEN
    assert await refused(blobs.get_blob(stranger, name_blob(data))) is ErrorCode.NOT_OPEN
    assert await refused(blobs.have(stranger, [name_blob(data)])) is ErrorCode.NOT_OPEN
    await open_topic(relay_any, stranger)
    assert await blobs.get_blob(stranger, name_blob(data)) == data


async def test_a_proof_by_another_key_is_refused(relay_any: AnyRelay, blobs: BlobStore) -> None:
    thief, epoch = make_epoch(), await open_epoch(relay_any)
    thief.topic = epoch.topic
    assert await refused(blobs.have(thief, [BlobHash(bytes(32))])) is ErrorCode.BAD_PROOF


async def test_a_sealed_topic_reads_blobs_and_puts_none(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    data = os.urandom(500)
    await blobs.put_blobs(epoch, [data])
    await open_topic(relay_any, epoch, seal=True)
    assert await blobs.get_blob(epoch, name_blob(data)) == data
    assert await blobs.have(epoch, [name_blob(data)]) == {name_blob(data)}
    assert await blobs.put_blobs(epoch, [data]) == 0
    for size in (10, 1 << 20):  # the refusal arrives while a large body is still on its way
        absent = os.urandom(size)
        assert await refused(blobs.put_blobs(epoch, [absent])) is ErrorCode.SEALED
        assert await blobs.have(epoch, [name_blob(absent)]) == set()


async def test_empty_and_too_large_blobs_are_the_callers_mistake(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch = await open_epoch(relay_any)
    for data in (b"", bytes(MAX_BLOB_BYTES + 1)):
        with pytest.raises(UsageError):
            await blobs.put_blobs(epoch, [b"fine", data])
    assert await blobs.have(epoch, [name_blob(b"fine")]) == set()


async def test_have_of_an_open_topic_renews_a_lease_and_that_of_a_sealed_one_does_not(
    relay_any: AnyRelay, blobs: BlobStore
) -> None:
    epoch, sealed = await open_epoch(relay_any), await open_epoch(relay_any, seal=True)
    renewed, put_again, read_only, forgotten = datas = [os.urandom(50) for _ in range(4)]
    names = [name_blob(data) for data in datas]
    await blobs.put_blobs(epoch, datas)
    for _ in range(2):
        await relay_any.age(85)
        assert await blobs.have(epoch, [names[0]]) == {names[0]}
        assert await blobs.put_blobs(epoch, [put_again]) == 0
        assert await blobs.have(sealed, [names[2]]) == {names[2]}
        assert await blobs.get_blob(epoch, names[2]) == read_only
    await relay_any.age(85)
    assert await blobs.have(epoch, names) == set(names[:2])
    assert await refused(blobs.get_blob(epoch, names[3])) is ErrorCode.NOT_FOUND
    assert await blobs.put_blobs(epoch, [forgotten, renewed]) == 1


async def test_an_expired_topic_proves_nothing_until_it_is_opened_again(relay_any: AnyRelay, blobs: BlobStore) -> None:
    epoch, other = await open_epoch(relay_any), await open_epoch(relay_any)
    data = os.urandom(50)
    await blobs.put_blobs(epoch, [data])
    await relay_any.age(91)
    assert await refused(blobs.get_blob(epoch, name_blob(data))) is ErrorCode.NOT_OPEN
    await open_topic(relay_any, other)
    assert await blobs.get_blob(other, name_blob(data)) == data
