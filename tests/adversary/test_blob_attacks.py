"""Attacks by a relay, or by who sits between, on a client that puts and gets blobs.

Each is also run against a build with one defence taken out, and is seen to succeed there.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from cocoon_core.errors import RelayError, RelayMisbehaved, RelayUnavailable
from cocoon_core.protocol.constants import MAX_BLOB_BYTES
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import BlobHash, Incarnation
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync import blobs as blobs_module
from cocoon_core.sync import http_exchange
from cocoon_core.sync.blobs import Answer, BlobRefused, BlobStore, RelayBlobs, get_blobs, name_blob
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_relay.limits import KIB, MIB
from tests.support.flips import flip
from tests.support.memory_blobs import MemoryBlobs, MemoryExchange
from tests.support.memory_relay import MemoryLog, MemoryRelay
from tests.support.relay_client import connect, make_envelope, open_session
from tests.support.relay_process import serve_relay

EPOCH = Epoch(Secret(bytes(range(32))))
DATA = [bytes([number]) * 5_000 for number in range(6)]
NAMES = [name_blob(data) for data in DATA]


class Hostile(MemoryRelay):
    """A relay in memory that holds EPOCH's topic, with blobs of a class of its own."""

    def __init__(self, blobs: type[MemoryBlobs] = MemoryBlobs) -> None:
        self._class = blobs
        super().__init__()
        self.logs[EPOCH.topic] = MemoryLog(Incarnation(bytes(16)))

    def make_blobs(self, key: bytes) -> MemoryBlobs:
        return self._class(self, key)


# --- 18: dropped, swapped, changed


class Swapping(MemoryBlobs):
    def serve(self, blob: BlobHash) -> bytes | None:
        return DATA[(NAMES.index(blob) + 1) % len(NAMES)]


class Shortening(MemoryBlobs):
    def serve(self, blob: BlobHash) -> bytes | None:
        return self.kept[blob][:-1]


class Lengthening(MemoryBlobs):
    def serve(self, blob: BlobHash) -> bytes | None:
        return self.kept[blob] + b"\0"


class Emptying(MemoryBlobs):
    def serve(self, blob: BlobHash) -> bytes | None:
        return b""


class Flipping(MemoryBlobs):
    def serve(self, blob: BlobHash) -> bytes | None:
        return flip(self.kept[blob])


LIES = [Swapping, Shortening, Lengthening, Emptying, Flipping]


async def _attack_alter(lie: type[MemoryBlobs]) -> None:
    store = Hostile(lie).dial_blobs()
    await store.put_blobs(EPOCH, DATA)
    for name in NAMES:
        with pytest.raises(RelayMisbehaved):
            await store.get_blob(EPOCH, name)
    with pytest.raises(RelayMisbehaved):
        async for _ in get_blobs(store, EPOCH, NAMES):
            pytest.fail("an altered blob was handed out")


@pytest.mark.parametrize("lie", LIES)
async def test_attack_18_a_blob_that_was_altered_or_swapped_is_refused(lie: type[MemoryBlobs]) -> None:
    await _attack_alter(lie)


@pytest.mark.parametrize("lie", LIES)
async def test_attack_18_succeeds_where_hashes_are_not_compared(
    lie: type[MemoryBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(self: RelayBlobs, keys: Epoch, blob: BlobHash) -> bytes:
        return await self._ask("GET", f"/v1/blobs/{blob.hex()}", keys, None, MAX_BLOB_BYTES)

    monkeypatch.setattr(RelayBlobs, "get_blob", believe)
    with pytest.raises(pytest.fail.Exception):
        await _attack_alter(lie)


async def test_attack_18_a_dropped_blob_is_missed_and_the_order_is_that_asked_for() -> None:
    relay = Hostile()
    store = relay.dial_blobs()
    await store.put_blobs(EPOCH, DATA)
    order = [5, 0, 0, 3, 1]
    assert [data async for data in get_blobs(store, EPOCH, [NAMES[i] for i in order])] == [DATA[i] for i in order]
    del relay.blobs.kept[NAMES[3]]
    got: list[bytes] = []
    with pytest.raises(BlobRefused) as caught:
        async for data in get_blobs(store, EPOCH, [NAMES[i] for i in order]):
            got.append(data)
    assert (caught.value.reason, got) == (ErrorCode.NOT_FOUND, [DATA[5], DATA[0], DATA[0]])


# --- 20: acknowledged and lost


class Losing(MemoryBlobs):
    def keep(self, blob: BlobHash, data: bytes) -> bool:
        return blob != NAMES[2]


async def test_attack_20_a_blob_that_was_acknowledged_and_lost_is_found_by_have_and_put_again() -> None:
    relay = Hostile(Losing)
    store = relay.dial_blobs()
    assert await store.put_blobs(EPOCH, DATA) == len(DATA)
    assert await store.have(EPOCH, NAMES) == set(NAMES) - {NAMES[2]}
    assert await store.put_blobs(EPOCH, DATA) == 1


@pytest.mark.parametrize(
    "answer",
    [
        encode([BlobHash(bytes(32))]),
        encode([*NAMES, *NAMES]),
        encode([b"short"]),
        encode({"a": 1}),
        encode([1]),
        b"",
        b"\xff",
        b"[]",
    ],
)
async def test_attack_20_a_have_that_names_what_was_not_asked_for_is_a_lie(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBlobs, "_answer", _answering(answer))
    with pytest.raises(RelayMisbehaved):
        await Hostile().dial_blobs().have(EPOCH, NAMES)


def _answering(body: bytes) -> Callable[..., Answer]:
    honest = MemoryBlobs._answer

    def answer(self: MemoryBlobs, method: str, path: str, headers: dict[str, str], sent: bytes) -> Answer:
        return Answer(200, body) if path.endswith("/have") else honest(self, method, path, headers, sent)

    return answer


# --- 41 and 42: answers that are none, and bombs


@asynccontextmanager
async def _serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[BlobStore]:
    """A web server that answers everything but the challenge with `handler`, and a client of it."""

    async def challenge(_: web.Request) -> web.Response:
        return web.json_response({"challenge": "00" * 32})

    app = web.Application(client_max_size=16 * MIB)
    app.router.add_get("/v1/challenge", challenge)
    app.router.add_route("*", "/{rest:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    store = dial_blobs(f"ws://127.0.0.1:{port}")
    try:
        yield store
    finally:
        await store.close()
        await runner.cleanup()


class Endless:
    """Sends zeros for ever, and counts how many were taken."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.sent = 0
        self._headers = headers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers=self._headers)
        await answer.prepare(request)
        with suppress(ConnectionError):
            while self.sent < 64 * MIB:
                await answer.write(bytes(64 * KIB))
                self.sent += 64 * KIB
        return answer


async def _attack_endless() -> None:
    endless = Endless()
    async with _serve(endless.answer) as store:
        with pytest.raises(RelayMisbehaved):
            await store.get_blob(EPOCH, NAMES[0])
        with pytest.raises(RelayMisbehaved):
            await store.have(EPOCH, NAMES)
    # What was sent beyond the limit lay in the buffers of the two sockets.
    assert endless.sent < 2 * (MAX_BLOB_BYTES + 8 * MIB)


async def test_attack_42_an_endless_answer_is_cut_off() -> None:
    await _attack_endless()


async def test_attack_42_succeeds_where_answers_are_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_all(answer: Any, most: int) -> bytes:
        data: bytes = await answer.read()
        return data

    monkeypatch.setattr(http_exchange, "_read", read_all)
    with pytest.raises(AssertionError):
        await _attack_endless()


async def test_attack_42_a_compressed_answer_is_not_expanded() -> None:
    bomb = gzip.compress(bytes(64 * MIB))

    async def explode(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with _serve(explode) as store:
        with pytest.raises(RelayMisbehaved, match="not the blob"):
            await store.get_blob(EPOCH, NAMES[0])


async def _attack_redirect(seen: list[str]) -> None:
    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", "none"))
        return web.Response(body=DATA[0])

    async with _serve(note) as elsewhere:
        exchange = elsewhere._exchange  # type: ignore[attr-defined]

        async def lead_away(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(exchange._url.replace("ws", "http", 1) + request.path)

        async with _serve(lead_away) as store:
            with pytest.raises(RelayUnavailable, match="307"):
                await store.get_blob(EPOCH, NAMES[0])
    assert seen == []


async def test_attack_15_a_relay_cannot_send_a_proof_elsewhere() -> None:
    await _attack_redirect([])


async def test_attack_15_succeeds_where_redirects_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = aiohttp.ClientSession.request

    def follow(self: aiohttp.ClientSession, *where: Any, **how: Any) -> Any:
        return honest(self, *where, **{**how, "allow_redirects": True})

    monkeypatch.setattr(aiohttp.ClientSession, "request", follow)
    seen: list[str] = []
    with pytest.raises(pytest.fail.Exception):
        await _attack_redirect(seen)
    assert len(seen) == 1


async def test_attack_19_no_cookie_of_a_relay_comes_back_to_it() -> None:
    seen: list[str] = []

    async def mark(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie", ""))
        answer = web.Response(body=DATA[0])
        answer.set_cookie("who", "you")
        return answer

    async with _serve(mark) as store:
        for _ in range(3):
            await store.get_blob(EPOCH, NAMES[0])
    assert seen == ["", "", ""]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, b"<html>Bad Gateway</html>", RelayUnavailable),
        (404, b"<html>not here</html>", RelayUnavailable),
        (500, b"", RelayUnavailable),
        (204, b"", RelayUnavailable),
        (206, DATA[0], RelayUnavailable),
        (400, b"[" * 50_000, RelayUnavailable),
        (400, json.dumps({"error": {"code": "no_such_code", "message": "x"}}).encode(), RelayUnavailable),
        (400, json.dumps({"error": {"code": ["quota"], "message": "x"}}).encode(), RelayUnavailable),
        (400, json.dumps({"error": {"code": "quota"}}).encode(), RelayUnavailable),
        (503, json.dumps({"error": {"code": "shutting_down", "message": "x"}}).encode(), RelayUnavailable),
        (403, json.dumps({"error": {"code": "quota", "message": "x" * 9_000}}).encode(), BlobRefused),
        (403, b"x" * 3 * MAX_BLOB_BYTES, RelayMisbehaved),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, bytes) else None,
)
async def test_attack_41_answers_that_are_none_are_relay_errors(
    status: int, body: bytes, error: type[RelayError]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    async with _serve(answer) as store:
        with pytest.raises(error) as caught:
            await store.get_blob(EPOCH, NAMES[0])
        assert len(str(caught.value)) < 1_000
        with pytest.raises(RelayError):
            await store.have(EPOCH, NAMES)
        with pytest.raises(RelayError):
            await store.put_blobs(EPOCH, DATA)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"challenge": 7}', b'{"challenge": "zz"}', b'{"challenge": "00"}', b"\xff", b"[" * 9_999],
)
async def test_attack_41_a_challenge_that_is_none_is_a_lie(body: bytes) -> None:
    class Mumbling(MemoryBlobs):
        def answer(self, method: str, path: str, headers: dict[str, str], sent: bytes | None) -> Answer:
            return Answer(200, body)

    with pytest.raises(RelayMisbehaved):
        await Hostile(Mumbling).dial_blobs().have(EPOCH, NAMES)


# --- 43: a relay that keeps a client busy


class Slept:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        honest = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.seconds.append(seconds)
            await honest(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)


def _refusing(code: ErrorCode, retry_after: float | None, times: int = 10**6) -> type[MemoryBlobs]:
    class Refusing(MemoryBlobs):
        left = times

        def answer(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
            if path == "/v1/challenge" or self.left == 0:
                return super().answer(method, path, headers, body)
            self.left -= 1
            self.requests.append((method, path))
            told = {"error": {"code": str(code), "message": "not now"}}
            return Answer(429, json.dumps(told).encode(), retry_after)

    return Refusing


@pytest.mark.parametrize("code", [ErrorCode.RATE, ErrorCode.BUSY])
@pytest.mark.parametrize("retry_after", [0.0, 1.0, 60.0])
async def test_attack_43_a_relay_that_always_says_later_is_given_up(
    code: ErrorCode, retry_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = Slept(monkeypatch)
    relay = Hostile(_refusing(code, retry_after))
    with pytest.raises(BlobRefused) as caught:
        await relay.dial_blobs().have(EPOCH, NAMES)
    assert caught.value.reason is code
    assert sum(slept.seconds) <= blobs_module.WAIT_MOST
    assert len(relay.blobs.requests) <= 400


@pytest.mark.parametrize("retry_after", [None, 61.0, 1e9])
async def test_a_wait_that_is_none_or_too_long_is_not_waited_for(
    retry_after: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = Slept(monkeypatch)
    with pytest.raises(BlobRefused):
        await Hostile(_refusing(ErrorCode.RATE, retry_after)).dial_blobs().have(EPOCH, NAMES)
    assert slept.seconds == []


async def test_a_relay_that_is_busy_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = Slept(monkeypatch)
    relay = Hostile(_refusing(ErrorCode.BUSY, 2.0, times=5))
    assert await relay.dial_blobs().put_blobs(EPOCH, DATA) == len(DATA)
    assert (len(relay.blobs.kept), slept.seconds) == (len(DATA), [2.0] * 5)


async def test_attack_43_a_relay_that_refuses_every_proof_is_asked_twice_and_no_more() -> None:
    relay = Hostile(_refusing(ErrorCode.BAD_PROOF, None))
    with pytest.raises(BlobRefused) as caught:
        await relay.dial_blobs().have(EPOCH, NAMES)
    assert caught.value.reason is ErrorCode.BAD_PROOF
    assert [path for _, path in relay.blobs.requests] == ["/v1/challenge", "/v1/blobs/have"] * 2


async def test_a_relay_that_started_anew_is_proved_to_again() -> None:
    relay = Hostile()
    store = relay.dial_blobs()
    await store.put_blobs(EPOCH, DATA[:3])
    before, relay.blobs = relay.blobs, MemoryBlobs(relay, os.urandom(32))
    relay.blobs.kept, relay.blobs.touched = before.kept, before.touched
    assert await store.put_blobs(EPOCH, DATA) == 3


async def test_attack_08_a_server_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_exchange, "SILENCE_SECONDS", 0.2)

    async def say_nothing(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with _serve(say_nothing) as store:
        with pytest.raises(RelayUnavailable, match="does not answer"):
            await store.get_blob(EPOCH, NAMES[0])


async def test_attack_08_an_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_exchange, "REQUEST_SECONDS", 0.5)
    dripped = 0

    async def drip(request: web.Request) -> web.StreamResponse:
        nonlocal dripped
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(b"x")
                dripped += 1
                await asyncio.sleep(0.02)
        return answer

    async with _serve(drip) as store:
        with pytest.raises(RelayUnavailable, match="does not answer"):
            await store.get_blob(EPOCH, NAMES[0])
    assert dripped < 100


async def test_nothing_listens_there() -> None:
    store = dial_blobs("ws://127.0.0.1:9")
    with pytest.raises(RelayUnavailable):
        await store.have(EPOCH, NAMES)
    await store.close()
    with pytest.raises(RelayUnavailable):
        dial_blobs("relay.example")


# --- 8: cut off in the middle


class Cutter:
    """Between a client and a relay: forwards `budget` bytes of what the client sends, then resets the connection.

    Every connection has the budget anew; None forwards all.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.budget: int | None = None
        self.cuts = 0
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back = asyncio.create_task(self._copy(there, writer, None))
        try:
            await self._copy(reader, onward, self.budget)
        finally:
            back.cancel()
            for one in (writer, onward):
                one.transport.abort()
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(64 * KIB):
                if budget is not None and len(chunk) > budget:
                    writer.write(chunk[:budget])
                    await writer.drain()
                    self.cuts += 1
                    return
                budget = None if budget is None else budget - len(chunk)
                writer.write(chunk)
                await writer.drain()


async def test_attack_08_an_upload_that_is_reset_anywhere_goes_on_and_puts_nothing_twice(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    datas = [choose.randbytes(choose.randrange(1, 400_000)) for _ in range(12)]
    async with open_session() as http, serve_relay(tmp_path / "data") as relay:
        cutter = Cutter(relay.port)
        async with cutter.listen():
            client = await connect(http, relay.url)
            await client.open(EPOCH.signing)
            await client.put(EPOCH.signing, make_envelope())
            await client.close()
            for _ in range(25):
                cutter.budget = choose.randrange(100, 500_000)
                store = _behind(cutter, relay.url)
                with suppress(RelayUnavailable):
                    await store.put_blobs(EPOCH, datas)
                await store.close()
            cutter.budget = None
            store = _behind(cutter, relay.url)
            await store.put_blobs(EPOCH, datas)
            assert cutter.cuts > 0
            assert f"cocoon_relay_blobs_put_total {len(datas)}\n" in relay._metrics.render({})
            names = [name_blob(data) for data in datas]
            assert [data async for data in get_blobs(store, EPOCH, names)] == datas
            await store.close()
        totals = await relay._store.log.totals()
        assert (totals.blobs, totals.blob_bytes) == (len(datas), sum(map(len, datas)))


def _behind(cutter: Cutter, url: str) -> RelayBlobs:
    """A client that is led through the cutter and signs for the relay behind it."""
    exchange = http_exchange.HttpExchange(f"ws://127.0.0.1:{cutter.port}")
    return RelayBlobs(exchange, url)


# --- memory


class Counting(MemoryExchange):
    """Counts how many requests are under way at once."""

    under_way = most = 0

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        try:
            return await super().ask(method, path, headers, body, most)
        finally:
            self.under_way -= 1


async def test_only_so_many_blobs_are_on_their_way_at_once() -> None:
    relay = Hostile()
    exchange = Counting(relay)
    store = RelayBlobs(exchange, relay.origin)
    many = [os.urandom(50) for _ in range(40)]
    assert await store.put_blobs(EPOCH, many) == 40
    assert exchange.most == blobs_module.IN_FLIGHT
    exchange.most = 0
    reading = get_blobs(store, EPOCH, [name_blob(data) for data in many])
    assert [data async for data in reading] == many
    assert 1 < exchange.most <= blobs_module.IN_FLIGHT


async def test_the_first_failure_ends_a_put_and_leaves_no_task_behind() -> None:
    class Failing(MemoryBlobs):
        def keep(self, blob: BlobHash, data: bytes) -> bool:
            self._relay.logs[EPOCH.topic].sealed = True  # as another device seals it
            return True

    relay = Hostile(Failing)
    with pytest.raises(BlobRefused) as caught:
        await relay.dial_blobs().put_blobs(EPOCH, DATA)
    assert caught.value.reason is ErrorCode.SEALED
    assert len(relay.blobs.kept) == 1
    assert len(asyncio.all_tasks()) == 1
