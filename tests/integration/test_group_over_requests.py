"""Members behind a proxy that lets no WebSocket through: everything but casts goes on, by single requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.sync import http_connection
from cocoon_core.sync.access import real_access
from cocoon_core.sync.events import AlarmRaised
from tests.integration.test_group_over_websocket import (
    Open,
    events_of,
    is_foreign_change,
    make_group,
    open_profile,  # noqa: F401  a fixture
    texts,
)
from tests.support.plain_proxy import PlainProxy, Upgrades
from tests.support.relay_process import RelayProcess


@asynccontextmanager
async def relay_behind(upgrades: Upgrades, data: Path) -> AsyncIterator[PlainProxy]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(PlainProxy(upgrades).serve())
        relay = stack.enter_context(RelayProcess(data, "--origin", proxy.url))
        proxy.target = relay.url
        yield proxy


@pytest.mark.parametrize("upgrades", Upgrades)
async def test_a_group_lives_behind_a_proxy_that_lets_no_websocket_through(
    tmp_path: Path,
    open_profile: Open,  # noqa: F811
    upgrades: Upgrades,
) -> None:
    async with relay_behind(upgrades, tmp_path / "relay") as proxy:
        ana, ben, chi = await make_group(open_profile, proxy.url, "ana", "ben", "chi")
        for number in range(3):
            await ana.feed.post(f"ana {number}")
            await ben.feed.post(f"ben {number}")
        for group in (ana, ben, ana, chi):
            report = await group.sync()
            assert [relay.error for relay in report.relays] == [None]
        assert sorted(await texts(chi)) == sorted(await texts(ana)) == sorted(await texts(ben))
        await ana.remove_member("Chi")
        for group in (ana, ben, ana):
            await group.sync()
        await ben.feed.post("after")
        await ben.sync()
        await ana.sync()
        assert "after" in await texts(ana)
        assert [member.name for member in ana.members()] == ["Ana", "Ben"]
        assert not [alarm for group in (ana, ben) for alarm in group.alarms()]
        # Once it is known that no WebSocket passes, nobody tries at each connection.
        assert proxy.asked["upgrade"] in (3, 6)  # a GET that was cut off is repeated by aiohttp
        assert proxy.asked["POST"] > 0


async def test_who_watches_behind_such_a_proxy_hears_a_little_later(
    tmp_path: Path,
    open_profile: Open,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connection, "LOOK_FIRST", 0.05)
    monkeypatch.setattr(http_connection, "LOOK_MOST", 0.2)
    async with relay_behind(Upgrades.REFUSED, tmp_path / "relay") as proxy:
        ana, ben = await make_group(open_profile, proxy.url, "ana", "ben")
        async with ana.watch(), ben.watch(), events_of(ben) as ben_hears:
            for number in range(3):
                post = await ana.feed.post(f"watched {number}")
                await ben_hears(is_foreign_change)
                assert (await ben.feed.get(post.id)).text == f"watched {number}"


async def test_a_relay_that_begins_anew_is_filled_again_by_requests(
    tmp_path: Path,
    open_profile: Open,  # noqa: F811
) -> None:
    async with relay_behind(Upgrades.REFUSED, tmp_path / "relay") as proxy:
        ana, ben = await make_group(open_profile, proxy.url, "ana", "ben")
        await ana.feed.post("before")
        await ana.sync()
        with RelayProcess(tmp_path / "empty", "--origin", proxy.url) as empty:
            proxy.target = empty.url
            async with events_of(ana) as ana_hears:
                await ana.sync()
                await ana_hears(lambda event: isinstance(event, AlarmRaised) and event.kind == "relay-lost")
            await ben.sync()
            assert "before" in await texts(ben)


async def test_what_is_no_relay_at_all_is_told_as_before() -> None:
    async with await asyncio.start_server(_answer_nonsense, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(RelayUnavailable, match="it answered 404, which is not what a relay answers"):
            await real_access(lambda url: None)(f"ws://127.0.0.1:{port}")


async def _answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
    await writer.drain()
    writer.close()
