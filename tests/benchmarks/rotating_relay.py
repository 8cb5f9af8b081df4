"""Line 7: what a rotation costs at a real relay over loopback: its blobs, up and down, and the put that seals.

Beside it, in the same run: a put that does not seal, and as many bytes written to the same disk as files, each synced.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Final

import aiohttp

from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import Ack
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.blobs import get_blobs, name_blob
from cocoon_core.sync.http_exchange import dial_blobs
from tests.benchmarks.floor import ENVELOPE_BYTES
from tests.benchmarks.table import Row, Samples, Stopwatch, compare_freely
from tests.benchmarks.world import SEED
from tests.support.relay_client import RelayClient, connect
from tests.support.relay_process import RelayProcess

ROUNDS: Final = 5
SEALS: Final = 200
BLOBS: Final = 32
BLOB_BYTES: Final = 1 << 20


async def measure_rotating_relay(base: Path) -> list[Row]:
    rng = random.Random(SEED)
    seal, plain = Stopwatch(), Stopwatch()
    up, down, files = Stopwatch(), Stopwatch(), Stopwatch()
    with RelayProcess(base / "relay") as relay:
        async with aiohttp.ClientSession() as http:
            client = await connect(http, relay.url)
            for _ in range(SEALS):
                await _put_two(client, rng, plain, seals=False)
                await _put_two(client, rng, seal, seals=True)
            await client.close()
        for number in range(ROUNDS):
            await _move_blobs(relay.url, rng, up, down)
            with files:
                await asyncio.to_thread(_write_files, base / f"files{number}", rng.randbytes(BLOB_BYTES))
    megabytes = BLOBS * BLOB_BYTES / 1e6
    rates = {
        name: Samples([megabytes / ms * 1000 for ms in watch.wall.values], "MB a second")
        for name, watch in (("put", up), ("got and checked", down))
    }
    return [
        compare_freely("7 relay, a put of two that seals", seal.wall, plain.wall, "a put of two"),
        compare_freely(f"7 relay, {BLOBS} blobs of 1 MiB put", up.wall, files.wall, "synced files"),
        *(Row(f"7 relay, blobs {name}", str(rate)) for name, rate in rates.items()),
    ]


async def _put_two(client: RelayClient, rng: random.Random, watch: Stopwatch, *, seals: bool) -> None:
    """One durable put of two envelopes into a fresh topic."""
    epoch = Epoch(Secret(rng.randbytes(32)))
    await client.open(epoch.signing)
    two = [rng.randbytes(ENVELOPE_BYTES) for _ in range(2)]
    with watch:
        answer = await client.put(epoch.signing, *two, seal=seals, expect=0)
    if not isinstance(answer, Ack):
        raise RuntimeError(f"the relay refused: {answer.message}")
    await client.close_topic(epoch.signing)


async def _move_blobs(url: str, rng: random.Random, up: Stopwatch, down: Stopwatch) -> None:
    epoch = Epoch(Secret(rng.randbytes(32)))
    blobs = [rng.randbytes(BLOB_BYTES) for _ in range(BLOBS)]
    async with aiohttp.ClientSession() as http:
        client = await connect(http, url)
        await client.open(epoch.signing)
        await client.close()
    store = dial_blobs(url)
    try:
        with up:
            await store.put_blobs(epoch, blobs)
        with down:
            async for _ in get_blobs(store, epoch, [name_blob(data) for data in blobs]):
                pass
    finally:
        await store.close()


def _write_files(folder: Path, data: bytes) -> None:
    folder.mkdir()
    for number in range(BLOBS):
        with (folder / str(number)).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
