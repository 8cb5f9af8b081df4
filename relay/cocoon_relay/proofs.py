"""Proofs that a client holds a topic's key: fresh challenges for connections, dated ones for HTTP.

A challenge of a connection is random and lives as long as it. One for HTTP is 8 bytes of time and a MAC, so that the
relay need not remember it; it holds for ten minutes and until the relay restarts. Implements specs/relay.md §4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import token_bytes
from typing import Final

from cocoon_core.errors import CocoonError
from cocoon_core.protocol.constants import CHALLENGE_BYTES, LABEL_OPEN, LABEL_RELAY_CHALLENGE
from cocoon_core.protocol.frames import ErrorCode, open_message
from cocoon_core.protocol.ids import Signature, TopicId
from cocoon_core.protocol.primitives import constant_time_equal, keyed_hash, verify
from cocoon_relay.refusal import Refusal

CHALLENGE_SECONDS: Final = 600  # seconds that a challenge for HTTP holds
_TIME_BYTES: Final = 8
_SCHEME: Final = "Cocoon"
Message = Callable[[str, bytes, TopicId], bytes]  # what is signed for an origin, a challenge and a topic


def make_challenge() -> bytes:
    """A fresh challenge for one connection."""
    return token_bytes(CHALLENGE_BYTES)


def check_open(origins: Sequence[str], challenge: bytes, topic: TopicId, proof: Signature) -> None:
    """Check the proof of an `open` against each name of this relay.

    Raises:
        Refusal: it holds for none.
    """
    for origin in origins:
        if _holds(topic, LABEL_OPEN, open_message(origin, challenge, topic), proof):
            return
    raise Refusal(ErrorCode.BAD_PROOF, "the proof does not hold for this topic, connection and relay")


class DatedChallenges:
    """Makes and checks the challenges of HTTP requests. `now` is in seconds since 1970."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, now: float) -> bytes:
        moment = int(now).to_bytes(_TIME_BYTES)
        return moment + self._mac(moment)

    def is_current(self, challenge: bytes, now: float) -> bool:
        """Whether this relay made it, not longer ago than it holds."""
        moment = challenge[:_TIME_BYTES]
        if len(challenge) != CHALLENGE_BYTES or not constant_time_equal(self._mac(moment), challenge[_TIME_BYTES:]):
            return False
        return 0 <= int(now) - int.from_bytes(moment) <= CHALLENGE_SECONDS

    def check(
        self,
        origins: Sequence[str],
        header: str | None,
        now: float,
        label: str,
        message: Message,
    ) -> TopicId:
        """Check an Authorization header, and return the topic that it proves for what `label` and `message` say.

        Raises:
            Refusal: it is missing, malformed, out of date or does not hold.
        """
        topic, challenge, proof = _parse_header(header)
        self._require_current(challenge, now)
        for origin in origins:
            if _holds(topic, label, message(origin, challenge, topic), proof):
                return topic
        raise Refusal(ErrorCode.BAD_PROOF, "the proof does not hold for this topic, challenge, relay and request")

    def check_again(self, header: str, now: float) -> TopicId:
        """The topic of a header that was seen to hold, for a message that says nothing of the request.

        Raises:
            Refusal: it is out of date by now.
        """
        topic, challenge, _ = _parse_header(header)
        self._require_current(challenge, now)
        return topic

    def _require_current(self, challenge: bytes, now: float) -> None:
        if not self.is_current(challenge, now):
            raise Refusal(ErrorCode.BAD_PROOF, "the challenge is not of this relay or too old; ask for another")

    def _mac(self, moment: bytes) -> bytes:
        return keyed_hash(self._key, LABEL_RELAY_CHALLENGE, moment, CHALLENGE_BYTES - _TIME_BYTES)


def _parse_header(header: str | None) -> tuple[TopicId, bytes, Signature]:
    scheme, _, credentials = (header or "").partition(" ")
    parts = credentials.split(".")
    try:
        if scheme != _SCHEME or len(parts) != 3:
            raise ValueError
        topic, challenge, proof = (bytes.fromhex(part) for part in parts)
        return TopicId(topic), challenge, Signature(proof)
    except (ValueError, CocoonError) as error:
        raise Refusal(ErrorCode.BAD_PROOF, "the header is Cocoon <topic>.<challenge>.<signature>, in hex") from error


def _holds(topic: TopicId, label: str, message: bytes, proof: Signature) -> bool:
    try:
        verify(topic, label, message, proof)
    except CocoonError:
        return False
    return True
