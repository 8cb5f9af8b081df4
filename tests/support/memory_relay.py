"""A relay in memory, for tests: the frames and rules of specs/relay.md, without sockets, clocks or disks.

Deterministic: challenges and incarnations come from a seed, a frame is answered before `send` returns, and time passes
when `age` is called. Quotas and limits of rate are not here; blobs are in memory_blobs.py. A hostile relay is a
subclass: `outgoing` sees every frame on its way to a client, `store` decides whether a put is kept; `rollback` and
`expire` change the past. The contract suite in tests/integration/relay runs on this relay and on the real one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

from cocoon_core.errors import MalformedError, RelayUnavailable, SignatureError
from cocoon_core.protocol.constants import (
    CHALLENGE_BYTES,
    FRAME_VERSION,
    LABEL_OPEN,
    MAX_FETCH_PLACES,
    MAX_NAMES,
    MAX_SEQ,
)
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    CastReceived,
    Challenge,
    Close,
    Entries,
    Error,
    ErrorCode,
    Fetch,
    Fetched,
    List,
    Listed,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    Resume,
    decode_client_frame,
    encode_frame,
    name_envelope,
    normalize_origin,
    open_message,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import verify
from cocoon_core.sync.blobs import BlobStore, RelayBlobs
from cocoon_relay.limits import DAY, KIB, Limits
from tests.support.flips import flip
from tests.support.memory_blobs import MemoryBlobs, MemoryExchange

_ENTRIES_A_FRAME = 64
_FETCHED_BYTES = 256 * KIB  # bytes in one answer to `fetch`, if one envelope alone is not more


@dataclass(slots=True)
class MemoryLog:
    """One topic: `envelopes[i]` has the sequence number first + i. `touched` is a day of the relay."""

    incarnation: Incarnation
    envelopes: list[bytes] = field(default_factory=list)
    sealed: bool = False
    first: int = 1
    touched: float = 0.0

    @property
    def last(self) -> int:
        return self.first + len(self.envelopes) - 1


class MemoryRelay:
    """An honest relay. `url` is what a client would be configured with, `leases` hold an operator's times."""

    def __init__(self, url: str = "ws://relay.test:8787", seed: int = 0, leases: Limits | None = None) -> None:
        self.url = url
        self.leases = leases or Limits()
        self.origin = normalize_origin(url)
        self.logs: dict[TopicId, MemoryLog] = {}
        self.connections: list[MemoryConnection] = []
        self.reachable = True
        self.limits = {"names": MAX_NAMES, "fetch_places": MAX_FETCH_PLACES}
        self.most_names = MAX_NAMES  # in one answer
        self.day = 0.0
        self._random = Random(seed)
        self.blobs = self.make_blobs(Random(f"blobs {seed}").randbytes(32))

    def connect(self) -> MemoryConnection:
        """A new connection, with its challenge waiting.

        Raises:
            RelayUnavailable: `reachable` is off.
        """
        if not self.reachable:
            raise RelayUnavailable("the relay in memory is switched off")
        connection = MemoryConnection(self, self._random.randbytes(CHALLENGE_BYTES))
        self.connections.append(connection)
        connection.deliver(Challenge(FRAME_VERSION, connection.challenge, self.limits))
        return connection

    def dial_blobs(self) -> BlobStore:
        """This relay's blobs, through the real client."""
        return RelayBlobs(MemoryExchange(self), self.origin)

    def switch_off(self) -> None:
        """End all connections, and take no new ones until `reachable` is set again."""
        self.reachable = False
        for connection in list(self.connections):
            connection.end()

    # --- hooks of hostile relays

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        """The frames that are sent in place of `frame`."""
        return (frame,)

    def store(self, log: MemoryLog, put: Put) -> bool:
        """Whether a put that passed every check is kept; it is acknowledged in any case."""
        return True

    def make_blobs(self, key: bytes) -> MemoryBlobs:
        """The blobs of this relay; another class of them lies."""
        return MemoryBlobs(self, key)

    def rollback(self, topic: TopicId, last: int) -> None:
        """Forget everything after `last`, seal included, and end the connections, as a restored backup would."""
        log = self.logs[topic]
        del log.envelopes[max(0, last - log.first + 1) :]
        log.sealed = False
        for connection in list(self.connections):
            connection.end()

    def expire(self, topic: TopicId) -> None:
        """Forget a topic; the next `open` makes another incarnation."""
        del self.logs[topic]
        for connection in list(self.connections):
            connection.end()

    # --- what an honest relay does

    def age(self, days: float) -> None:
        """Let days pass and what outlived its lease go, by specs/relay.md §5.4."""
        self.day += days
        leases = self.leases
        for log in (self.logs[topic] for connection in self.connections for topic in connection.cursors):
            log.touched = self.day
        for topic, log in list(self.logs.items()):
            unused = (self.day - log.touched) * DAY
            if unused > (leases.last_envelope_lease if log.sealed else leases.topic_lease) or (
                log.last == 0 and unused > leases.empty_topic_lease
            ):
                del self.logs[topic]
            elif log.sealed and unused > leases.topic_lease:
                log.first = log.last
                del log.envelopes[:-1]
        self.blobs.collect(leases.blob_lease / DAY)

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        try:
            frame = decode_client_frame(raw)
        except MalformedError as error:
            connection.deliver(Error(None, ErrorCode.BAD_FRAME, str(error)))
            connection.end()
            return
        match frame:
            case Open() | Resume():
                self._open(connection, frame)
            case List():
                self._list(connection, frame)
            case Fetch():
                self._fetch(connection, frame)
            case Put():
                self._put(connection, frame)
            case Cast(topic, payload):
                if topic not in connection.cursors:
                    connection.deliver(Error(None, ErrorCode.NOT_OPEN, "the topic is not open on this connection"))
                    return
                for other in self.connections:
                    if other is not connection and topic in other.cursors:
                        other.deliver(CastReceived(topic, payload))
            case Close(topic):
                connection.cursors.pop(topic, None)

    def _open(self, connection: MemoryConnection, frame: Open | Resume) -> None:
        message = open_message(self.origin, connection.challenge, frame.topic)
        try:
            verify(frame.topic, LABEL_OPEN, message, frame.proof)
        except SignatureError:
            connection.deliver(Error(frame.request, ErrorCode.BAD_PROOF, "the proof does not hold"))
            return
        if frame.topic not in self.logs:
            self.logs[frame.topic] = MemoryLog(Incarnation(self._random.randbytes(Incarnation.LENGTH)))
        log = self.logs[frame.topic]
        log.touched = self.day
        known = frame.after if frame.incarnation == log.incarnation and frame.after <= log.last else 0
        is_still = isinstance(frame, Resume) and log.last - known > frame.most
        connection.cursors[frame.topic] = MAX_SEQ if is_still else known
        connection.deliver(Opened(frame.request, frame.topic, log.incarnation, log.last, log.sealed))
        if not is_still:
            self._catch_up(connection, frame.topic)
            connection.deliver(Live(frame.topic, log.last))

    def _list(self, connection: MemoryConnection, frame: List) -> None:
        if frame.topic not in connection.cursors:
            connection.deliver(Error(frame.request, ErrorCode.NOT_OPEN, "the topic is not open on this connection"))
            return
        log = self.logs[frame.topic]
        first = max(min(frame.after, log.last) + 1, log.first)
        listed = log.envelopes[first - log.first : first - log.first + min(frame.most, self.most_names)]
        names = tuple(name_envelope(frame.salt, envelope) for envelope in listed)
        connection.deliver(Listed(frame.request, frame.topic, first, names))

    def _fetch(self, connection: MemoryConnection, frame: Fetch) -> None:
        if frame.topic not in connection.cursors:
            connection.deliver(Error(frame.request, ErrorCode.NOT_OPEN, "the topic is not open on this connection"))
            return
        log = self.logs[frame.topic]
        envelopes: list[bytes | None] = []
        for place in frame.places:
            kept = log.envelopes[place - log.first] if log.first <= place <= log.last else None
            if envelopes and sum(map(len, filter(None, envelopes))) + len(kept or b"") > _FETCHED_BYTES:
                break
            envelopes.append(kept)
        connection.deliver(Fetched(frame.request, frame.topic, tuple(envelopes)))

    def _put(self, connection: MemoryConnection, frame: Put) -> None:
        if frame.topic not in connection.cursors:
            connection.deliver(Error(frame.request, ErrorCode.NOT_OPEN, "the topic is not open on this connection"))
            return
        log = self.logs[frame.topic]
        log.touched = self.day
        known = {envelope: index for index, envelope in enumerate(log.envelopes, start=log.first)}
        fresh = list(dict.fromkeys(envelope for envelope in frame.envelopes if envelope not in known))
        if fresh or (frame.seal and not log.sealed):
            if log.sealed:
                connection.deliver(Error(frame.request, ErrorCode.SEALED, "the topic is sealed", last=log.last))
                return
            if frame.expect is not None and frame.expect != log.last:
                connection.deliver(Error(frame.request, ErrorCode.EXPECT, "the topic has gone on", last=log.last))
                return
        known |= {envelope: index for index, envelope in enumerate(fresh, start=log.last + 1)}
        if self.store(log, frame):
            log.envelopes += fresh
            log.sealed = log.sealed or frame.seal
        connection.deliver(Ack(frame.request, frame.topic, tuple(known[envelope] for envelope in frame.envelopes)))
        for other in self.connections:
            if frame.topic in other.cursors:
                self._catch_up(other, frame.topic)

    def _catch_up(self, connection: MemoryConnection, topic: TopicId) -> None:
        log = self.logs[topic]
        while (cursor := connection.cursors[topic]) < log.last:
            first = max(cursor + 1, log.first)
            envelopes = tuple(log.envelopes[first - log.first : first - log.first + _ENTRIES_A_FRAME])
            connection.cursors[topic] = first + len(envelopes) - 1
            connection.deliver(Entries(topic, first, envelopes))


class MemoryConnection:
    """One client's connection: bytes of whole frames in and out."""

    def __init__(self, relay: MemoryRelay, challenge: bytes) -> None:
        self.challenge = challenge
        self.cursors: dict[TopicId, int] = {}
        self._relay = relay
        self._inbox: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    async def send(self, raw: bytes) -> None:
        """Hand a frame to the relay.

        Raises:
            RelayUnavailable: the connection has ended.
        """
        if self._ended:
            raise RelayUnavailable("the connection has ended")
        self._relay.handle(self, raw)

    async def receive(self) -> bytes:
        """The next frame, as soon as there is one.

        Raises:
            RelayUnavailable: the connection has ended and everything before its end was received.
        """
        while not self._inbox:
            if self._ended:
                raise RelayUnavailable("the connection has ended")
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    async def close(self) -> None:
        self.end()

    @property
    def waiting(self) -> int:
        """Frames that `receive` would return at once."""
        return len(self._inbox)

    # --- for the relay

    def deliver(self, frame: RelayFrame) -> None:
        if self._ended:
            return
        self._inbox.extend(encode_frame(sent) for sent in self._relay.outgoing(self, frame))
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self.cursors.clear()
        if self in self._relay.connections:
            self._relay.connections.remove(self)
        self._arrived.set()


# --- hostile relays


class WithholdingRelay(MemoryRelay):
    """Sends no envelope for which `withholds` is true; the sequence numbers show a hole."""

    def __init__(self, withholds: Callable[[bytes], bool], seed: int = 0) -> None:
        super().__init__(seed=seed)
        self._withholds = withholds

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries):
            return (frame,)
        kept = [(seq, item) for seq, item in enumerate(frame.envelopes, start=frame.first) if not self._withholds(item)]
        return [Entries(frame.topic, seq, (item,)) for seq, item in kept]


class TamperingRelay(MemoryRelay):
    """Flips one bit of every envelope that it sends."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries):
            return (frame,)
        return (replace(frame, envelopes=tuple(self._flip(envelope) for envelope in frame.envelopes)),)

    def _flip(self, envelope: bytes) -> bytes:
        return flip(envelope, self._random.randrange(len(envelope)), 1 << self._random.randrange(8))


class DisorderlyRelay(MemoryRelay):
    """Loses, duplicates and reorders envelopes; sequence numbers count up as if nothing had happened."""

    def __init__(self, seed: int, lose: float = 0.1, duplicate: float = 0.2) -> None:
        super().__init__(seed=seed)
        self._lose = lose
        self._duplicate = duplicate

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        if not isinstance(frame, Entries):
            return (frame,)
        sent: list[bytes] = []
        for envelope in frame.envelopes:
            if self._random.random() >= self._lose:
                sent += [envelope] * (2 if self._random.random() < self._duplicate else 1)
        self._random.shuffle(sent)
        return (replace(frame, envelopes=tuple(sent)),) if sent else ()


class LyingRelay(MemoryRelay):
    """Acknowledges, and then has lost what it acknowledged, while `lies` is set."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.lies = True

    def store(self, log: MemoryLog, put: Put) -> bool:
        return not self.lies
