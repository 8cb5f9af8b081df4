"""Attacks on sync by single requests (specs/relay.md §3.8): proofs that were changed or stolen, bodies that do not
come, answers that are not taken, floods, and a disk that is full. Each is also run against a relay weakened where the
defence is, but the disk, whose weakened form is that of sockets (test_relay_server_attacks.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_OPEN, LABEL_RELAY_GET, MAX_BODY_BYTES
from cocoon_core.protocol.frames import Ack, Error, ErrorCode, Put, encode_frame, open_message
from cocoon_core.protocol.requests import join_frames
from cocoon_relay import http_sync, proofs
from cocoon_relay.limits import KIB, TokenBucket
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_store import SqliteStore
from tests.support.relay_client import (  # noqa: F401  make_http is a fixture
    http_url,
    make_envelope,
    make_http,
    make_key,
    open_client,
    tiny_socket,
)
from tests.support.relay_process import serve_relay
from tests.support.relay_requests import Requester
from tests.support.waits import COMES, NEVER

Http = aiohttp.ClientSession


async def _status(http: Http, one: Requester, method: str, headers: dict[str, str], body: bytes | None = None) -> int:
    return (await one.ask(method, headers, body)).status


# --- 1 and 2: proofs that were changed, recorded or stolen


async def _attack_flip(http: Http, relay: Relay) -> None:
    """Every digit of a proof, and of the digest beside it: nothing is read, put or made."""
    one = Requester(http, relay, make_key())
    body = join_frames([encode_frame(Put(1, one.topic, (make_envelope(),)))])
    for method, proof in (("GET", await one.prove_get()), ("POST", await one.prove_post(body))):
        for name, text in proof.items():
            scheme, _, digits = text.rpartition(" ")
            for place, digit in enumerate(digits):
                if digit != ".":
                    flipped = f"{digits[:place]}{int(digit, 16) ^ 1:x}{digits[place + 1 :]}"
                    changed = proof | {name: f"{scheme} {flipped}".strip()}
                    assert await _status(http, one, method, changed, body if method == "POST" else None) == 401
    assert (await relay._store.log.totals()).topics == 0


async def test_attack_01_a_flipped_proof_of_a_request_opens_nothing(tmp_path: Path, http: Http) -> None:
    limits = {"address_proofs_burst": 10_000, "address_requests_burst": 10_000}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        await _attack_flip(http, relay)


async def test_attack_01_is_seen_when_proofs_of_requests_are_not_checked(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_holds", lambda *_: True)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(AssertionError):
            await _attack_flip(http, relay)


async def _attack_stolen_proofs(http: Http, relay: Relay, other: Relay) -> None:
    """Who has seen every proof of a device does with each what was done with it, and nothing else."""
    one = Requester(http, relay, make_key())
    envelope, forged = make_envelope(), make_envelope()
    body, junk = (
        join_frames([encode_frame(Put(1, one.topic, (item,), seal))])
        for item, seal in ((envelope, False), (forged, True))
    )
    reading, putting = await one.prove_get(), await one.prove_post(body)
    assert (await one.ask("POST", putting, body)).status == 200
    message = open_message(one.origin, one.challenge, one.topic)
    opening, blobs = (one._header(one.key.sign(label, message)) for label in (LABEL_OPEN, LABEL_BLOB))
    # What it was made for, again: the same, and nothing new.
    again = await one.ask("POST", putting, body)
    assert Ack(1, one.topic, (1,)) in again.frames
    assert (await one.ask("GET", reading)).entries == [(1, envelope)]
    # Another body, another kind of request, another relay: nothing.
    assert (await one.ask("POST", putting, junk)).code == "bad_hash"
    digest = (await one.prove_post(junk))["Cocoon-Digest"]
    for proof in (putting, reading, opening, blobs):
        assert await _status(http, one, "POST", proof | {"Cocoon-Digest": digest}, junk) == 401
    for proof in (putting, opening, blobs):
        assert await _status(http, one, "GET", proof) == 401
    for proof in (putting, reading, opening):
        async with http.get(f"{http_url(relay.url)}/v1/blobs/{'ab' * 32}", headers=proof) as answer:
            assert answer.status == 401
    elsewhere = Requester(http, other, one.key)
    assert await _status(http, elsewhere, "GET", reading) == 401
    assert await _status(http, elsewhere, "POST", putting, body) == 401
    told = await one.get()
    assert (told.opened.last, told.opened.sealed) == (1, False)


async def test_attack_02_a_stolen_proof_of_a_request_repeats_that_request_alone(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay, serve_relay(tmp_path / "other") as other:
        await _attack_stolen_proofs(http, relay, other)


@pytest.mark.parametrize("weakness", ["one label for all", "a proof without its body"])
async def test_attack_02_is_seen_when_a_proof_serves_for_more(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch, weakness: str
) -> None:
    if weakness == "one label for all":
        holds = proofs._holds

        def lax(topic: Any, label: str, message: bytes, proof: Any) -> bool:
            return any(holds(topic, one, message, proof) for one in (label, LABEL_RELAY_GET, LABEL_BLOB, LABEL_OPEN))

        monkeypatch.setattr(proofs, "_holds", lax)
    else:
        monkeypatch.setattr(http_sync, "digest_body", lambda body: b"")
        monkeypatch.setattr(http_sync, "constant_time_equal", lambda *_: True)
    async with serve_relay(tmp_path / "data") as relay, serve_relay(tmp_path / "other") as other:
        with pytest.raises(AssertionError):
            await _attack_stolen_proofs(http, relay, other)


# --- 8 and 42: bodies that stop, are huge or nobody's, and answers that are not taken


@asynccontextmanager
async def _half_a_post(relay: Relay, headers: dict[str, str], size: int) -> AsyncIterator[asyncio.StreamReader]:
    """A POST that says it has `size` bytes, and of which one came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    writer.write(f"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{head}\r\nx".encode())
    try:
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _attack_bodies(http: Http, relay: Relay) -> None:
    """Who proves nothing is not read from; who proves something is, as far as a body goes and while it comes."""
    one = Requester(http, relay, make_key())
    proof = await one.prove_post(b"x" * 1000)
    stranger = proof | {"Cocoon-Digest": "00" * 32}
    for headers, size, status in ((stranger, 1000, b"401"), (proof, MAX_BODY_BYTES + 1, b"413"), (proof, 1000, b"503")):
        async with asyncio.timeout(COMES), _half_a_post(relay, headers, size) as reader:
            assert status in await reader.readline()
    assert (await relay._store.log.totals()).topics == 0


async def test_attack_08_a_body_that_stops_is_dropped_and_a_strangers_is_not_read(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", upload_seconds=0.3) as relay:
        await _attack_bodies(http, relay)


async def test_attack_42_is_seen_when_a_body_is_read_whatever_it_is(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_sync, "MAX_BODY_BYTES", 10**9)
    async with serve_relay(tmp_path / "data", upload_seconds=0.3) as relay:
        with pytest.raises(AssertionError):
            await _attack_bodies(http, relay)


async def _attack_slow_answer(http: Http, relay: Relay, seconds: float = COMES) -> None:
    """A reader asks for pages over a connection that it does not read from: one waits, and then it is cut off."""
    one = Requester(http, relay, make_key())
    client = await open_client(http, relay, one.key)
    for _ in range(8):
        await client.put(one.key, make_envelope(900 * KIB))
    await client.close()
    loop = asyncio.get_running_loop()
    async with tiny_socket(relay.port) as raw:
        proof = (await one.prove_get())["Authorization"]
        request = f"GET /v1/sync HTTP/1.1\r\nHost: x\r\nAuthorization: {proof}\r\n\r\n"
        await loop.sock_sendall(raw, request.encode() * 32)
        await loop.sock_recv(raw, 1)
        async with asyncio.timeout(seconds):
            while relay._doors.cut_off == 0:
                async with http.get(f"{http_url(relay.url)}/healthz") as answer:
                    assert answer.status == 200
        assert relay._metrics._counts["requests"] <= 8


async def test_attack_08_an_answer_that_is_not_taken_is_cut_off(tmp_path: Path, http: Http) -> None:
    limits = {"reader_seconds": 0.3, "address_requests_burst": 10**9}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        await _attack_slow_answer(http, relay)


async def test_attack_08_is_seen_when_readers_of_answers_have_all_the_time(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_requests_burst=10**9, stop_seconds=0.2) as relay:
        with pytest.raises(TimeoutError):
            await _attack_slow_answer(http, relay, NEVER)


# --- 43: floods


async def _attack_guess(http: Http, relay: Relay) -> None:
    """Proofs that do not hold cost their address its proofs, as those of sockets do."""
    one, stranger = Requester(http, relay, make_key()), make_key()
    await one.greet()
    codes: list[str] = []
    for _ in range(30):
        one.key = stranger if len(codes) % 2 else make_key()
        headers = await one.prove_get()
        one.key = make_key()
        proof = headers["Authorization"].split(".", 1)[1]
        codes.append((await one.ask("GET", {"Authorization": f"Cocoon {one.topic.hex()}.{proof}"})).code)
    assert codes[:20] == ["bad_proof"] * 20
    assert set(codes[20:]) == {"rate"}


async def test_attack_43_proofs_of_requests_are_counted_by_address(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_proofs=0.001, address_proofs_burst=20) as relay:
        await _attack_guess(http, relay)


async def _attack_at_once(http: Http, relay: Relay, seconds: float = COMES) -> None:
    """One address has only so many bodies on their way."""
    one = Requester(http, relay, make_key())
    proof = await one.prove_post(b"x" * 1000)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(_half_a_post(relay, proof, 1000))
        async with asyncio.timeout(seconds):
            while (answer := await one.get()).status == 200:
                await asyncio.sleep(0)
        assert (answer.code, answer.retry_after) == ("rate", "1")
    async with asyncio.timeout(COMES):
        while (await one.get()).status != 200:
            await asyncio.sleep(0)


async def test_attack_43_one_address_has_only_so_many_requests_at_once(tmp_path: Path, http: Http) -> None:
    limits = {"address_uploads": 2, "address_proofs_burst": 10**9, "address_requests_burst": 10**9}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        await _attack_at_once(http, relay)


async def test_attack_43_is_seen_when_requests_are_not_counted(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenBucket, "take", lambda *_: 0.0)
    async with serve_relay(tmp_path / "data", address_proofs_burst=20) as relay:
        with pytest.raises(AssertionError):
            await _attack_guess(http, relay)
        with pytest.raises(TimeoutError):
            await _attack_at_once(http, relay, NEVER)


# --- 44: disk full


async def _attack_fill(http: Http, data: Path) -> None:
    """A put for which the disk has no room is refused whole; what was acknowledged is there after a restart."""
    key = make_key()
    async with serve_relay(data) as relay:
        one = Requester(http, relay, key)
        acked = [make_envelope() for _ in range(5)]
        assert Ack(1, one.topic, (1, 2, 3, 4, 5)) in (await one.put(*acked)).frames
        store = relay._store.log
        assert isinstance(store, SqliteStore)
        database = store._writer._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        answer = await one.put(*(make_envelope(100_000) for _ in range(3)), seal=True)
        refused = [frame.code for frame in answer.frames if isinstance(frame, Error)]
        assert refused == [ErrorCode.FULL]
        assert answer.entries == list(enumerate(acked, start=1))
    async with serve_relay(data) as relay:
        told = await Requester(http, relay, key).get()
        assert (told.entries, told.opened.sealed) == (list(enumerate(acked, start=1)), False)


async def test_attack_44_a_full_disk_refuses_a_request_and_loses_nothing(tmp_path: Path, http: Http) -> None:
    await _attack_fill(http, tmp_path / "data")
