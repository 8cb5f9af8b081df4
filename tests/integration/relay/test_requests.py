"""Sync by single requests: what specs/relay.md §3.8 says of them alone. The rest of the contract: test_contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from cocoon_core.protocol.constants import FRAME_VERSION, LABEL_BLOB, MAX_BODY_BYTES, MAX_BODY_FRAMES
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    Close,
    Error,
    ErrorCode,
    Fetch,
    List,
    Listed,
    Live,
    Put,
    blob_message,
    encode_frame,
)
from cocoon_core.protocol.ids import Incarnation
from cocoon_core.protocol.requests import join_frames
from cocoon_relay.config import Access, RelayConfig
from cocoon_relay.limits import KIB, Limits
from cocoon_relay.relay_store import open_store
from cocoon_relay.server import Relay
from tests.support.flips import flip
from tests.support.relay_client import connect, http_url, make_envelope, make_key, open_client, topic_of
from tests.support.relay_requests import Requester

Serve = Callable[..., Awaitable[Relay]]
Http = aiohttp.ClientSession


async def test_the_greeting_says_the_limits_and_its_challenge_serves_for_blobs(serve: Serve, http: Http) -> None:
    relay = await serve()
    one = Requester(http, relay, make_key())
    greeting = await one.greet()
    assert (greeting.version, greeting.limits) == (FRAME_VERSION, relay._limits.announced())
    await one.get()
    signature = one.key.sign(LABEL_BLOB, blob_message(one.origin, greeting.challenge, one.topic))
    headers = {"Authorization": f"Cocoon {one.topic.hex()}.{greeting.challenge.hex()}.{signature.hex()}"}
    async with http.get(f"{http_url(relay.url)}/v1/blobs/{'ab' * 32}", headers=headers) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "not_found"


async def test_a_topic_is_read_page_by_page_until_one_says_live(serve: Serve, http: Http) -> None:
    relay = await serve(connection_buffer_bytes=64 * KIB)
    one = Requester(http, relay, make_key())
    client = await open_client(http, relay, one.key)
    envelopes = [make_envelope(4 * KIB) for _ in range(200)]
    for start in range(0, 200, 40):
        assert isinstance(await client.put(one.key, *envelopes[start : start + 40]), Ack)
    found: list[tuple[int, bytes]] = []
    incarnation, pages = None, 0
    while True:
        page = await one.get(len(found), incarnation)
        assert (page.opened.request, page.opened.last, page.opened.sealed) == (0, 200, False)
        incarnation = page.opened.incarnation
        found += page.entries
        pages += 1
        assert sum(len(envelope) for _, envelope in page.entries) <= (64 + 256) * KIB
        if page.is_level:
            break
    assert found == list(enumerate(envelopes, start=1))
    assert pages > 1
    assert page.frames[-1] == Live(one.topic, 200)


async def test_what_is_put_is_acknowledged_shown_and_there_for_others(serve: Serve, http: Http) -> None:
    relay = await serve()
    one = Requester(http, relay, make_key())
    watcher = await open_client(http, relay, one.key)
    first, second = make_envelope(), make_envelope()
    answer = await one.put(first, second)
    assert Ack(1, one.topic, (1, 2)) in answer.frames
    assert answer.entries == [(1, first), (2, second)] == await watcher.entries(2)
    # Put again it keeps its number, also where the topic is sealed since.
    assert Ack(1, one.topic, (2,)) in (await one.put(second)).frames
    assert Ack(1, one.topic, (3,)) in (await one.put(third := make_envelope(), seal=True, expect=2)).frames
    assert (await one.get()).opened.sealed
    assert Ack(1, one.topic, (3,)) in (await one.put(third, seal=True, expect=2)).frames
    refused = [frame for frame in (await one.put(make_envelope())).frames if isinstance(frame, Error)]
    assert [(error.request, error.code, error.last) for error in refused] == [(1, ErrorCode.SEALED, 3)]


async def test_several_puts_of_one_body_are_done_in_their_order_and_refused_alone(serve: Serve, http: Http) -> None:
    one = Requester(http, await serve(), make_key())
    puts = [Put(number, one.topic, (make_envelope(),), expect=number - 1) for number in range(1, 5)]
    puts[1] = replace(puts[1], expect=7)
    answer = await one.post(*puts)
    told = [(frame.request, type(frame)) for frame in answer.frames if isinstance(frame, Ack | Error)]
    assert told == [(1, Ack), (2, Error), (3, Error), (4, Error)]
    assert (await one.get()).entries == [(1, puts[0].envelopes[0])]


async def test_a_post_to_another_life_of_the_topic_does_nothing(serve: Serve, http: Http) -> None:
    one = Requester(http, await serve(), make_key())
    put = Put(1, one.topic, (make_envelope(),))
    gone = await one.post(put, after=3, incarnation=Incarnation(bytes(16)))
    assert (gone.status, gone.code) == (404, "not_open")
    assert (await one.get()).entries == []


async def test_a_still_topic_is_asked_for_names_by_a_post(serve: Serve, http: Http) -> None:
    one = Requester(http, await serve(), make_key())
    await one.put(*(make_envelope() for _ in range(5)))
    told = await one.get(more={"Cocoon-Most": "4"})
    assert (told.opened.last, len(told.frames)) == (5, 1)
    assert (await one.get(more={"Cocoon-Most": "5"})).is_level
    listed = await one.post(List(3, one.topic, 0, 10, bytes(32)), most=0)
    assert [type(frame) for frame in listed.frames[1:]] == [Listed]


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xff"],
        [encode_frame(Live(topic_of(make_key(b"k" * 32)), 1))],
        [Cast(topic_of(make_key(b"k" * 32)), b"x")],
        [Close(topic_of(make_key(b"k" * 32)))],
        [Put(1, topic_of(make_key(b"l" * 32)), (bytes(296),))],
        [Fetch(1, topic_of(make_key(b"k" * 32)), (1,))] * 2,
        [Put(1, topic_of(make_key(b"k" * 32)), (bytes(296),)), Fetch(2, topic_of(make_key(b"k" * 32)), (1,))],
        [Put(1, topic_of(make_key(b"k" * 32)), (bytes(296),))] * (MAX_BODY_FRAMES + 1),
        [Put(1, topic_of(make_key(b"k" * 32)), (bytes(296),)), b"\xff"],
    ],
    ids=["no frame", "a relay's", "a cast", "a close", "another topic", "two questions", "both", "too many", "one bad"],
)
async def test_a_body_that_cannot_be_done_is_refused_whole(serve: Serve, http: Http, frames: list[bytes]) -> None:
    one = Requester(http, await serve(), make_key(b"k" * 32))
    answer = await one.post(*frames)
    assert (answer.status, answer.code) == (400, "bad_frame")
    assert (await one.get()).opened.last == 0


@pytest.mark.parametrize("header", ["x", "00.1", f"{'00' * 16}", f"{'00' * 16}.-1", f"{'00' * 16}.{1 << 53}"])
async def test_a_cursor_that_is_none_is_refused(serve: Serve, http: Http, header: str) -> None:
    one = Requester(http, await serve(), make_key())
    assert (await one.get(more={"Cocoon-Cursor": header})).code == "bad_frame"
    assert (await one.get(more={"Cocoon-Most": "x"})).code == "bad_frame"


async def test_bodies_that_are_empty_too_long_or_not_those_that_were_proven(serve: Serve, http: Http) -> None:
    one = Requester(http, await serve(), make_key())
    body = join_frames([encode_frame(Put(1, one.topic, (make_envelope(),)))])
    proof = await one.prove_post(body)
    assert (await one.ask("POST", await one.prove_post(b""), b"")).code == "bad_frame"
    assert (await one.ask("POST", proof, flip(body))).code == "bad_hash"
    assert (await one.ask("POST", proof, bytes(MAX_BODY_BYTES + 1))).code == "too_large"
    assert (await one.ask("POST", {name: proof[name] for name in ("Authorization",)}, body)).code == "bad_frame"
    assert (await one.ask("POST", proof, body)).status == 200


async def test_requests_of_an_address_share_the_limits_of_one_connection(serve: Serve, http: Http) -> None:
    relay = await serve(connection_puts=0.001, connection_puts_burst=64)
    one = Requester(http, relay, make_key())
    for size in (40, 24, 1):
        answer = await one.put(*(make_envelope() for _ in range(size)))
    refused = [frame for frame in answer.frames if isinstance(frame, Error)]
    assert [(error.request, error.code) for error in refused] == [(1, ErrorCode.RATE)]
    assert refused[0].retry_after_ms
    client = await open_client(http, relay, one.key)  # which is another connection
    assert isinstance(await client.put(one.key, make_envelope()), Ack)


async def test_new_topics_and_the_room_of_a_topic_are_limited_as_on_a_socket(serve: Serve, http: Http) -> None:
    relay = await serve(address_topics=0.001, address_topics_burst=1, topic_entries=2)
    one = Requester(http, relay, make_key())
    answer = await one.put(*(make_envelope() for _ in range(3)))
    assert [frame.code for frame in answer.frames if isinstance(frame, Error)] == [ErrorCode.QUOTA]
    other = await Requester(http, relay, make_key()).put(make_envelope())
    assert (other.status, other.code, other.retry_after is not None) == (429, "too_many_topics", True)


async def test_a_request_needs_the_access_token_that_a_socket_needs(tmp_path: Path, http: Http) -> None:
    config = RelayConfig(tmp_path / "data", "127.0.0.1", 0, access=Access.TOKEN, limits=Limits(free_bytes=0))
    relay = Relay(config, await open_store(config.data, (), None, config.limits))
    await relay.start()
    try:
        answer = await Requester(http, relay, make_key()).ask("GET", {})
        assert (answer.status, answer.code) == (401, "token")
    finally:
        await relay.stop()


async def test_a_relay_that_stops_answers_what_it_took_in(serve: Serve, http: Http) -> None:
    relay = await serve()
    one = Requester(http, relay, make_key())
    await one.greet()
    asked = [asyncio.create_task(one.put(make_envelope())) for _ in range(20)]
    while relay._metrics._counts["requests"] < 1:
        await asyncio.sleep(0)
    await relay.stop()
    done = 0
    for outcome in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(outcome, aiohttp.ClientError | OSError):
            continue  # it had not come in
        assert not isinstance(outcome, BaseException), outcome
        assert outcome.code == "shutting_down" or any(isinstance(frame, Ack) for frame in outcome.frames)
        done += outcome.status == 200
    assert done


async def test_a_request_leaves_nobody_subscribed(serve: Serve, http: Http) -> None:
    relay = await serve()
    one = Requester(http, relay, make_key())
    await one.put(make_envelope())
    await one.get()
    assert relay._hub.open_handles() == []


async def test_what_others_put_meanwhile_is_in_the_answer_once(serve: Serve, http: Http) -> None:
    relay = await serve()
    one = Requester(http, relay, make_key())
    client = await connect(http, relay.url)
    await client.open(one.key)
    answers = await asyncio.gather(*(one.put(make_envelope()) for _ in range(20)))
    for answer in answers:
        seqs = [seq for seq, _ in answer.entries]
        assert seqs == list(range(1, len(seqs) + 1))
        acked = next(frame for frame in answer.frames if isinstance(frame, Ack))
        assert acked.seqs[0] in seqs
    assert [seq for seq, _ in await client.entries(20)] == list(range(1, 21))
