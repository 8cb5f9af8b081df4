"""Blobs in an object store that speaks S3: the blob store of many nodes.

A blob is gathered and checked in a file of this node before S3 sees a byte of it, so a lie never gets there. It is then
put in one request: a blob is at most MAX_BLOB_BYTES, which is less than the smallest part that S3 takes of an upload in
parts. What was put is read back by nobody else before its row stands. Reading is streamed, and ranges are S3's own.
Implements specs/relay.md §6 behind the interface of store.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cocoon_core.errors import LocalStateError
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.config import split_bucket
from cocoon_relay.limits import KIB
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import StoredBlob
from cocoon_relay.uploads import Incoming, Upload

_CHUNK: Final = 256 * KIB  # bytes of one piece of what is read
_PUTS_AT_ONCE: Final = 16  # each holds one blob in memory
_PORTION: Final = 1_000  # places of one portion
_PIECE_SECONDS: Final = 30.0  # seconds without a byte before a read is given up
_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)  # fmt: skip
_FAULTS: Final = (BaseError, OSError, TimeoutError)
_S3_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")


class S3Blobs:
    """The blobs of one bucket, or of one folder in it. `spool` is a folder of this node, for uploads on their way."""

    def __init__(self, url: str, spool: Path, environment: Mapping[str, str]) -> None:
        bucket, prefix = split_bucket(url)
        self._prefix = f"{prefix}/blobs/" if prefix else "blobs/"
        # What is not among these, obstore finds by itself: other AWS_ variables, a role of the machine.
        config: Any = {name.lower(): environment[name] for name in _VARIABLES if environment.get(name)}
        plain = config.get("aws_endpoint_url_s3", config.get("aws_endpoint_url", "")).startswith("http://")
        self._store = S3Store(
            bucket,
            config=config,
            client_options={"allow_http": plain, "connect_timeout": "5s", "timeout": "10m"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
        )
        self._incoming = Incoming(spool, synced=False)
        self._puts = asyncio.Semaphore(_PUTS_AT_ONCE)

    async def prepare(self, *, alone: bool) -> None:
        """Make the spool, and see that the bucket is there.

        Raises:
            LocalStateError: it is not, or it does not let this relay in.
        """
        await asyncio.to_thread(self._incoming.prepare, alone=alone)
        try:
            async for _ in obstore.list(self._store, prefix=self._prefix, chunk_size=1):
                break
        except _FAULTS as error:
            raise LocalStateError(
                f"the bucket for blobs cannot be used ({_describe(error)}); its keys, region and endpoint come from"
                " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL"
            ) from error

    def begin_upload(self, size: int) -> Upload:
        return self._incoming.begin()

    async def keep(self, blob: BlobHash, upload: Upload) -> str:
        name = blob.hex()
        place = f"{name}.{token_hex(8)}"

        def check_and_read() -> bytes:
            upload.finish(blob)
            return upload.path.read_bytes()

        try:
            async with self._puts:
                data = await asyncio.to_thread(check_and_read)
                await obstore.put_async(self._store, self._key(place), data, use_multipart=False)
        except _FAULTS as error:
            raise _refuse() from error
        return place

    async def open(self, stored: StoredBlob) -> _Reader:
        return _Reader(self._store, self._key(stored.place))

    async def list_gone(self, stored: Sequence[StoredBlob]) -> set[str]:
        return set()  # one request for each would be dear; what is gone is seen when it is read

    async def remove(self, places: Sequence[str]) -> None:
        if not places:
            return
        try:
            await obstore.delete_async(self._store, [self._key(place) for place in places])
        except FileNotFoundError:
            return
        except _FAULTS as error:
            raise _refuse() from error

    async def list_old(self, before: float) -> AsyncIterator[list[str]]:
        try:
            async for portion in obstore.list(self._store, prefix=self._prefix, chunk_size=_PORTION):
                old = [one["path"].rpartition("/")[2] for one in portion if one["last_modified"].timestamp() < before]
                if old:
                    yield old
        except _FAULTS as error:
            raise _refuse() from error

    async def sweep_uploads(self, before: float) -> None:
        await asyncio.to_thread(self._incoming.sweep, before)

    async def free_bytes(self) -> None:
        return None

    async def close(self) -> None:
        """The connections are let go of with the object."""

    def _key(self, place: str) -> str:
        return f"{self._prefix}{place[:2]}/{place}"


class _Reader:
    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            if start == stop:
                await obstore.head_async(self._store, self._key)
                return _nothing()
            found = await obstore.get_async(self._store, self._key, options={"range": (start, stop)})
        except FileNotFoundError as error:
            raise Refusal(ErrorCode.NOT_FOUND, "no such blob") from error
        except _FAULTS as error:
            raise _refuse() from error
        return _stream(found)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece


async def _stream(found: obstore.GetResult) -> AsyncIterator[bytes]:
    pieces = aiter(found.stream(min_chunk_size=_CHUNK))
    while True:
        async with asyncio.timeout(_PIECE_SECONDS):
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield bytes(piece)


def _describe(error: BaseException) -> str:
    """The code that the server gave, or the kind of error. Nothing else of it: it may quote keys."""
    code = _S3_CODE.search(str(error))
    if code is not None:
        return code[1]
    return "no answer from its endpoint" if "HTTP error" in str(error) else type(error).__name__


def _refuse() -> Refusal:
    return Refusal(ErrorCode.BUSY, "the relay's blob store cannot be reached", retry_after_ms=5_000)
