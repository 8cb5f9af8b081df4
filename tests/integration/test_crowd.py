"""A crowd: many members watch through one real relay and write, and every device shows every post, all in one order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cocoon_core import Cocoon
from tests.support.crowd import Crowd
from tests.support.key_ring import use_key_ring
from tests.support.relay_process import RelayProcess

SETTINGS = """[limits]
address_connections = 4000
address_proofs = "10000/s"
address_reads = "10000/s"
"""


async def gather(folder: Path, members: int, posts: int, rate: float, patience: float) -> None:
    """Args:
    patience: seconds in which every device must show every post, once all are level.
    """
    settings = folder / "relay.toml"
    settings.write_text(SETTINGS)
    with RelayProcess(folder / "relay", "--config", str(settings)) as relay:
        async with AsyncExitStack() as stack:
            cocoons = []
            for number in range(members):
                home = folder / f"member-{number}"
                Cocoon.init(home)
                cocoons.append(await stack.enter_async_context(await Cocoon.open(home)))
            crowd = Crowd(cocoons)
            await crowd.found(relay.url)
            await crowd.settle()
            async with crowd.watching():
                async with asyncio.timeout(patience):
                    told = await crowd.write(posts, rate, seed=members)
                feeds = await crowd.feeds()
    assert len(told.delays) == posts * (members - 1)
    assert [len(feed) for feed in feeds] == [posts] * members
    assert all(feed == feeds[0] for feed in feeds), "the devices do not show one order"


async def test_every_device_of_a_crowd_shows_every_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_key_ring(monkeypatch)
    await gather(tmp_path, members=12, posts=30, rate=60.0, patience=200.0)


@pytest.mark.soak
async def test_every_device_of_a_crowd_of_100_shows_every_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_key_ring(monkeypatch)
    await gather(tmp_path, members=100, posts=500, rate=8.0, patience=300.0)
