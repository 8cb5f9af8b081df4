"""What one topic, connection or address asks of a relay does not keep the others waiting: measured in counts, not time.

Each attack is also run on a build with the defence taken out, and is seen to fail there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_core.protocol.frames import Ack, Close, Error, ErrorCode, Put, decode_client_frame, encode_frame
from cocoon_relay import connection as connection_module
from cocoon_relay.lanes import Lane
from cocoon_relay.limits import MIB, TokenBucket
from cocoon_relay.server import Relay
from tests.support.relay_client import (  # noqa: F401  make_http is a fixture
    RelayClient,
    authorize,
    connect,
    http_url,
    make_envelope,
    make_http,
    make_key,
    open_client,
    tiny_socket,
    topic_of,
    transport_of,
)
from tests.support.relay_process import serve_relay
from tests.support.waits import COMES, NEVER

Http = aiohttp.ClientSession
WIDE = {"connection_puts_burst": 10**6, "connection_put_bytes_burst": 10**12, "topic_deliveries_burst": 10**12}


# --- 43: a topic that many write into


async def _attack_flood_puts(http: Http, relay: Relay) -> None:
    """Eight connections write into one topic as fast as they can, and another topic is written into meanwhile."""
    flooded, mine = make_key(), make_key()
    first = await open_client(http, relay, flooded)
    assert isinstance(await first.put(flooded, make_envelope()), Ack)
    await first.close()
    flooders = [await connect(http, relay.url) for _ in range(8)]
    for one in flooders:
        await one.resume(flooded)  # still: they are sent nothing but their answers
    client = await open_client(http, relay, mine)
    written = 0

    def count(commits: Any) -> None:
        nonlocal written
        written += sum(sum(map(len, one.batch.envelopes)) for one in commits if one.topic == topic_of(flooded))

    relay._store.log.listen(count)

    async def flood(one: RelayClient) -> None:
        for _ in range(6):
            await one.wire.send(
                encode_frame(Put(1, topic_of(flooded), tuple(make_envelope(60_000) for _ in range(16))))
            )

    tasks = [asyncio.create_task(flood(one)) for one in flooders]
    try:
        while not written:
            assert isinstance(await client.put(mine, make_envelope()), Ack)
        for _ in range(5):
            before = written
            assert isinstance(await client.put(mine, make_envelope()), Ack)
            assert written - before <= 8 * MIB
            assert relay._store.log.backlog_bytes <= 3 * MIB
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_attack_43_a_flooded_topic_does_not_keep_another_from_the_disk(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", topic_waiting_bytes=2 * MIB, **WIDE) as relay:
        await _attack_flood_puts(http, relay)


async def test_attack_43_is_seen_when_a_topic_may_fill_the_backlog(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lane, "try_enter", lambda *_: True)
    monkeypatch.setattr(Lane, "leave", lambda *_: None)
    async with serve_relay(tmp_path / "data", topic_waiting_bytes=2 * MIB, **WIDE) as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_puts(http, relay)


# --- 43: a topic that many read


async def _attack_flood_reads(http: Http, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty connections read one large topic, and another topic is opened meanwhile."""
    large = make_key()
    writer = await open_client(http, relay, large)
    for _ in range(6):
        assert isinstance(await writer.put(large, *(make_envelope(100_000) for _ in range(16))), Ack)
    await writer.close()
    asked = most = 0
    honest = relay._store.log.read

    async def read(handle: int, *how: Any) -> Any:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        try:
            return await honest(handle, *how)
        finally:
            asked -= 1

    monkeypatch.setattr(relay._store.log, "read", read)
    clients = [await connect(http, relay.url) for _ in range(31)]
    other = clients.pop()
    for one in clients:
        await one.send(one.make_open(large))
    await other.open(make_key())
    for one in clients:
        await one.entries(96)
    assert 2 <= most <= 4  # so many reads stood before anybody else's at any time


async def test_attack_43_a_topic_that_is_read_by_many_does_not_keep_another_from_being_opened(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_relay(tmp_path / "data", **WIDE) as relay:
        await _attack_flood_reads(http, relay, monkeypatch)


async def test_attack_43_is_seen_when_a_topic_may_ask_the_store_for_all_at_once(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_relay(tmp_path / "data", topic_waiting_reads=10**6, **WIDE) as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_reads(http, relay, monkeypatch)


# --- 43: a connection that sends very many messages


async def _attack_flood_frames(http: Http, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key()
    client, flooder = await open_client(http, relay, key), await connect(http, relay.url)
    handled = 0
    honest = decode_client_frame

    def decode(raw: bytes) -> Any:
        nonlocal handled
        frame = honest(raw)
        handled += isinstance(frame, Close)
        return frame

    monkeypatch.setattr(connection_module, "decode_client_frame", decode)
    payload = encode_frame(Close(topic_of(make_key())))
    transport_of(flooder).write((bytes((0x82, 0x80 | len(payload))) + bytes(4) + payload) * 20_000)
    for _ in range(40):
        assert isinstance(await client.put(key, make_envelope()), Ack)
    assert handled <= 1_100


async def test_attack_43_a_flood_of_messages_is_read_slowly(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_relay(tmp_path / "data", connection_frames=10.0, connection_frames_burst=1_000) as relay:
        await _attack_flood_frames(http, relay, monkeypatch)


async def test_attack_43_is_seen_when_messages_are_not_counted(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_relay(tmp_path / "data", connection_frames=10.0**9) as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_frames(http, relay, monkeypatch)


async def test_attack_43_pings_count_as_messages_and_are_answered(tmp_path: Path, http: Http) -> None:
    limits = {"connection_frames": 0.001, "connection_frames_burst": 3, "stop_seconds": 0.2}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        socket = await http.ws_connect(f"{relay.url}/v1/sync", autoping=False)
        await socket.receive_bytes()
        for _ in range(6):
            await socket.ping(b"?")
        for _ in range(3):
            assert (await socket.receive()).type is aiohttp.WSMsgType.PONG
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.1)
        transport = socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()


# --- 43: a topic whose every put goes to very many


async def _attack_deliveries(http: Http, relay: Relay) -> None:
    loud, mine = make_key(), make_key()
    clients = [await open_client(http, relay, loud) for _ in range(10)]
    client = await open_client(http, relay, mine)
    answers = [await clients[0].put(loud, *(make_envelope() for _ in range(5))) for _ in range(8)]
    refused = [one for one in answers if isinstance(one, Error)]
    assert len(refused) >= 4
    assert all(one.code is ErrorCode.RATE and one.retry_after_ms for one in refused)
    await clients[0].cast(loud, b"?")
    assert (await clients[0].next(Error)).code is ErrorCode.RATE
    for _ in range(8):
        assert isinstance(await client.put(mine, make_envelope()), Ack)


async def test_attack_43_what_a_topic_makes_the_relay_send_is_bounded(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", topic_deliveries=0.01, topic_deliveries_burst=100) as relay:
        await _attack_deliveries(http, relay)


async def test_attack_43_is_seen_when_deliveries_are_not_counted(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenBucket, "charge", lambda *_: None)
    async with serve_relay(tmp_path / "data", topic_deliveries=0.01, topic_deliveries_burst=100) as relay:
        with pytest.raises(AssertionError):
            await _attack_deliveries(http, relay)


# --- 43: requests and uploads of one address


async def test_attack_43_requests_of_one_address_are_counted_whatever_they_ask(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_requests=0.01, address_requests_burst=6) as relay:
        statuses = []
        for path in ("healthz", "metrics", "v1/info", "nothing") * 3:
            async with http.get(f"{http_url(relay.url)}/{path}") as answer:
                statuses.append(answer.status)
                retry = answer.headers.get("Retry-After")
        assert statuses[:6] == [200, 200, 200, 404, 200, 200]
        assert set(statuses[6:]) == {429}
        assert retry is not None


async def _attack_uploads(http: Http, relay: Relay) -> None:
    key = make_key()
    await open_client(http, relay, key)
    headers = await authorize(http, relay.url, key)
    body = os.urandom(1000)
    name = hashlib.sha256(body).hexdigest()
    head = f"PUT /v1/blobs/{'ab' * 32} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            stack.callback(writer.close)
            writer.write(f"{head}Authorization: {headers['Authorization']}\r\n\r\nhalf".encode())
        while relay._gate.addresses.find("127.0.0.1", 0).uploads < 2:
            await asyncio.sleep(0)
        async with http.put(f"{http_url(relay.url)}/v1/blobs/{name}", data=BytesIO(body), headers=headers) as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (429, "1")
    while True:  # as soon as the relay notices that they are gone
        async with http.put(f"{http_url(relay.url)}/v1/blobs/{name}", data=BytesIO(body), headers=headers) as answer:
            if answer.status == 201:
                return
            assert answer.status == 429


async def test_attack_43_one_address_has_only_so_many_uploads(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_uploads=2) as relay:
        await asyncio.wait_for(_attack_uploads(http, relay), COMES)


async def test_attack_43_is_seen_when_uploads_are_not_counted(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(AssertionError):
            await asyncio.wait_for(_attack_uploads(http, relay), COMES)


# --- 8: slow drip, both ways


async def _attack_slow_reader(http: Http, relay: Relay, seconds: float = COMES) -> None:
    """A reader takes nothing, but keeps its connection alive; it costs the relay what was written to it."""
    key = make_key()
    slow, quick = await open_client(http, relay, key), await open_client(http, relay, key)
    transport_of(slow).pause_reading()
    for _ in range(80):
        assert isinstance(await quick.put(key, make_envelope(100_000)), Ack)
    assert await quick.entries(80)
    async with asyncio.timeout(seconds):
        while relay.connections > 1:
            with suppress(ConnectionError, aiohttp.ClientError):
                await slow.wire.socket.ping()  # type: ignore[attr-defined]
            assert isinstance(await quick.put(key, make_envelope()), Ack)
    assert relay._doors.cut_off == 1
    transport_of(slow).abort()


async def test_attack_08_a_reader_that_does_not_read_is_cut_off(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", reader_seconds=0.3, connection_put_bytes_burst=10**12) as relay:
        await _attack_slow_reader(http, relay)


async def test_attack_08_is_seen_when_readers_have_all_the_time(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", connection_put_bytes_burst=10**12, stop_seconds=0.2) as relay:
        with pytest.raises(TimeoutError):
            await _attack_slow_reader(http, relay, NEVER)


async def _attack_slow_download(http: Http, relay: Relay, seconds: float = COMES) -> None:
    key = make_key()
    await open_client(http, relay, key)
    headers = await authorize(http, relay.url, key)
    body = os.urandom(2 * MIB)
    url = f"{http_url(relay.url)}/v1/blobs/{hashlib.sha256(body).hexdigest()}"
    async with http.put(url, data=BytesIO(body), headers=headers) as answer:
        assert answer.status == 201
    loop = asyncio.get_running_loop()
    async with tiny_socket(relay.port) as raw:
        request = f"GET {url.partition(str(relay.port))[2]} HTTP/1.1\r\nHost: x\r\n"
        await loop.sock_sendall(raw, f"{request}Authorization: {headers['Authorization']}\r\n\r\n".encode())
        await loop.sock_recv(raw, 1)
        async with asyncio.timeout(seconds):
            while relay._doors.open > 2:
                async with http.get(f"{http_url(relay.url)}/healthz") as answer:
                    assert answer.status == 200


async def test_attack_08_a_download_that_is_not_taken_is_cut_off(tmp_path: Path, http: Http) -> None:
    limits = {"reader_seconds": 0.2, "transfer_bytes": 1e9, "address_requests_burst": 10**9}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        await _attack_slow_download(http, relay)


async def test_attack_08_is_seen_when_downloads_have_all_the_time(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_requests_burst=10**9, stop_seconds=0.2) as relay:
        with pytest.raises(TimeoutError):
            await _attack_slow_download(http, relay, NEVER)


async def _attack_dripping_upload(http: Http, relay: Relay, seconds: float = COMES) -> None:
    """A byte comes before each patience ends, and so the upload would never."""
    key = make_key()
    await open_client(http, relay, key)
    headers = await authorize(http, relay.url, key)
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    head = f"PUT /v1/blobs/{'ab' * 32} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    writer.write(f"{head}Authorization: {headers['Authorization']}\r\n\r\n".encode())

    async def drip() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

    task = asyncio.create_task(drip())
    try:
        assert b" 503 " in await asyncio.wait_for(reader.readline(), seconds)
    finally:
        task.cancel()
        writer.close()


async def test_attack_08_an_upload_that_drips_is_dropped(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", upload_seconds=0.5, transfer_bytes=1e9) as relay:
        await _attack_dripping_upload(http, relay)
        assert list((tmp_path / "data" / "incoming").iterdir()) == []


async def test_attack_08_is_seen_when_a_drip_is_enough(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", upload_seconds=0.5, stop_seconds=0.2) as relay:
        with pytest.raises(TimeoutError):
            await _attack_dripping_upload(http, relay, NEVER)


# --- the lane itself


async def test_a_lane_lets_through_in_order_and_loses_no_room() -> None:
    lane = Lane(10)
    order: list[str] = []

    async def pass_through(name: str, amount: int) -> None:
        await lane.enter(amount)
        order.append(name)

    def go(name: str, amount: int) -> asyncio.Task[None]:
        return asyncio.create_task(pass_through(name, amount))

    async def settle() -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    await pass_through("large", 99)  # alone, it may be more than there is room for
    waiting = [go("first", 8), go("gone", 2), go("second", 2), go("third", 1)]
    await settle()
    assert order == ["large"]
    waiting[1].cancel()
    lane.leave(99)
    waiting[0].cancel()  # it was let in, and is gone before it knows
    await settle()
    assert order == ["large", "second", "third"]
    lane.leave(2)
    lane.leave(1)
    assert lane.used == 0
    assert lane.try_enter(10)
    assert not lane.try_enter(1)
