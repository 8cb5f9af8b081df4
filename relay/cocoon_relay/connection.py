"""One client on `/v1/sync`: its frames in, its answers out, and what it may take.

Frames are handled in the order in which they came. Everything that one turn of the loop has to say to this client is
one write. A client that does not read is not read from either. Implements specs/relay.md §3 and §8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from secrets import randbelow
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.frames import (
    FRAME_VERSION,
    Ack,
    Cast,
    Challenge,
    ClientFrame,
    Close,
    Error,
    ErrorCode,
    Fetch,
    Fetched,
    List,
    Listed,
    Open,
    Opened,
    Put,
    RelayFrame,
    Resume,
    decode_client_frame,
    encode_frame,
)
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.doorman import Doorman
from cocoon_relay.limits import Address, Limits, TokenBucket
from cocoon_relay.logs import log_event
from cocoon_relay.metrics import Metrics
from cocoon_relay.proofs import check_open, make_challenge
from cocoon_relay.refusal import Refusal, describe_fault
from cocoon_relay.store import LogStore
from cocoon_relay.subscription import READ_BYTES, Hub, LiveTopic, Subscription, bring_up, frame_message
from cocoon_relay.tokens import Token

_BAD_PROOFS_ALLOWED: Final = 8  # of one connection
_FRAMES_A_TURN: Final = 64  # messages of one connection that are handled before others are looked after


class _Put:
    """One put on its way through the store, which tells it the outcome: cheaper than a future with a callback."""

    __slots__ = ("_connection", "live", "request", "size")

    def __init__(self, connection: Connection, request: int, live: LiveTopic, size: int) -> None:
        self._connection = connection
        self.request = request
        self.live = live
        self.size = size

    def leave(self) -> None:
        """Let others go into its lanes."""
        self.live.puts.leave(self.size)
        self._connection.account.waiting.leave(self.size)

    def done(self) -> bool:
        return False

    def set_result(self, result: tuple[int, ...]) -> None:
        self._connection.answer_put(self)
        self._connection.acknowledge(self, result)

    def set_exception(self, exception: Exception) -> None:
        self._connection.answer_put(self)
        self._connection.refuse_put(self, exception)


class Connection:
    """One WebSocket. `run` serves it to its end."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        doorman: Doorman,
        *,
        store: LogStore,
        hub: Hub,
        origins: tuple[str, ...],
        address: Address,
        limits: Limits,
        metrics: Metrics,
        token: Token | None = None,
        admits: Callable[[TopicId], bool] | None = None,
    ) -> None:
        self.token = token  # by which this client came in
        self._socket = socket
        self._transport = transport
        self._doorman = doorman
        self._store = store
        self._hub = hub
        self._origins = origins
        self._address = address
        self._limits = limits
        self._metrics = metrics
        self._admits = admits  # until this client has opened a topic
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._challenge = make_challenge()
        self._open: dict[TopicId, Subscription] = {}
        self._put_rate = TokenBucket(limits.connection_puts, limits.connection_puts_burst, now)
        self._byte_rate = TokenBucket(limits.connection_put_bytes, limits.connection_put_bytes_burst, now)
        self._cast_rate = TokenBucket(limits.connection_casts, limits.connection_casts_burst, now)
        self._frame_rate = TokenBucket(limits.connection_frames, limits.connection_frames_burst, now)
        self._frames = 0
        self._bad_proofs = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._unanswered_puts = 0
        self._unanswered_bytes = 0
        self._answered: asyncio.Future[None] | None = None
        self.turn = asyncio.Lock()
        self._ended = False

    # --- out

    @property
    def account(self) -> Address:
        """Of the address that this client comes from."""
        return self._address

    @property
    def gone(self) -> bool:
        return self._ended or self._transport.is_closing()

    def has_room(self) -> bool:
        return not self._doorman.paused and self._out_bytes < self._limits.connection_buffer_bytes

    def post(self, message: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message)
        self._out_bytes += len(message)

    async def drained(self) -> None:
        self._flush()
        await self._doorman.drained()

    def fail(self, refusal: Refusal) -> None:
        self._refuse(None, refusal)
        self._flush()
        self._transport.close()

    def _send(self, frame: RelayFrame) -> None:
        self.post(frame_message(encode_frame(frame)))

    def _flush(self) -> None:
        if self._out and not self.gone:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    # --- in

    async def run(self) -> None:
        """Serve until the client goes, breaks a rule, or the relay shuts down."""
        self._send(Challenge(FRAME_VERSION, self._challenge, self._limits.announced()))
        try:
            async for message in self._socket:
                await self._take_turn()
                if message.type is WSMsgType.BINARY:
                    if not await self._receive(message.data):
                        break
                    if not self._has_much_room():
                        await self._wait_for_room()
                elif message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    self._refuse(None, Refusal(ErrorCode.BAD_FRAME, "frames are binary"))
                    break
        finally:
            self._end()
        await self._socket.close(code=WSCloseCode.POLICY_VIOLATION)

    async def shut_down(self) -> None:
        """Answer what was taken in, say why, and close with 1001."""
        # At different times, so that a relay that starts again is not met by all at once.
        wait = 500 + randbelow(4_500)
        refusal = Refusal(ErrorCode.SHUTTING_DOWN, "the relay is shutting down", retry_after_ms=wait)
        await self.dismiss(refusal, WSCloseCode.GOING_AWAY)

    async def dismiss(self, refusal: Refusal, code: WSCloseCode = WSCloseCode.POLICY_VIOLATION) -> None:
        """Answer what was taken in, say why, and close."""
        while self._unanswered_puts and not self.gone:
            await self._wait_for_answer()
        self._refuse(None, refusal)
        self._end()
        await self._socket.close(code=code)

    def cut_off(self) -> None:
        """End at once; what was written and not taken is lost."""
        self._transport.abort()

    def _end(self) -> None:
        self._flush()
        self._ended = True
        for subscription in list(self._open.values()):
            subscription.close()
        self._open.clear()

    async def _receive(self, raw: bytes) -> bool:
        """Handle one message; False ends the connection."""
        try:
            frame = decode_client_frame(raw)
        except MalformedError as error:
            self._refuse(None, Refusal(ErrorCode.BAD_FRAME, str(error)))
            return False
        try:
            if type(frame) is Put:
                if not self._put_at_once(frame):
                    await self._put(frame)
            else:
                await self._handle(frame)
        except Refusal as refusal:
            self._refuse(None if isinstance(frame, Cast | Close) else frame.request, refusal)
        return self._bad_proofs < _BAD_PROOFS_ALLOWED

    async def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case Cast():
                self._cast(frame)
            case Open() | Resume():
                await self._open_topic(frame)
            case List():
                await self._list(frame)
            case Fetch():
                await self._fetch(frame)
            case Close(topic):
                subscription = self._open.pop(topic, None)
                if subscription is not None:
                    subscription.close()

    async def _open_topic(self, frame: Open | Resume) -> None:
        now = self._loop.time()
        self._address.proofs.require(1, now, ErrorCode.RATE, "proofs from this address")
        try:
            check_open(self._origins, self._challenge, frame.topic, frame.proof)
        except Refusal:
            self._bad_proofs += 1
            raise
        if self._admits is not None:
            if not self._admits(frame.topic):
                self._bad_proofs += 1
                raise Refusal(ErrorCode.NOT_FOUND, "this host holds no such topic")
            self._admits = None
        before = self._open.get(frame.topic)
        if before is None and len(self._open) >= self._limits.connection_topics:
            raise Refusal(ErrorCode.TOO_MANY_TOPICS, "too many topics are open on this connection")
        with self._hub.opening() as meanwhile:
            info = await self._store.open_topic(frame.topic, create=False)
            if info is None:
                self._address.topics.require(1, now, ErrorCode.TOO_MANY_TOPICS, "new topics from this address")
                info = await self._store.open_topic(frame.topic, create=True)
            if info is None:
                raise Refusal(ErrorCode.BUSY, "the topic could not be made", retry_after_ms=1_000)
            info = bring_up(info, meanwhile)
            if before is not None:
                before.close()
            known = frame.after if frame.incarnation == info.incarnation and frame.after <= info.last else 0
            subscription = self._open[frame.topic] = self._hub.join(info, self, known)
        self._send(Opened(frame.request, frame.topic, info.incarnation, info.last, info.sealed))
        self._metrics.count("opens")
        if isinstance(frame, Resume) and info.last - known > frame.most:
            subscription.stay_still()
        else:
            subscription.start()

    async def _list(self, frame: List) -> None:
        live = self._require_open(frame.topic).live
        self._address.reads.require(1, self._loop.time(), ErrorCode.RATE, "requests from this address")
        async with self._hub.reading(live):
            listed = await self._store.list_names(live.info, frame.after, frame.most, frame.salt)
        self._send(Listed(frame.request, frame.topic, listed.first, listed.names))
        self._metrics.count("names", len(listed.names))

    async def _fetch(self, frame: Fetch) -> None:
        live = self._require_open(frame.topic).live
        self._address.reads.require(1, self._loop.time(), ErrorCode.RATE, "requests from this address")
        async with self._hub.reading(live):
            envelopes = await self._store.read_places(live.info, frame.places, READ_BYTES)
        self._send(Fetched(frame.request, frame.topic, envelopes))
        self._metrics.count("fetched", sum(envelope is not None for envelope in envelopes))

    def _put_at_once(self, frame: Put) -> bool:
        """Give a put to the store, if its lanes let it through now; False, and nothing is taken, if they do not."""
        live = self._require_open(frame.topic).live
        put = _Put(self, frame.request, live, self._require_allowed(frame, live))
        if not live.puts.try_enter(put.size):
            return False
        if not self._address.waiting.try_enter(put.size):
            live.puts.leave(put.size)
            return False
        self._submit(frame, put)
        return True

    async def _put(self, frame: Put) -> None:
        """The same when it has to wait for its turn; what it takes of the limits was taken."""
        live = self._require_open(frame.topic).live
        put = _Put(self, frame.request, live, sum(map(len, frame.envelopes)))
        await live.puts.enter(put.size)
        try:
            await self._address.waiting.enter(put.size)
        except BaseException:
            live.puts.leave(put.size)
            raise
        self._submit(frame, put)

    def _require_allowed(self, frame: Put, live: LiveTopic) -> int:
        """Take a put from the limits; its bytes."""
        limits = self._limits
        size = 0
        for envelope in frame.envelopes:
            size += len(envelope)
            if len(envelope) > limits.envelope_bytes:
                raise Refusal(ErrorCode.TOO_LARGE, f"an envelope is at most {limits.envelope_bytes} bytes here")
        now = self._loop.time()
        self._put_rate.require(len(frame.envelopes), now, ErrorCode.RATE, "puts")
        self._byte_rate.require(size, now, ErrorCode.RATE, "bytes")
        self._hub.require_deliveries(live, now)
        return size

    def _submit(self, frame: Put, put: _Put) -> None:
        """Its lanes were entered."""
        try:
            self._store.submit(put.live.info, frame.envelopes, frame.seal, frame.expect, self._limits, put)
        except BaseException:
            put.leave()
            raise
        self._unanswered_puts += 1
        self._unanswered_bytes += put.size

    def answer_put(self, put: _Put) -> None:
        """A put has its outcome, whatever that is."""
        put.leave()
        self._unanswered_puts -= 1
        self._unanswered_bytes -= put.size
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def acknowledge(self, put: _Put, seqs: tuple[int, ...]) -> None:
        self._metrics.count("puts")
        self._metrics.count("envelopes", len(seqs))
        self._send(Ack(put.request, put.live.info.topic, seqs))

    def refuse_put(self, put: _Put, error: Exception) -> None:
        if isinstance(error, Refusal):
            topic = put.live.info.topic
            if error.code is ErrorCode.NOT_OPEN and (expired := self._open.pop(topic, None)) is not None:
                expired.close()
            self._refuse(put.request, error)
            return
        self._metrics.count("failures")
        log_event("put failed", level=logging.ERROR, fault=describe_fault(error))
        self._refuse(put.request, Refusal(ErrorCode.BUSY, "the relay failed to store this", retry_after_ms=5_000))

    def _cast(self, frame: Cast) -> None:
        subscription = self._require_open(frame.topic)
        self._cast_rate.require(1, self._loop.time(), ErrorCode.RATE, "casts")
        self._hub.require_deliveries(subscription.live, self._loop.time())
        self._hub.cast(subscription, frame.topic, frame.payload)

    def _require_open(self, topic: TopicId) -> Subscription:
        subscription = self._open.get(topic)
        if subscription is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the topic is not open on this connection")
        return subscription

    def _refuse(self, request: int | None, refusal: Refusal) -> None:
        self._metrics.count_refusal(refusal.code)
        self._send(Error(request, refusal.code, refusal.message, refusal.retry_after_ms, refusal.last))

    # --- back-pressure

    async def _take_turn(self) -> None:
        """Read on no faster than a connection may, and now and then let others go first."""
        self._frames += 1
        if self._frames % _FRAMES_A_TURN == 0:
            await asyncio.sleep(0)
        now = self._loop.time()
        wait = self._frame_rate.take(1, now)
        if wait > 0:
            self._frame_rate.charge(1, now)
            await asyncio.sleep(wait)

    def _has_much_room(self) -> bool:
        """Whether nothing holds back what comes next."""
        limits = self._limits
        return (
            self._unanswered_puts < limits.connection_unanswered_puts
            and self._unanswered_bytes < limits.connection_unanswered_bytes
            and self.has_room()
        )

    async def _wait_for_room(self) -> None:
        """Take nothing more in while this client does not read its answers, or too much of it waits for the disk."""
        limits = self._limits
        if not self.has_room():
            await self.drained()
        while (
            self._unanswered_puts >= limits.connection_unanswered_puts
            or self._unanswered_bytes >= limits.connection_unanswered_bytes
        ) and not self.gone:
            await self._wait_for_answer()

    def _wait_for_answer(self) -> Awaitable[None]:
        if self._answered is None or self._answered.done():
            self._answered = self._loop.create_future()
        return self._answered
