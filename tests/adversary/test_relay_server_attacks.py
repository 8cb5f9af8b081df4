"""Attacks on the relay server itself. Each is also run against a build with one defence taken out, and is seen to fail.

An attack is a coroutine that asserts the outcome; `test_attack_NN…` runs it on the real build, and
`test_attack_NN…_is_seen_when…` on the weakened one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import socket
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from cocoon_core.errors import RelayUnavailable
from cocoon_core.protocol.constants import LABEL_OPEN, MAX_FRAME_BYTES, MAX_NAMES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.frames import (
    Ack,
    Close,
    Error,
    ErrorCode,
    Listed,
    Opened,
    Put,
    decode_client_frame,
    encode_frame,
    normalize_origin,
    open_message,
)
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.primitives import Secret, SigningKey, seal
from cocoon_relay import connection as connection_module
from cocoon_relay import http_blobs, server, sqlite_known
from cocoon_relay import sqlite_store as sqlite_store_module
from cocoon_relay.eager_socket import EagerSocket
from cocoon_relay.limits import MIB, TokenBucket
from cocoon_relay.puts import PutJob
from cocoon_relay.server import Relay
from cocoon_relay.sqlite_writer import SqliteWriter
from cocoon_relay.uploads import Upload
from tests.support.relay_client import (  # noqa: F401  make_http is a fixture
    RelayClient,
    WebSocketWire,
    authorize,
    connect,
    http_url,
    make_envelope,
    make_http,
    make_key,
    open_client,
    topic_of,
    transport_of,
)
from tests.support.relay_process import RelayProcess, serve_relay
from tests.support.waits import COMES, NEVER

Http = aiohttp.ClientSession


async def _require_ended(client: RelayClient, seconds: float = COMES) -> None:
    with pytest.raises(RelayUnavailable):
        while True:
            await asyncio.wait_for(client.wire.receive(), seconds)


async def _require_healthy(http: Http, relay: Relay | RelayProcess) -> None:
    """Another group's put goes through."""
    key = make_key()
    client = await open_client(http, relay, key)
    assert isinstance(await client.put(key, make_envelope()), Ack)
    await client.close()


async def _put_blob(http: Http, url: str, headers: dict[str, str], name: str, data: bytes) -> int:
    target = f"{http_url(url)}/v1/blobs/{name}"
    async with http.put(target, data=BytesIO(data), headers=headers) as answer:
        return answer.status


@asynccontextmanager
async def _raw_socket(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection without a protocol, closed at the end whatever happened."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


# --- 1 and 2: frames that were changed or recorded on the way


async def _attack_flip(http: Http, relay: Relay) -> None:
    """Every byte of an `open` and of a blob's proof, flipped: refused, or the same topic; no other comes to be."""
    key = make_key()
    await open_client(http, relay, key)
    client = await connect(http, relay.url)
    frame = bytearray(encode_frame(client.make_open(key)))
    refused = 0
    for place in range(len(frame)):
        frame[place] ^= 1 << place % 8
        try:
            await client.wire.send(bytes(frame))
            answer = await client.next(Opened, Error)
        except RelayUnavailable:  # the last one was the eighth, or no frame
            answer = None
        if isinstance(answer, Opened):
            assert answer.topic == topic_of(key)
        else:
            assert answer is None or answer.code in (ErrorCode.BAD_FRAME, ErrorCode.BAD_PROOF)
            refused += 1
            await client.close()
            client = await connect(http, relay.url)
            frame = bytearray(encode_frame(client.make_open(key)))
            continue
        frame[place] ^= 1 << place % 8
    assert refused >= 96  # those of topic and proof at least
    headers = await authorize(http, relay.url, key)
    scheme, proof = headers["Authorization"].split()
    for place, digit in enumerate(proof):
        if digit != ".":
            other = f"{int(digit, 16) ^ 1:x}"
            changed = {"Authorization": f"{scheme} {proof[:place]}{other}{proof[place + 1 :]}"}
            assert await _put_blob(http, relay.url, changed, "ab" * 32, b"x") == 401
    assert (await relay._store.log.totals()).topics == 1


async def test_attack_01_a_flipped_proof_opens_nothing(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_proofs_burst=10_000) as relay:
        await _attack_flip(http, relay)


async def test_attack_01_is_seen_when_proofs_are_not_checked(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "check_open", lambda *_: None)
    async with serve_relay(tmp_path / "data", address_proofs_burst=10_000) as relay:
        with pytest.raises(AssertionError):
            await _attack_flip(http, relay)


async def _attack_replay(http: Http, relay: Relay, other: Relay) -> None:
    key = make_key()
    client, watcher = await connect(http, relay.url), await connect(http, relay.url)
    opening = encode_frame(client.make_open(key))
    await client.wire.send(opening)
    await client.next(Opened)
    puts = [
        encode_frame(Put(7, topic_of(key), (make_envelope(), make_envelope()), seal, expect))
        for seal, expect in ((False, 0), (True, 2))
    ]
    answers = []
    for put in puts:
        await client.wire.send(put)
        answers.append((await client.next(Ack)).seqs)
    # In the same session: the same answers, and nothing more stands there.
    for put, seqs in zip(puts, answers, strict=True):
        await client.wire.send(put)
        assert (await client.next(Ack)).seqs == seqs
    await client.wire.send(opening)
    assert (await client.next(Opened)).last == 4
    # In another session, and at another relay: nothing.
    for put in puts:
        await watcher.wire.send(put)
        assert (await watcher.next(Error)).code is ErrorCode.NOT_OPEN
    elsewhere = await connect(http, other.url)
    for thief in (watcher, elsewhere):
        await thief.wire.send(opening)
        assert (await thief.next(Error)).code is ErrorCode.BAD_PROOF
    totals = await relay._store.log.totals()
    assert (totals.topics, totals.entries) == (1, 4)
    assert (await other._store.log.totals()).topics == 0
    # Of blobs: put again it is the same blob, and its proof serves at this relay alone.
    mine = make_key()
    await open_client(http, relay, mine)
    await open_client(http, other, mine)
    headers, body = await authorize(http, relay.url, mine), os.urandom(100)
    name = hashlib.sha256(body).hexdigest()
    assert [await _put_blob(http, relay.url, headers, name, body) for _ in range(2)] == [201, 200]
    assert await _put_blob(http, other.url, headers, name, body) == 401
    assert (await relay._store.log.totals()).blobs == 1


async def test_attack_02_a_replayed_frame_changes_nothing(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay, serve_relay(tmp_path / "other") as other:
        await _attack_replay(http, relay, other)


async def test_attack_02_is_seen_when_a_proof_serves_anywhere(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "check_open", lambda *_: None)
    async with serve_relay(tmp_path / "data") as relay, serve_relay(tmp_path / "other") as other:
        with pytest.raises((AssertionError, TimeoutError)):
            await asyncio.wait_for(_attack_replay(http, relay, other), NEVER)


# --- 4: reflection


async def _attack_reflect(http: Http, relay: Relay) -> None:
    key = make_key()
    watcher = await open_client(http, relay, key)
    for index in range(4):
        client = await connect(http, relay.url)
        wire = client.wire
        frames = [encode([65, 1, client.challenge, {}])]
        await client.send(client.make_open(key))
        frames += [await wire.receive(), await wire.receive()]
        await client.send(Put(7, topic_of(key), (make_envelope(),)))
        frames.append(await wire.receive())
        await wire.send(frames[index])
        assert (await client.next(Error)).code is ErrorCode.BAD_FRAME
        await _require_ended(client)
    # Only what was put is there, and the watcher was not disturbed.
    assert len(await watcher.entries(4)) == 4
    assert (await watcher.open(key))[0].last == 4


async def test_attack_04_a_reflected_frame_is_refused(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_reflect(http, relay)


async def test_attack_04_is_seen_when_directions_share_their_numbers(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = decode_client_frame

    def decode_either(raw: bytes) -> Any:
        value = decode(raw)
        return Close(TopicId(value[2] if type(value[1]) is int else value[1])) if value[0] > 64 else honest(raw)

    monkeypatch.setattr(connection_module, "decode_client_frame", decode_either)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises((AssertionError, TimeoutError)):
            await asyncio.wait_for(_attack_reflect(http, relay), NEVER)


# --- 5: another version


async def _attack_version(http: Http, relay: Relay) -> None:
    for path in ("v0/sync", "v2/sync", "v1/sync/2"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{relay.url}/{path}")
        assert caught.value.status == 404
    async with http.get(f"{http_url(relay.url)}/v2/challenge") as answer:
        assert (await answer.json())["error"]["code"] == "version"
    key = make_key()
    client = await connect(http, relay.url)
    message = open_message(normalize_origin(relay.url), client.challenge, topic_of(key))
    proof = key.sign(LABEL_OPEN.replace("/v1/", "/v2/"), message)
    await client.send(replace(client.make_open(key), proof=proof))
    assert (await client.next(Error)).code is ErrorCode.BAD_PROOF
    for raw in (encode([6, topic_of(key)]), encode([4, topic_of(key), 2]), encode([2, topic_of(key)])):
        client = await connect(http, relay.url)
        await client.wire.send(raw)
        assert (await client.next(Error)).code is ErrorCode.BAD_FRAME
        await _require_ended(client)


async def test_attack_05_another_version_is_refused_without_fallback(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_version(http, relay)


async def test_attack_05_is_seen_when_proofs_are_not_checked(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "check_open", lambda *_: None)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises((AssertionError, TimeoutError)):
            await asyncio.wait_for(_attack_version(http, relay), NEVER)


# --- 8: slow drip, half-open sockets, resets


async def _attack_reset_upload(http: Http, relay: Relay, data: Path) -> None:
    key = make_key()
    await open_client(http, relay, key)
    headers = await authorize(http, relay.url, key)
    body = os.urandom(MIB)
    name = hashlib.sha256(body).hexdigest()
    for sent in (1, 300_000, MIB - 1):
        head = f"PUT /v1/blobs/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n"
        head += f"Authorization: {headers['Authorization']}\r\n\r\n"
        async with _raw_socket(relay.port) as (reader, writer):
            writer.write(head.encode() + body[:sent])
            writer.write_eof()
            await asyncio.wait_for(reader.read(), COMES)
        async with http.head(f"{http_url(relay.url)}/v1/blobs/{name}", headers=headers) as answer:
            assert answer.status == 404
    async with asyncio.timeout(COMES):
        while list((data / "incoming").iterdir()):  # the relay lets go of it when it notices the reset
            await _require_healthy(http, relay)
    assert relay._metrics._counts["failures"] == 0
    assert await _put_blob(http, relay.url, headers, name, body) == 201
    async with http.get(f"{http_url(relay.url)}/v1/blobs/{name}", headers=headers) as answer:
        assert await answer.read() == body


async def test_attack_08_a_reset_upload_leaves_nothing_and_can_be_sent_again(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_reset_upload(http, relay, tmp_path / "data")


async def test_attack_08_is_seen_when_an_upload_is_not_checked_when_it_ends(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_leniently(request: web.Request, size: int, patience: float) -> AsyncIterator[bytes]:
        with suppress(Exception):
            while chunk := await request.content.read(65536):
                yield chunk

    monkeypatch.setattr(http_blobs, "read_body", read_leniently)
    monkeypatch.setattr(Upload, "finish", lambda self, blob: self._file.close())
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(AssertionError):
            await _attack_reset_upload(http, relay, tmp_path / "data")


async def _attack_half_open(relay: Relay, seconds: float = COMES) -> None:
    """Connections that say nothing, half a request, or shake hands and then fall silent, are all ended by the relay."""
    async with AsyncExitStack() as stack:
        silent, half, deaf = [await stack.enter_async_context(_raw_socket(relay.port)) for _ in range(3)]
        half[1].write(b"GET /v1/sync HTTP/1.1\r\nHost: x\r\nUpgr")
        deaf[1].write(
            b"GET /v1/sync HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        for reader, _ in (silent, half, deaf):
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), seconds)


async def test_attack_08_half_open_and_dripping_sockets_are_ended(tmp_path: Path) -> None:
    async with serve_relay(tmp_path / "data", request_seconds=0.3, heartbeat_seconds=0.4) as relay:
        await _attack_half_open(relay)


@pytest.mark.parametrize("limit", ["request_seconds", "heartbeat_seconds"])
async def test_attack_08_is_seen_when_nobody_looks_at_the_clock(tmp_path: Path, limit: str) -> None:
    limits = {"request_seconds": 0.3, "heartbeat_seconds": 0.4} | {limit: 3600.0}
    async with serve_relay(tmp_path / "data", **limits) as relay:
        with pytest.raises(TimeoutError):
            await _attack_half_open(relay, NEVER)


async def test_attack_08_a_stalled_upload_is_dropped_and_others_go_on(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", upload_seconds=0.2) as relay:
        key = make_key()
        await open_client(http, relay, key)
        headers = await authorize(http, relay.url, key)
        head = f"PUT /v1/blobs/{'ab' * 32} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        async with _raw_socket(relay.port) as (reader, writer):
            writer.write(f"{head}Authorization: {headers['Authorization']}\r\n\r\nhalf".encode())
            assert b" 503 " in await asyncio.wait_for(reader.readline(), COMES)
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        await _require_healthy(http, relay)


async def test_attack_08_a_frame_that_drips_in_byte_by_byte_is_one_frame(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        key = make_key()
        client = await open_client(http, relay, key)
        assert isinstance(client.wire, WebSocketWire)
        payload = encode_frame(Put(1, topic_of(key), (make_envelope(),)))
        transport = transport_of(client)
        for byte in b"\x82\xfe" + len(payload).to_bytes(2) + bytes(4) + payload:
            transport.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.next(Ack)).seqs == (1,)


# --- 15: moving ciphertext


async def _attack_move(http: Http, relay: Relay) -> None:
    key, other = make_key(), make_key()
    client = await open_client(http, relay, key)
    headers = await authorize(http, relay.url, key)
    # A blob under another's name.
    body = os.urandom(500)
    assert await _put_blob(http, relay.url, headers, hashlib.sha256(b"another").hexdigest(), body) == 400
    # A proof of one topic for another.
    await client.send(replace(client.make_open(key), topic=topic_of(other)))
    assert (await client.next(Error)).code is ErrorCode.BAD_PROOF
    # A blob's proof with another topic's id.
    moved = headers["Authorization"].replace(topic_of(key).hex(), topic_of(other).hex())
    assert await _put_blob(http, relay.url, {"Authorization": moved}, hashlib.sha256(body).hexdigest(), body) == 401
    # An envelope put into one topic never shows in another.
    mine = make_envelope()
    assert isinstance(await client.put(key, mine), Ack)
    assert (await client.open(other))[1] == []


async def test_attack_15_nothing_moves_between_topics_or_blobs(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_move(http, relay)


@pytest.mark.parametrize("defence", ["blob hash", "open proof"])
async def test_attack_15_is_seen_without_its_defences(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch, defence: str
) -> None:
    if defence == "blob hash":
        monkeypatch.setattr(Upload, "finish", lambda self, blob: self._file.close())
    else:
        monkeypatch.setattr(connection_module, "check_open", lambda *_: None)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises((AssertionError, TimeoutError)):
            await asyncio.wait_for(_attack_move(http, relay), NEVER)


# --- 19: what the relay keeps and tells


_CANARY = b"canary-Zo9tQ4-marmalade"


async def _provoke(http: Http, url: str, key: SigningKey) -> list[bytes]:
    """Use a relay well and badly; the needles that only its database and its wire may hold."""
    body = os.urandom(700)
    blob = hashlib.sha256(body).hexdigest()
    nonce = os.urandom(24)
    envelope = nonce + seal(Secret(os.urandom(32)), nonce, _CANARY.ljust(256, b"\0"), b"ad")
    client = await connect(http, url)
    await client.open(key)
    assert isinstance(await client.put(key, envelope), Ack)
    await client.cast(key, _CANARY)
    headers = await authorize(http, url, key)
    assert await _put_blob(http, url, headers, blob, body) == 201
    assert await _put_blob(http, url, headers, blob[::-1], body) == 400
    path = _CANARY.decode()
    for target in (f"/{path}", f"/v1/blobs/{path}", f"/v1/blobs/{blob}?{path}"):
        async with http.get(http_url(url) + target, headers={"X-Canary": path, "Authorization": path}) as answer:
            assert answer.status >= 400
    for raw in (_CANARY, encode([3, topic_of(key), _CANARY]), encode([9, _CANARY])):
        bad = await connect(http, url)
        await bad.wire.send(raw)
        await bad.close()
    async with _raw_socket(int(url.rpartition(":")[2])) as (reader, writer):
        writer.write(b"\x16\x03\x01 " + _CANARY + b"\r\n\r\n")
        await reader.read()
    ids = (topic_of(key), bytes.fromhex(blob))
    return [_CANARY, b"127.0.0.1", *ids, *(name.hex().encode() for name in ids)]


async def _attack_canaries(http: Http, tmp_path: Path, relay: RelayProcess) -> None:
    needles = await _provoke(http, relay.url, make_key())
    async with http.get(f"{http_url(relay.url)}/metrics") as answer:
        metrics = await answer.read()
    assert relay.stop() == 0
    said = relay.errors.encode()
    for needle in needles:
        assert needle not in metrics
        assert needle not in said
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert _CANARY not in path.read_bytes(), path
            assert b"127.0.0.1" not in path.read_bytes(), path


async def test_attack_19_disk_logs_and_metrics_hold_no_plaintext_address_or_id(tmp_path: Path, http: Http) -> None:
    await _attack_canaries(http, tmp_path, RelayProcess(tmp_path / "data", "--log-level", "info"))


async def test_attack_19_is_seen_when_the_relay_keeps_an_access_log(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import logging, sys, aiohttp.web as web\n"
        "import cocoon_relay.server as server\n"
        "from cocoon_relay.cli import main\n"
        "class Runner(web.AppRunner):\n"
        "    def __init__(self, app, **how):\n"
        "        super().__init__(app, **{**how, 'access_log': logging.getLogger('aiohttp.access')})\n"
        "server.web.AppRunner = Runner\n"
        "logging.getLogger('aiohttp.access').setLevel(logging.INFO)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    script = tmp_path / "weak" / "logging_relay.py"
    script.parent.mkdir()
    script.write_text(program)
    from tests.support import relay_process

    honest = relay_process.relay_command
    monkeypatch.setattr(relay_process, "relay_command", lambda *a: [honest()[0], str(script), *a])
    with pytest.raises(AssertionError):
        await _attack_canaries(http, tmp_path / "weak", RelayProcess(tmp_path / "data"))


# --- 23: the removed member


async def _attack_append_after_seal(http: Http, relay: Relay) -> None:
    key = make_key()
    client, removed = await open_client(http, relay, key), await open_client(http, relay, key)
    assert isinstance(await client.put(key, make_envelope(), seal=True), Ack)
    headers = await authorize(http, relay.url, key)
    for how in ({}, {"seal": True}, {"expect": 1}):
        answer = await removed.put(key, make_envelope(), **how)
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.SEALED
    body = os.urandom(100)
    assert await _put_blob(http, relay.url, headers, hashlib.sha256(body).hexdigest(), body) == 409
    assert (await client.open(key))[0].last == 1


async def test_attack_23_nothing_is_appended_to_a_sealed_topic(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_append_after_seal(http, relay)


async def test_attack_23_is_seen_when_seals_are_forgotten(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SqliteWriter._plan

    def forget(self: SqliteWriter, log: Any, job: PutJob) -> Any:
        log.sealed = False
        return honest(self, log, job)

    monkeypatch.setattr(SqliteWriter, "_plan", forget)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(AssertionError):
            await _attack_append_after_seal(http, relay)


# --- 42: bombs


async def _attack_bombs(http: Http, relay: Relay, seconds: float = COMES) -> None:
    # A message announced as 2^62 bytes, and one byte more than allowed: ended before they are taken in.
    for size in (2**62, MAX_FRAME_BYTES + 1):
        client = await connect(http, relay.url)
        transport = transport_of(client)
        transport.write(b"\x82\xff" + size.to_bytes(8) + bytes(4) + bytes(1000))
        assert isinstance(client.wire, WebSocketWire)
        message = await asyncio.wait_for(client.wire.socket.receive(), seconds)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert client.wire.socket.close_code == 1009
    # Compression is not spoken, so nothing can expand.
    async with http.ws_connect(f"{relay.url}/v1/sync", compress=15) as compressed:
        assert compressed.compress == 0
    # Depth, counts and lengths that lie.
    for raw in (b"\x81" * 100_000, b"\x9b" + b"\xff" * 8, b"\x5b" + b"\xff" * 8, b"\xbb" + b"\x7f" * 8):
        client = await connect(http, relay.url)
        await client.wire.send(raw)
        assert (await client.next(Error)).code is ErrorCode.BAD_FRAME
        await _require_ended(client)
    await _require_healthy(http, relay)


async def test_attack_42_bombs_are_refused_before_they_expand(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_bombs(http, relay)


@pytest.mark.parametrize("weakness", [{"max_msg_size": 0}, {"compress": True}])
async def test_attack_42_is_seen_without_size_limits(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch, weakness: dict[str, Any]
) -> None:
    def make_socket(**how: Any) -> EagerSocket:
        return EagerSocket(**{**how, **weakness})

    monkeypatch.setattr(server, "EagerSocket", make_socket)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises((AssertionError, TimeoutError)):
            await _attack_bombs(http, relay, NEVER)


# --- 43: floods


async def _attack_flood_connections(http: Http, relay: Relay) -> None:
    sockets: list[socket.socket] = []
    key = make_key()
    client = await open_client(http, relay, key)
    try:
        for _ in range(40):
            sock = socket.create_connection(("127.0.0.1", relay.port))
            sock.setblocking(False)
            sockets.append(sock)
        # A connection made after the flood is answered only once the relay has looked at all of it.
        with suppress(aiohttp.ClientError):
            await http.get(f"{http_url(relay.url)}/healthz")
        assert relay._doors.open <= 10
        # Who was there goes on.
        assert isinstance(await client.put(key, make_envelope()), Ack)
    finally:
        for sock in sockets:
            sock.close()


async def test_attack_43_one_address_has_only_so_many_connections(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_connections=10) as relay:
        await _attack_flood_connections(http, relay)
        assert relay._doors.turned_away > 0


async def test_attack_43_the_relay_has_only_so_many_connections(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", connections=10) as relay:
        await _attack_flood_connections(http, relay)


async def test_attack_43_is_seen_when_connections_are_not_counted(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_connections(http, relay)


async def _attack_flood_topics(http: Http, relay: Relay) -> None:
    key = make_key()
    client = await open_client(http, relay, key)
    flooder = await connect(http, relay.url)
    codes: set[ErrorCode] = set()
    for _ in range(60):
        await flooder.send(flooder.make_open(make_key()))
    for _ in range(60):
        frame = await flooder.next(Error, Opened)
        if isinstance(frame, Error):
            codes.add(frame.code)
    assert codes & {ErrorCode.TOO_MANY_TOPICS, ErrorCode.RATE}
    assert (await relay._store.log.totals()).topics <= 30
    assert isinstance(await client.put(key, make_envelope()), Ack)


@pytest.mark.parametrize(
    "limits",
    [
        {"address_topics": 0.001, "address_topics_burst": 20},
        {"address_proofs": 0.001, "address_proofs_burst": 20},
        {"connection_topics": 20},
    ],
    ids=lambda limits: next(iter(limits)),
)
async def test_attack_43_a_flood_of_topics_is_bounded(tmp_path: Path, http: Http, limits: dict[str, float]) -> None:
    async with serve_relay(tmp_path / "data", **limits) as relay:
        await _attack_flood_topics(http, relay)


async def test_attack_43_is_seen_when_buckets_never_empty(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenBucket, "take", lambda *_: 0.0)
    async with serve_relay(tmp_path / "data", address_topics_burst=20, connection_topics=1000) as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_topics(http, relay)


async def _attack_flood_names(http: Http, relay: Relay) -> None:
    """Ask for all names of a topic, again and again: each costs the relay the reading of all that stands there."""
    key = make_key()
    client = await open_client(http, relay, key)
    assert isinstance(await client.put(key, *(make_envelope(4_000) for _ in range(64))), Ack)
    flooder = await connect(http, relay.url)
    await flooder.resume(key)
    answers = [await flooder.list_names(key, 0, MAX_NAMES, bytes(32)) for _ in range(40)]
    refused = [answer for answer in answers if isinstance(answer, Error)]
    assert len(refused) >= 20
    assert all(error.code is ErrorCode.RATE and error.retry_after_ms for error in refused)
    assert isinstance(await flooder.fetch(key, 1), Error)  # by another kind of request neither
    assert isinstance(await client.put(key, make_envelope()), Ack)


async def test_attack_43_a_flood_of_requests_for_names_is_bounded(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data", address_reads=0.001, address_reads_burst=20) as relay:
        await _attack_flood_names(http, relay)


async def test_attack_43_is_seen_when_requests_for_names_are_not_counted(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenBucket, "take", lambda *_: 0.0)
    async with serve_relay(tmp_path / "data", address_reads=0.001, address_reads_burst=20) as relay:
        with pytest.raises(AssertionError):
            await _attack_flood_names(http, relay)


async def test_attack_43_one_request_for_names_reads_only_so_much(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store_module, "MOST_NAMED_BYTES", 10_000)
    async with serve_relay(tmp_path / "data") as relay:
        key = make_key()
        client = await open_client(http, relay, key)
        await client.put(key, *(make_envelope(4_000) for _ in range(9)))
        for after, count in ((0, 2), (2, 2), (8, 1)):
            listed = await client.list_names(key, after, MAX_NAMES, bytes(32))
            assert isinstance(listed, Listed)
            assert (listed.first, len(listed.names)) == (after + 1, count)


async def _attack_guess_proofs(http: Http, relay: Relay, seconds: float = COMES) -> None:
    client = await connect(http, relay.url)
    for _ in range(100):
        with suppress(ConnectionError):
            await client.send(replace(client.make_open(make_key()), topic=topic_of(make_key())))
    await _require_ended(client, seconds)
    await _require_healthy(http, relay)


async def test_attack_43_guessing_proofs_ends_the_connection(tmp_path: Path, http: Http) -> None:
    async with serve_relay(tmp_path / "data") as relay:
        await _attack_guess_proofs(http, relay)


async def test_attack_43_is_seen_when_bad_proofs_are_not_counted(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_BAD_PROOFS_ALLOWED", 10**6)
    async with serve_relay(tmp_path / "data") as relay:
        with pytest.raises(TimeoutError):
            await _attack_guess_proofs(http, relay, NEVER)


# --- 44: disk full, I/O errors, no descriptors, kill


async def _attack_fill_database(http: Http, data: Path) -> None:
    """SQLite may grow no further; what was acknowledged before and after is there when a new relay opens the data."""
    key = make_key()
    acked: dict[int, bytes] = {}
    async with serve_relay(data) as relay:
        client = await open_client(http, relay, key)

        async def put(*envelopes: bytes, **how: Any) -> Ack | Error:
            answer = await client.put(key, *envelopes, **how)
            if isinstance(answer, Ack):
                acked.update(zip(answer.seqs, envelopes, strict=True))
            return answer

        for _ in range(20):
            assert isinstance(await put(make_envelope()), Ack)
        database = _writer_of(relay)._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        answer = await put(*(make_envelope(100_000) for _ in range(3)), seal=True)
        assert isinstance(answer, Error)
        assert (answer.code, answer.retry_after_ms) == (ErrorCode.FULL, 60_000)
        # The connection goes on; a reader is served; when there is room again, so is a putter.
        assert (await client.open(key))[1] == sorted(acked.items())
        assert isinstance(await put(make_envelope()), Ack)
    async with serve_relay(data) as relay:
        opened, found = await (await connect(http, relay.url)).open(key)
        assert found == sorted(acked.items())
        assert not opened.sealed


async def test_attack_44_a_full_database_refuses_and_loses_nothing(tmp_path: Path, http: Http) -> None:
    await _attack_fill_database(http, tmp_path / "data")


async def test_attack_44_is_seen_when_a_failed_commit_is_acknowledged(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SqliteWriter._commit

    def pretend(self: SqliteWriter, jobs: Sequence[Any]) -> Any:
        outcomes, committed = honest(self, jobs)
        pretended = [(j.future, tuple(range(1, len(j.envelopes) + 1))) for j in jobs if isinstance(j, PutJob)]
        return (pretended if any(isinstance(o, Exception) for _, o in outcomes) else outcomes), committed

    monkeypatch.setattr(SqliteWriter, "_commit", pretend)
    with pytest.raises(AssertionError):
        await _attack_fill_database(http, tmp_path / "data")


async def test_attack_44_an_io_error_of_the_database_refuses_and_loses_nothing(
    tmp_path: Path, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every statement of a transaction fails once with EIO; nothing of that transaction remains."""
    key = make_key()
    acked: list[bytes] = []
    monkeypatch.setattr(sqlite_known, "_TAIL_NAMES", 1)
    for failing in (
        "BEGIN",
        "PRAGMA data_version",
        "SELECT",
        "UPDATE topics",
        "INSERT INTO entries",
        "INSERT INTO hashes",
        "COMMIT",
    ):
        async with serve_relay(tmp_path / "data") as relay:
            client = await open_client(http, relay, key)
            while not relay._metrics._counts["gc_rounds"]:  # its transactions would fail in the put's place
                await asyncio.sleep(0)
            writer = _writer_of(relay)
            writer._db = _FailingDatabase(writer._db, failing)  # type: ignore[assignment]
            answer = await client.put(key, make_envelope(), make_envelope())
            assert isinstance(answer, Error), failing
            assert answer.code is ErrorCode.FULL
            envelope = make_envelope()
            assert isinstance(await client.put(key, envelope), Ack), failing
            acked.append(envelope)
            assert [found for _, found in (await client.open(key))[1]] == acked


def _writer_of(relay: Relay) -> SqliteWriter:
    log = relay._store.log
    assert isinstance(log, sqlite_store_module.SqliteStore)
    return log._writer


class _FailingDatabase:
    """A connection of which one statement fails."""

    def __init__(self, db: sqlite3.Connection, failing: str) -> None:
        self._db = db
        self._failing = failing

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._fail_at(statement)
        return self._db.execute(statement, parameters)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
        self._fail_at(statement)
        return self._db.executemany(statement, rows)

    def _fail_at(self, statement: str) -> None:
        if statement.startswith(self._failing):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


async def test_attack_44_a_file_size_limit_refuses_envelopes_and_blobs(tmp_path: Path, http: Http) -> None:
    """The system itself refuses to let any file grow (EFBIG), as it does when a disk or quota is full."""
    key = make_key()
    acked: dict[int, bytes] = {}
    with RelayProcess(tmp_path / "data") as relay:
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (400_000, 400_000))
        client = await open_client(http, relay, key)
        headers = await authorize(http, relay.url, key)
        refused = 0
        while not refused:
            envelope = make_envelope(20_000)
            answer = await client.put(key, envelope)
            if isinstance(answer, Ack):
                acked[answer.seqs[0]] = envelope
            else:
                assert answer.code is ErrorCode.FULL
                refused += 1
        body = os.urandom(500_000)
        assert await _put_blob(http, relay.url, headers, hashlib.sha256(body).hexdigest(), body) == 507
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        assert (await client.open(key))[1] == sorted(acked.items())
    with RelayProcess(tmp_path / "data") as relay:
        client = await connect(http, relay.url)
        assert (await client.open(key))[1] == sorted(acked.items())
        assert isinstance(await client.put(key, make_envelope(20_000)), Ack)
        assert await _put_blob(http, relay.url, await authorize(http, relay.url, key),
                               hashlib.sha256(body).hexdigest(), body) == 201  # fmt: skip


async def test_attack_44_running_out_of_descriptors_is_survived(tmp_path: Path, http: Http) -> None:
    with RelayProcess(tmp_path / "data") as relay:
        key = make_key()
        client = await open_client(http, relay, key)
        used = len(os.listdir(f"/proc/{relay.pid}/fd"))
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        sockets = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(40)]
        assert isinstance(await client.put(key, make_envelope()), Ack)
        for sock in sockets:
            sock.close()
        await asyncio.wait_for(_require_healthy(http, relay), COMES)
        assert relay.stop() == 0
