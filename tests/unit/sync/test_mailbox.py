"""Mailboxes over a relay in memory: what is put is shown, what is not kept is told, what comes later arrives."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from cocoon_core.errors import RelayMisbehaved, RelayRefused, RelayUnavailable
from cocoon_core.protocol.envelope import open_envelope, seal_envelope
from cocoon_core.sync import mailbox as mailboxes
from cocoon_core.sync.mailbox import put_mailbox, read_mailbox, watch_mailbox
from cocoon_core.sync.transport import Connection, Dial
from tests.support.link_story import CODE
from tests.support.memory_relay import LyingRelay, MemoryRelay

KEYS = CODE.mailbox()


def letter(text: str) -> bytes:
    return seal_envelope(text.encode(), KEYS)


def dial_to(relay: MemoryRelay) -> Dial:
    async def dial(url: str) -> Connection:
        assert url == relay.url
        return relay.connect()

    return dial


async def test_an_empty_mailbox_is_empty() -> None:
    relay = MemoryRelay()
    assert await read_mailbox(dial_to(relay), relay.url, KEYS) == []


async def test_what_was_put_is_there_once_however_often_it_is_put() -> None:
    relay = MemoryRelay()
    for _ in range(2):
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter("one"))
    await put_mailbox(dial_to(relay), relay.url, KEYS, letter("two"))
    found = await read_mailbox(dial_to(relay), relay.url, KEYS)
    assert [open_envelope(envelope, KEYS) for envelope in found] == [b"one", b"two"]
    assert not relay.connections  # all were closed


async def test_a_relay_that_acknowledges_and_keeps_nothing_is_found_out() -> None:
    relay = LyingRelay()
    with pytest.raises(RelayMisbehaved, match="did not keep"):
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter("one"))


async def test_a_sealed_mailbox_takes_nothing() -> None:
    relay = MemoryRelay()
    await put_mailbox(dial_to(relay), relay.url, KEYS, letter("one"))
    relay.logs[KEYS.topic].sealed = True
    with pytest.raises(RelayRefused):
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter("two"))


async def test_a_watch_shows_what_was_there_and_what_comes() -> None:
    relay = MemoryRelay()
    await put_mailbox(dial_to(relay), relay.url, KEYS, letter("before"))
    async with aclosing(watch_mailbox(dial_to(relay), relay.url, KEYS)) as letters:
        assert open_envelope(await anext(letters), KEYS) == b"before"
        later = asyncio.create_task(anext(letters))
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter("after"))
        assert open_envelope(await later, KEYS) == b"after"
    assert not relay.connections


async def test_a_watch_ends_with_its_connection() -> None:
    relay = MemoryRelay()
    letters = watch_mailbox(dial_to(relay), relay.url, KEYS)
    waiting = asyncio.create_task(anext(letters))
    while not relay.connections or not relay.connections[0].cursors:
        await asyncio.sleep(0)
    relay.switch_off()
    with pytest.raises(RelayUnavailable):
        await waiting


async def test_a_mailbox_that_was_filled_up_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAILBOX_BYTES", 10_000)
    relay = MemoryRelay()
    for number in range(40):
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter(str(number)))
    with pytest.raises(RelayRefused, match="more than"):
        await read_mailbox(dial_to(relay), relay.url, KEYS)
    with pytest.raises(RelayRefused, match="more than"):
        async with aclosing(watch_mailbox(dial_to(relay), relay.url, KEYS)) as letters:
            async for _ in letters:
                pass


async def test_a_relay_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(MemoryRelay):
        def outgoing(self, connection, frame):  # type: ignore[no-untyped-def]
            return ()

    monkeypatch.setattr(mailboxes, "SILENCE_SECONDS", 0.01)
    relay = Mute()
    with pytest.raises(RelayUnavailable, match="does not answer"):
        await put_mailbox(dial_to(relay), relay.url, KEYS, letter("one"))
