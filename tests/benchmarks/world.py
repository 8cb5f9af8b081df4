"""Groups to measure on: written through the façade with the same content each time; only ids and keys are random.

Building is not measured, so its commits do not wait for the disk.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from cocoon_core import Cocoon, Group
from cocoon_core.protocol.constants import MAX_EPOCH_DAYS
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import Ack
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.invite import InviteKeys, mailbox_keys, read_link
from cocoon_core.storage.database import Database
from cocoon_core.sync.access import RelayAccess
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.transport import Connection, Dial
from tests.benchmarks.text import Writer
from tests.support.memory_relay import MemoryRelay
from tests.support.relay_client import connect

SEED: Final = 20260101
PASSPHRASE: Final = "one for every profile here"
NAMES: Final = ("Ana", "Ben", "Chi", "Dov", "Eva")
FIRST_MS: Final = int(datetime(2026, 1, 1, 8, tzinfo=UTC).timestamp() * 1000)
MONTHS: Final = 6
CHUNK: Final = 50  # envelopes in one put


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ms: int = FIRST_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@dataclass(frozen=True, slots=True)
class Written:
    """A group that was written, as its relay would hold it."""

    link: str
    group: Group
    topics: dict[TopicId, list[bytes]]
    keys: list[TopicKeys]


def dial_memory(relay: MemoryRelay) -> Dial:
    async def dial(_: str) -> Connection:
        return relay.connect()

    return dial


def wait_for_disk(database: Database, waits: bool) -> None:
    """Let commits wait for the disk, as in use, or not."""
    database._connection.pragma("synchronous", "full" if waits else "off")


@asynccontextmanager
async def open_device(home: Path, dial: Dial, clock: Callable[[], int]) -> AsyncIterator[Cocoon]:
    """A fresh profile."""
    Cocoon.init(home, PASSPHRASE)
    async with await Cocoon.open(home, PASSPHRASE, clock=clock, access=RelayAccess(dial, dial_blobs)) as cocoon:
        wait_for_disk(cocoon._profile.database, False)
        yield cocoon


async def found_group(cocoon: Cocoon, url: str) -> tuple[Group, str]:
    """A group of one, with a link for all who are to come."""
    group = await cocoon.create_group("Bench", member_name=NAMES[0], relays=[url], max_members=50)
    return group, await group.invite(uses=20, expires_in=timedelta(days=3650))


async def write_group(cocoons: list[Cocoon], clock: Clock, relay: MemoryRelay, posts: int, per_run: int) -> Written:
    """Let members take turns in writing `per_run` posts, every second one a reply, and syncing, over MONTHS months.

    All in one epoch: the relay in memory has topics alone, so no manifest can be put there.
    """
    rng, writer = random.Random(SEED), Writer(SEED)
    first, link = await found_group(cocoons[0], relay.url)
    await first.set_policy(epoch_days=MAX_EPOCH_DAYS)
    await first.sync()
    groups = [first]
    for cocoon, name in zip(cocoons[1:], NAMES[1:], strict=False):
        groups.append(await cocoon.join(link, member_name=name))
    for group in groups:
        await group.sync()
    step_ms = MONTHS * 30 * 86_400_000 // posts
    known: list[str] = []
    for turn in range(posts // per_run):
        group = groups[turn % len(groups)]
        fresh = []
        await group.sync()
        for place in range(per_run):
            clock.now_ms += step_ms
            text = writer.write_post()
            if place % 2 and known:
                post = await group.feed.reply(rng.choice(known[-500:]), text)
            else:
                post = await group.feed.post(text)
            fresh.append(post.id)
        await group.sync()
        known += fresh
    keys = [
        *(held.epoch for held in first.replica.epochs.held.values()),
        mailbox_keys(InviteKeys(read_link(link).secret).mailbox_secret),
    ]
    return Written(link, first, {topic: list(log.envelopes) for topic, log in relay.logs.items()}, keys)


async def put_all(written: Written, url: str) -> None:
    """Give a real relay what the one in memory has."""
    async with aiohttp.ClientSession() as http:
        for keys in written.keys:
            client = await connect(http, url)
            await client.open(keys.signing)
            envelopes = written.topics[keys.topic]
            for start in range(0, len(envelopes), CHUNK):
                answer = await client.put(keys.signing, *envelopes[start : start + CHUNK])
                if not isinstance(answer, Ack):
                    raise RuntimeError(f"the relay refused: {answer.message}")
                client.held.clear()
            await client.close()
