"""Which connection reads which topic: what one relay is about to send, another is not asked for at the same time.

A topic has one reader at a time, as long as it brings something; the others wait, and are then asked only for what is
still missing (reconciling.py). One that brings too little loses its turn, so no relay can hold the others up for longer
than PATIENCE_SECONDS. Kept in memory alone, for one replica.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from cocoon_core.protocol.ids import TopicId

PATIENCE_SECONDS: Final = 2.0
LEAST_BYTES: Final = 32 * 1024  # that a reader brings in that time


@dataclass(slots=True)
class _Reader:
    """`since` is when it had brought `before` bytes of `brought`."""

    who: object
    since: float
    brought: int = 0
    before: int = 0

    def is_slow(self, now: float) -> bool:
        if now - self.since < PATIENCE_SECONDS:
            return False
        if self.brought - self.before < LEAST_BYTES:
            return True
        self.since, self.before = now, self.brought
        return False


class Readers:
    """The topics of one group that are being read. `who` is a connection's own object."""

    def __init__(self) -> None:
        self._readers: dict[TopicId, _Reader] = {}
        self._ended = asyncio.Event()

    def begin(self, topic: TopicId, who: object, now: float) -> bool:
        """Become the topic's reader, unless another one is; whether this is it now."""
        reader = self._readers.get(topic)
        if reader is None or (reader.who is not who and reader.is_slow(now)):
            reader = self._readers[topic] = _Reader(who, now)
        return reader.who is who

    def note(self, topic: TopicId, who: object, size: int) -> None:
        """The reader brought so many bytes."""
        reader = self._readers.get(topic)
        if reader is not None and reader.who is who:
            reader.brought += size

    def end(self, who: object, topic: TopicId | None = None) -> None:
        """This topic was read to its end, or all are left."""
        for read in [topic] if topic is not None else list(self._readers):
            reader = self._readers.get(read)
            if reader is not None and reader.who is who:
                del self._readers[read]
                self._ended.set()
                self._ended = asyncio.Event()

    async def wait(self, topic: TopicId, who: object) -> None:
        """Wait until this one may read the topic."""
        clock = asyncio.get_running_loop().time
        while not self.begin(topic, who, clock()):
            rest = self._readers[topic].since + PATIENCE_SECONDS - clock()
            try:
                async with asyncio.timeout(max(rest, 0.0)):
                    await self._ended.wait()
            except TimeoutError:
                continue
