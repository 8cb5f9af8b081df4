"""Clients that move on: when a node goes away they take the next one, and put again what was not acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiohttp

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.frames import Ack, Entries, Error, Opened, Put, RelayFrame
from cocoon_core.protocol.ids import Incarnation
from cocoon_core.protocol.primitives import SigningKey
from tests.support.relay_client import RelayClient, connect, make_envelope, topic_of

_LOST = (RelayUnavailable, OSError, aiohttp.ClientError)
_TRIES_SECONDS = 0.02


class _Mover:
    """One client of several nodes. `urls` is read anew at every attempt: a node that starts again may be elsewhere."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str], key: SigningKey, at: int = 0) -> None:
        self._http, self.urls, self.key = http, urls, key
        self._at = at
        self.moves = 0

    async def _reach(self) -> RelayClient:
        while True:
            try:
                return await connect(self._http, self.urls[self._at % len(self.urls)])
            except _LOST:
                self._move()
                await asyncio.sleep(_TRIES_SECONDS)

    def _move(self) -> None:
        self._at += 1
        self.moves += 1

    async def _ask(self, client: RelayClient, after: int = 0, life: Incarnation | None = None) -> Opened:
        await client.send(client.make_open(self.key, after, life))
        return await _answer(client, Opened)


class Writer(_Mover):
    """Puts one envelope after the other, a few on their way at once. `acked` has the place of each."""

    def __init__(
        self, http: aiohttp.ClientSession, urls: Sequence[str], key: SigningKey, at: int = 0, *, window: int = 8
    ) -> None:
        super().__init__(http, urls, key, at)
        self._window = window
        self._requests = 0
        self.acked: dict[bytes, int] = {}

    async def run(self, enough: Callable[[], bool]) -> None:
        """Put until there is enough, and then until all that was put is acknowledged."""
        waiting: dict[bytes, None] = {}
        while not enough() or waiting:
            client = await self._reach()
            try:
                await self._ask(client)
                sent = {await self._put(client, envelope): envelope for envelope in list(waiting)}
                while not enough() or sent:
                    while len(sent) < self._window and not enough():
                        waiting[envelope := make_envelope()] = None
                        sent[await self._put(client, envelope)] = envelope
                    answer = await _answer(client, Ack)
                    envelope = sent.pop(answer.request)
                    del waiting[envelope]
                    self.acked[envelope] = answer.seqs[0]
            except _LOST:
                self._move()
            finally:
                await client.close()

    async def _put(self, client: RelayClient, envelope: bytes) -> int:
        self._requests += 1
        await client.send(Put(10_000 + self._requests, topic_of(self.key), (envelope,)))
        return 10_000 + self._requests


class Reader(_Mover):
    """Reads a topic, wherever it can, from where it stood. `found` has what came, in order."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str], key: SigningKey, at: int = 0) -> None:
        super().__init__(http, urls, key, at)
        self.found: list[tuple[int, bytes]] = []
        self.life: Incarnation | None = None

    async def run(self, until: asyncio.Future[int]) -> None:
        """Read to the number that `until` will tell."""
        while True:
            client = await self._reach()
            try:
                after = self.found[-1][0] if self.found else 0
                opened = await self._ask(client, after, self.life)
                assert self.life in {None, opened.incarnation}, "the topic is another one now"
                self.life = opened.incarnation
                while not until.done() or not self.found or self.found[-1][0] < until.result():
                    news = asyncio.ensure_future(client.next(Entries))
                    both: list[asyncio.Future[Any]] = [news] if until.done() else [news, until]
                    await asyncio.wait(both, return_when="FIRST_COMPLETED")
                    if not news.done():
                        if self.found and self.found[-1][0] >= until.result():
                            news.cancel()
                            return
                        await asyncio.wait([news])
                    entries = news.result()
                    self.found += list(enumerate(entries.envelopes, start=entries.first))
                return
            except _LOST:
                self._move()
            finally:
                await client.close()


_Wanted = TypeVar("_Wanted", bound=RelayFrame)


async def _answer(client: RelayClient, wanted: type[_Wanted]) -> _Wanted:
    """The answer; a refusal means: try elsewhere."""
    answer = await client.next(wanted, Error)
    if isinstance(answer, Error):
        raise RelayUnavailable(answer.message)
    return answer
