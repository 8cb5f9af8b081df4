"""A relay that asks for an access token: who has it passes on every path, who has none or another passes on none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cocoon_core.errors import RelayRefused
from cocoon_core.protocol.epoch import Epoch
from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.primitives import Secret
from cocoon_core.sync.blobs import BlobRefused, name_blob
from cocoon_core.sync.http_exchange import dial_blobs
from cocoon_core.sync.reading import read_topic
from cocoon_core.sync.transport import Connection, dial_websocket
from tests.support.relay_process import RelayProcess

TOKEN = "one-of-two"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RelayProcess]:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# ours\nanother\n{TOKEN}\n")
    with RelayProcess(tmp_path / "data", "--tokens", str(tokens)) as relay:
        yield relay


async def test_with_the_token_topics_and_blobs_are_served(guarded: RelayProcess) -> None:
    epoch = Epoch(Secret(os.urandom(32)))

    async def dial(url: str) -> Connection:
        return await dial_websocket(url, TOKEN)

    assert await read_topic(dial, guarded.url, epoch) == []
    store = dial_blobs(guarded.url, TOKEN)
    try:
        assert await store.put_blobs(epoch, [b"one", b"two"]) == 2
        assert await store.get_blob(epoch, name_blob(b"two")) == b"two"
    finally:
        await store.close()


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x"])
async def test_without_it_nothing_is(guarded: RelayProcess, token: str | None) -> None:
    with pytest.raises(RelayRefused, match="asks for an access token"):
        await dial_websocket(guarded.url, token)
    store = dial_blobs(guarded.url, token)
    try:
        with pytest.raises(BlobRefused) as caught:
            await store.have(Epoch(Secret(os.urandom(32))), [name_blob(b"one")])
    finally:
        await store.close()
    assert caught.value.reason is ErrorCode.TOKEN
