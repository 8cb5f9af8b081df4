"""Single requests for sync, with every header visible: GET and POST of /v1/sync as specs/relay.md §3.8 has them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import aiohttp

from cocoon_core.protocol.constants import LABEL_RELAY_GET, LABEL_RELAY_POST
from cocoon_core.protocol.frames import (
    Challenge,
    ClientFrame,
    Entries,
    Live,
    Opened,
    Put,
    RelayFrame,
    decode_relay_frame,
    encode_frame,
    normalize_origin,
)
from cocoon_core.protocol.ids import Incarnation, TopicId
from cocoon_core.protocol.primitives import SigningKey
from cocoon_core.protocol.requests import digest_body, get_message, join_frames, post_message, split_frames
from tests.support.relay_client import Named, http_url, topic_of


@dataclass(frozen=True)
class Answered:
    """What a relay answered: frames, or the code of a refusal."""

    status: int
    frames: tuple[RelayFrame, ...] = ()
    code: str = ""
    retry_after: str | None = None

    @property
    def opened(self) -> Opened:
        frame = self.frames[0]
        assert isinstance(frame, Opened), self
        return frame

    @property
    def entries(self) -> list[tuple[int, bytes]]:
        """(seq, envelope) of all that it brings."""
        found: list[tuple[int, bytes]] = []
        for frame in self.frames:
            if isinstance(frame, Entries):
                found += enumerate(frame.envelopes, start=frame.first)
        return found

    @property
    def is_level(self) -> bool:
        return any(isinstance(frame, Live) for frame in self.frames)


class Requester:
    """One topic at one relay. `challenge` is that of the first greeting."""

    def __init__(self, http: aiohttp.ClientSession, relay: Named, key: SigningKey) -> None:
        self.http, self.key = http, key
        self.origin, self.url = normalize_origin(relay.url), f"{http_url(relay.url)}/v1/sync"
        self.challenge = b""

    @property
    def topic(self) -> TopicId:
        return topic_of(self.key)

    async def greet(self) -> Challenge:
        greeting = (await self.ask("GET", {})).frames[0]
        assert isinstance(greeting, Challenge)
        self.challenge = greeting.challenge
        return greeting

    async def get(
        self, after: int = 0, incarnation: Incarnation | None = None, more: dict[str, str] | None = None
    ) -> Answered:
        headers = await self.prove_get() | _cursor(incarnation, after)
        return await self.ask("GET", headers | (more or {}))

    async def post(
        self,
        *frames: ClientFrame | bytes,
        after: int = 0,
        incarnation: Incarnation | None = None,
        most: int | None = None,
    ) -> Answered:
        body = join_frames(frame if isinstance(frame, bytes) else encode_frame(frame) for frame in frames)
        headers = await self.prove_post(body) | _cursor(incarnation, after)
        return await self.ask("POST", headers | ({} if most is None else {"Cocoon-Most": str(most)}), body)

    async def put(self, *envelopes: bytes, seal: bool = False, expect: int | None = None) -> Answered:
        return await self.post(Put(1, self.topic, envelopes, seal, expect))

    async def prove_get(self) -> dict[str, str]:
        if not self.challenge:
            await self.greet()
        return self._header(self.key.sign(LABEL_RELAY_GET, get_message(self.origin, self.challenge, self.topic)))

    async def prove_post(self, body: bytes) -> dict[str, str]:
        if not self.challenge:
            await self.greet()
        digest = digest_body(body)
        message = post_message(self.origin, self.challenge, self.topic, digest)
        return self._header(self.key.sign(LABEL_RELAY_POST, message)) | {"Cocoon-Digest": digest.hex()}

    async def ask(self, method: str, headers: dict[str, str], body: bytes | None = None) -> Answered:
        data = None if body is None else BytesIO(body)
        async with self.http.request(method, self.url, headers=headers, data=data) as answer:
            if answer.status != 200:
                code = (await answer.json())["error"]["code"]
                return Answered(answer.status, code=code, retry_after=answer.headers.get("Retry-After"))
            return Answered(200, tuple(map(decode_relay_frame, split_frames(await answer.read()))))

    def _header(self, signature: bytes) -> dict[str, str]:
        return {"Authorization": f"Cocoon {self.topic.hex()}.{self.challenge.hex()}.{signature.hex()}"}


def _cursor(incarnation: Incarnation | None, after: int) -> dict[str, str]:
    return {} if incarnation is None else {"Cocoon-Cursor": f"{incarnation.hex()}.{after}"}
