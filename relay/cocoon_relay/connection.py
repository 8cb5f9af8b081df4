"""One client on `/v1/sync`: its frames in, its answers out, and what it may take.

Frames are handled in the order in which they came. Everything that one turn of the loop has to say to this client is
one write. A client that does not read is not read from either. Implements specs/relay.md §3 and §8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import randbelow
from typing import Final

from aiohttp import WSCloseCode, WSMsgType

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.frames import (
    FRAME_VERSION,
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
from cocoon_relay.eager_socket import EagerSocket
from cocoon_relay.heartbeat import Heartbeat
from cocoon_relay.intake import Intake
from cocoon_relay.limits import Address, Limits, Rates
from cocoon_relay.metrics import Metrics
from cocoon_relay.proofs import check_open, make_challenge
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import LogStore
from cocoon_relay.subscription import READ_BYTES, Hub, Reader, Subscription, bring_up, frame_message
from cocoon_relay.tokens import Token

_ENDS: Final = {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED}
_BAD_PROOFS_ALLOWED: Final = 8  # of one connection
_PING: Final = b"\x89\x00"  # a message of its own, as those of frame_message
_FRAMES_A_TURN: Final = 64  # messages of one connection that are handled before others are looked after


class Connection:
    """One WebSocket. `run` serves it to its end. A single request is one too, that is asked once (http_sync.py)."""

    _socket: EagerSocket

    def __init__(
        self,
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
        rates: Rates | None = None,
    ) -> None:
        self.token = token  # by which this client came in
        self._transport = transport
        self._doorman = doorman
        self._store = store
        self._hub = hub
        self._at_end = hub.end_of_turn.add
        self._origins = origins
        self._address = address
        self._limits = limits
        self.metrics = metrics
        self._admits = admits  # until this client has opened a topic
        self._loop = asyncio.get_running_loop()
        self._challenge = make_challenge()
        self._open: dict[TopicId, Subscription] = {}
        rates = rates or Rates(limits, self._loop.time())
        self._cast_rate, self._frame_rate = rates.casts, rates.frames
        self._frames = 0
        self._bad_proofs = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._puts = Intake(self, store, limits, rates, self._at_end)
        self._reader: Reader = self  # of what its topics bring
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
            self._at_end(self._flush)
        self._out.append(message)
        self._out_bytes += len(message)

    def _ping(self) -> None:
        self.post(_PING)

    async def drained(self) -> None:
        self._flush()
        await self._doorman.drained()

    def fail(self, refusal: Refusal) -> None:
        self.refuse(None, refusal)
        self._flush()
        self._transport.close()

    def send(self, frame: RelayFrame) -> None:
        self.post(frame_message(encode_frame(frame)))

    def _flush(self) -> None:
        if self._out and not self.gone:
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    # --- in

    async def run(self, socket: EagerSocket) -> None:
        """Serve until the client goes, breaks a rule, or the relay shuts down."""
        self._socket = socket
        self.send(Challenge(FRAME_VERSION, self._challenge, self._limits.announced()))
        gather = self._puts.gather
        heartbeat = Heartbeat(self._doorman, self._transport, self._limits.heartbeat_seconds, self._ping)
        try:
            while True:
                message = await socket.receive_rest(gather)
                binary = message.type is WSMsgType.BINARY
                if message.type in _ENDS:
                    break
                await self._puts.settle()
                if binary and gather(message.data):
                    continue
                await self._take_turn()
                if binary:
                    if not await self._receive(message.data):
                        break
                    await self._puts.wait_for_room()
                elif message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    self.refuse(None, Refusal(ErrorCode.BAD_FRAME, "frames are binary"))
                    break
        finally:
            heartbeat.stop()
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
        await self._puts.finish()
        self.refuse(None, refusal)
        self._end()
        await self._socket.close(code=code)

    def cut_off(self) -> None:
        """End at once; what was written and not taken is lost."""
        self._transport.abort()

    def _end(self) -> None:
        self._flush()
        self._ended = True
        self._puts.close()
        for subscription in list(self._open.values()):
            subscription.close()
        self._open.clear()

    async def _receive(self, raw: bytes) -> bool:
        """Handle one message; False ends the connection."""
        try:
            frame = decode_client_frame(raw)
        except MalformedError as error:
            self.refuse(None, Refusal(ErrorCode.BAD_FRAME, str(error)))
            return False
        try:
            await self._handle(frame)
        except Refusal as refusal:
            self.refuse(None if isinstance(frame, Cast | Close) else frame.request, refusal)
        return self._bad_proofs < _BAD_PROOFS_ALLOWED

    async def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case Put():
                await self._puts.put(frame)
            case Cast():
                self._cast(frame)
            case Open() | Resume():
                await self._open_topic(frame)
            case List():
                await self._list(frame)
            case Fetch():
                await self._fetch(frame)
            case Close(topic):
                self.close_topic(topic)

    async def _open_topic(self, frame: Open | Resume) -> None:
        self._require_proof(frame)
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
                self._address.topics.require(
                    1, self._loop.time(), ErrorCode.TOO_MANY_TOPICS, "new topics from this address"
                )
                info = await self._store.open_topic(frame.topic, create=True)
            if info is None:
                raise Refusal(ErrorCode.BUSY, "the topic could not be made", retry_after_ms=1_000)
            info = bring_up(info, meanwhile)
            if before is not None:
                before.close()
            known = frame.after if frame.incarnation == info.incarnation and frame.after <= info.last else 0
            subscription = self._open[frame.topic] = self._hub.join(info, self._reader, known)
        self.send(Opened(frame.request, frame.topic, info.incarnation, info.last, info.sealed))
        self.metrics.count("opens")
        if isinstance(frame, Resume) and info.last - known > frame.most:
            subscription.stay_still()
        else:
            subscription.start()

    def _require_proof(self, frame: Open | Resume) -> None:
        self._address.proofs.require(1, self._loop.time(), ErrorCode.RATE, "proofs from this address")
        try:
            check_open(self._origins, self._challenge, frame.topic, frame.proof)
        except Refusal:
            self._bad_proofs += 1
            raise

    async def _list(self, frame: List) -> None:
        live = self.require_open(frame.topic).live
        self._address.reads.require(1, self._loop.time(), ErrorCode.RATE, "requests from this address")
        async with self._hub.reading(live):
            listed = await self._store.list_names(live.info, frame.after, frame.most, frame.salt)
        self.send(Listed(frame.request, frame.topic, listed.first, listed.names))
        self.metrics.count("names", len(listed.names))

    async def _fetch(self, frame: Fetch) -> None:
        live = self.require_open(frame.topic).live
        self._address.reads.require(1, self._loop.time(), ErrorCode.RATE, "requests from this address")
        async with self._hub.reading(live):
            envelopes = await self._store.read_places(live.info, frame.places, READ_BYTES)
        self.send(Fetched(frame.request, frame.topic, envelopes))
        self.metrics.count("fetched", sum(envelope is not None for envelope in envelopes))

    # --- casts

    def _cast(self, frame: Cast) -> None:
        subscription = self.require_open(frame.topic)
        self._cast_rate.require(1, self._loop.time(), ErrorCode.RATE, "casts")
        subscription.live.require_deliveries(self._loop.time())
        self._hub.cast(subscription, frame.topic, frame.payload)

    def find_open(self, topic: TopicId) -> Subscription | None:
        return self._open.get(topic)

    def close_topic(self, topic: TopicId) -> None:
        subscription = self._open.pop(topic, None)
        if subscription is not None:
            subscription.close()

    def require_open(self, topic: TopicId) -> Subscription:
        subscription = self._open.get(topic)
        if subscription is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the topic is not open on this connection")
        return subscription

    def refuse(self, request: int | None, refusal: Refusal) -> None:
        self.metrics.count_refusal(refusal.code)
        self.send(Error(request, refusal.code, refusal.message, refusal.retry_after_ms, refusal.last))

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
