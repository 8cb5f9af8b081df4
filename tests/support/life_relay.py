"""A relay for long stories: on the world's clock, with leases, and unlucky: it loses messages, and once its disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random

from cocoon_core.protocol.frames import Put, RelayFrame
from cocoon_core.sync.blobs import Answer, BlobStore, ConnectionLost, RelayBlobs
from cocoon_relay.limits import Limits
from tests.support.memory_blobs import MemoryExchange
from tests.support.memory_relay import MemoryConnection, MemoryLog, MemoryRelay

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class LifeRelay(MemoryRelay):
    """Honest, and unlucky: `losses` is the chance that a message is lost, and its connection with it; `forgets` the
    chance that what it acknowledges is not kept. `happened` counts both.
    """

    def __init__(self, url: str, seed: int, leases: Limits, began_ms: int) -> None:
        super().__init__(url, seed, leases)
        self.losses = self.forgets = 0.0
        self.happened: Counter[str] = Counter()
        self.most_bytes = 0
        self._began_ms = began_ms
        self._chance = Random(f"luck {seed}")
        self._dead: list[MemoryConnection] = []

    # --- time and room

    def reach(self, now_ms: int) -> None:
        """Let time pass up to then."""
        self.age(max(0.0, (now_ms - self._began_ms) / DAY_MS - self.day))
        self.most_bytes = max(self.most_bytes, self.kept_bytes)

    @property
    def envelope_bytes(self) -> int:
        return sum(len(envelope) for log in self.logs.values() for envelope in log.envelopes)

    @property
    def blob_bytes(self) -> int:
        return sum(map(len, self.blobs.kept.values()))

    @property
    def kept_bytes(self) -> int:
        return self.envelope_bytes + self.blob_bytes

    # --- bad luck

    def wipe(self) -> None:
        """Lose the disk: all topics and blobs are gone."""
        for connection in list(self.connections):
            connection.end()
        self.logs.clear()
        self.blobs.kept.clear()
        self.blobs.touched.clear()

    def calm(self) -> None:
        self.losses = self.forgets = 0.0

    def loses(self) -> bool:
        if self.losses and self._chance.random() < self.losses:
            self.happened["messages lost"] += 1
            return True
        return False

    def _cuts(self, connection: MemoryConnection) -> bool:
        if connection in self._dead:
            return True
        if not self.loses():
            return False
        self._dead.append(connection)
        asyncio.get_running_loop().call_soon(connection.end)
        return True

    def outgoing(self, connection: MemoryConnection, frame: RelayFrame) -> Iterable[RelayFrame]:
        return () if self._cuts(connection) else (frame,)

    def handle(self, connection: MemoryConnection, raw: bytes) -> None:
        if not self._cuts(connection):
            super().handle(connection, raw)

    def connect(self) -> MemoryConnection:
        self._dead = [connection for connection in self._dead if connection in self.connections]
        return super().connect()

    def store(self, log: MemoryLog, put: Put) -> bool:
        if self.forgets and self._chance.random() < self.forgets:
            self.happened["puts forgotten"] += 1
            return False
        return True

    def dial_blobs(self) -> BlobStore:
        return RelayBlobs(_LossyExchange(self), self.origin)


class _LossyExchange(MemoryExchange):
    """A request is lost on its way, or its answer is."""

    def __init__(self, relay: LifeRelay) -> None:
        super().__init__(relay)
        self._life = relay

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        if self._life.loses():
            raise ConnectionLost("the request was lost")
        answer = await super().ask(method, path, headers, body, most)
        if self._life.loses():
            raise ConnectionLost("the answer was lost")
        return answer
