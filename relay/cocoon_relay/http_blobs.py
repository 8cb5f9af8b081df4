"""Blobs over HTTP: put, get, head, and which of many are here.

Every request carries a proof for some topic of this relay; an unsealed one may put, any may read. Bodies are streamed,
so memory does not depend on their size or number. Implements specs/relay.md §6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import MAX_HAVE_HASHES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash
from cocoon_relay.bodies import one_of_few, read_body
from cocoon_relay.limits import KIB
from cocoon_relay.metrics import Metrics
from cocoon_relay.refusal import Refusal
from cocoon_relay.relay_store import RelayStore
from cocoon_relay.request_proofs import HEADERS, RequestProofs
from cocoon_relay.store import BlobReader, TopicInfo

_HAVE_BYTES: Final = 64 * KIB  # bytes of a `have`
_CBOR: Final = "application/cbor"


class BlobHandlers:
    """The routes under /v1/blobs, and /v1/challenge."""

    def __init__(
        self,
        store: RelayStore,
        proofs: RequestProofs,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._proofs = proofs
        self._metrics = metrics

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/challenge", self.challenge)
        app.router.add_post("/v1/blobs/have", self.have)
        app.router.add_put("/v1/blobs/{hash}", self.put)
        app.router.add_get("/v1/blobs/{hash}", self.get)  # and HEAD

    async def challenge(self, request: web.Request) -> web.Response:
        """What the Authorization headers of the next ten minutes sign."""
        return web.json_response({"challenge": self._proofs.make_challenge().hex()})

    async def put(self, request: web.Request) -> web.Response:
        """Store a blob: 201, or 200 if it was here. Its lease begins anew in both cases."""
        with one_of_few(self._proofs.granted(request)):
            return await self._put(request)

    async def _put(self, request: web.Request) -> web.Response:
        blob = _blob_of(request)
        info = await self._authorize(request)
        grant = self._proofs.granted(request)
        limits = grant.limits
        if info.sealed:
            raise Refusal(ErrorCode.SEALED, "the topic is sealed: it reads blobs and puts none")
        size = request.content_length
        if size is None or size == 0:
            raise Refusal(ErrorCode.BAD_FRAME, "a blob is put with its Content-Length, and is not empty")
        if size > limits.blob_bytes:
            raise Refusal(ErrorCode.TOO_LARGE, f"a blob is at most {limits.blob_bytes} bytes here")
        if await self._store.have_blobs([blob], renew=True):
            return web.Response(status=200)
        now = asyncio.get_running_loop().time()
        grant.address.blob_bytes.require(size, now, ErrorCode.QUOTA, "bytes of blobs from this address")
        upload = await self._store.begin_blob(info, size, limits)
        try:
            async for chunk in read_body(request, size, limits):
                await asyncio.to_thread(upload.write, chunk)
            new = await self._store.commit_blob(info, blob, upload)
        finally:
            if not upload.is_taken:
                await asyncio.to_thread(upload.discard)
        if new:
            self._metrics.count("blobs_put")
        return web.Response(status=201 if new else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A blob, or with HEAD its length. Ranges are served."""
        blob = _blob_of(request)
        await self._authorize(request)
        found = await self._store.find_blob(blob)
        if found is None:
            raise Refusal(ErrorCode.NOT_FOUND, "no such blob")
        stored, source = found
        grant = self._proofs.granted(request)
        limits = grant.limits
        now = asyncio.get_running_loop().time()
        asked = _asked_bytes(request, stored.size)
        grant.address.read_bytes.require(asked, now, ErrorCode.RATE, "bytes of blobs read from this address")
        self._metrics.count("blobs_sent")
        patience = limits.reader_seconds + stored.size / limits.transfer_bytes
        if isinstance(source, Path):
            return _File(source, patience)
        try:
            async with _cut_off_after(patience, request):
                return await _send_range(request, stored.size, source)
        except Refusal as refusal:
            if refusal.code is ErrorCode.NOT_FOUND:
                await self._store.log.forget_blob(stored)  # so that it can be put again
            raise

    async def have(self, request: web.Request) -> web.Response:
        """Which of the hashes in the body are here; an unsealed topic's proof renews their leases."""
        info = await self._authorize(request)
        size = request.content_length
        if size is None or size > _HAVE_BYTES:
            raise Refusal(
                ErrorCode.TOO_LARGE, f"a have names at most {MAX_HAVE_HASHES} hashes, with its Content-Length"
            )
        limits = self._proofs.granted(request).limits
        body = b"".join([chunk async for chunk in read_body(request, size, limits)])
        try:
            asked = decode(body)
            if type(asked) is not list or len(asked) > MAX_HAVE_HASHES:
                raise MalformedError(f"a have is an array of at most {MAX_HAVE_HASHES} hashes")
            blobs = [BlobHash(name) for name in asked]
        except MalformedError as error:
            raise Refusal(ErrorCode.BAD_FRAME, str(error)) from error
        kept = await self._store.have_blobs(blobs, renew=not info.sealed)
        return web.Response(body=encode(list(kept)), content_type=_CBOR)

    async def _authorize(self, request: web.Request) -> TopicInfo:
        """Check the proof, then that the topic is here."""
        topic = self._proofs.require_for_blobs(request)
        info = await self._store.log.open_topic(topic, create=False)
        if info is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the proof is of a topic that this relay does not hold")
        return info


class _File(web.FileResponse):
    """A file for a reader who takes it in time. The system's own copying does not tell the doorman that it waits."""

    def __init__(self, path: Path, patience: float) -> None:
        super().__init__(path, headers=HEADERS)
        self._patience = patience

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        async with _cut_off_after(self._patience, request):
            return await super().prepare(request)


@asynccontextmanager
async def _cut_off_after(patience: float, request: web.BaseRequest) -> AsyncIterator[None]:
    """End the connection of a reader who takes longer."""
    try:
        async with asyncio.timeout(patience):
            yield
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the reader took too long") from error


def _blob_of(request: web.Request) -> BlobHash:
    name = request.match_info["hash"]
    try:
        if name != name.lower():
            raise ValueError
        return BlobHash(bytes.fromhex(name))
    except (ValueError, MalformedError) as error:
        raise Refusal(ErrorCode.BAD_FRAME, "a blob's name is 64 digits of lower-case hex") from error


def _asked_bytes(request: web.Request, size: int) -> int:
    """How much of a blob of this size an answer will carry."""
    if request.method == "HEAD":
        return 0
    try:
        return len(range(*request.http_range.indices(size)))
    except ValueError:
        return 0  # that is refused


async def _send_range(request: web.Request, size: int, source: BlobReader) -> web.StreamResponse:
    """Send the bytes that a request asks for: all, or one range of them."""
    start, stop, status = 0, size, 200
    headers = {**HEADERS, "Accept-Ranges": "bytes"}
    try:
        asked = request.http_range
    except ValueError:
        return _refuse_range(size)
    if asked.start is not None or asked.stop is not None:
        start, stop, _ = asked.indices(size)
        if start >= stop:
            return _refuse_range(size)
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    answer = web.StreamResponse(status=status, headers=headers)
    answer.content_length = stop - start
    if request.method == "HEAD":
        start = stop
    pieces = await source.read(start, stop)
    await answer.prepare(request)
    async for piece in pieces:
        await answer.write(piece)
    await answer.write_eof()
    return answer


def _refuse_range(size: int) -> web.Response:
    return web.Response(status=416, headers={**HEADERS, "Content-Range": f"bytes */{size}"})
