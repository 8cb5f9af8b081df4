"""Blobs over HTTP: what specs/relay.md §6 says, on a relay served in this process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO

import aiohttp
import pytest

from cocoon_core.protocol.constants import MAX_BLOB_BYTES, MAX_HAVE_HASHES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.primitives import SigningKey
from cocoon_relay import proofs
from cocoon_relay.server import Relay
from tests.support.flips import flip
from tests.support.relay_client import authorize, connect, http_url, make_envelope, make_key

Serve = Callable[..., Awaitable[Relay]]


class Blobs:
    """One topic's view of a relay's blobs."""

    def __init__(self, http: aiohttp.ClientSession, relay: Relay, key: SigningKey) -> None:
        self.http = http
        self.relay = relay
        self.key = key
        self.headers: dict[str, str] = {}

    async def request(self, method: str, path: str, **how: object) -> tuple[int, bytes, str | None]:
        """Status, body, and the error code if there is one."""
        url = f"{http_url(self.relay.url)}/v1/blobs/{path}"
        headers = self.headers | dict(how.pop("headers", {}))  # type: ignore[call-overload]
        async with self.http.request(method, url, headers=headers, **how) as answer:  # type: ignore[arg-type]
            body = await answer.read()
            refused = answer.status >= 400 and method != "HEAD"
            return answer.status, body, (await answer.json())["error"]["code"] if refused else None

    async def put(self, data: bytes, name: str | None = None) -> tuple[int, str | None]:
        status, _, code = await self.request("PUT", name or hashlib.sha256(data).hexdigest(), data=BytesIO(data))
        return status, code


async def open_blobs(http: aiohttp.ClientSession, relay: Relay) -> Blobs:
    """Of a new topic. It costs two proofs, the second with the first request."""
    found = Blobs(http, relay, make_key())
    client = await connect(http, relay.url)
    await client.open(found.key)
    await client.close()
    found.headers = await authorize(http, relay.url, found.key)
    return found


@pytest.fixture
async def blobs(serve: Serve, http: aiohttp.ClientSession) -> Blobs:
    return await open_blobs(http, await serve())


async def test_a_blob_comes_back_as_it_went(blobs: Blobs) -> None:
    data = os.urandom(300_000)
    name = hashlib.sha256(data).hexdigest()
    assert await blobs.put(data) == (201, None)
    assert await blobs.put(data) == (200, None)
    assert await blobs.request("GET", name) == (200, data, None)
    assert await blobs.request("HEAD", name) == (200, b"", None)
    status, part, _ = await blobs.request("GET", name, headers={"Range": "bytes=1000-1999"})
    assert (status, part) == (206, data[1000:2000])


async def test_the_greatest_blob_passes_and_one_byte_more_does_not(blobs: Blobs) -> None:
    assert await blobs.put(os.urandom(MAX_BLOB_BYTES)) == (201, None)
    assert await blobs.put(os.urandom(MAX_BLOB_BYTES + 1)) == (413, "too_large")


async def test_what_is_not_here_is_not_found(blobs: Blobs) -> None:
    assert (await blobs.request("GET", "ab" * 32))[::2] == (404, "not_found")
    assert (await blobs.request("HEAD", "ab" * 32))[0] == 404


@pytest.mark.parametrize("name", ["ab", "AB" * 32, "zz" * 32, "ab" * 33, "..%2f..%2frelay.sqlite3"])
async def test_a_name_that_is_no_hash_is_refused(blobs: Blobs, name: str) -> None:
    assert (await blobs.request("GET", name))[2] in {"bad_frame", "not_found"}
    assert (await blobs.put(b"x", name))[1] in {"bad_frame", "not_found"}


async def test_an_empty_or_chunked_blob_is_refused(blobs: Blobs) -> None:
    assert await blobs.put(b"") == (400, "bad_frame")

    async def drip() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await blobs.request("PUT", "ab" * 32, data=drip()))[2] == "bad_frame"


async def test_have_names_what_is_here_in_the_order_asked(blobs: Blobs) -> None:
    kept = [os.urandom(100) for _ in range(3)]
    for data in kept:
        await blobs.put(data)
    names = [hashlib.sha256(data).digest() for data in kept]
    asked = [names[2], bytes(32), names[0]]
    status, body, _ = await blobs.request("POST", "have", data=encode(asked))
    assert (status, decode(body)) == (200, [names[2], names[0]])


@pytest.mark.parametrize(
    "body", [b"", b"\xff", encode(1), encode([b"x"]), encode([bytes(32)] * (MAX_HAVE_HASHES + 1)), bytes(100_000)]
)
async def test_a_malformed_have_is_refused(blobs: Blobs, body: bytes) -> None:
    assert (await blobs.request("POST", "have", data=body))[2] in {"bad_frame", "too_large"}


async def test_no_proof_and_a_proof_for_an_unknown_topic_are_refused(blobs: Blobs) -> None:
    stranger = await authorize(blobs.http, blobs.relay.url, make_key())
    blobs.headers = {}
    for method, path in (("GET", "ab" * 32), ("PUT", "ab" * 32), ("POST", "have")):
        assert (await blobs.request(method, path, data=b"x"))[::2] == (401, "bad_proof")
        assert (await blobs.request(method, path, data=b"x", headers=stranger))[::2] == (404, "not_open")


async def test_a_sealed_topic_reads_blobs_and_puts_none(blobs: Blobs) -> None:
    data = os.urandom(100)
    await blobs.put(data)
    client = await connect(blobs.http, blobs.relay.url)
    await client.open(blobs.key)
    await client.put(blobs.key, make_envelope(), seal=True)
    await client.close()
    assert await blobs.put(os.urandom(100)) == (409, "sealed")
    assert (await blobs.request("GET", hashlib.sha256(data).hexdigest()))[1] == data


async def test_uploads_are_limited_by_address(serve: Serve, http: aiohttp.ClientSession) -> None:
    found = await open_blobs(http, await serve(address_blob_bytes=0.001, address_blob_bytes_burst=150))
    assert await found.put(os.urandom(100)) == (201, None)
    assert await found.put(os.urandom(100)) == (403, "quota")


async def test_what_is_read_is_limited_by_address(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(address_read_bytes=0.001, address_read_bytes_burst=150)
    found = await open_blobs(http, relay)
    data = os.urandom(100)
    assert await found.put(data) == (201, None)
    name = hashlib.sha256(data).hexdigest()
    assert (await found.request("GET", name))[1] == data
    status, _, code = await found.request("GET", name)
    assert (status, code) == (429, "rate")
    assert (await found.request("HEAD", name))[0] == 200
    part = await found.request("GET", name, headers=found.headers | {"Range": "bytes=90-"})
    assert part[:2] == (206, data[90:])


async def test_a_proof_that_holds_is_counted_once(serve: Serve, http: aiohttp.ClientSession) -> None:
    relay = await serve(address_proofs=0.001, address_proofs_burst=4)
    found = await open_blobs(http, relay)
    data = os.urandom(100)
    name = hashlib.sha256(data).hexdigest()
    assert await found.put(data) == (201, None)
    for _ in range(10):
        assert (await found.request("GET", name))[1] == data
    told, _, signature = found.headers["Authorization"].rpartition(".")
    broken = {"Authorization": f"{told}.{flip(bytes.fromhex(signature)).hex()}"}
    codes = [(await found.request("GET", name, headers=broken))[2] for _ in range(3)]
    assert codes == ["bad_proof", "bad_proof", "rate"]
    assert (await found.request("GET", name))[1] == data


async def test_a_proof_that_held_ends_with_its_challenge(
    serve: Serve, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await open_blobs(http, await serve())
    data = os.urandom(100)
    name = hashlib.sha256(data).hexdigest()
    assert await found.put(data) == (201, None)
    monkeypatch.setattr(proofs, "CHALLENGE_SECONDS", -1)
    assert (await found.request("GET", name))[2] == "bad_proof"
