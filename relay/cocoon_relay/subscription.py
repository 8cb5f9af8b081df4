"""Who has which topic open: cursors instead of queues.

A subscription is a number: the last sequence number that its reader was sent. While the reader keeps up, a commit goes
to it at once, as a frame built once for all subscribers. When it falls behind, nothing is kept for it: it reads from
the store at its own pace until it is level again. Implements specs/relay.md §3.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final, Protocol

from cocoon_core.protocol.constants import MAX_FRAME_BYTES, MAX_SEQ
from cocoon_core.protocol.frames import CastReceived, Entries, ErrorCode, Live, encode_frame
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.end_of_turn import EndOfTurn
from cocoon_relay.lanes import Lane
from cocoon_relay.limits import KIB, Limits, TokenBucket
from cocoon_relay.metrics import Metrics
from cocoon_relay.refusal import Refusal
from cocoon_relay.store import Batch, Committed, LogStore, TopicInfo

_READ_ENTRIES: Final = 1_024  # envelopes of one read
READ_BYTES: Final = 256 * KIB  # bytes of one read, if one envelope alone is not more
_FRAME_SLACK: Final = 64 * KIB  # bytes left for the heads of arrays and strings
MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - _FRAME_SLACK  # bytes of envelopes in one message


class Reader(Protocol):
    """What a subscription needs of its connection."""

    def has_room(self) -> bool:
        """Whether the reader has taken most of what was sent."""

    def post(self, message: bytes) -> None:
        """Send one WebSocket message with the others of this turn of the loop. `message` is framed."""

    async def drained(self) -> None:
        """Wait for room, or for the end of the connection."""

    def fail(self, refusal: Refusal) -> None:
        """End the connection: its cursors cannot be served."""

    @property
    def turn(self) -> asyncio.Lock:
        """Held by the one of its subscriptions that reads from the store for it."""

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""


class Subscription:
    """One topic open on one connection."""

    __slots__ = ("_announced", "_hub", "_live", "_pump", "_reader", "cursor")

    def __init__(self, hub: Hub, live: LiveTopic, reader: Reader, cursor: int) -> None:
        self._hub = hub
        self._live = live
        self._reader = reader
        self._announced = False
        self._pump: asyncio.Task[None] | None = None
        self.cursor = cursor

    @property
    def info(self) -> TopicInfo:
        return self._live.info

    @property
    def live(self) -> LiveTopic:
        return self._live

    def start(self) -> None:
        """Send what is stored, then `live`."""
        if self.cursor >= self._live.last:
            self._announce()
        else:
            self._pump = asyncio.create_task(self._catch_up())

    def stay_still(self) -> None:
        """Send no envelope: this reader asks for names and places."""
        self.cursor = MAX_SEQ

    def offer(self, first: int, last: int, message: bytes | None) -> None:
        """A commit brought first … last: send it if the reader is level and has room, else let it catch up."""
        if self._pump is not None or last <= self.cursor:
            return
        if message is not None and self.cursor == first - 1 and self._reader.has_room():
            self._reader.post(message)
            self._hub.metrics.count("entries", last - first + 1)
            self.cursor = last
        else:
            self._pump = asyncio.create_task(self._catch_up())

    def cast(self, message: bytes) -> None:
        """Forward a cast, unless the reader is slow: then it is lost."""
        if self._reader.has_room():
            self._reader.post(message)
            self._hub.metrics.count("casts")
        else:
            self._hub.metrics.count("casts_dropped")

    async def settled(self) -> None:
        """Wait until nothing is being read from the store for its reader."""
        while self._pump is not None and not self._pump.done():
            await asyncio.wait({self._pump})

    def close(self) -> None:
        """Stop sending."""
        if self._pump is not None:
            self._pump.cancel()
        self._hub.leave(self._live, self)

    async def _catch_up(self) -> None:
        live = self._live
        try:
            while not self._reader.gone:
                # One of a reader's topics at a time, and few of a topic's readers: so neither what waits in memory
                # for one reader nor what the store is asked for one topic grows with their number.
                async with self._reader.turn:
                    await self._reader.drained()
                    expected = live.last
                    batch = await self._hub.read(live, self.cursor)
                    self._send_batch(batch)
                if not batch.envelopes and live.last == expected:
                    break  # nothing more is kept: `gc` took the topic away
                if self.cursor >= live.last:
                    break
        except Refusal as refusal:
            self._reader.fail(refusal)
            return
        # No await from here on, so no commit can fall between the last read and the end of this task.
        self._pump = None
        self._announce()

    def _send_batch(self, batch: Batch) -> None:
        if batch.envelopes and batch.last > self.cursor:
            self._reader.post(frame_message(encode_frame(Entries(self._live.info.topic, batch.first, batch.envelopes))))
            self._hub.metrics.count("entries", len(batch.envelopes))
            self.cursor = batch.last

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._reader.post(frame_message(encode_frame(Live(self._live.info.topic, self.cursor))))


class LiveTopic:
    """A topic that someone has open."""

    __slots__ = ("deliveries", "info", "last", "puts", "reads", "subscriptions")

    def __init__(self, info: TopicInfo, limits: Limits) -> None:
        self.info = info
        self.puts = Lane(limits.topic_waiting_bytes)
        self.reads = Lane(limits.topic_waiting_reads)
        now = asyncio.get_running_loop().time()
        self.deliveries = TokenBucket(limits.topic_deliveries, limits.topic_deliveries_burst, now)
        self.last = info.last
        self.subscriptions: dict[Subscription, Reader] = {}

    def require_deliveries(self, now: float) -> None:
        """Refuse what would be sent to all who have it open, while it owes for what was.

        Raises:
            Refusal: it does.
        """
        self.deliveries.require(0, now, ErrorCode.RATE, "deliveries of this topic")


class Hub:
    """All topics that are open, by the store's handle."""

    def __init__(self, store: LogStore, metrics: Metrics, limits: Limits) -> None:
        self.store = store
        self.metrics = metrics
        self._limits = limits
        self._live: dict[int, LiveTopic] = {}
        self._openings: list[dict[int, Committed]] = []
        self.end_of_turn = EndOfTurn()  # of all readers
        store.listen(self._committed)
        store.listen_casts(self._cast_elsewhere)

    @contextmanager
    def opening(self) -> Iterator[dict[int, Committed]]:
        """Around finding a topic in the store and joining it: what is committed meanwhile, for `bring_up`.

        The store is read in another thread, so a commit can be delivered after the read and before its answer. To a
        topic that nobody else has open it would be delivered to no one.
        """
        meanwhile: dict[int, Committed] = {}
        self._openings.append(meanwhile)
        try:
            yield meanwhile
        finally:
            self._openings = [opening for opening in self._openings if opening is not meanwhile]

    def join(self, info: TopicInfo, reader: Reader, cursor: int) -> Subscription:
        """Subscribe a reader that has everything up to `cursor`; `start` begins to send."""
        live = self._live.get(info.handle)
        if live is None:
            live = self._live[info.handle] = LiveTopic(info, self._limits)
            self.store.follow(info)
        live.last = max(live.last, info.last)
        subscription = Subscription(self, live, reader, cursor)
        live.subscriptions[subscription] = reader
        return subscription

    def leave(self, live: LiveTopic, subscription: Subscription) -> None:
        live.subscriptions.pop(subscription, None)
        if not live.subscriptions:
            self._live.pop(live.info.handle, None)
            self.store.unfollow(live.info.handle)

    async def read(self, live: LiveTopic, after: int) -> Batch:
        """The next envelopes of a topic."""
        async with self.reading(live):
            return await self.store.read(live.info.handle, after, _READ_ENTRIES, READ_BYTES)

    @asynccontextmanager
    async def reading(self, live: LiveTopic) -> AsyncIterator[None]:
        """Around whatever the store is asked for one topic."""
        await live.reads.enter(1)
        try:
            yield
        finally:
            live.reads.leave(1)

    def cast(self, sender: Subscription, topic: TopicId, payload: bytes) -> None:
        """Forward to everyone else who has the topic open, also on other nodes."""
        live = self._live.get(sender.info.handle)
        if live is None:
            return
        self._forward(live, topic, payload, sender)
        self.store.cast(live.info.handle, payload)

    def _cast_elsewhere(self, handle: int, payload: bytes) -> None:
        live = self._live.get(handle)
        if live is not None:
            self._forward(live, live.info.topic, payload, None)

    def _forward(self, live: LiveTopic, topic: TopicId, payload: bytes, sender: Subscription | None) -> None:
        live.deliveries.charge(len(live.subscriptions), asyncio.get_running_loop().time())
        message = frame_message(encode_frame(CastReceived(topic, payload)))
        for subscription, reader in list(live.subscriptions.items()):
            if subscription is not sender and not reader.gone:
                subscription.cast(message)

    def open_handles(self) -> list[int]:
        """The topics whose leases run on because someone has them open."""
        return list(self._live)

    def _committed(self, commits: Sequence[Committed]) -> None:
        now = asyncio.get_running_loop().time()
        for commit in commits:
            for opening in self._openings:
                opening[commit.handle] = commit
            live = self._live.get(commit.handle)
            batch = commit.batch
            if live is None or not batch.envelopes:
                continue
            live.last = max(live.last, batch.last)
            live.deliveries.charge(len(batch.envelopes) * len(live.subscriptions), now)
            first, last = batch.first, batch.last
            behind = [subscription for subscription in live.subscriptions if subscription.cursor < last]
            message = None
            if behind and sum(map(len, batch.envelopes)) + 8 * len(batch.envelopes) <= MAX_MESSAGE_BYTES:
                message = frame_message(encode_frame(Entries(commit.topic, first, batch.envelopes)))
            for subscription in behind:
                subscription.offer(first, last, message)


def bring_up(info: TopicInfo, meanwhile: dict[int, Committed]) -> TopicInfo:
    """A topic as it stands after what was committed since it was read."""
    commit = meanwhile.get(info.handle)
    if commit is None:
        return info
    return replace(info, last=max(info.last, commit.batch.last), sealed=info.sealed or commit.sealed)


def frame_message(payload: bytes) -> bytes:
    """One unmasked binary WebSocket message (RFC 6455 §5.2), so that several can be joined into one write."""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2) + payload
    return b"\x82\x7f" + size.to_bytes(8) + payload


def frame_messages(payloads: Sequence[bytes]) -> bytes:
    """The same of several, joined."""
    sizes = set(map(len, payloads))
    if len(sizes) == 1 and (size := sizes.pop()) < 126:
        head = bytes((0x82, size))
        return head + head.join(payloads)
    return b"".join(map(frame_message, payloads))


def payload_of(message: bytes) -> bytes:
    """What `frame_message` framed."""
    return message[{126: 4, 127: 10}.get(message[1], 2) :]
