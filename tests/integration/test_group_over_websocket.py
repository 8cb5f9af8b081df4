"""Members over a real relay process: live delivery, and a relay that restarts, forgets, or is none."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from cocoon_core import Cocoon
from cocoon_core.errors import NotYetError, RelayUnavailable, UsageError
from cocoon_core.group import Group
from cocoon_core.sync import driver
from cocoon_core.sync.events import AlarmRaised, DocumentChanged, GroupEvent, RosterChanged
from tests.support.key_ring import use_key_ring
from tests.support.relay_process import RelayProcess
from tests.support.servers import free_ports
from tests.support.waits import COMES


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path / "relay") as process:
        yield process


@pytest.fixture
async def open_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[str], Awaitable[Cocoon]]]:
    use_key_ring(monkeypatch)
    monkeypatch.setattr(driver, "BACKOFF_FIRST", 0.02)
    monkeypatch.setattr(driver, "BACKOFF_MOST", 0.1)
    opened: list[Cocoon] = []

    async def make(name: str) -> Cocoon:
        Cocoon.init(tmp_path / name)
        opened.append(await Cocoon.open(tmp_path / name))
        return opened[-1]

    yield make
    for cocoon in opened:
        await cocoon.close()


Open = Callable[[str], Awaitable[Cocoon]]


async def make_group(open_profile: Open, relays: str | list[str], *names: str) -> list[Group]:
    cocoons = [await open_profile(name) for name in names]
    urls = [relays] if isinstance(relays, str) else relays
    first = await cocoons[0].create_group("Family", member_name=names[0].title(), relays=urls)
    link = await first.invite(uses=len(names))
    await first.sync()
    others = [await c.join(link, member_name=n.title()) for c, n in zip(cocoons[1:], names[1:], strict=True)]
    for group in (first, *others):
        await group.sync()
    return [first, *others]


@asynccontextmanager
async def events_of(group: Group) -> AsyncIterator[Callable[[Callable[[GroupEvent], bool]], Awaitable[GroupEvent]]]:
    """A function that waits for the next event for which a test holds."""
    queue: asyncio.Queue[GroupEvent] = asyncio.Queue()
    unlisten = group.replica.listen(queue.put_nowait)

    async def wait_for(test: Callable[[GroupEvent], bool]) -> GroupEvent:
        async with asyncio.timeout(COMES):
            while True:
                event = await queue.get()
                if test(event):
                    return event

    try:
        yield wait_for
    finally:
        unlisten()


def is_foreign_change(event: GroupEvent) -> bool:
    return isinstance(event, DocumentChanged) and not event.own


async def texts(group: Group) -> list[str]:
    return [post.text for post in reversed(await group.feed.list(limit=1000))]


async def test_what_one_writes_arrives_live_at_the_others(relay: RelayProcess, open_profile: Open) -> None:
    ana, ben, chi = await make_group(open_profile, relay.url, "ana", "ben", "chi")
    async with ana.watch(), ben.watch(), chi.watch(), events_of(ben) as ben_hears, events_of(chi) as chi_hears:
        for number in range(5):
            post = await ana.feed.post(f"live {number}")
            await ben_hears(is_foreign_change)
            await chi_hears(is_foreign_change)
            assert (await ben.feed.get(post.id)).text == f"live {number}" == (await chi.feed.get(post.id)).text
        async with events_of(ana) as ana_hears:
            await ben.feed.reply(post.id, "heard")
            await ana_hears(is_foreign_change)
            assert [p.text for p in await ana.feed.thread(post.id)] == ["live 4", "heard"]
            await ana.set_role("Chi", "admin")
            await chi_hears(lambda event: isinstance(event, RosterChanged))
            assert {m.name: m.role for m in chi.members()}["Chi"] == "admin"


async def test_a_join_is_seen_live(relay: RelayProcess, open_profile: Open) -> None:
    (ana,) = await make_group(open_profile, relay.url, "ana")
    async with ana.watch(), events_of(ana) as hears:
        link = await ana.invite()
        joiner = await open_profile("ben")
        while True:
            with suppress(NotYetError):  # until the invite has arrived at the relay
                group = await joiner.join(link, member_name="Ben")
                break
        event = await hears(lambda event: isinstance(event, RosterChanged) and bool(event.joined))
        assert isinstance(event, RosterChanged)
        assert event.joined == (group.me,)
        assert not ana.invites()[-1].open


async def test_events_come_from_the_group_too(relay: RelayProcess, open_profile: Open) -> None:
    ana, ben = await make_group(open_profile, relay.url, "ana", "ben")
    async with ana.watch(), ben.watch():
        async with aclosing(ben.events()) as events:  # type: ignore[type-var]
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await ana.feed.post("an event")
            async with asyncio.timeout(COMES):
                event = await waiting
        assert isinstance(event, DocumentChanged)


async def test_watching_goes_on_over_a_restart_of_the_relay(
    relay: RelayProcess, open_profile: Open, tmp_path: Path
) -> None:
    ana, ben = await make_group(open_profile, relay.url, "ana", "ben")
    async with ana.watch(), ben.watch(), events_of(ben) as hears:
        await ana.feed.post("before")
        await hears(is_foreign_change)
        relay.kill()
        await ana.feed.post("while it was away")
        with pytest.raises(RelayUnavailable):
            await ben.sync()
        with RelayProcess(tmp_path / "relay", port=relay.port):
            await hears(is_foreign_change)
            assert await texts(ben) == ["before", "while it was away"]
            async with events_of(ana) as ana_hears:
                await ben.feed.post("and back")
                await ana_hears(is_foreign_change)
    assert ana.alarms() == [] == ben.alarms()


async def test_a_relay_that_lost_its_data_is_given_everything_again(
    relay: RelayProcess, open_profile: Open, tmp_path: Path
) -> None:
    ana, ben = await make_group(open_profile, relay.url, "ana", "ben")
    await ana.feed.post("of ana")
    await ana.sync()
    await ben.sync()
    before = await ben.audit()
    relay.stop()
    shutil.rmtree(relay.data)
    with RelayProcess(tmp_path / "relay", port=relay.port):
        async with ben.watch(), events_of(ben) as hears:
            await hears(lambda event: isinstance(event, AlarmRaised) and "no longer has" in event.message)
            await ben.feed.post("of ben")
        await ben.sync()
        ((topic, envelopes, _), *_) = (await ben.audit()).relays[0].topics
        assert (topic, envelopes) == (before.relays[0].topics[0][0], before.relays[0].topics[0][1] + 1)
        third = await open_profile("chi")
        link = await ana.invite()
        await ana.sync()
        group = await third.join(link, member_name="Chi")
        assert sorted(await texts(group)) == ["of ana", "of ben"]


async def test_a_proof_for_another_origin_opens_nothing(open_profile: Open, tmp_path: Path) -> None:
    with RelayProcess(tmp_path / "proxied", "--origin", "wss://relay.example") as relay:
        cocoon = await open_profile("ana")
        group = await cocoon.create_group("Family", member_name="Ana", relays=[relay.url])
        with pytest.raises(RelayUnavailable, match="refused"):
            await group.sync()
        assert group.unsent() == 1


async def test_what_is_no_relay_is_a_clear_error(open_profile: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    cocoon = await open_profile("ana")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        group = await cocoon.create_group("Web", member_name="Ana", relays=[f"ws://127.0.0.1:{port}"])
        with pytest.raises(RelayUnavailable, match="not what a relay answers"):
            await group.sync()
    (nobodys,) = free_ports(1)
    other = await cocoon.create_group("Nobody", member_name="Ana", relays=[f"ws://127.0.0.1:{nobodys}"])
    with pytest.raises(RelayUnavailable, match="refused"):
        await other.sync()


async def test_an_edit_that_is_open_while_others_write_holds_nothing_up_for_good(
    relay: RelayProcess, open_profile: Open
) -> None:
    """What arrives for a document waits until its edit has ended, and is neither lost nor an error."""
    ana, ben = await make_group(open_profile, relay.url, "ana", "ben")
    schema = {"items": dict}
    async with ana.watch(), ben.watch(), events_of(ana) as ana_hears, events_of(ben) as ben_hears:
        async with ana.document("list", schema).change() as mine:
            mine["items"]["ana"] = 1
            async with ben.document("list", schema).change() as others:
                others["items"]["ben"] = 2
            await ben.sync()  # ben's is at the relay, and on its way to ana
            with pytest.raises(UsageError, match="end it"):
                async with ana.document("list", schema).change():
                    pass
            with pytest.raises(UsageError, match="end it before a sync"):
                await ana.sync()
            mine["items"]["ana too"] = 3
        await ana_hears(is_foreign_change)
        await ben_hears(is_foreign_change)
        wanted = {"items": {"ana": 1, "ana too": 3, "ben": 2}}
        assert ana.document("list", schema).read().to_python() == wanted
        assert ben.document("list", schema).read().to_python() == wanted


async def test_a_relay_that_lost_its_data_and_a_second_one_send_only_names_of_what_is_here(
    tmp_path: Path, open_profile: Open
) -> None:
    """What two relays count of themselves: envelopes that they sent, and names."""

    async def counts(process: RelayProcess) -> dict[str, int]:
        async with aiohttp.ClientSession() as http, http.get(f"{process.url.replace('ws', 'http', 1)}/metrics") as got:
            lines = [line.split() for line in (await got.text()).splitlines() if not line.startswith("#")]
        found = {line[0]: round(float(line[1])) for line in lines}
        return {name: found[f"cocoon_relay_{name}_total"] for name in ("entries", "fetched", "names")}

    with RelayProcess(tmp_path / "two") as two:
        with RelayProcess(tmp_path / "one") as one:
            ana, ben = await make_group(open_profile, [one.url, two.url], "ana", "ben")
            for number in range(60):
                await ana.feed.post(f"post {number}")
                await ana.sync()
            before = [await counts(one), await counts(two)]
            await ben.sync()
            after = [await counts(one), await counts(two)]
            sent = {
                name: sum(count[name] for count in after) - sum(count[name] for count in before) for name in after[0]
            }
            assert sent["entries"] + sent["fetched"] == 60
            assert sent["names"] >= 60
            assert await texts(ben) == [f"post {number}" for number in range(60)]
        shutil.rmtree(tmp_path / "one")
        with RelayProcess(tmp_path / "one", port=one.port) as one:
            await ana.sync()  # and gives it everything again
            first = await counts(one)
            await ben.sync()
            second = await counts(one)
            assert second["names"] - first["names"] >= 60
            assert second["fetched"] == first["fetched"]
            assert second["entries"] - first["entries"] <= 4  # of topics with so little in them that it is sent at once
