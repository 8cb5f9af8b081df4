"""Line 6: durable puts a second that one connection gets acknowledged by a real relay over loopback.

The client is this process, in Python, on the same machine; frames are encoded beforehand, and it is
sent what it put as every subscriber is.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Final

import aiohttp

from cocoon_core.protocol.frames import Ack, Error, Put, decode_relay_frame, encode_frame
from tests.benchmarks.floor import ENVELOPE_BYTES
from tests.benchmarks.table import Row, Samples
from tests.benchmarks.world import SEED
from tests.support.relay_client import connect, make_key, topic_of
from tests.support.relay_process import RelayProcess

ROUNDS: Final = 3
WINDOWS: Final = {1: 1_500, 64: 12_000}  # puts on their way at once: puts in all


async def measure_serving(base: Path) -> list[Row]:
    rates: dict[int, list[float]] = {window: [] for window in WINDOWS}
    with RelayProcess(base / "relay") as relay:
        for _ in range(ROUNDS):
            for window, count in WINDOWS.items():
                rates[window].append(await put_many(relay.url, window, count))
    return [
        Row(f"6 relay, durable puts, {window} on their way", str(Samples(rate, "a second")))
        for window, rate in rates.items()
    ]


async def put_many(url: str, window: int, count: int) -> float:
    """Put envelopes one a frame, never more than `window` without an answer."""
    rng = random.Random(SEED)
    async with aiohttp.ClientSession() as http:
        client = await connect(http, url)
        key = make_key()
        await client.open(key)
        topic = topic_of(key)
        frames = [encode_frame(Put(1000 + n, topic, (rng.randbytes(ENVELOPE_BYTES),))) for n in range(count)]
        room = asyncio.Semaphore(window)

        async def send() -> None:
            for frame in frames:
                await room.acquire()
                await client.wire.send(frame)

        began = time.perf_counter()
        sending = asyncio.create_task(send())
        acked = 0
        while acked < count:
            answer = decode_relay_frame(await client.wire.receive())
            if isinstance(answer, Error):
                raise RuntimeError(f"the relay refused: {answer.message}")
            if isinstance(answer, Ack):
                acked += 1
                room.release()
        seconds = time.perf_counter() - began
        await sending
        await client.close()
    return count / seconds
