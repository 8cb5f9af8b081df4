"""The blobs of the relay in memory: the rules of specs/relay.md §6, with the real proofs and hashes, without sockets.

The client's half is the real one: `MemoryRelay.dial_blobs` gives RelayBlobs over an exchange that ends here. Hostile
relays replace `keep`, `serve` or `show`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from cocoon_core.errors import MalformedError, RelayUnavailable
from cocoon_core.protocol.constants import LABEL_BLOB, MAX_BLOB_BYTES, MAX_HAVE_HASHES
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.frames import ErrorCode, blob_message
from cocoon_core.protocol.ids import BlobHash
from cocoon_core.sync.blobs import Answer
from cocoon_relay.limits import DAY
from cocoon_relay.proofs import DatedChallenges
from cocoon_relay.refusal import HTTP_STATUS, Refusal

if TYPE_CHECKING:
    from tests.support.memory_relay import MemoryLog, MemoryRelay


class MemoryBlobs:
    """What one relay in memory keeps of blobs, and how it answers."""

    def __init__(self, relay: MemoryRelay, key: bytes) -> None:
        self.kept: dict[BlobHash, bytes] = {}
        self.touched: dict[BlobHash, float] = {}  # days
        self.requests: list[tuple[str, str]] = []  # method and path, for tests that count
        self._relay = relay
        self._challenges = DatedChallenges(key)

    # --- hooks of hostile relays

    def keep(self, blob: BlobHash, data: bytes) -> bool:
        """Whether a blob that passed every check is kept; it is answered 201 in any case."""
        return True

    def serve(self, blob: BlobHash) -> bytes | None:
        """The bytes that are served for a name; None: there are none."""
        return self.kept.get(blob)

    def show(self, asked: list[BlobHash]) -> list[BlobHash]:
        """The answer to a `have`."""
        return [blob for blob in asked if blob in self.kept]

    # --- what an honest relay does

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """Answer one HTTP request."""
        self.requests.append((method, path))
        try:
            return self._answer(method, path, headers, body or b"")
        except Refusal as refusal:
            told = {"error": {"code": str(refusal.code), "message": refusal.message}}
            return Answer(HTTP_STATUS[refusal.code], json.dumps(told).encode())

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        now = self._relay.day * DAY
        if path == "/v1/challenge":
            return Answer(200, json.dumps({"challenge": self._challenges.make(now).hex()}).encode())
        topic = self._challenges.check(
            (self._relay.origin,), headers.get("Authorization"), now, LABEL_BLOB, blob_message
        )
        log = self._relay.logs.get(topic)
        if log is None:
            raise Refusal(ErrorCode.NOT_OPEN, "the proof is of a topic that this relay does not hold")
        log.touched = self._relay.day
        if (method, path) == ("POST", "/v1/blobs/have"):
            return Answer(200, encode(list(self._have(log, body))))
        blob = BlobHash(bytes.fromhex(path.removeprefix("/v1/blobs/")))
        if method == "PUT":
            return Answer(self._put(log, blob, body), b"")
        data = self.serve(blob)
        if data is None:
            raise Refusal(ErrorCode.NOT_FOUND, "no such blob")
        return Answer(200, data)

    def _put(self, log: MemoryLog, blob: BlobHash, data: bytes) -> int:
        if log.sealed:
            raise Refusal(ErrorCode.SEALED, "the topic is sealed: it reads blobs and puts none")
        if not data:
            raise Refusal(ErrorCode.BAD_FRAME, "a blob is not empty")
        if len(data) > MAX_BLOB_BYTES:
            raise Refusal(ErrorCode.TOO_LARGE, f"a blob is at most {MAX_BLOB_BYTES} bytes here")
        if blob in self.kept:
            self.touched[blob] = self._relay.day
            return 200
        if hashlib.sha256(data).digest() != blob:
            raise Refusal(ErrorCode.BAD_HASH, "the bytes are not those that the name commits to")
        if self.keep(blob, data):
            self.kept[blob], self.touched[blob] = data, self._relay.day
        return 201

    def _have(self, log: MemoryLog, body: bytes) -> list[BlobHash]:
        try:
            asked = decode(body)
            if type(asked) is not list or len(asked) > MAX_HAVE_HASHES:
                raise MalformedError(f"a have is an array of at most {MAX_HAVE_HASHES} hashes")
            names = [BlobHash(name) for name in asked]
        except MalformedError as error:
            raise Refusal(ErrorCode.BAD_FRAME, str(error)) from error
        if not log.sealed:
            self.touched |= {blob: self._relay.day for blob in names if blob in self.kept}
        return self.show(names)

    def collect(self, lease: float) -> None:
        """Let go of what was touched more than `lease` days ago."""
        for blob in [blob for blob, touched in self.touched.items() if touched < self._relay.day - lease]:
            del self.kept[blob], self.touched[blob]


class MemoryExchange:
    """Requests to a relay in memory, answered before `ask` returns."""

    def __init__(self, relay: MemoryRelay) -> None:
        self._relay = relay

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None, most: int) -> Answer:
        if not self._relay.reachable:
            raise RelayUnavailable("the relay in memory is switched off")
        return self._relay.blobs.answer(method, path, headers, body)

    async def close(self) -> None:
        pass
