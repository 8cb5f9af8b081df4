"""Line 4: bytes on the wire, counted and not measured: what a relay gets for posts of exactly 100 bytes.

Two admins made an operation at once, so every entry names two roster heads.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from cocoon_core import Group
from cocoon_core.protocol.envelope import open_envelope
from cocoon_core.protocol.frames import Put, encode_frame
from cocoon_core.protocol.run import parse_run
from tests.benchmarks.table import Row
from tests.benchmarks.text import Writer
from tests.benchmarks.world import NAMES, SEED, Clock, dial_memory, found_group, open_device
from tests.support.memory_relay import MemoryRelay

TEXT_BYTES: Final = 100
TOGETHER: Final = 100  # posts that are flushed together
MOST_ALONE: Final = 640  # bytes
MOST_TOGETHER: Final = 340  # bytes of each


async def measure_sizes(base: Path) -> list[Row]:
    memory, clock, writer = MemoryRelay(), Clock(), Writer(SEED)
    async with AsyncExitStack() as stack:
        group = await _make_two_heads(stack, base, memory, clock)
        rows = []
        parent = (await group.feed.post(writer.write_exactly(TEXT_BYTES))).id
        await group.sync()
        for name, is_reply in (("post", False), ("reply", True)):
            clock.now_ms += 60_000
            text = writer.write_exactly(TEXT_BYTES)
            await (group.feed.reply(parent, text) if is_reply else group.feed.post(text))
            envelopes, frame, heads = await _flush(group, memory)
            rows.append(
                Row(
                    f"4 a {TEXT_BYTES}-byte {name} alone, {heads} roster heads",
                    f"{sum(map(len, envelopes))} bytes; as a frame {frame}",
                    f"≤ {MOST_ALONE} bytes",
                    "",
                    frame <= MOST_ALONE,
                )
            )
        for number in range(TOGETHER):
            clock.now_ms += 60_000
            text = writer.write_exactly(TEXT_BYTES)
            await (group.feed.reply(parent, text) if number % 2 else group.feed.post(text))
        envelopes, frame, _ = await _flush(group, memory)
        rows.append(
            Row(
                f"4 {TOGETHER} flushed together, every second a reply",
                f"{sum(map(len, envelopes)) / TOGETHER:.1f} bytes each; as a frame {frame / TOGETHER:.1f}",
                f"≤ {MOST_TOGETHER} bytes each",
                "",
                frame / TOGETHER <= MOST_TOGETHER,
            )
        )
    return rows


async def _make_two_heads(stack: AsyncExitStack, base: Path, memory: MemoryRelay, clock: Clock) -> Group:
    """A group in which two admins made an operation each without having seen the other's."""
    cocoons = [
        await stack.enter_async_context(open_device(base / name, dial_memory(memory), clock)) for name in NAMES[:2]
    ]
    first, link = await found_group(cocoons[0], memory.url)
    await first.sync()
    second = await cocoons[1].join(link, member_name=NAMES[1])
    await first.sync()
    await first.set_role(NAMES[1], "admin")
    for group in (first, second, first):
        await group.sync()
    for group in (first, second):
        await group.invite()
    for group in (first, second, first):
        await group.sync()
    return first


async def _flush(group: Group, memory: MemoryRelay) -> tuple[list[bytes], int, int]:
    """Sync: the envelopes that the relay has more, the bytes of the frame that put them, the roster heads named."""
    epoch = group.replica.epoch
    log = memory.logs[epoch.topic]
    before = log.last
    await group.sync()
    envelopes = log.envelopes[before:]
    frame = len(encode_frame(Put(1, epoch.topic, tuple(envelopes))))
    runs = [parse_run(open_envelope(envelope, epoch), group.id) for envelope in envelopes]
    return envelopes, frame, max(len(run.named_heads) for run in runs)
