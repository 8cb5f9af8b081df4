"""A connection to a relay that is made of single requests, where a WebSocket does not pass.

The session above speaks the same frames (sync/session.py): `open` and `resume` become GETs of pages until one says
`live`, what is asked or put becomes a POST, and what the answers hold goes to the session as if it had come by itself.
While nothing is said, topics that are level are looked at now and then, so what others put arrives late and not live.
Casts need a socket; they are dropped, as at any reader who is slow. Spec: specs/relay.md §3.8.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cocoon_core.errors import MalformedError, RelayError, RelayMisbehaved, RelayUnavailable
from cocoon_core.protocol.constants import (
    LABEL_RELAY_GET,
    LABEL_RELAY_POST,
    MAX_ANSWER_BYTES,
    MAX_BODY_BYTES,
    MAX_BODY_FRAMES,
)
from cocoon_core.protocol.frames import (
    MAX_ERROR_MESSAGE,
    Cast,
    Challenge,
    ClientFrame,
    Close,
    Entries,
    Error,
    ErrorCode,
    Fetch,
    List,
    Live,
    Open,
    Opened,
    Put,
    Resume,
    decode_client_frame,
    decode_relay_frame,
    encode_frame,
    normalize_origin,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import SigningKey
from cocoon_core.protocol.requests import digest_body, get_message, join_frames, post_message, split_frames
from cocoon_core.sync.blobs import (
    CHALLENGE_SECONDS,
    LOST_MOST,
    RETRY_LEAST,
    RETRY_MOST,
    Answer,
    BlobRefused,
    ConnectionLost,
    Exchange,
    read_refusal,
)
from cocoon_core.sync.session import Session
from cocoon_core.sync.transport import CONNECT_SECONDS, PATH, Connection, Dial

LOOK_FIRST, LOOK_MOST = 1.0, 20.0  # seconds until a level topic is looked at again, and what that grows to
_LOOK_GROWTH: Final = 1.5
_WAITING_FRAMES: Final = 32  # that came and were not taken, beyond which no more is asked for
_OVERHEAD: Final = 4  # bytes of a frame's length in a body

FindKey = Callable[[TopicId], SigningKey]


@dataclass(slots=True, eq=False)
class _Topic:
    """One topic that the session has opened.

    Attributes:
        said: frames of the session, in their order, each with its bytes.
        is_open: the relay has opened it, and the session has not closed it since.
        is_level: the last answer said `live`.
        is_still: nothing of it is sent; the session asks for names and places.
        was_live: the session was told that it is level.
    """

    topic: TopicId
    key: SigningKey
    said: deque[tuple[ClientFrame, bytes]] = field(default_factory=deque)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    incarnation: Incarnation | None = None
    after: int = 0
    is_open: bool = False
    is_level: bool = False
    is_still: bool = False
    was_live: bool = False
    pause: float = LOOK_FIRST


class RequestConnection:
    """A `Connection` over requests. `greeting` is the challenge frame with which the relay answered the first.

    `find_key` must be set before anything is sent: requests are proven one by one.
    """

    def __init__(self, exchange: Exchange, origin: str, greeting: bytes) -> None:
        self.find_key: FindKey | None = None
        self._exchange, self._origin = exchange, origin
        self._challenge, self._challenge_at = _read_challenge(greeting).challenge, self._now()
        self._asking = asyncio.Lock()
        self._topics: dict[TopicId, _Topic] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._inbox: asyncio.Queue[bytes | RelayError] = asyncio.Queue(_WAITING_FRAMES)
        self._inbox.put_nowait(greeting)

    # --- what the session's driver uses

    async def send(self, raw: bytes) -> None:
        frame = decode_client_frame(raw)
        if isinstance(frame, Cast):
            return
        one = self._topics.get(frame.topic)
        if one is None:
            if isinstance(frame, Close):
                return
            assert self.find_key is not None, "whoever dials says how requests are proven"
            one = self._topics[frame.topic] = _Topic(frame.topic, self.find_key(frame.topic))
            self._tasks.append(asyncio.create_task(self._serve(one)))
        one.said.append((frame, raw))
        one.heard.set()

    async def receive(self) -> bytes:
        came = await self._inbox.get()
        if isinstance(came, RelayError):
            self._inbox.put_nowait(came)  # there is nothing to come after it
            raise came
        return came

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exchange.close()

    # --- one topic

    async def _serve(self, one: _Topic) -> None:
        """Do what the session says of one topic, in its order, and look at it now and then."""
        try:
            while True:
                await self._serve_next(one)
        except RelayError as error:
            await self._inbox.put(error)

    async def _serve_next(self, one: _Topic) -> None:
        if not one.said:
            if not one.is_open or one.is_still or one.is_level:
                await self._wait(one)
            if not one.said:
                await self._look(one)
                return
        frame, _ = one.said[0]
        one.pause = LOOK_FIRST
        match frame:
            case Open() | Resume():
                one.said.popleft()
                await self._open(one, frame)
            case Put() | List() | Fetch():
                await self._say(one, _take_together(one.said))
            case _:
                one.said.popleft()
                one.is_open = False

    async def _wait(self, one: _Topic) -> None:
        """Until the session says something, or it is time to look."""
        one.heard.clear()
        if one.said:
            return
        looks = one.is_open and not one.is_still
        try:
            async with asyncio.timeout(one.pause if looks else None):
                await one.heard.wait()
        except TimeoutError:
            one.pause = min(LOOK_MOST, one.pause * _LOOK_GROWTH)

    async def _open(self, one: _Topic, frame: Open | Resume) -> None:
        one.incarnation, one.after = frame.incarnation, frame.after
        one.is_open = one.was_live = False
        most = frame.most if isinstance(frame, Resume) else None
        try:
            answer = await self._get(one, most)
        except BlobRefused as refusal:
            await self._tell_refusal([frame], refusal)
            return
        opened = _read_opened(answer, one.topic)
        is_known = frame.incarnation == opened.incarnation and frame.after <= opened.last
        one.incarnation, one.after = opened.incarnation, frame.after if is_known else 0
        one.is_open, one.is_still = True, most is not None and opened.last - one.after > most
        await self._inbox.put(encode_frame(replace(opened, request=frame.request)))
        await self._deliver(one, answer)

    async def _look(self, one: _Topic) -> None:
        """Read the next page."""
        try:
            answer = await self._get(one, None)
        except BlobRefused as refusal:
            wait = refusal.retry_after
            if wait is None or wait > RETRY_MOST:
                raise
            await asyncio.sleep(max(RETRY_LEAST, wait))
            return
        self._require_same(one, answer)
        before = one.after
        await self._deliver(one, answer)
        if one.after > before:
            one.pause = LOOK_FIRST
        elif not one.is_level:
            raise RelayMisbehaved("the relay says that there is more, and does not send it")

    async def _say(self, one: _Topic, frames: Sequence[tuple[ClientFrame, bytes]]) -> None:
        body = join_frames(raw for _, raw in frames)
        try:
            answer = await self._post(one, body)
        except BlobRefused as refusal:
            await self._tell_refusal([frame for frame, _ in frames], refusal)
            return
        self._require_same(one, answer)
        await self._deliver(one, answer)

    async def _deliver(self, one: _Topic, answer: Sequence[bytes]) -> None:
        """Hand on what came, and note how far that is."""
        one.is_level = False
        for raw in answer[1:]:
            frame = decode_relay_frame(raw)
            if isinstance(frame, Entries):
                one.after = max(one.after, frame.first + len(frame.envelopes) - 1)
            elif isinstance(frame, Live):
                one.is_level = True
                if one.was_live:
                    continue
                one.was_live = True
            await self._inbox.put(raw)

    async def _tell_refusal(self, frames: Sequence[ClientFrame], refusal: BlobRefused) -> None:
        wait = None if refusal.retry_after is None else round(refusal.retry_after * 1000)
        said = refusal.said.encode()[:MAX_ERROR_MESSAGE].decode(errors="ignore")
        for frame in frames:
            assert not isinstance(frame, Cast | Close), "nobody answers these"
            await self._inbox.put(encode_frame(Error(frame.request, refusal.reason, said, wait)))

    def _require_same(self, one: _Topic, answer: Sequence[bytes]) -> None:
        """A socket ends where its relay is set back; the next request shows it."""
        opened = _read_opened(answer, one.topic)
        if opened.incarnation != one.incarnation or opened.last < one.after:
            raise RelayUnavailable("the relay began the topic anew")

    # --- one request

    async def _get(self, one: _Topic, most: int | None) -> list[bytes]:
        def headers(challenge: bytes) -> dict[str, str]:
            signature = one.key.sign(LABEL_RELAY_GET, get_message(self._origin, challenge, one.topic))
            return _prove(one, challenge, signature) | ({} if most is None else {"Cocoon-Most": str(most)})

        return await self._ask("GET", headers, None)

    async def _post(self, one: _Topic, body: bytes) -> list[bytes]:
        digest = digest_body(body)

        def headers(challenge: bytes) -> dict[str, str]:
            message = post_message(self._origin, challenge, one.topic, digest)
            proof = _prove(one, challenge, one.key.sign(LABEL_RELAY_POST, message))
            return proof | {"Cocoon-Digest": digest.hex()} | ({"Cocoon-Most": "0"} if one.is_still else {})

        return await self._ask("POST", headers, body)

    async def _ask(self, method: str, prove: Callable[[bytes], dict[str, str]], body: bytes | None) -> list[bytes]:
        """Send one request until it is answered; each is safe to repeat.

        Raises:
            BlobRefused: the relay refused it.
            RelayUnavailable, RelayMisbehaved: this relay cannot be used now.
        """
        lost, proved_anew = 0, False
        while True:
            challenge = await self._current_challenge()
            try:
                answer = await self._exchange.ask(method, PATH, prove(challenge), body, MAX_ANSWER_BYTES)
            except ConnectionLost:
                lost += 1
                if lost > LOST_MOST:
                    raise
                continue
            if answer.status == 200:
                return _read_frames(answer)
            refusal = read_refusal(answer)
            if refusal.reason is not ErrorCode.BAD_PROOF or proved_anew:
                raise refusal
            proved_anew = True
            if self._challenge == challenge:
                self._challenge = b""  # the relay has started anew, or it is older than this device thinks

    async def _current_challenge(self) -> bytes:
        async with self._asking:
            if not self._challenge or self._now() - self._challenge_at > CHALLENGE_SECONDS:
                self._challenge = _read_challenge(await _greet(self._exchange)).challenge
                self._challenge_at = self._now()
            return self._challenge

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def dial_requests(url: str, token: str | None = None) -> Connection:
    """Connect to a relay by its address, by requests alone.

    Raises:
        RelayUnavailable: nothing answers there, or not a relay that takes them.
        RelayRefused: it asks for an access token, or for another, or turns this device away.
        RelayMisbehaved: it answers what is no answer.
    """
    origin = normalize_origin(url)
    from cocoon_core.sync.http_exchange import HttpExchange

    exchange = HttpExchange(url, token)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return RequestConnection(exchange, origin, await _greet(exchange))
    except TimeoutError as error:
        await exchange.close()
        raise RelayUnavailable(f"the relay {url} does not answer") from error
    except BaseException:
        await exchange.close()
        raise


async def dial_for(session: Session, dial: Dial, url: str) -> Connection:
    """Connect for a session, whose topics' keys prove requests where the connection is made of these."""
    connection = await dial(url)
    if isinstance(connection, RequestConnection):
        connection.find_key = session.key_of
    return connection


async def _greet(exchange: Exchange) -> bytes:
    for last in (False, True):
        try:
            answer = await exchange.ask("GET", PATH, {}, None, MAX_ANSWER_BYTES)
        except ConnectionLost:
            if last:
                raise
            continue
        if answer.status != 200:
            raise read_refusal(answer)
        frames = _read_frames(answer)
        if len(frames) == 1:
            return frames[0]
        break
    raise RelayMisbehaved("the relay did not greet with one challenge")


def _read_challenge(greeting: bytes) -> Challenge:
    try:
        frame = decode_relay_frame(greeting)
    except MalformedError as error:
        raise RelayMisbehaved(f"the relay sent a frame that is not one: {error}") from error
    if not isinstance(frame, Challenge):
        raise RelayMisbehaved("the relay spoke before its challenge")
    return frame


def _read_frames(answer: Answer) -> list[bytes]:
    try:
        frames = split_frames(answer.body)
        for raw in frames:
            decode_relay_frame(raw)
    except MalformedError as error:
        raise RelayMisbehaved(f"the relay sent an answer that is not one: {error}") from error
    if not frames:
        raise RelayMisbehaved("the relay sent an empty answer")
    return frames


def _read_opened(answer: Sequence[bytes], topic: TopicId) -> Opened:
    opened = decode_relay_frame(answer[0])
    if not isinstance(opened, Opened) or opened.topic != topic:
        raise RelayMisbehaved("the relay answered for a topic that was not asked for")
    return opened


def _prove(one: _Topic, challenge: bytes, signature: bytes) -> dict[str, str]:
    headers = {"Authorization": f"Cocoon {one.topic.hex()}.{challenge.hex()}.{signature.hex()}"}
    if one.incarnation is not None:
        headers["Cocoon-Cursor"] = f"{one.incarnation.hex()}.{one.after}"
    return headers


def _take_together(said: deque[tuple[ClientFrame, bytes]]) -> list[tuple[ClientFrame, bytes]]:
    """The next frames that one body can carry: puts as far as they fit, or one question."""
    taken = [said.popleft()]
    size = len(taken[0][1]) + _OVERHEAD
    while (
        said
        and isinstance(taken[0][0], Put)
        and isinstance(said[0][0], Put)
        and len(taken) < MAX_BODY_FRAMES
        and (size := size + len(said[0][1]) + _OVERHEAD) <= MAX_BODY_BYTES
    ):
        taken.append(said.popleft())
    return taken
