"""What is S3's own: what is said when it is away, refuses, or is named wrongly. No key is ever shown."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from cocoon_core.errors import LocalStateError
from cocoon_core.protocol.constants import MAX_BLOB_BYTES
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.config import split_bucket
from cocoon_relay.refusal import Refusal
from cocoon_relay.s3_blobs import S3Blobs
from cocoon_relay.store import StoredBlob
from tests.support.servers import S3Server, free_ports


async def open_blobs(folder: Path, url: str, variables: Mapping[str, str]) -> S3Blobs:
    blobs = S3Blobs(url, folder / "incoming", variables)
    await blobs.prepare(alone=True)
    return blobs


async def keep(blobs: S3Blobs, data: bytes) -> StoredBlob:
    blob = BlobHash(hashlib.sha256(data).digest())
    upload = blobs.begin_upload(len(data))
    upload.write(data)
    place = await blobs.keep(blob, upload)
    upload.discard()
    return StoredBlob(blob, place, len(data), 0)


async def test_the_greatest_blob_is_put_in_one_request_and_read_in_pieces(s3: S3Server, tmp_path: Path) -> None:
    blobs = await open_blobs(tmp_path, s3.make_folder(), s3.variables)
    data = os.urandom(MAX_BLOB_BYTES)
    stored = await keep(blobs, data)
    reader = await blobs.open(stored)
    pieces = [piece async for piece in await reader.read(0, len(data))]
    assert b"".join(pieces) == data
    assert len(pieces) > 1
    assert b"".join([piece async for piece in await reader.read(1_000, 1_001)]) == data[1_000:1_001]


async def test_two_folders_of_a_bucket_do_not_see_each_other(s3: S3Server, tmp_path: Path) -> None:
    one = await open_blobs(tmp_path, s3.make_folder(), s3.variables)
    other = await open_blobs(tmp_path, s3.make_folder(), s3.variables)
    stored = await keep(one, b"mine")
    assert [place async for part in one.list_old(1e12) for place in part] == [stored.place]
    assert [place async for part in other.list_old(1e12) for place in part] == []
    assert [place async for part in one.list_old(1.0) for place in part] == []


async def test_removing_what_is_not_there_is_no_fault(s3: S3Server, tmp_path: Path) -> None:
    blobs = await open_blobs(tmp_path, s3.make_folder(), s3.variables)
    stored = await keep(blobs, b"x")
    await blobs.remove([stored.place, f"{'ab' * 32}.none"])
    await blobs.remove([stored.place])
    await blobs.remove([])
    with pytest.raises(Refusal) as caught:
        await (await blobs.open(stored)).read(0, 1)
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_a_bucket_that_lets_nobody_in_is_told_at_the_start_without_a_key(s3: S3Server, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    wrong = s3.variables | {"AWS_SECRET_ACCESS_KEY": "geheim"}
    for url, variables, why in (
        ("s3://relay", wrong, "SignatureDoesNotMatch"),
        ("s3://none", s3.variables, "NoSuchBucket"),
        ("s3://relay", wrong | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}, "no answer from its endpoint"),
    ):
        with pytest.raises(LocalStateError, match=rf"cannot be used \({why}\).*AWS_SECRET_ACCESS_KEY") as caught:
            await open_blobs(tmp_path, url, variables)
        assert "geheim" not in str(caught.value)
        assert str(port) not in str(caught.value)


async def test_a_bucket_that_goes_away_is_busy(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = await open_blobs(tmp_path, s3.make_folder(), s3.variables)
    stored = await keep(blobs, b"x")
    (port,) = free_ports(1)
    gone = S3Blobs(
        "s3://relay/0", tmp_path / "incoming", s3.variables | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    )
    monkeypatch.setattr(blobs, "_store", gone._store)
    upload = blobs.begin_upload(1)
    upload.write(b"x")
    for work in (
        blobs.keep(stored.blob, upload), (await blobs.open(stored)).read(0, 1), blobs.remove([stored.place]),
    ):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            await work
        assert caught.value.code is ErrorCode.BUSY
    upload.discard()


@pytest.mark.parametrize(
    "url", ["", "relay", "s3://", "s3:///x", "s3://key:secret@relay", "s3://relay?x=1", "gs://relay"]
)
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3://BUCKET"):
        split_bucket(url)


def test_a_bucket_and_a_folder() -> None:
    assert split_bucket("s3://relay") == ("relay", "")
    assert split_bucket("s3://relay/a/b/") == ("relay", "a/b")
