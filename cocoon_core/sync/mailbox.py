"""Mailboxes: small topics where devices meet that share a secret and no epoch yet.

Used for linking a device, asking to be admitted, and the index of a recovery phrase. Whoever holds the secret can read
all of it, append to it, and be served anything by the relay: what a letter says is for its reader to verify. Letters
here are envelopes (specs/envelope.md §4), sealed under the mailbox's own keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from cocoon_core.errors import RelayMisbehaved, RelayRefused, RelayUnavailable
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.sync.http_connection import dial_for
from cocoon_core.sync.reading import SILENCE_SECONDS, read_topic, require_sound, send_frames
from cocoon_core.sync.session import Acked, BecameLive, Deliver, Ready, Session
from cocoon_core.sync.transport import Connection, Dial

MAX_MAILBOX_BYTES: Final = 16 * 1024 * 1024  # bytes that a mailbox's holders can make a reader fetch
PUT_SECONDS: Final = 120.0  # for one letter, from the first frame on


async def read_mailbox(dial: Dial, url: str, keys: TopicKeys) -> list[bytes]:
    """Every envelope that the relay shows of a mailbox, in its order. A mailbox that nobody wrote to is empty.

    Raises:
        RelayUnavailable, RelayRefused, RelayMisbehaved: it could not be read to the end.
    """
    return await read_topic(dial, url, keys, most=MAX_MAILBOX_BYTES)


async def put_mailbox(dial: Dial, url: str, keys: TopicKeys, envelope: bytes) -> None:
    """Put one envelope into a mailbox, and return when the relay has shown it there. Putting it again does no harm.

    Raises:
        RelayUnavailable, RelayRefused: the relay did not take it.
        RelayMisbehaved: it acknowledged the envelope and did not keep it.
    """
    session = Session(normalize_origin(url))
    connection = await dial_for(session, dial, url)
    try:
        async with asyncio.timeout(PUT_SECONDS):
            await _put(connection, session, url, keys, envelope)
    except TimeoutError as error:
        raise RelayUnavailable(f"the relay {url} does not answer") from error
    finally:
        await connection.close()


async def _put(connection: Connection, session: Session, url: str, keys: TopicKeys, envelope: bytes) -> None:
    shown, acked = False, False
    while not shown:
        for effect in session.frame_received(await _receive(connection, SILENCE_SECONDS)):
            match effect:
                case Ready():
                    await send_frames(connection, session.open_topic(keys, None))
                case Deliver(_, _, envelopes, _):
                    shown = shown or envelope in envelopes
                case BecameLive() if shown:
                    pass
                case BecameLive() if acked:
                    raise RelayMisbehaved(f"the relay {url} acknowledged a letter and did not keep it")
                case BecameLive():
                    await send_frames(connection, session.put(keys.topic, 0, [envelope]))
                case Acked():  # which proves nothing: read the mailbox again
                    acked = True
                    await send_frames(connection, session.close_topic(keys.topic))
                    await send_frames(connection, session.open_topic(keys, None))
                case other:
                    require_sound(other)


async def watch_mailbox(dial: Dial, url: str, keys: TopicKeys) -> AsyncGenerator[bytes, None]:
    """Every envelope of a mailbox from its start, and then each that comes, for as long as the connection lasts.

    A letter may come more than once over several calls; the caller ends it with `aclose` (`contextlib.aclosing`).

    Raises:
        RelayUnavailable, RelayRefused, RelayMisbehaved: the connection was lost or is of no use.
    """
    session = Session(normalize_origin(url))
    connection = await dial_for(session, dial, url)
    size, live = 0, False
    try:
        while True:  # who waits for another device may hear nothing for long; the transport finds a dead connection
            for effect in session.frame_received(await _receive(connection, None if live else SILENCE_SECONDS)):
                match effect:
                    case Ready():
                        await send_frames(connection, session.open_topic(keys, None))
                    case Deliver(_, _, envelopes, _):
                        size += sum(map(len, envelopes))
                        if size > MAX_MAILBOX_BYTES:
                            raise RelayRefused(f"the mailbox holds more than {MAX_MAILBOX_BYTES} bytes")
                        for envelope in envelopes:
                            yield envelope
                    case BecameLive():
                        live = True
                    case other:
                        require_sound(other)
    finally:
        await connection.close()


async def _receive(connection: Connection, seconds: float | None) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            raw = await connection.receive()
    except TimeoutError as error:
        raise RelayUnavailable("the relay does not answer") from error
    if raw is None:
        raise RelayUnavailable("the relay closed the connection")
    return raw
