"""Line 14: listing the vault, and opening a group, with 10,000 and with 100,000 items in it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cocoon_core import Cocoon, Group
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.vault_file import FileRef
from cocoon_core.social.item_view import pack_ref
from cocoon_core.sync.access import RelayAccess
from tests.benchmarks.table import Row, Samples
from tests.benchmarks.world import PASSPHRASE, SEED, Clock, dial_memory, found_group, wait_for_disk
from tests.support.memory_relay import MemoryRelay

STEPS: Final = (10_000, 100_000)
AT_ONCE: Final = 50  # items in one transaction
SYNC_EVERY: Final = 5_000
ITEM_MS: Final = 300_000  # between two
ROUNDS: Final = 7
MOST_LIST_MS: Final = 200.0
MOST_OPEN_MS: Final = 1_000.0


async def measure_vault_index(base: Path) -> list[Row]:
    """A list of 10,000 items, the other questions that an app asks, and the first question of a process."""
    rows: list[Row] = []
    for count in STEPS:
        home = base / f"{count}"
        now_ms = await _fill(home, count)
        opened, first, listed, sought, albums = [], [], [], [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            cocoon = await Cocoon.open(home, PASSPHRASE, clock=Clock(now_ms))
            stretched = time.perf_counter() - began  # Argon2id, mostly
            (group,) = cocoon.groups()
            index = group.vault.index
            first.append(_time(lambda index=index: index.select(100)))  # type: ignore[misc]
            opened.append((time.perf_counter() - began - stretched) * 1000)
            listed.append(_time(lambda index=index: index.select(10_000)))  # type: ignore[misc]
            sought.append(_time(lambda index=index: index.select(100, text="img_0000007")))  # type: ignore[misc]
            albums.append(_time(index.albums))
            await cocoon.close()
        name = f"{count:,} items"
        rows += [
            _within(f"14 a list of 10,000 of {name}", listed, MOST_LIST_MS),
            _within(f"14 · open the group and list 100 of {name}", opened, MOST_OPEN_MS),
            Row(f"14 · list 100 of {name}, the first time", str(Samples(first, "ms"))),
            Row(f"14 · find one of {name} by its name", str(Samples(sought, "ms"))),
            Row(f"14 · albums of {name}", str(Samples(albums, "ms"))),
        ]
    return rows


def _time(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _within(line: str, values: list[float], most: float) -> Row:
    samples = Samples(values, "ms")
    return Row(line, str(samples), f"≤ {most:g} ms", f"{samples.median / most:.2f}×", samples.median <= most)


async def _fill(home: Path, count: int) -> int:
    """A profile with so many photos; the time of the last one."""
    rng, memory, clock = random.Random(SEED), MemoryRelay(), Clock()
    Cocoon.init(home, PASSPHRASE)
    access = RelayAccess(dial_memory(memory), lambda _: memory.dial_blobs())
    async with await Cocoon.open(home, PASSPHRASE, clock=clock, access=access) as cocoon:
        wait_for_disk(cocoon._profile.database, False)
        group, _ = await found_group(cocoon, memory.url)
        for start in range(0, count, AT_ONCE):
            clock.now_ms += ITEM_MS * AT_ONCE
            _write(group, [_photo(rng, number) for number in range(start, start + AT_ONCE)])
            if (start + AT_ONCE) % SYNC_EVERY == 0:
                await group.sync()
    return clock.now_ms


def _write(group: Group, photos: list[dict[str, Any]]) -> None:
    with group.replica.transaction():
        group.vault.index.write(photos)


def _photo(rng: random.Random, number: int) -> dict[str, Any]:
    """What a photo of three megabytes with a thumbnail is in a document."""
    return {
        "kind": "photo",
        "name": f"IMG_{number:07}.JPG",
        "type": "image/jpeg",
        **_ref(rng, 3_000_000 + number, 3).to_value(),
        "album": f"Album {number // 250 % 40}",
        "width": 4032,
        "height": 3024,
        "digest": rng.randbytes(32),
        "blur": rng.randbytes(28),
        "thumb": pack_ref(_ref(rng, 9_000, 1)),
    }


def _ref(rng: random.Random, size: int, chunks: int) -> FileRef:
    return FileRef(Secret(rng.randbytes(32)), size, tuple(BlobHash(rng.randbytes(32)) for _ in range(chunks)))
