"""Puts that come together go together, and what comes of each is as if it went alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from cocoon_core.protocol.frames import Ack, Cast, Error, ErrorCode, Put, encode_frame
from cocoon_core.protocol.primitives import SigningKey
from cocoon_relay.server import Relay
from tests.support.relay_client import RelayClient, connect, make_envelope, make_key, topic_of, transport_of

Serve = Callable[..., Awaitable[Relay]]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many puts went to the store at once, each time."""
    from cocoon_relay.puts import TakesPuts

    found: list[int] = []
    honest = TakesPuts.submit

    def note(self: TakesPuts, info: Any, envelopes: tuple[bytes, ...], *rest: Any, **how: Any) -> None:
        if how.get("apart"):
            found.append(len(envelopes))
        honest(self, info, envelopes, *rest, **how)

    monkeypatch.setattr(TakesPuts, "submit", note)
    return found


def burst(client: RelayClient, *frames: Any) -> None:
    """Send frames so that the relay reads them in one turn: one write, each masked with zeros."""
    payloads = [encode_frame(frame) for frame in frames]
    heads = [
        b"\x82\xfe" + len(one).to_bytes(2) if len(one) > 125 else bytes((0x82, 0x80 | len(one))) for one in payloads
    ]
    transport_of(client).write(b"".join(head + bytes(4) + one for head, one in zip(heads, payloads, strict=True)))


def puts(key: SigningKey, *envelopes: bytes) -> list[Put]:
    return [Put(number, topic_of(key), (envelope,)) for number, envelope in enumerate(envelopes, start=1)]


async def answers(client: RelayClient, count: int) -> list[tuple[int | None, object]]:
    found: list[tuple[int | None, object]] = []
    for _ in range(count):
        answer = await client.next(Ack, Error)
        found.append((answer.request, answer.seqs if isinstance(answer, Ack) else answer.code))
    return found


async def begin(serve: Serve, http: aiohttp.ClientSession, **limits: object) -> tuple[Relay, RelayClient, SigningKey]:
    relay = await serve(**limits)
    client, key = await connect(http, relay.url), make_key()
    await client.open(key)
    return relay, client, key


async def test_puts_that_come_together_are_stored_in_their_order_and_acknowledged_each(
    serve: Serve, http: aiohttp.ClientSession, together: list[int]
) -> None:
    relay, client, key = await begin(serve, http)
    reader = await connect(http, relay.url)
    await reader.open(key)
    envelopes = [make_envelope() for _ in range(40)]
    burst(client, *puts(key, *envelopes, envelopes[3]))
    expected = [(number, (number,)) for number in range(1, 41)] + [(41, (4,))]
    assert await answers(client, 41) == expected
    assert await reader.entries(40) == list(enumerate(envelopes, start=1))
    assert max(together) > 20


async def test_a_quota_that_is_reached_among_them_refuses_those_behind_it(
    serve: Serve, http: aiohttp.ClientSession, together: list[int]
) -> None:
    _, client, key = await begin(serve, http, topic_entries=3)
    envelopes = [make_envelope() for _ in range(5)]
    burst(client, *puts(key, *envelopes, envelopes[1]))
    full = ErrorCode.QUOTA
    assert sorted(await answers(client, 6), key=str) == sorted(
        [(1, (1,)), (2, (2,)), (3, (3,)), (4, full), (5, full), (6, (2,))], key=str
    )
    assert max(together) > 3


async def test_a_sealed_topic_acknowledges_what_it_holds_and_refuses_the_rest(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    _, client, key = await begin(serve, http)
    last = make_envelope()
    assert isinstance(await client.put(key, last, seal=True), Ack)
    burst(client, *puts(key, make_envelope(), last, make_envelope()))
    sealed = ErrorCode.SEALED
    assert sorted(await answers(client, 3), key=str) == sorted([(1, sealed), (2, (1,)), (3, sealed)], key=str)


async def test_a_rate_that_lets_some_of_them_through_lets_those_through(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    _, client, key = await begin(serve, http, connection_puts=0.001, connection_puts_burst=4)
    burst(client, *puts(key, *(make_envelope() for _ in range(6))))
    rate = ErrorCode.RATE
    assert sorted(await answers(client, 6), key=str) == sorted(
        [(1, (1,)), (2, (2,)), (3, (3,)), (4, (4,)), (5, rate), (6, rate)], key=str
    )


async def test_lanes_that_are_narrower_than_all_of_them_make_them_wait_and_refuse_nobody(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    _, client, key = await begin(serve, http, topic_waiting_bytes=1_000)
    burst(client, *puts(key, *(make_envelope() for _ in range(12))))
    assert await answers(client, 12) == [(number, (number,)) for number in range(1, 13)]


async def test_a_frame_between_them_finds_them_before_it(serve: Serve, http: aiohttp.ClientSession) -> None:
    """Also puts into another topic, and one that is not open."""
    _, client, key = await begin(serve, http)
    other, closed = make_key(), make_key()
    await client.open(other)
    first, second = make_envelope(), make_envelope()
    burst(
        client,
        Put(1, topic_of(key), (first,)),
        Put(2, topic_of(other), (first,)),
        Put(3, topic_of(closed), (first,)),
        Put(4, topic_of(key), (second, make_envelope()), expect=1),
        Cast(topic_of(key), b"x"),
        Put(5, topic_of(key), (second,)),
    )
    expected = [(1, (1,)), (2, (1,)), (3, ErrorCode.NOT_OPEN), (4, (2, 3)), (5, (2,))]
    assert sorted(await answers(client, 5), key=str) == sorted(expected, key=str)


async def test_what_was_taken_in_when_the_relay_ends_is_answered(
    serve: Serve, http: aiohttp.ClientSession, together: list[int]
) -> None:
    relay, client, key = await begin(serve, http)
    burst(client, *puts(key, *(make_envelope() for _ in range(20))))
    assert (await answers(client, 1)) == [(1, (1,))]
    await relay.stop()
    assert [request for request, _ in await answers(client, 19)] == list(range(2, 21))
