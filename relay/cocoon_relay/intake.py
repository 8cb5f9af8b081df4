"""The puts of one connection: past the limits and the lanes into the store, and their outcomes back to the client.

Most frames are puts of one envelope, and who has many sends them together. Those that one turn of the loop reads for
one topic go together as far as the commit; what comes of each is as if it went alone. Implements specs/relay.md §5.2
and §8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from cocoon_core.protocol.frames import Ack, ErrorCode, Put, RelayFrame, encode_single_acks, read_single_put
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import KIB, Address, Limits, Rates
from cocoon_relay.logs import log_event
from cocoon_relay.metrics import Metrics
from cocoon_relay.refusal import Refusal, describe_fault
from cocoon_relay.store import LogStore
from cocoon_relay.subscription import LiveTopic, Subscription, frame_messages

_TOGETHER: Final = 64  # puts, after which others are looked after
_TOGETHER_BYTES: Final = 256 * KIB  # of their envelopes, the last one apart


class Client(Protocol):
    """What the puts need of their connection."""

    @property
    def account(self) -> Address:
        """Of the address that it comes from."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def gone(self) -> bool:
        """Whether it has ended."""

    def has_room(self) -> bool:
        """Whether it has taken most of what was sent."""

    async def drained(self) -> None:
        """Wait for that, or for its end."""

    def find_open(self, topic: TopicId) -> Subscription | None:
        """The topic, if it is open on this connection."""

    def require_open(self, topic: TopicId) -> Subscription:
        """The same, or a refusal."""

    def close_topic(self, topic: TopicId) -> None:
        """It is open no more."""

    def send(self, frame: RelayFrame) -> None: ...

    def post(self, message: bytes) -> None: ...

    def refuse(self, request: int | None, refusal: Refusal) -> None: ...


class _Puts:
    """Puts on their way through the store, which tells it the outcome: cheaper than a future with a callback.

    One put, or several of one envelope each into one topic (`apart`).
    """

    __slots__ = ("_intake", "apart", "live", "requests", "size")

    def __init__(self, intake: Intake, requests: Sequence[int], live: LiveTopic, size: int, *, apart: bool) -> None:
        self._intake = intake
        self.requests = requests
        self.live = live
        self.size = size
        self.apart = apart

    def done(self) -> bool:
        return False

    def set_result(self, result: Any) -> None:
        self._intake.answered(self)
        if self.apart:
            self._intake.acknowledge_apart(self, result)
        else:
            self._intake.acknowledge(self, result)

    def set_exception(self, exception: Exception) -> None:
        self._intake.answered(self)
        for request in self.requests:
            self._intake.refuse(request, self.live, exception)


class _Gathered:
    """Puts of one envelope each into one topic that came in one turn of the loop, and room for how many there is."""

    __slots__ = ("envelopes", "requests", "room", "room_bytes", "topic")

    def __init__(self, topic: bytes, room: int, room_bytes: int) -> None:
        self.topic = topic
        self.requests: list[int] = []
        self.envelopes: list[bytes] = []
        self.room = room  # puts
        self.room_bytes = room_bytes  # of envelopes; the last one may go beyond

    @property
    def is_full(self) -> bool:
        return self.room <= 0 or self.room_bytes <= 0


class Intake:
    """`gather` what can go together, `settle` before anything else, `put` what goes alone."""

    def __init__(
        self,
        client: Client,
        store: LogStore,
        limits: Limits,
        rates: Rates,
        at_end: Callable[[Callable[[], None]], None],
    ) -> None:
        """Args:
        at_end: has something called at the end of this turn of the loop.
        """
        self._client = client
        self._store = store
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._at_end = at_end
        self._frame_rate, self._put_rate, self._byte_rate = rates.frames, rates.puts, rates.put_bytes
        self._unanswered_puts = 0
        self._unanswered_bytes = 0
        self._answered: asyncio.Future[None] | None = None
        self._gathered: _Gathered | None = None
        self._behind: asyncio.Task[None] | None = None  # gathered puts that go one by one
        self._owes = False  # whether gathered frames came faster than a connection may

    # --- together

    def gather(self, raw: bytes) -> bool:
        """Lay a put of one envelope to those before it; False if it is another frame, or has to wait."""
        single = read_single_put(raw)
        if single is None or self._behind is not None or self._owes:
            return False
        request, topic, envelope = single
        gathered = self._gathered
        if gathered is not None and gathered.topic != topic:
            self._put_gathered()
            gathered = None
        if gathered is None:
            if self._behind is not None or self._owes or not self._has_room():
                return False
            gathered = self._gathered = self._begin_gathering(topic)
        elif gathered.room <= 0 or gathered.room_bytes <= 0:
            return False
        gathered.requests.append(request)
        gathered.envelopes.append(envelope)
        gathered.room -= 1
        gathered.room_bytes -= len(envelope)
        return True

    def _begin_gathering(self, topic: bytes) -> _Gathered:
        self._at_end(self._put_gathered)
        puts = self._limits.connection_unanswered_puts - self._unanswered_puts
        size = self._limits.connection_unanswered_bytes - self._unanswered_bytes
        return _Gathered(topic, min(_TOGETHER, puts), min(_TOGETHER_BYTES, size))

    async def settle(self) -> None:
        """Let what was gathered go before what comes next, when there is room for that."""
        full = self._gathered is not None and self._gathered.is_full
        self._put_gathered()
        if self._behind is not None:
            await self._behind
            self._behind = None
        await self.wait_for_room()
        if self._owes:
            self._owes = False
            await asyncio.sleep(self._frame_rate.take(0, self._loop.time()))
        elif full:
            await asyncio.sleep(0)

    def _put_gathered(self) -> None:
        """Give the gathered puts to the store, if the limits and lanes let all of them through now; else one by one."""
        gathered, self._gathered = self._gathered, None
        if gathered is None or self._client.gone:
            return
        now = self._loop.time()
        number = len(gathered.requests)
        size = sum(map(len, gathered.envelopes))
        if self._frame_rate.take(number, now) > 0:
            self._frame_rate.charge(number, now)
            self._owes = True
        subscription = self._client.find_open(TopicId.unchecked(gathered.topic))
        if subscription is None or not self._pass_together(gathered, size, subscription.live, now):
            self._behind = asyncio.create_task(self._put_one_by_one(gathered))
            return
        puts = _Puts(self, gathered.requests, subscription.live, size, apart=True)
        try:
            self._store.submit(puts.live.info, tuple(gathered.envelopes), self._limits, puts, apart=True)
        except Refusal as refusal:
            self._leave(puts)
            for request in gathered.requests:
                self._client.refuse(request, refusal)
        else:
            self._count_unanswered(puts)

    def _pass_together(self, gathered: _Gathered, size: int, live: LiveTopic, now: float) -> bool:
        """Take all of them, so many bytes, from the limits and enter the lanes; or take nothing, and False."""
        number = len(gathered.requests)
        limits = self._limits
        if number > limits.connection_puts_burst or size > limits.connection_put_bytes_burst:
            return False  # alone, those that the burst covers pass
        if max(map(len, gathered.envelopes)) > limits.envelope_bytes or live.deliveries.take(0, now) > 0:
            return False
        if self._put_rate.take(number, now) > 0:
            return False
        if self._byte_rate.take(size, now) == 0:
            if live.puts.try_enter(size):
                if self._client.account.waiting.try_enter(size):
                    return True
                live.puts.leave(size)
            self._byte_rate.charge(-size, now)
        self._put_rate.charge(-number, now)
        return False

    async def _put_one_by_one(self, gathered: _Gathered) -> None:
        topic = TopicId.unchecked(gathered.topic)
        for request, envelope in zip(gathered.requests, gathered.envelopes, strict=True):
            try:
                await self.put(Put(request, topic, (envelope,)))
            except Refusal as refusal:
                self._client.refuse(request, refusal)

    # --- alone

    async def put(self, frame: Put) -> None:
        """Give one put to the store when its lanes let it through.

        Raises:
            Refusal: the topic is not open, or a limit is reached.
        """
        live = self._client.require_open(frame.topic).live
        puts = _Puts(self, (frame.request,), live, self._require_allowed(frame, live), apart=False)
        await live.puts.enter(puts.size)
        try:
            await self._client.account.waiting.enter(puts.size)
        except BaseException:
            live.puts.leave(puts.size)
            raise
        try:
            self._store.submit(live.info, frame.envelopes, self._limits, puts, seal=frame.seal, expect=frame.expect)
        except BaseException:
            self._leave(puts)
            raise
        self._count_unanswered(puts)

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
        live.require_deliveries(now)
        return size

    # --- outcomes

    def answered(self, puts: _Puts) -> None:
        """They have their outcome, whatever that is."""
        self._leave(puts)
        self._unanswered_puts -= len(puts.requests)
        self._unanswered_bytes -= puts.size
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def acknowledge(self, puts: _Puts, seqs: tuple[int, ...]) -> None:
        """All envelopes of one put are stored."""
        self._client.metrics.count("puts")
        self._client.metrics.count("envelopes", len(seqs))
        self._client.send(Ack(puts.requests[0], puts.live.info.topic, seqs))

    def acknowledge_apart(self, puts: _Puts, outcomes: Sequence[int | Refusal]) -> None:
        """Each put has its own outcome."""
        stored: Sequence[tuple[int, int]] = list(zip(puts.requests, outcomes, strict=True))  # type: ignore[arg-type]
        if type(outcomes) is not tuple:  # else all of them are
            stored = [(request, seq) for request, seq in stored if type(seq) is int]
            for request, outcome in zip(puts.requests, outcomes, strict=True):
                if isinstance(outcome, Refusal):
                    self.refuse(request, puts.live, outcome)
        self._client.metrics.count("puts", len(stored))
        self._client.metrics.count("envelopes", len(stored))
        self._client.post(frame_messages(encode_single_acks(puts.live.info.topic, stored)))

    def refuse(self, request: int, live: LiveTopic, error: Exception) -> None:
        """The store took a put not, or failed."""
        if isinstance(error, Refusal):
            if error.code is ErrorCode.NOT_OPEN:
                self._client.close_topic(live.info.topic)
            self._client.refuse(request, error)
            return
        self._client.metrics.count("failures")
        log_event("put failed", level=logging.ERROR, fault=describe_fault(error))
        failed = Refusal(ErrorCode.BUSY, "the relay failed to store this", retry_after_ms=5_000)
        self._client.refuse(request, failed)

    # --- back-pressure

    async def wait_for_room(self) -> None:
        """Take nothing more in while this client does not read its answers, or too much of it waits for the disk."""
        if not self._client.has_room():
            await self._client.drained()
        while self._has_much_unanswered() and not self._client.gone:
            await self._wait_for_answer()

    async def finish(self) -> None:
        """Answer what was taken in."""
        self._put_gathered()
        while self._unanswered_puts and not self._client.gone:
            await self._wait_for_answer()

    def close(self) -> None:
        """Take nothing more to the store."""
        if self._behind is not None:
            self._behind.cancel()

    def _has_room(self) -> bool:
        return not self._has_much_unanswered() and self._client.has_room()

    def _has_much_unanswered(self) -> bool:
        return (
            self._unanswered_puts >= self._limits.connection_unanswered_puts
            or self._unanswered_bytes >= self._limits.connection_unanswered_bytes
        )

    def _count_unanswered(self, puts: _Puts) -> None:
        self._unanswered_puts += len(puts.requests)
        self._unanswered_bytes += puts.size

    async def _wait_for_answer(self) -> None:
        if self._answered is None or self._answered.done():
            self._answered = self._loop.create_future()
        await self._answered

    def _leave(self, puts: _Puts) -> None:
        """Let others go into their lanes."""
        puts.live.puts.leave(puts.size)
        self._client.account.waiting.leave(puts.size)
