"""Reads one topic from its start to its end and lets go: mailboxes before joining, and the audit of what a relay
shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cocoon_core.errors import RelayRefused, RelayUnavailable
from cocoon_core.protocol.epoch import TopicKeys
from cocoon_core.protocol.frames import normalize_origin
from cocoon_core.sync.http_connection import dial_for
from cocoon_core.sync.session import BecameLive, Broken, Deliver, Effect, Ready, Refused, Send, Session
from cocoon_core.sync.transport import Connection, Dial, send_in_time

SILENCE_SECONDS = 30.0  # without an envelope
READ_SECONDS = 600.0  # for all of it
MAX_READ_BYTES = 256 * 1024 * 1024  # what is held in memory at most


async def read_topic(dial: Dial, url: str, keys: TopicKeys, *, most: int = MAX_READ_BYTES) -> list[bytes]:
    """Every envelope of a topic, in the relay's order.

    Raises:
        RelayUnavailable, RelayRefused, RelayMisbehaved: it could not be read to the end.
    """
    session = Session(normalize_origin(url))
    connection = await dial_for(session, dial, url)
    try:
        return await _read(connection, session, keys, most)
    finally:
        await connection.close()


async def _read(connection: Connection, session: Session, keys: TopicKeys, most: int) -> list[bytes]:
    envelopes: list[bytes] = []
    size = 0
    loop = asyncio.get_running_loop()
    started = useful = loop.time()
    while True:
        try:
            async with asyncio.timeout_at(min(useful + SILENCE_SECONDS, started + READ_SECONDS)):
                raw = await connection.receive()
        except TimeoutError as error:
            raise RelayUnavailable("the relay does not answer") from error
        if raw is None:
            raise RelayUnavailable("the relay closed the connection")
        if loop.time() > min(useful + SILENCE_SECONDS, started + READ_SECONDS):
            raise RelayUnavailable("the relay says nothing of use")
        for effect in session.frame_received(raw):
            match effect:
                case Ready():
                    await send_frames(connection, session.open_topic(keys, None))
                case Deliver(_, _, delivered, _):
                    useful = loop.time()
                    envelopes += delivered
                    size += sum(map(len, delivered))
                    if size > most:
                        raise RelayRefused(f"the topic holds more than {most} bytes")
                case BecameLive():
                    return envelopes
                case other:
                    require_sound(other)


async def send_frames(connection: Connection, effects: Sequence[Effect]) -> None:
    """Send the frames among what a session asks for.

    Raises:
        RelayUnavailable: the relay does not take them.
    """
    for effect in effects:
        if isinstance(effect, Send):
            await send_in_time(connection, effect.raw, SILENCE_SECONDS)


def require_sound(effect: Effect) -> None:
    """Raises:
    RelayRefused, RelayMisbehaved: it says that the relay refused, or broke the protocol.
    """
    match effect:
        case Refused(_, _, code, message, _):
            raise RelayRefused(f"the relay refused: {message} ({code})")
        case Broken(reason):
            raise reason
        case _:
            pass
