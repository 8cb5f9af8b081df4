"""Sync by single requests, where no WebSocket passes or none is wanted: GET reads a topic, POST also says frames.

A request is a connection that is asked once: its frames go through the same code as those of a socket (connection.py),
under the same limits, and what the socket would have been sent is its answer. Nothing is remembered between two
requests. Implements specs/relay.md §3.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from aiohttp import web

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import (
    LABEL_RELAY_GET,
    LABEL_RELAY_POST,
    MAX_BODY_BYTES,
    MAX_BODY_FRAMES,
    MAX_SEQ,
)
from cocoon_core.protocol.frames import (
    FRAME_VERSION,
    Challenge,
    Error,
    ErrorCode,
    Fetch,
    List,
    Open,
    Put,
    Resume,
    decode_client_frame,
    encode_frame,
)
from cocoon_core.protocol.ids import Incarnation, Signature, TopicId
from cocoon_core.protocol.primitives import constant_time_equal
from cocoon_core.protocol.requests import (
    DIGEST_BYTES,
    digest_body,
    get_message,
    join_frames,
    post_message,
    split_frames,
)
from cocoon_relay.bodies import one_of_few, read_body
from cocoon_relay.connection import Connection
from cocoon_relay.doorman import Doorman
from cocoon_relay.limits import MIB, Rates
from cocoon_relay.metrics import Metrics
from cocoon_relay.refusal import Refusal
from cocoon_relay.request_proofs import HEADERS, RequestProofs
from cocoon_relay.store import LogStore
from cocoon_relay.subscription import Hub, payload_of

CURSOR_HEADER: Final = "Cocoon-Cursor"
MOST_HEADER: Final = "Cocoon-Most"
DIGEST_HEADER: Final = "Cocoon-Digest"
_MOST_ANSWERED: Final = 1 * MIB  # bytes after which an answer ends, whatever the limits say
_NO_PROOF: Final = Signature(bytes(Signature.LENGTH))  # it stood in the request's head


class _Page:
    """The part of an answer that a topic fills by itself: as much as is written to a socket at once."""

    def __init__(self, answer: list[bytes], most: int) -> None:
        self._answer, self._room = answer, most
        self._turn = asyncio.Lock()

    @property
    def gone(self) -> bool:
        """Once it is full nothing more is read for it."""
        return self._room <= 0

    @property
    def turn(self) -> asyncio.Lock:
        return self._turn

    def has_room(self) -> bool:
        return self._room > 0

    def post(self, message: bytes) -> None:
        if self._room > 0:
            self._answer.append(payload_of(message))
            self._room -= len(message)

    async def drained(self) -> None:
        """An answer is not taken before it is whole."""

    def fail(self, refusal: Refusal) -> None:
        self._answer.append(encode_frame(Error(None, refusal.code, refusal.message, refusal.retry_after_ms)))
        self._room = 0


class Moment(Connection):
    """One request, as the connection that it is: one topic, and an end."""

    async def answer(self, opening: Open | Resume, frames: Sequence[bytes]) -> bytes:
        """Open the topic, do what the frames say, and give what is to be said, as far as it fits.

        Raises:
            Refusal: the topic cannot be opened, or is another than the one that the frames are for.
        """
        self._answer: list[bytes] = []
        self._reader = _Page(self._answer, min(_MOST_ANSWERED, self._limits.connection_buffer_bytes))
        try:
            await self._open_topic(opening)
            subscription = self.require_open(opening.topic)
            if frames and opening.incarnation not in (None, subscription.info.incarnation):
                raise Refusal(ErrorCode.NOT_OPEN, "the topic has expired; open it again")
            for frame in frames:
                await self._take_turn()
                await self._receive(frame)
            await self._puts.finish()
            await subscription.settled()
        finally:
            self._end()
        return join_frames(self._answer)

    def post(self, message: bytes) -> None:
        self._answer.append(payload_of(message))

    def _require_proof(self, frame: Open | Resume) -> None:
        """It was checked before the body was read."""


class SyncHandlers:
    """GET without Upgrade, and POST, on /v1/sync."""

    def __init__(
        self,
        store: LogStore,
        hub: Hub,
        proofs: RequestProofs,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._hub = hub
        self._proofs = proofs
        self._metrics = metrics

    async def get(self, request: web.Request) -> web.StreamResponse:
        """What stands in a topic after a place; or, without a proof, what such a proof signs."""
        if "Authorization" not in request.headers:
            limits = self._proofs.granted(request).limits
            greeting = Challenge(FRAME_VERSION, self._proofs.make_challenge(), limits.announced())
            return web.Response(body=join_frames([encode_frame(greeting)]), headers=HEADERS)
        with one_of_few(self._proofs.granted(request)):
            topic = self._proofs.require(request, LABEL_RELAY_GET, get_message)
            return await self._answer(request, _opening_of(request, topic), ())

    async def post(self, request: web.Request) -> web.StreamResponse:
        """The same, with frames: puts, or one question for names or places."""
        with one_of_few(self._proofs.granted(request)):
            digest = _digest_of(request)
            topic = self._proofs.require(
                request,
                LABEL_RELAY_POST,
                lambda origin, challenge, topic: post_message(origin, challenge, topic, digest),
            )
            opening = _opening_of(request, topic)
            return await self._answer(request, opening, await self._read_frames(request, topic, digest))

    async def _answer(
        self, request: web.Request, opening: Open | Resume, frames: Sequence[bytes]
    ) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        doorman = transport.get_protocol()
        assert isinstance(doorman, Doorman)
        grant = self._proofs.granted(request)
        account = grant.address
        account.rates = account.rates or Rates(grant.limits, asyncio.get_running_loop().time())
        moment = Moment(
            transport,
            doorman,
            store=self._store,
            hub=self._hub,
            origins=self._proofs.origins,
            address=account,
            limits=grant.limits,
            metrics=self._metrics,
            token=grant.token,
            rates=account.rates,
        )
        self._metrics.count("requests")
        answer = web.Response(body=await moment.answer(opening, frames), headers=HEADERS)
        await answer.prepare(request)
        await answer.write_eof()
        await doorman.drained()  # what it has not taken counts as a request that goes on
        return answer

    async def _read_frames(self, request: web.Request, topic: TopicId, digest: bytes) -> list[bytes]:
        size = request.content_length
        if size is None or size == 0:
            raise Refusal(ErrorCode.BAD_FRAME, "frames are posted with their Content-Length, one at least")
        if size > MAX_BODY_BYTES:
            raise Refusal(ErrorCode.TOO_LARGE, f"a body of frames is at most {MAX_BODY_BYTES} bytes")
        limits = self._proofs.granted(request).limits
        body = b"".join([chunk async for chunk in read_body(request, size, limits)])
        if not constant_time_equal(digest_body(body), digest):
            raise Refusal(ErrorCode.BAD_HASH, "the body is not the one that the proof is for")
        try:
            frames = split_frames(body)
            _require_answerable(frames, topic)
        except MalformedError as error:
            raise Refusal(ErrorCode.BAD_FRAME, str(error)) from error
        return frames


def _require_answerable(frames: Sequence[bytes], topic: TopicId) -> None:
    """So much can be asked at once: puts, whose answers are small, or one question whose answer may be large.

    Raises:
        MalformedError: it is more, or of another topic or kind.
    """
    if len(frames) > MAX_BODY_FRAMES:
        raise MalformedError(f"a body has at most {MAX_BODY_FRAMES} frames")
    for raw in frames:
        frame = decode_client_frame(raw)
        if not (isinstance(frame, Put) or (isinstance(frame, List | Fetch) and len(frames) == 1)):
            raise MalformedError("a request carries puts, or one `list` or `fetch`")
        if frame.topic != topic:
            raise MalformedError("a request is for one topic, the one that it proves")


def _opening_of(request: web.Request, topic: TopicId) -> Open | Resume:
    """Where to read from, and how much."""
    incarnation, after = None, 0
    most = request.headers.get(MOST_HEADER)
    try:
        if (cursor := request.headers.get(CURSOR_HEADER)) is not None:
            life, _, place = cursor.partition(".")
            incarnation, after = Incarnation(bytes.fromhex(life)), _number(place)
        if most is not None:
            return Resume(0, topic, incarnation, after, _NO_PROOF, _number(most))
    except (ValueError, MalformedError) as error:
        text = f"{CURSOR_HEADER} is <incarnation>.<place>, in hex and in decimal, {MOST_HEADER} a number"
        raise Refusal(ErrorCode.BAD_FRAME, text) from error
    return Open(0, topic, incarnation, after, _NO_PROOF)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_SEQ):
        raise ValueError("not a number of a frame")
    return int(text)


def _digest_of(request: web.Request) -> bytes:
    digest = b""
    with suppress(ValueError):
        digest = bytes.fromhex(request.headers.get(DIGEST_HEADER, ""))
    if len(digest) != DIGEST_BYTES:
        raise Refusal(ErrorCode.BAD_FRAME, f"{DIGEST_HEADER} is the digest of the body, in hex")
    return digest
