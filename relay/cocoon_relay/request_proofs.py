"""Whom an HTTP request is from: what the relay grants its address and token, and for which topic it holds a proof.

Implements specs/relay.md §4 for blobs (http_blobs.py) and for sync by requests (http_sync.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import Final

from aiohttp import web

from cocoon_core.protocol.frames import ErrorCode
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.gate import Grant
from cocoon_relay.proofs import DatedChallenges, Message

HEADERS: Final = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store"}  # of answers


class RequestProofs:
    """`granted` gives what the guard granted a request. `origins` are the names of this relay."""

    def __init__(
        self, challenges: DatedChallenges, granted: Callable[[web.Request], Grant], origins: tuple[str, ...]
    ) -> None:
        self._challenges = challenges
        self.granted = granted
        self.origins = origins

    def make_challenge(self) -> bytes:
        """What the proofs of the next ten minutes sign."""
        return self._challenges.make(time())

    def require(self, request: web.Request, label: str, message: Message) -> TopicId:
        """The topic of a request's proof, of which an address may show so many.

        Raises:
            Refusal: it has shown too many, or this one does not hold for what `label` and `message` say.
        """
        now = asyncio.get_running_loop().time()
        self.granted(request).address.proofs.require(1, now, ErrorCode.RATE, "proofs from this address")
        return self._challenges.check(self.origins, request.headers.get("Authorization"), time(), label, message)
