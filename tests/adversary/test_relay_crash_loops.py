"""kill -9 of a real relay at any moment, again and again: what was acknowledged stands, and nothing is half there.

This shows what a crash of the process may cost. What a power cut may is in tests/unit/relay/test_durability.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from cocoon_core.errors import MalformedError, RelayUnavailable
from cocoon_core.protocol.frames import Ack, Error, Put
from cocoon_core.protocol.ids import Incarnation
from cocoon_core.protocol.primitives import SigningKey
from tests.support.forks import a_child, make_forks
from tests.support.relay_children import serve_hastily, serve_until_killed
from tests.support.relay_client import (  # noqa: F401  make_http is a fixture
    RelayClient,
    authorize,
    connect,
    http_url,
    make_http,
    make_key,
    topic_of,
)

KILLS = 200
KILLS_OF_SOAK = 2_000
SEED = 44_10
TOPICS = 3
LIFE_SECONDS = 60.0  # a life that takes longer has left something without an answer
_ONE_IN = 8  # rounds in which blobs are put, and rounds in which it dies while it starts
Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return make_forks()


@dataclass(slots=True)
class Topic:
    """What one client knows of one topic."""

    key: SigningKey
    incarnation: Incarnation | None = None
    acked: dict[int, bytes] = field(default_factory=dict)
    tried: list[tuple[bytes, ...]] = field(default_factory=list)
    seen: int = 0  # the last number that was read


class Loop:
    """The client through all lives of a relay."""

    def __init__(self, http: Http, data: Path, seed: int) -> None:
        self.http = http
        self.data = data
        self.chance = Random(seed)
        self.topics = [Topic(make_key(self.chance.randbytes(32))) for _ in range(TOPICS)]
        self.blobs: dict[str, bytes] = {}
        self.last_words = {"starting": 0, "putting": 0, "blobs": 0}

    async def live(self, forks: ForkServerContext, target: Any, pace: float) -> float:
        """One life of the relay; the seconds until it was ready."""
        began = time.monotonic()
        with a_child(forks, target, self.data) as (child, told):
            if pace and self.chance.randrange(_ONE_IN) == 0:
                told.poll(pace * self.chance.random())
                child.kill()
                self.last_words["starting"] += 1
                return pace
            url = await asyncio.to_thread(told.recv)
            ready = time.monotonic() - began
            async with asyncio.timeout(LIFE_SECONDS):
                client = await connect(self.http, url)
                for topic in self.topics:
                    await self._catch_up(client, topic)
                if self.chance.randrange(_ONE_IN) == 0:
                    await self._put_blobs(url, child)
                    self.last_words["blobs"] += 1
                else:
                    await self._put(client, child)
                    self.last_words["putting"] += 1
                await client.close()
            return ready

    async def _catch_up(self, client: RelayClient, topic: Topic) -> None:
        opened, found = await client.open(topic.key, after=topic.seen, incarnation=topic.incarnation)
        assert topic.incarnation in (None, opened.incarnation)
        topic.incarnation = opened.incarnation
        assert [seq for seq, _ in found] == list(range(topic.seen + 1, opened.last + 1))
        log = dict(found)
        assert all(log.get(seq) == item for seq, item in topic.acked.items() if seq > topic.seen), "an ack is lost"
        assert max(topic.acked, default=0) <= opened.last, "an ack is lost"
        topic.seen = opened.last

    async def _put(self, client: RelayClient, child: Any) -> None:
        """Puts of all topics at once, some larger than a page of the database; it dies among the acks."""
        waiting: dict[int, tuple[Topic, tuple[bytes, ...]]] = {}
        for request in range(1, self.chance.randint(4, 16)):
            topic = self.chance.choice(self.topics)
            size = self.chance.choice((296, 600, 9_000))
            envelopes = tuple(self.chance.randbytes(size) for _ in range(self.chance.choice((1, 2, 7))))
            waiting[request] = (topic, envelopes)
            topic.tried.append(envelopes)
            await client.send(Put(request, topic_of(topic.key), envelopes))
        for _ in range(self.chance.randint(0, len(waiting))):
            self._note(await client.next(Ack, Error), waiting)
        child.kill()
        with suppress(RelayUnavailable, MalformedError):
            while True:
                self._note(await client.next(Ack, Error), waiting)

    def _note(self, ack: Ack | Error, waiting: dict[int, tuple[Topic, tuple[bytes, ...]]]) -> None:
        assert isinstance(ack, Ack), ack
        topic, envelopes = waiting[ack.request]
        topic.acked.update(zip(ack.seqs, envelopes, strict=True))

    async def _put_blobs(self, url: str, child: Any) -> None:
        headers = await authorize(self.http, url, self.topics[0].key)

        async def upload(body: bytes) -> None:
            name = hashlib.sha256(body).hexdigest()
            async with self.http.put(f"{http_url(url)}/v1/blobs/{name}", data=body, headers=headers) as answer:
                assert answer.status == 201
                self.blobs[name] = body

        tasks = [
            asyncio.create_task(upload(self.chance.randbytes(self.chance.choice((40, 5_000, 300_000)))))
            for _ in range(6)
        ]
        for _, done in zip(range(self.chance.randrange(6)), asyncio.as_completed(tasks), strict=False):
            await done
        child.kill()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, aiohttp.ClientError), result

    async def check(self, forks: ForkServerContext) -> None:
        """Read everything once more, from the beginning."""
        with a_child(forks, serve_until_killed, self.data) as (_, told):
            url = await asyncio.to_thread(told.recv)
            client = await connect(self.http, url)
            for topic in self.topics:
                _, found = await client.open(topic.key)
                log = dict(found)
                assert topic.acked.items() <= log.items()
                stored = set(log.values())
                assert len(stored) == len(log), "an envelope stands twice"
                for put in topic.tried:
                    assert sum(item in stored for item in put) in (0, len(put)), "half a put is there"
            headers = await authorize(self.http, url, self.topics[0].key)
            for name, body in self.blobs.items():
                async with self.http.get(f"{http_url(url)}/v1/blobs/{name}", headers=headers) as answer:
                    assert await answer.read() == body
            await client.close()
        for path in (self.data / "blobs").rglob("*"):
            if path.is_file():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]


async def _attack_kill(http: Http, tmp_path: Path, forks: ForkServerContext, kills: int, target: Any) -> Loop:
    print(f"seed {SEED}")
    loop = Loop(http, tmp_path / "data", SEED)
    pace = 0.0
    for _ in range(kills):
        pace = await loop.live(forks, target, pace)
    await loop.check(forks)
    print(f"killed while: {loop.last_words}; {sum(len(topic.acked) for topic in loop.topics)} envelopes acknowledged")
    return loop


@pytest.mark.long
async def test_attack_44_two_hundred_kills_lose_nothing_acknowledged(
    tmp_path: Path, http: Http, forks: ForkServerContext
) -> None:
    loop = await _attack_kill(http, tmp_path, forks, KILLS, serve_until_killed)
    assert min(loop.last_words.values()) > KILLS / 20
    assert sum(len(topic.acked) for topic in loop.topics) > KILLS
    assert loop.blobs


@pytest.mark.soak
async def test_attack_44_two_thousand_kills_lose_nothing_acknowledged(
    tmp_path: Path, http: Http, forks: ForkServerContext
) -> None:
    await _attack_kill(http, tmp_path, forks, KILLS_OF_SOAK, serve_until_killed)


async def test_attack_44_is_seen_when_acks_come_before_the_commit(
    tmp_path: Path, http: Http, forks: ForkServerContext
) -> None:
    with pytest.raises(AssertionError):
        await _attack_kill(http, tmp_path, forks, 8, serve_hastily)
