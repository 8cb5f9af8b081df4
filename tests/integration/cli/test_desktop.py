"""Notices on the desktop: a real bus, and what stands on it as the notification service of a desktop."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cocoon_cli.desktop import plain
from cocoon_core import Cocoon
from tests.integration.cli.conftest import PASSPHRASE, Person, interrupt

NAME, PLACE = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
LONG = 240.0  # seconds after which a notice that did not come is a failure
XML = f"""<node><interface name="{NAME}">
<method name="Notify">
<arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/>
<arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="as" direction="in"/>
<arg type="a{{sv}}" direction="in"/><arg type="i" direction="in"/><arg type="u" direction="out"/></method>
<method name="CloseNotification"><arg type="u" direction="in"/></method>
<method name="GetCapabilities"><arg type="as" direction="out"/></method>
<method name="GetServerInformation"><arg type="s" direction="out"/><arg type="s" direction="out"/>
<arg type="s" direction="out"/><arg type="s" direction="out"/></method>
<signal name="NotificationClosed"><arg type="u"/><arg type="u"/></signal>
<signal name="ActionInvoked"><arg type="u"/><arg type="s"/></signal>
</interface></node>"""

needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="there is no dbus-daemon here")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """The address of a bus of one's own."""
    process = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address=unix:path={tmp_path}/bus"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate()


@asynccontextmanager
async def service(address: str) -> AsyncIterator[asyncio.Queue[tuple[str, str]]]:
    """What a desktop does: title and words of each notice that it is given."""
    from dbus_fast import Message, MessageType
    from dbus_fast.aio import MessageBus

    shown: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def answer(message: Any) -> Any:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        match message.member:
            case "Introspect":
                return Message.new_method_return(message, "s", [XML])
            case "GetCapabilities":
                return Message.new_method_return(message, "as", [["body", "body-markup"]])
            case "GetServerInformation":
                return Message.new_method_return(message, "ssss", ["Test", "Cocoon", "1", "1.2"])
            case "Notify":
                shown.put_nowait((message.body[3], message.body[4]))
                return Message.new_method_return(message, "u", [shown.qsize()])
        return None

    connection = await MessageBus(bus_address=address).connect()
    connection.add_message_handler(answer)
    await connection.request_name(NAME)
    try:
        yield shown
    finally:
        connection.disconnect()


async def write(person: Person, *texts: str) -> None:
    """Posts that are at the relay when this returns; the service goes on answering meanwhile."""
    async with await Cocoon.open(person.home, PASSPHRASE) as cocoon:
        (group,) = cocoon.groups()
        for text in texts:
            await group.feed.post(text)
        await group.sync()


@needs_bus
async def test_attack_21_what_members_write_reaches_the_desktop_as_plain_words(
    family: tuple[Person, Person], bus: str
) -> None:
    ana, ben = family
    ana = ana.with_settings(DBUS_SESSION_BUS_ADDRESS=bus)
    hostile = 'Look <img src="http://spy.example/x"/> <a href="x">here</a> &amp; \u202etxt'
    async with asyncio.timeout(LONG), service(bus) as shown:
        watching = ana.start("--json", "notices", "--watch", "--desktop", "words")
        try:
            assert watching.stdout is not None
            await write(ben, hostile)
            title, words = await shown.get()
            assert title == "Family"
            assert words.startswith("Ben wrote: Look ‹img src=")
            assert not set("<>&\u202e\n") & set(words)
            await asyncio.to_thread(watching.stdout.readline)
        finally:
            ended = interrupt(watching)
        assert ended.code == 0, ended

        await write(ben, *(f"secret {number}" for number in range(5)))
        await asyncio.to_thread(ana.do, "sync")  # nothing is shown by this, and nothing is forgotten
        assert shown.empty()
        watching = ana.start("--json", "sync", "--watch", "--desktop")
        try:
            assert await shown.get() == ("Family", "5 notices")
            await write(ben, "secret 6")
            assert await shown.get() == ("Family", "Ben wrote")  # no words, where they were not asked for
        finally:
            ended = interrupt(watching)
        assert ended.code == 0, ended


async def test_a_watch_goes_on_where_the_desktop_shows_nothing(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = family
    ana = ana.with_settings(DBUS_SESSION_BUS_ADDRESS=f"unix:path={tmp_path}/nobody")
    watching = ana.start("notices", "--watch", "--desktop")
    try:
        assert watching.stdout is not None
        for text in ("one", "two"):
            await write(ben, text)
            line = await asyncio.to_thread(watching.stdout.readline)
            assert line.startswith("● Ben wrote")
            assert await asyncio.to_thread(watching.stdout.readline) == f"    {text}\n"
    finally:
        ended = interrupt(watching)
    assert ended.code == 0, ended
    assert ended.err.count("cannot be shown on the desktop") <= 1


def test_the_desktop_goes_with_a_watch(family: tuple[Person, Person]) -> None:
    ana, _ = family
    assert "--watch" in ana.type("notices", "--desktop").err


def test_words_for_the_desktop_hold_no_markup() -> None:
    assert plain("a <b>&\n\x1b[1m\u202e") == "a ‹b›＆␊␛[1m<U+202E>".replace("<", "‹").replace(">", "›")
