"""Several nodes of one relay: what one is put the others show, and any of them may go at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from cocoon_core.protocol.constants import LABEL_BLOB
from cocoon_core.protocol.frames import Ack, CastReceived, blob_message, normalize_origin
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.primitives import SigningKey
from cocoon_relay.config import RelayConfig
from cocoon_relay.limits import DAY
from cocoon_relay.postgres_news import PostgresNews
from cocoon_relay.postgres_schema import shard_of
from cocoon_relay.relay_store import RelayStore
from cocoon_relay.server import Relay
from cocoon_relay.sharded_store import open_databases
from tests.support.movers import Reader, Writer
from tests.support.relay_client import authorize, connect, http_url, make_envelope, make_key, topic_of
from tests.support.relay_process import RelayProcess, relay_command, relay_environment, serve_node
from tests.support.servers import PostgresServer, free_ports
from tests.support.stores import LIMITS, Backing, Clock, envelopes, make_topic, places_of, put_blob, put_into, read_blob

Http = aiohttp.ClientSession
MakeBacking = Callable[[], Awaitable[Backing]]


@pytest.fixture
async def backing(make_backing: MakeBacking) -> Backing:
    return await make_backing()


@pytest.fixture
async def nodes(backing: Backing, tmp_path: Path) -> AsyncIterator[list[Relay]]:
    """Two nodes in this process."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serve_node(tmp_path / name, backing.databases, backing.bucket))
            for name in ("one", "two")
        ]


@asynccontextmanager
async def serve_deaf(backing: Backing, data: Path, poll_seconds: float) -> AsyncIterator[Relay]:
    """A node that asks for what it was not told every so often."""
    plain = await backing.open()
    await plain.log.close()
    log = await open_databases(backing.databases, LIMITS, poll_seconds=poll_seconds)
    config = RelayConfig(data, "127.0.0.1", 0, limits=LIMITS)
    relay = Relay(config, RelayStore(log, plain.blobs, LIMITS))
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


class TestHints:
    async def test_a_put_on_one_node_is_live_on_the_other(self, nodes: list[Relay], http: Http) -> None:
        key = make_key()
        one, other = [await connect(http, node.url) for node in nodes]
        await one.open(key)
        await other.open(key)
        expected = []
        for turn in range(20):  # both put; each sees all, in one order
            envelope = make_envelope(300_000 if turn % 7 == 3 else 300)
            answer = await (one, other)[turn % 2].put(key, envelope)
            assert isinstance(answer, Ack)
            assert answer.seqs == (turn + 1,)
            expected.append((turn + 1, envelope))
        assert await one.entries(20) == await other.entries(20) == expected

    async def test_a_backlog_larger_than_one_read_comes_whole(self, nodes: list[Relay], http: Http) -> None:
        key = make_key()
        one, other = [await connect(http, node.url) for node in nodes]
        await one.open(key)
        await other.open(key)
        envelopes = [make_envelope() for _ in range(1_500)]
        for at in range(0, 1_500, 50):
            assert isinstance(await one.put(key, *envelopes[at : at + 50]), Ack)
        assert await other.entries(1_500) == list(enumerate(envelopes, start=1))

    async def test_lost_hints_are_made_up_for_by_asking(
        self, backing: Backing, tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PostgresNews, "_notified", lambda *_: None)
        async with (
            serve_deaf(backing, tmp_path / "one", 0.05) as one,
            serve_deaf(backing, tmp_path / "two", 0.05) as two,
        ):
            key = make_key()
            writer, reader = await connect(http, one.url), await connect(http, two.url)
            await writer.open(key)
            await reader.open(key)
            envelopes = [make_envelope() for _ in range(3)]
            for envelope in envelopes:
                await writer.put(key, envelope)
            assert await reader.entries(3) == list(enumerate(envelopes, start=1))

    async def test_a_node_whose_connections_were_cut_hears_again(
        self, nodes: list[Relay], backing: Backing, http: Http
    ) -> None:
        key = make_key()
        writer, reader = [await connect(http, node.url) for node in nodes]
        await writer.open(key)
        await reader.open(key)
        for turn in range(3):
            admin = await asyncpg.connect(backing.databases[0])
            ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'cocoon-relay %'"
            listening = f"SELECT count(*) {ours} AND application_name LIKE '% listener'"
            while await admin.fetchval(listening) < len(nodes):  # those that were cut before are coming back
                pass
            cut = await admin.fetchval(f"SELECT count(pg_terminate_backend(pid)) {ours}")
            await admin.close()
            assert cut > len(nodes)  # the writer's too
            envelope = make_envelope()
            answer = await writer.put(key, envelope)
            assert isinstance(answer, Ack), answer
            assert await reader.entries(1) == [(turn + 1, envelope)]

    async def test_casts_reach_the_other_node_and_not_their_sender(self, nodes: list[Relay], http: Http) -> None:
        key = make_key()
        one, other = [await connect(http, node.url) for node in nodes]
        await one.open(key)
        await other.open(key)
        for size in (0, 1, 4096):
            await one.cast(key, bytes(size))
            assert (await other.next(CastReceived)).payload == bytes(size)
        await other.cast(key, b"back")
        assert (await one.next(CastReceived)).payload == b"back"


class TestBlobs:
    async def test_a_blob_put_at_one_node_is_read_at_the_other_by_the_same_proof(
        self, backing: Backing, tmp_path: Path, http: Http
    ) -> None:
        """Both stand behind one name: a challenge that one gave holds at the other."""
        origin = normalize_origin("wss://relay.example")
        key, data = make_key(), random.randbytes(300_000)
        name = hashlib.sha256(data).hexdigest()
        async with AsyncExitStack() as stack:
            one, other = [
                http_url((await stack.enter_async_context(
                    serve_node(tmp_path / node, backing.databases, backing.bucket, origins=(origin,)))).url)
                for node in ("one", "two")
            ]  # fmt: skip
            client = await connect(http, one.replace("http", "ws"))
            client.origin = origin
            await client.open(key)
            async with http.get(f"{one}/v1/challenge") as answer:
                challenge = bytes.fromhex((await answer.json())["challenge"])
            proof = key.sign(LABEL_BLOB, blob_message(origin, challenge, topic_of(key)))
            headers = {"Authorization": f"Cocoon {topic_of(key).hex()}.{challenge.hex()}.{proof.hex()}"}
            async with http.put(f"{one}/v1/blobs/{name}", data=data, headers=headers) as answer:
                assert answer.status == 201
            async with http.put(f"{other}/v1/blobs/{name}", data=data, headers=headers) as answer:
                assert answer.status == 200
            async with http.get(f"{other}/v1/blobs/{name}", headers=headers) as answer:
                assert (answer.status, await answer.read()) == (200, data)

    async def test_bytes_that_the_bucket_lost_are_not_said_to_be_here_and_can_be_put_again(
        self, nodes: list[Relay], backing: Backing, http: Http
    ) -> None:
        url = nodes[0].url
        key, data = make_key(), random.randbytes(1_000)
        name = hashlib.sha256(data).hexdigest()
        await (await connect(http, url)).open(key)
        headers = await authorize(http, url, key)
        place = f"{http_url(url)}/v1/blobs/{name}"
        async with http.put(place, data=data, headers=headers) as answer:
            assert answer.status == 201
        await nodes[1]._store.blobs.remove(await places_of(nodes[1]._store))
        for expected in (404, 404):
            async with http.get(place, headers=headers) as answer:
                assert answer.status == expected
        async with http.put(place, data=data, headers=headers) as answer:
            assert answer.status == 201
        async with http.get(place, headers=headers) as answer:
            assert await answer.read() == data

    async def test_ranges_and_heads_are_answered(self, nodes: list[Relay], http: Http) -> None:
        url = nodes[0].url
        key, data = make_key(), random.randbytes(700_000)
        await (await connect(http, url)).open(key)
        headers = await authorize(http, url, key)
        place = f"{http_url(url)}/v1/blobs/{hashlib.sha256(data).hexdigest()}"
        async with http.put(place, data=data, headers=headers) as answer:
            assert answer.status == 201
        for asked, first, stop in (
            ("bytes=0-0", 0, 1), ("bytes=1000-1999", 1000, 2000), ("bytes=-5", 699_995, 700_000),
            ("bytes=600000-", 600_000, 700_000), ("bytes=699999-900000", 699_999, 700_000),
        ):  # fmt: skip
            async with http.get(place, headers=headers | {"Range": asked}) as answer:
                assert (answer.status, await answer.read()) == (206, data[first:stop]), asked
                assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/700000"
        for asked in ("bytes=700000-", "bytes=9-3", "lines=1-2"):
            async with http.get(place, headers=headers | {"Range": asked}) as answer:
                assert answer.status == 416, asked
                assert answer.headers["Content-Range"] == "bytes */700000"
        async with http.head(place, headers=headers) as answer:
            assert (answer.status, answer.content_length) == (200, 700_000)


class TestCollecting:
    async def test_two_nodes_that_collect_at_once_remove_nothing_that_was_renewed(self, backing: Backing) -> None:
        """While both collect, leases are renewed: what was said to be renewed is there afterwards, whole."""
        stores = [await backing.open() for _ in range(2)]
        try:
            open_topic = await make_topic(stores[0])
            datas = [random.randbytes(200) for _ in range(120)]
            blobs = await asyncio.gather(*(put_blob(stores[n % 2], open_topic, data) for n, data in enumerate(datas)))
            topics = [await make_topic(stores[n % 2]) for n in range(60)]
            await asyncio.gather(*(put_into(stores[0].log, topic, envelopes(3), False, None) for topic in topics))
            backing.clock.now += LIMITS.blob_lease + DAY
            renewed: set[bytes] = set()
            touched: set[bytes] = set()

            async def renew() -> None:
                for blob in blobs[::3]:
                    renewed.update(await stores[1].have_blobs([blob], renew=True))
                for topic in topics[::3]:
                    if await stores[1].log.open_topic(topic.topic, create=False) is not None:
                        touched.add(topic.topic)

            first, second, _ = await asyncio.gather(stores[0].gc(), stores[1].gc(), renew())
            assert first.blobs + second.blobs == len(blobs) - len(renewed)
            assert first.topics + second.topics == 61 - len(touched)
            assert await stores[0].have_blobs(blobs, renew=False) == [blob for blob in blobs if blob in renewed]
            for data, blob in zip(datas, blobs, strict=True):
                assert await read_blob(stores[0], blob) == (data if blob in renewed else None)
            assert len(await places_of(stores[0])) == len(renewed)
            for topic in topics:
                found = await stores[0].log.open_topic(topic.topic, create=False)
                assert (found is not None) == (topic.topic in touched)
                assert len((await stores[0].log.read(topic.handle, 0, 9, 10**6)).envelopes) == 3 * (found is not None)
            totals = await stores[0].log.totals()
            assert (totals.topics, totals.entries, totals.bytes) == (
                len(touched), 3 * len(touched), 900 * len(touched)
            )  # fmt: skip
            assert (totals.blobs, totals.blob_bytes) == (len(renewed), 200 * len(renewed))
        finally:
            for store in stores:
                await store.close()

    async def test_what_is_put_again_while_it_is_collected_is_there(
        self, backing: Backing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bytes that go are never those that came: each upload has a place of its own."""
        # By the clock that is turned here, what S3 was given a moment ago is half a year old.
        monkeypatch.setattr(RelayStore, "_sweep", _sweep_nothing)
        stores = [await backing.open() for _ in range(2)]
        try:
            for _ in range(8):
                topic = await make_topic(stores[0])
                data = random.randbytes(100)
                blob = await put_blob(stores[0], topic, data)
                backing.clock.now += LIMITS.blob_lease + DAY
                topic = await make_topic(stores[1])
                await asyncio.gather(stores[0].gc(), put_blob(stores[1], topic, data), stores[1].gc())
                assert await read_blob(stores[0], blob) == data
        finally:
            for store in stores:
                await store.close()


class TestSharding:
    async def test_a_database_that_is_added_leaves_what_is_there_where_it_is(
        self, postgres: PostgresServer, tmp_path: Path
    ) -> None:
        first, second = await postgres.make_database(), await postgres.make_database()
        before = Backing(tmp_path / "data", (first,), None, Clock())
        store = await before.open()
        topics = [await make_topic(store) for _ in range(12)]
        for topic in topics:
            await put_into(store.log, topic, envelopes(2), False, None)
        blobs = [await put_blob(store, topics[0], random.randbytes(50)) for _ in range(12)]
        await store.close()
        store = await Backing(tmp_path / "data", (first, second), None, before.clock).open()
        try:
            for topic in topics:
                found = await store.log.open_topic(topic.topic, create=True)
                assert found is not None
                assert (found.incarnation, found.last) == (topic.incarnation, 2)
                assert await put_into(store.log, found, envelopes(1), False, 2) == (3,)
            assert await store.have_blobs(blobs, renew=True) == blobs
            names = [TopicId(bytes((number,)) * 32) for number in range(12)]  # of these some are at home in either
            added = [await store.log.open_topic(name, create=True) for name in names]
            assert len({shard_of(topic.handle) for topic in added if topic is not None}) == 2
            assert (await store.log.totals()).topics == 24
        finally:
            await store.close()


class TestCommands:
    async def test_an_operator_counts_collects_and_lets_go_beside_nodes_that_serve(
        self, nodes: list[Relay], backing: Backing, http: Http
    ) -> None:
        client = await connect(http, nodes[0].url)
        kept, dropped = make_key(), make_key()
        for key in (kept, dropped):
            await client.open(key)
            await client.put(key, make_envelope(), seal=key is dropped)

        async def run(command: str, *words: str) -> Any:
            child = await asyncio.create_subprocess_exec(
                *relay_command(command, "--data", str(backing.data), *_stores(backing), "--json", *words),
                stdout=asyncio.subprocess.PIPE, env=relay_environment(),
            )  # fmt: skip
            output, _ = await child.communicate()
            assert child.returncode == 0, output
            return json.loads(output)

        shown = (await run("stats"))["topics"]
        assert {(one["id"], one["entries"], one["sealed"]) for one in shown} == {
            (topic_of(kept).hex(), 1, False), (topic_of(dropped).hex(), 1, True)
        }  # fmt: skip
        assert (await run("drop", "--sealed"))["removed"] == {"topics": 1}
        assert (await run("gc"))["removed"] == {"topics": 0, "entries": 0, "blobs": 0, "files": 0}
        assert [one["id"] for one in (await run("stats"))["topics"]] == [topic_of(kept).hex()]

    async def test_a_database_that_was_brought_back_is_another_life_of_every_topic(
        self, nodes: list[Relay], backing: Backing, http: Http
    ) -> None:
        """By the statement of relay/README.md."""
        client, key = await connect(http, nodes[0].url), make_key()
        before, _ = await client.open(key)
        await client.put(key, make_envelope())
        admin = await asyncpg.connect(backing.databases[0])
        await admin.execute("UPDATE cocoon_relay.topics SET incarnation = uuid_send(gen_random_uuid())")
        await admin.close()
        after, found = await (await connect(http, nodes[1].url)).open(key, 1, before.incarnation)
        assert after.incarnation != before.incarnation
        assert len(found) == 1


async def _sweep_nothing(_store: RelayStore) -> int:
    return 0


def _stores(backing: Backing) -> list[str]:
    words = [word for database in backing.databases for word in ("--database", database)]
    return [*words, "--blobs", backing.bucket] if backing.bucket else words


async def _check(http: Http, urls: list[str], key: SigningKey, writers: list[Writer], reader: Reader) -> int:
    """Every acknowledged envelope is there once, at its number, for whoever reads anew and for who read along."""
    _, stored = await (await connect(http, urls[-1])).open(key)
    assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
    assert len({envelope for _, envelope in stored}) == len(stored)
    places = {envelope: seq for seq, envelope in stored}
    for writer in writers:
        for envelope, seq in writer.acked.items():
            assert places[envelope] == seq
    assert reader.found == stored
    return len(stored)


class TestGoing:
    async def test_a_node_killed_in_mid_put_loses_nothing_acknowledged(
        self, backing: Backing, tmp_path: Path, http: Http
    ) -> None:
        await self._run(backing, tmp_path, http, kills=3, end=RelayProcess.kill)

    async def test_a_rolling_restart_loses_no_message(self, backing: Backing, tmp_path: Path, http: Http) -> None:
        await self._run(backing, tmp_path, http, kills=3, end=RelayProcess.stop)

    @pytest.mark.soak
    async def test_a_node_killed_in_mid_put_loses_nothing_acknowledged_for_long(
        self, backing: Backing, tmp_path: Path, http: Http
    ) -> None:
        await self._run(backing, tmp_path, http, kills=200, end=RelayProcess.kill)

    async def _run(
        self, backing: Backing, tmp_path: Path, http: Http, kills: int, end: Callable[[RelayProcess], int]
    ) -> None:
        """Two nodes end in turn, at moments of their own, and start again at the same port; the clients go on."""
        key = make_key()
        names, ports = ("one", "two"), free_ports(2)

        def start(at: int) -> RelayProcess:
            return RelayProcess(tmp_path / names[at], *_stores(backing), port=ports[at])

        processes = [start(at) for at in range(2)]
        urls = [process.url for process in processes]
        ended = 0
        writers = [Writer(http, urls, key, at) for at in range(3)]
        reader = Reader(http, urls, key)
        until: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(writer.run(lambda: ended == kills)) for writer in writers]
        reading = asyncio.create_task(reader.run(until))
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        choose = random.Random(seed)
        try:
            while ended < kills:
                at = ended % 2
                wanted = sum(len(writer.acked) for writer in writers) + choose.randrange(10, 120)
                while sum(len(writer.acked) for writer in writers) < wanted:
                    assert not any(task.done() for task in (*tasks, reading))
                    await asyncio.sleep(0.001)
                await asyncio.to_thread(end, processes[at])
                processes[at] = await asyncio.to_thread(start, at)
                ended += 1
            await asyncio.gather(*tasks)
            until.set_result(max(seq for writer in writers for seq in writer.acked.values()))
            await reading
            assert await _check(http, urls, key, writers, reader) > 10 * kills
            assert sum(writer.moves for writer in writers) >= kills
        finally:
            for task in (*tasks, reading):
                task.cancel()
            for process in processes:
                await asyncio.to_thread(process.stop)

    async def test_a_database_that_restarts_loses_nothing_acknowledged(
        self, postgres: PostgresServer, nodes: list[Relay], http: Http
    ) -> None:
        """It is cut off at once and comes back; clients notice nothing but the time that it takes."""
        key = make_key()
        urls = [node.url for node in nodes]
        restarts = 0
        writers = [Writer(http, urls, key, at) for at in range(2)]
        reader = Reader(http, urls, key)
        until: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(writer.run(lambda: restarts == 2)) for writer in writers]
        reading = asyncio.create_task(reader.run(until))
        while restarts < 2:
            wanted = sum(len(writer.acked) for writer in writers) + 50
            while sum(len(writer.acked) for writer in writers) < wanted:
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.001)
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start)
            restarts += 1
        await asyncio.gather(*tasks)
        until.set_result(max(seq for writer in writers for seq in writer.acked.values()))
        await reading
        await _check(http, urls, key, writers, reader)
