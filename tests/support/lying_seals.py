"""Relays that lie about seals while `lies` is set, and one pass of a client's session to look at them with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cocoon_core.protocol.cursor import Cursor
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import Ack, Error, ErrorCode, Opened, Put, RelayFrame
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.sync.session import Acked, BecameLive, Broken, Deliver, Effect, Refused, Send, Session, TopicOpened
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay

# What a relay can keep of a put that seals: all, the envelopes, the first of them, the seal, or nothing.
KEPT = ("envelopes", "first", "seal", "nothing")


class SealLiar(MemoryRelay):
    """Honest until `lies` is set."""

    def __init__(self) -> None:
        super().__init__("ws://liar.test:8787", seed=1)
        self.lies = False


class LosingSeals(SealLiar):
    """Acknowledges a put that seals, and keeps only a part of it; after `times` times it is honest again."""

    def __init__(self, kept: str, times: int = 10**6) -> None:
        super().__init__()
        self.kept, self.times = kept, times

    def store(self, log: MemoryLog, put: Put) -> bool:
        if not put.seal or not self.lies or self.times == 0:
            return True
        self.times -= 1
        known = set(log.envelopes)
        fresh = [envelope for envelope in dict.fromkeys(put.envelopes) if envelope not in known]
        match self.kept:
            case "envelopes":
                log.envelopes += fresh
            case "first":
                log.envelopes += fresh[:1]
            case "seal":
                log.sealed = True
        return False


class SelfSealing(SealLiar):
    """Seals every topic by itself when it holds `after` envelopes. Nobody asked for it."""

    def __init__(self, after: int = 1) -> None:
        super().__init__()
        self.after = after

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        super().handle(connection, raw)
        for log in self.logs.values():
            log.sealed = log.sealed or (self.lies and log.last >= self.after)


class FalselySealed(SealLiar):
    """Says of every topic that it is sealed, and refuses no put: what comes is kept and shown to nobody."""

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        match frame:
            case _ if not self.lies:
                return (frame,)
            case Opened():
                return (replace(frame, sealed=True),)
            case Ack(request, topic, _):
                return (Error(request, ErrorCode.SEALED, "the topic is sealed", last=self.logs[topic].last),)
        return (frame,)


class NeverLevel(SealLiar):
    """Refuses every put that has an `expect`: because of one envelope more than it shows, or of nothing at all."""

    def __init__(self, *, claims_more: bool) -> None:
        super().__init__()
        self.refused = 0
        self._claims_more = claims_more

    def _put(self, connection: MemoryConnection, frame: Put) -> None:
        if frame.expect is None or not self.lies:
            super()._put(connection, frame)
            return
        self.refused += 1
        last = frame.expect + 1 if self._claims_more else frame.expect
        connection.deliver(Error(frame.request, ErrorCode.EXPECT, "the topic has gone on", last=last))


class OldLife(SealLiar):
    """Serves a topic as it was before it was sealed, once told to: the same life, or another."""

    def go_back(self, topic: TopicId, last: int, *, same_life: bool) -> None:
        before = self.logs[topic].envelopes[:last]
        if same_life:
            self.rollback(topic, last)
            return
        self.expire(topic)
        self.logs[topic] = MemoryLog(Incarnation(self._random.randbytes(Incarnation.LENGTH)), before)


class Look:
    """One connection of one session: what it was told, what it was shown."""

    def __init__(self, relay: MemoryRelay, keys: TopicKeys, cursor: Cursor | None = None) -> None:
        self.relay, self.keys = relay, keys
        self.session = Session(relay.origin)
        self.connection = relay.connect()
        self.shown: dict[int, bytes] = {}
        self.told: list[Effect] = []
        self._cursor = cursor

    async def open(self) -> TopicOpened:
        """Read to the end of what the relay shows."""
        await self._pump()
        await self._send(self.session.open_topic(self.keys, self._cursor))
        return next(effect for effect in self.told if isinstance(effect, TopicOpened))

    async def put(
        self, envelopes: Sequence[bytes], *, seal: bool = False, expect: int | None = None
    ) -> Acked | Refused | Broken:
        before = len(self.told)
        await self._send(self.session.put(self.keys.topic, 7, envelopes, seal=seal, expect=expect))
        return next(effect for effect in self.told[before:] if isinstance(effect, Acked | Refused | Broken))

    @property
    def is_level(self) -> bool:
        return any(isinstance(effect, BecameLive) for effect in self.told)

    async def _send(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                await self.connection.send(effect.raw)
            else:
                self.told.append(effect)
        await self._pump()

    async def _pump(self) -> None:
        while self.connection.waiting:
            effects = self.session.frame_received(await self.connection.receive())
            for effect in effects:
                if isinstance(effect, Deliver):
                    self.shown |= dict(enumerate(effect.envelopes, start=effect.first))
            await self._send(effects)
