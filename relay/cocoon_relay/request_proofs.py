"""Whom an HTTP request is from: what the relay grants its address and token, and for which topic it holds a proof.

Implements specs/relay.md §4 for blobs (http_blobs.py) and for sync by requests (http_sync.py).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import time
from typing import Final

from aiohttp import web

from cocoon_core.protocol.constants import LABEL_BLOB
from cocoon_core.protocol.frames import ErrorCode, blob_message
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.gate import Grant
from cocoon_relay.proofs import DatedChallenges, Message

_MOST_HELD: Final = 4_096  # proofs for blobs that are kept in mind: about 2 MB
_LONGEST_HELD: Final = 300  # characters; one that is written as it should be has 269
HEADERS: Final = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store"}  # of answers


class RequestProofs:
    """`granted` gives what the guard granted a request. `origins` are the names of this relay."""

    def __init__(
        self, challenges: DatedChallenges, granted: Callable[[web.Request], Grant], origins: tuple[str, ...]
    ) -> None:
        self._challenges = challenges
        self.granted = granted
        self.origins = origins
        self._held: OrderedDict[str, None] = OrderedDict()  # headers with proofs for blobs that hold

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

    def require_for_blobs(self, request: web.Request) -> TopicId:
        """The same of a proof for blobs. It names no blob, so a client shows one for many requests: only the first
        time it is checked and counted.

        Raises:
            Refusal: as `require`.
        """
        header = request.headers.get("Authorization", "")
        if header in self._held:
            topic = self._challenges.check_again(header, time())
            self._held.move_to_end(header)
            return topic
        topic = self.require(request, LABEL_BLOB, blob_message)
        if len(header) <= _LONGEST_HELD:
            self._held[header] = None
        if len(self._held) > _MOST_HELD:
            self._held.popitem(last=False)
        return topic
