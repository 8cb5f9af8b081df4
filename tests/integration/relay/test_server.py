"""The relay as a server: limits, back-pressure, leases while open, what it tells of itself, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.constants import MAX_FRAME_BYTES
from cocoon_core.protocol.frames import Ack, Entries, Error, ErrorCode, Put, encode_frame
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.limits import MIB
from cocoon_relay.server import Relay
from cocoon_relay.store import TopicInfo
from tests.support.relay_client import connect, http_url, make_envelope, make_key, topic_of, transport_of

Serve = Callable[..., Awaitable[Relay]]


async def test_a_slow_reader_costs_no_memory_and_misses_nothing(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(connection_put_bytes_burst=1024 * MIB)
    key = make_key()
    slow, quick = await connect(http, relay.url), await connect(http, relay.url)
    await slow.open(key)
    await quick.open(key)
    transport = transport_of(slow)
    transport.pause_reading()
    envelopes = [make_envelope(200_000) for _ in range(150)]
    buffered = 0
    for envelope in envelopes:
        assert isinstance(await quick.put(key, envelope), Ack)
        buffered = max(buffered, *(c._transport.get_write_buffer_size() for c in relay._connections))
    assert await quick.entries(150) == list(enumerate(envelopes, start=1))
    assert buffered < 2 * MIB
    transport.resume_reading()
    assert await slow.entries(150) == list(enumerate(envelopes, start=1))


async def test_a_put_between_reading_a_topic_and_joining_it_is_not_missed(
    serve: Serve, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The putter has gone, so when the commit is delivered nobody has the topic open; the reader's answer is older."""
    relay = await serve()
    key = make_key()
    writer, reader = await connect(http, relay.url), await connect(http, relay.url)
    await writer.open(key)
    envelope = make_envelope()
    find = relay._store.log.open_topic

    async def find_then_wait(topic: TopicId, *, create: bool) -> TopicInfo | None:
        info = await find(topic, create=create)
        monkeypatch.setattr(relay._store.log, "open_topic", find)
        assert isinstance(await writer.put(key, envelope, seal=True, expect=0), Ack)
        await writer.close()
        while relay._hub.open_handles():
            await asyncio.sleep(0)
        return info

    monkeypatch.setattr(relay._store.log, "open_topic", find_then_wait)
    opened, found = await reader.open(key)
    assert (opened.last, opened.sealed, found) == (1, True, [(1, envelope)])


async def test_a_client_that_puts_and_never_reads_is_not_read_from_for_ever(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    relay = await serve(connection_puts_burst=10**6, connection_put_bytes_burst=10**12)
    key = make_key()
    client = await connect(http, relay.url)
    await client.open(key)
    transport_of(client).pause_reading()
    frame = encode_frame(Put(1, topic_of(key), tuple(make_envelope(60_000) for _ in range(16))))

    async def flood() -> None:
        for _ in range(200):
            await client.wire.send(frame)
            for connection in relay._connections:
                assert connection._puts._unanswered_bytes <= 6 * MIB
                assert connection._transport.get_write_buffer_size() < 3 * MIB

    task = asyncio.create_task(flood())
    other = await connect(http, relay.url)
    mine = make_key()
    await other.open(mine)
    for _ in range(20):
        assert isinstance(await other.put(mine, make_envelope()), Ack)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):  # it was still held back, and no check of its own had failed
        await task


async def test_a_large_backlog_comes_in_frames_within_the_limit(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve()
    key = make_key()
    one, other = await connect(http, relay.url), await connect(http, relay.url)
    await one.open(key)
    envelopes = [make_envelope(900_000) for _ in range(6)]
    for envelope in envelopes:
        await one.send(Put(1, topic_of(key), (envelope,)))
    await one.entries(6)
    _, found = await other.open(key)
    assert found == list(enumerate(envelopes, start=1))


async def test_each_limit_of_a_connection_answers_with_its_code(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(
        connection_topics=1, connection_puts=0.001, connection_puts_burst=2, connection_casts=0.001,
        connection_casts_burst=1, envelope_bytes=1000,
    )  # fmt: skip
    client = await connect(http, relay.url)
    key = make_key()
    await client.open(key)
    await client.send(client.make_open(make_key()))
    assert (await client.next(Error)).code is ErrorCode.TOO_MANY_TOPICS
    answer = await client.put(key, make_envelope(1001))
    assert isinstance(answer, Error)
    assert answer.code is ErrorCode.TOO_LARGE
    assert isinstance(await client.put(key, make_envelope(), make_envelope()), Ack)
    answer = await client.put(key, make_envelope())
    assert isinstance(answer, Error)
    assert answer.code is ErrorCode.RATE
    assert answer.retry_after_ms is not None
    await client.cast(key, b"1")
    await client.cast(key, b"2")
    error = await client.next(Error)
    assert (error.request, error.code) == (None, ErrorCode.RATE)


async def test_a_relay_with_too_much_waiting_for_the_disk_says_busy(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(backlog_bytes=1000)
    client = await connect(http, relay.url)
    key = make_key()
    await client.open(key)
    answer = await client.put(key, make_envelope(1001))
    assert isinstance(answer, Error)
    assert (answer.code, answer.retry_after_ms) == (ErrorCode.BUSY, 1000)
    assert isinstance(await client.put(key, make_envelope(999)), Ack)


async def test_a_topic_that_expired_under_an_open_cursor_is_not_open(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(empty_topic_lease=-7200)
    client = await connect(http, relay.url)
    key = make_key()
    await client.open(key)
    await relay._store.gc()
    answer = await client.put(key, make_envelope())
    assert isinstance(answer, Error)
    assert answer.code is ErrorCode.NOT_OPEN
    assert (await client.open(key))[0].last == 0
    assert isinstance(await client.put(key, make_envelope()), Ack)


async def test_info_health_and_metrics_name_nobody(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve()
    client = await connect(http, relay.url)
    key = make_key()
    await client.open(key)
    await client.put(key, make_envelope())
    base = http_url(relay.url)
    async with http.get(f"{base}/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")
    async with http.get(f"{base}/v1/info") as answer:
        info = await answer.json()
    assert (info["name"], info["frame_version"], info["limits"]["frame_bytes"]) == ("cocoon-relay", 1, MAX_FRAME_BYTES)
    async with http.get(f"{base}/metrics") as answer:
        text = await answer.text()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["cocoon_relay_puts_total"] == values["cocoon_relay_stored_entries"] == "1"
    assert values["cocoon_relay_connections"] == "2"
    assert topic_of(key).hex() not in text
    assert all(line.count("{") == 0 or "{code=" in line for line in text.splitlines())


async def test_unknown_paths_answer_in_the_same_form(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve()
    async with http.get(f"{http_url(relay.url)}/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")
    async with http.post(f"{http_url(relay.url)}/healthz") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (405, "bad_frame")


async def test_stopping_answers_what_was_taken_in_then_says_so_with_1001(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    relay = await serve()
    client = await connect(http, relay.url)
    key = make_key()
    opened, _ = await client.open(key)
    for request in range(50):
        await client.send(Put(request, topic_of(key), (make_envelope(),)))
    await client.next(Ack)
    stopping = asyncio.create_task(relay.stop())
    error = await client.next(Error)
    assert (error.request, error.code) == (None, ErrorCode.SHUTTING_DOWN)
    acknowledged = 1 + sum(isinstance(frame, Ack) for frame in client.held)
    with pytest.raises(RelayUnavailable, match="1001"):
        await client.wire.receive()
    await stopping
    again = await serve(tmp_path / "data")
    client = await connect(http, again.url)
    reopened, found = await client.open(key)
    assert reopened.incarnation == opened.incarnation
    assert len(found) >= acknowledged


async def test_many_subscribers_of_one_topic_all_get_everything(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve()
    key = make_key()
    clients = [await connect(http, relay.url) for _ in range(30)]
    for client in clients:
        await client.open(key)
    envelopes = [make_envelope() for _ in range(200)]
    for at in range(0, 200, 10):
        await clients[0].send(Put(at, topic_of(key), tuple(envelopes[at : at + 10])))
    for client in clients:
        assert await client.entries(200) == list(enumerate(envelopes, start=1))
    assert all(not isinstance(frame, Entries) for client in clients for frame in client.held)


async def test_health_fails_while_draining_and_all_are_served_on(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve()
    key = make_key()
    client = await connect(http, relay.url)
    await client.open(key)
    relay.drain()
    async with http.get(f"{http_url(relay.url)}/healthz") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await answer.json())["error"]["code"] == "shutting_down"
    assert isinstance(await client.put(key, make_envelope()), Ack)
    late = await connect(http, relay.url)
    await late.open(key)
    stopping = asyncio.create_task(relay.stop())
    hints = {(await one.next(Error)).retry_after_ms for one in (client, late)}
    assert all(hint is not None and 500 <= hint <= 5_000 for hint in hints)
    await stopping


async def test_who_does_not_read_does_not_keep_the_relay_from_ending(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(stop_seconds=0.3, connection_put_bytes_burst=10**12)
    key = make_key()
    slow, quick = await connect(http, relay.url), await connect(http, relay.url)
    await slow.open(key)
    await quick.open(key)
    transport_of(slow).pause_reading()
    for _ in range(80):
        assert isinstance(await quick.put(key, make_envelope(100_000)), Ack)
    await asyncio.wait_for(relay.stop(), 4)
    transport_of(slow).abort()
