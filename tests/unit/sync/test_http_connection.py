"""A connection made of requests: what it asks, what it hands on, and what it takes from a relay that lies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from cocoon_core.errors import RelayError, RelayMisbehaved, RelayUnavailable
from cocoon_core.protocol.constants import FRAME_VERSION
from cocoon_core.protocol.frames import (
    Ack,
    Cast,
    Challenge,
    Close,
    Entries,
    Error,
    ErrorCode,
    Live,
    Open,
    Opened,
    Put,
    RelayFrame,
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
)
from cocoon_core.protocol.ids import Incarnation, Signature
from cocoon_core.protocol.requests import join_frames, split_frames
from cocoon_core.sync import http_connection
from cocoon_core.sync.blobs import Answer, ConnectionLost
from cocoon_core.sync.http_connection import RequestConnection
from tests.support.relay_client import make_envelope, make_key, topic_of

KEY = make_key(b"t" * 32)
TOPIC, LIFE, OTHER_LIFE = topic_of(KEY), Incarnation(b"\1" * 16), Incarnation(b"\2" * 16)
NO_PROOF = Signature(bytes(64))
OPENED, LIVE = Opened(0, TOPIC, LIFE, 2, False), Live(TOPIC, 2)
PAGE = Entries(TOPIC, 1, (make_envelope(), make_envelope()))


def greeting(fill: bytes = b"\3") -> bytes:
    return encode_frame(Challenge(FRAME_VERSION, fill * 32, {}))


def answer(*frames: RelayFrame) -> Answer:
    return Answer(200, join_frames(map(encode_frame, frames)))


def refusal(code: ErrorCode, status: int = 429, retry_after: float | None = None) -> Answer:
    return Answer(status, json.dumps({"error": {"code": code, "message": "no"}}).encode(), retry_after)


class Script:
    """Answers requests with what it was given, in that order."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str], bytes | None]] = []

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        self.asked.append((method, headers, body))
        if not self.answers:
            await asyncio.Event().wait()
        next_one = self.answers.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one

    async def close(self) -> None: ...


Speak = Callable[..., RequestConnection]


@pytest.fixture
async def speak(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Speak]:
    monkeypatch.setattr(http_connection, "LOOK_FIRST", 0.01)
    made: list[RequestConnection] = []

    def make(script: Script) -> RequestConnection:
        made.append(RequestConnection(script, "ws://relay.test:80", greeting()))
        made[-1].find_key = {TOPIC: KEY}.__getitem__
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def say(connection: RequestConnection, *frames: Open | Put | Cast | Close) -> None:
    for frame in frames:
        await connection.send(encode_frame(frame))


async def hear(connection: RequestConnection, count: int) -> list[RelayFrame]:
    async with asyncio.timeout(5):
        return [decode_relay_frame(await connection.receive()) for _ in range(count)]


async def fails(connection: RequestConnection) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await hear(connection, 100)
    return caught.value


async def test_pages_are_read_until_one_says_live_which_is_told_once(speak: Speak) -> None:
    more = Entries(TOPIC, 3, (make_envelope(),))
    grown = Opened(0, TOPIC, LIFE, 3, False)
    script = Script(answer(OPENED, PAGE), answer(grown, more, Live(TOPIC, 3)), answer(grown, Live(TOPIC, 3)))
    connection = speak(script)
    await say(connection, Open(7, TOPIC, None, 0, NO_PROOF))
    told = await hear(connection, 5)
    assert told[1:] == [Opened(7, TOPIC, LIFE, 2, False), PAGE, more, Live(TOPIC, 3)]
    while len(script.asked) < 4:
        await asyncio.sleep(0)
    assert connection._inbox.empty()
    cursors = [headers.get("Cocoon-Cursor") for _, headers, _ in script.asked]
    assert cursors == [None, f"{LIFE.hex()}.2", f"{LIFE.hex()}.3", f"{LIFE.hex()}.3"]


async def test_puts_that_wait_go_together_and_casts_nowhere(speak: Speak) -> None:
    script = Script(answer(OPENED, PAGE, LIVE), answer(OPENED, *(Ack(number, TOPIC, (1,)) for number in (2, 3, 4))))
    connection = speak(script)
    await say(connection, Open(1, TOPIC, None, 0, NO_PROOF), Cast(TOPIC, b"x"))
    puts = [Put(number, TOPIC, (make_envelope(),)) for number in (2, 3, 4)]
    await say(connection, *puts)
    assert [type(frame) for frame in await hear(connection, 7)][-3:] == [Ack] * 3
    assert [method for method, _, _ in script.asked[:2]] == ["GET", "POST"]
    body = script.asked[1][2]
    assert body is not None
    assert list(map(decode_client_frame, split_frames(body))) == puts


async def test_a_closed_topic_is_looked_at_no_more(speak: Speak) -> None:
    script = Script(answer(OPENED, PAGE, LIVE), answer(OPENED, LIVE))
    connection = speak(script)
    await say(connection, Close(TOPIC), Open(1, TOPIC, None, 0, NO_PROOF), Close(TOPIC))
    await hear(connection, 4)
    while connection._topics[TOPIC].said:
        await asyncio.sleep(0)
    assert not connection._topics[TOPIC].is_open
    assert len(script.asked) == 1


async def test_a_challenge_that_ended_is_asked_for_once(speak: Speak) -> None:
    bad = refusal(ErrorCode.BAD_PROOF, 401)
    script = Script(bad, Answer(200, join_frames([greeting(b"\4")])), answer(OPENED, PAGE, LIVE), bad, bad, bad)
    connection = speak(script)
    await say(connection, Open(1, TOPIC, None, 0, NO_PROOF))
    assert (await hear(connection, 4))[-1] == LIVE
    proofs = [headers["Authorization"].split(".")[1] for _, headers, _ in script.asked if headers]
    assert proofs[:2] == [(b"\3" * 32).hex(), (b"\4" * 32).hex()]


async def test_what_is_refused_is_told_as_a_socket_tells_it(speak: Speak) -> None:
    script = Script(answer(OPENED, PAGE, LIVE), refusal(ErrorCode.RATE, retry_after=2.0))
    connection = speak(script)
    await say(connection, Open(1, TOPIC, None, 0, NO_PROOF), Put(2, TOPIC, (make_envelope(),)))
    assert (await hear(connection, 5))[-1] == Error(2, ErrorCode.RATE, "no", 2000)


async def test_a_lost_connection_is_tried_three_times(speak: Speak) -> None:
    lost = ConnectionLost("lost")
    script = Script(lost, lost, answer(OPENED, PAGE, LIVE), lost, lost, lost)
    connection = speak(script)
    await say(connection, Open(1, TOPIC, None, 0, NO_PROOF))
    assert (await hear(connection, 4))[-1] == LIVE
    assert isinstance(await fails(connection), ConnectionLost)
    assert isinstance(await fails(connection), ConnectionLost)  # and nothing comes after it


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (answer(OPENED), RelayMisbehaved),
        (answer(Opened(0, TOPIC, OTHER_LIFE, 2, False), LIVE), RelayUnavailable),
        (answer(Opened(0, TOPIC, LIFE, 1, False), LIVE), RelayUnavailable),
        (answer(Opened(0, topic_of(make_key()), LIFE, 2, False), LIVE), RelayMisbehaved),
        (answer(LIVE), RelayMisbehaved),
        (answer(), RelayMisbehaved),
        (Answer(200, b"<html>"), RelayMisbehaved),
        (Answer(200, join_frames([b"\xff"])), RelayMisbehaved),
        (Answer(502, b"<html>"), RelayUnavailable),
    ],
    ids=[
        "no end",
        "another life",
        "rolled back",
        "another topic",
        "not opened",
        "empty",
        "no body",
        "no frame",
        "proxy",
    ],
)
async def test_a_lie_ends_it_after_what_came_before(speak: Speak, lie: Answer, kind: type[RelayError]) -> None:
    connection = speak(Script(answer(OPENED, PAGE), lie))
    await say(connection, Open(1, TOPIC, None, 0, NO_PROOF))
    assert (await hear(connection, 3))[-1] == PAGE
    assert type(await fails(connection)) is kind
