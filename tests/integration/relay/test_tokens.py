"""Access tokens: who has one passes on every path, who has none or another on none, guests within their limits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cocoon_core.errors import ProfileDamagedError, RelayRefused, RelayUnavailable, UsageError
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import Ack, Error, ErrorCode
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.blobs import BlobRefused, name_blob
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.reading import read_topic
from cocoon_core.sync.transport import Connection
from cocoon_core.sync.websocket import dial_websocket
from cocoon_relay.tokens import TOKENS_NAME, TokenBook, add_token, read_tokens, revoke_token, today
from tests.support.relay_client import RelayClient, WebSocketWire, http_url, make_envelope, make_key
from tests.support.relay_process import RelayProcess, relay_command, relay_environment

OWN = "brought-by-the-operator"


def operate(data: Path, *words: str, given: str | None = None) -> Any:
    """Type a command of the operator; what it prints."""
    command = relay_command(*words, "--data", str(data), "--json")
    done = subprocess.run(
        command, env=relay_environment(), input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


async def connect(http: aiohttp.ClientSession, url: str, token: str | None) -> RelayClient:
    headers = {} if token is None else {"Cocoon-Token": token}
    client = RelayClient(WebSocketWire(await http.ws_connect(f"{url}/v1/sync", headers=headers)), url)
    await client.begin()
    return client


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[RelayProcess, str]]:
    """A relay that asks for a token, and one of its two tokens."""
    operate(tmp_path / "data", "token", "new", "another")
    token = operate(tmp_path / "data", "token", "new", "ours")["token"]
    with RelayProcess(tmp_path / "data", "--access", "token") as relay:
        yield relay, token


async def test_with_the_token_topics_and_blobs_are_served(guarded: tuple[RelayProcess, str]) -> None:
    relay, token = guarded
    epoch = Epoch(Secret(os.urandom(32)))

    async def dial(url: str) -> Connection:
        return await dial_websocket(url, token)

    assert await read_topic(dial, relay.url, epoch) == []
    store = dial_blobs(relay.url, token)
    try:
        assert await store.put_blobs(epoch, [b"one", b"two"]) == 2
        assert await store.get_blob(epoch, name_blob(b"two")) == b"two"
    finally:
        await store.close()


async def test_without_it_nothing_is(guarded: tuple[RelayProcess, str]) -> None:
    relay, right = guarded
    for token in (None, "", "wrong", right + "x", read_tokens(relay.data / TOKENS_NAME)[1].hash):
        with pytest.raises(RelayRefused, match="asks for an access token"):
            await dial_websocket(relay.url, token)
        store = dial_blobs(relay.url, token)
        try:
            with pytest.raises(BlobRefused) as caught:
                await store.have(Epoch(Secret(os.urandom(32))), [name_blob(b"one")])
        finally:
            await store.close()
        assert caught.value.reason is ErrorCode.TOKEN


async def test_tokens_are_made_listed_and_revoked_beside_a_serving_relay(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    with RelayProcess(data, "--access", "token") as relay:
        made = operate(data, "token", "new", "band", "--expires", "90 days")
        brought = operate(data, "token", "new", "choir", "--stdin", given=OWN + "\n")
        assert "token" not in brought
        listed = operate(data, "token", "list")["tokens"]
        assert [one["name"] for one in listed] == ["band", "choir"]
        assert listed[0]["expires"] == made["expires"] > listed[0]["created"]
        assert made["token"] not in (data / TOKENS_NAME).read_text()
        assert OWN not in (data / TOKENS_NAME).read_text()
        assert (data / TOKENS_NAME).stat().st_mode & 0o777 == 0o600
        band, choir = await connect(http, relay.url, made["token"]), await connect(http, relay.url, OWN)
        key = make_key()
        await band.open(key)
        await choir.open(key)
        assert operate(data, "token", "revoke", "band")["revoked"]["id"] == made["id"]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await connect(http, relay.url, made["token"])
        # Who came in by it is sent away; who came by another stays.
        assert (await band.next(Error)).code is ErrorCode.TOKEN
        with pytest.raises(RelayUnavailable, match="1008"):
            await band.wire.receive()
        assert isinstance(await choir.put(key, make_envelope()), Ack)
        await choir.close()
        assert relay.errors == "cocoon-relay: no access token yet; `cocoon-relay token new NAME` makes one\n"


async def test_guests_are_served_within_their_limits_and_members_beyond(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    config = tmp_path / "relay.toml"
    config.write_text(
        '[classes.guest]\ntopic_entries = 2\naddress_topics_burst = 2\nfree_bytes = 0\nblob_bytes = "2 KiB"\n'
        "[classes.choir]\ntopic_entries = 4\n"
    )
    words = ("--config", str(config))
    member = operate(data, "token", "new", "ours", *words)["token"]
    choir = operate(data, "token", "new", "choir", "--class", "choir", *words)["token"]
    with RelayProcess(data, "--access", "guest", "--free-bytes", "0", *words) as relay:
        async with http.get(f"{http_url(relay.url)}/v1/info") as answer:
            assert (await answer.json())["token_required"] is False
        for token, most in ((None, 2), (choir, 4), (member, 9)):
            client, key = await connect(http, relay.url, token), make_key()
            await client.open(key)
            puts = [await client.put(key, make_envelope()) for _ in range(9)]
            assert [isinstance(one, Ack) for one in puts] == [place < most for place in range(9)]
            refused = [one for one in puts if isinstance(one, Error)]
            assert all(one.code is ErrorCode.QUOTA for one in refused)
            await client.close()
        guest = await connect(http, relay.url, None)
        await guest.open(make_key())
        await guest.send(guest.make_open(make_key()))
        assert (await guest.next(Error)).code is ErrorCode.TOO_MANY_TOPICS
        # What guests of this address used up, members behind it still have.
        mine = await connect(http, relay.url, member)
        await mine.open(make_key())
        # A token that is none is told, and not taken for a guest's.
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await connect(http, relay.url, "revoked-long-ago")
        await guest.close()
        await mine.close()


async def test_guests_put_nothing_where_the_disk_is_left_to_members(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    data = tmp_path / "data"
    member = operate(data, "token", "new", "ours")["token"]
    config = tmp_path / "relay.toml"
    config.write_text('[classes.guest]\nfree_bytes = "1000 TiB"\n')
    with RelayProcess(data, "--access", "guest", "--config", str(config)) as relay:
        for token, code in ((None, ErrorCode.FULL), (member, None)):
            client, key = await connect(http, relay.url, token), make_key()
            await client.open(key)
            answer = await client.put(key, make_envelope())
            assert getattr(answer, "code", None) is code
            await client.close()


def test_a_token_holds_to_the_end_of_its_last_day(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_NAME
    day = datetime.now(UTC).date()
    _, token = add_token(path, "ours", expires=day.isoformat())
    book = TokenBook(path)
    assert book.refresh()
    assert book.find(token, today()) is not None
    assert book.find(token, (day + timedelta(days=1)).isoformat()) is None
    assert not book.refresh()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[1m", "x" * 65])
def test_a_name_can_be_shown(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="can be shown"):
        add_token(tmp_path / TOKENS_NAME, name)


def test_a_token_that_is_brought_is_no_word_and_no_other_tokens(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_NAME
    for text in ("short", "x" * 257, "with a space in the middle", "ünlesbar-für-einen-kopf"):
        with pytest.raises(UsageError, match="visible ASCII"):
            add_token(path, "ours", text=text)
    first, _ = add_token(path, "ours", text=OWN)
    with pytest.raises(UsageError, match="here already"):
        add_token(path, "others", text=OWN)
    with pytest.raises(UsageError, match="of the name"):
        add_token(path, first.id)
    revoke_token(path, first.id)
    with pytest.raises(UsageError, match="there is no token"):
        revoke_token(path, first.id)
    assert read_tokens(path) == []


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"form": 2, "tokens": []}', '{"form": 1, "tokens": [{"id": 1}]}'])
def test_a_damaged_file_keeps_nobody_out_who_was_in_and_lets_nobody_in(tmp_path: Path, damage: str) -> None:
    path = tmp_path / TOKENS_NAME
    _, token = add_token(path, "ours")
    book = TokenBook(path)
    book.refresh()
    path.write_text(damage)
    with pytest.raises(ProfileDamagedError):
        book.refresh()
    assert book.find(token, today()) is not None
    assert not book.refresh()  # it is told once
    with pytest.raises(ProfileDamagedError, match="is not a file"):
        add_token(path, "more")
    assert path.read_text() == damage


async def test_many_processes_make_tokens_at_once_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_NAME
    await asyncio.gather(*(asyncio.to_thread(add_token, path, f"number {n}") for n in range(20)))
    assert len(read_tokens(path)) == 20
    assert sorted(one.name for one in tmp_path.iterdir()) == [TOKENS_NAME, "tokens.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_makes_the_relays_own_user_can_read(tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4321)
    add_token(tmp_path / TOKENS_NAME, "ours")
    assert {one.stat().st_uid for one in tmp_path.iterdir()} == {4321}
