"""Sync by single HTTP requests: what a topic key signs for one, and how a body holds frames.

A GET is proven for a topic, and reads. A POST is proven for a topic and one body, so whoever takes its proof can repeat
this request and make no other. A body is frames one after the other, each behind its length. Implements
specs/relay.md §3.8 and §4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cocoon_core.errors import MalformedError
from cocoon_core.protocol.constants import CHALLENGE_BYTES, LABEL_RELAY_BODY, MAX_FRAME_BYTES
from cocoon_core.protocol.ids import TopicId
from cocoon_core.protocol.primitives import hash_bytes

DIGEST_BYTES: Final = 32  # bytes of a body's digest
_LENGTH_BYTES: Final = 4


def get_message(origin: str, challenge: bytes, topic: TopicId) -> bytes:
    """What the topic key signs under LABEL_RELAY_GET to read by requests: origin ‖ challenge(32) ‖ topic(32)."""
    return origin.encode() + _fixed(challenge, CHALLENGE_BYTES) + topic


def post_message(origin: str, challenge: bytes, topic: TopicId, digest: bytes) -> bytes:
    """What it signs under LABEL_RELAY_POST for one body: origin ‖ challenge(32) ‖ topic(32) ‖ digest(32)."""
    return origin.encode() + _fixed(challenge, CHALLENGE_BYTES) + topic + _fixed(digest, DIGEST_BYTES)


def digest_body(body: bytes) -> bytes:
    """The 32 bytes by which a proof names the body of a POST."""
    return hash_bytes(LABEL_RELAY_BODY, body, DIGEST_BYTES)


def join_frames(frames: Iterable[bytes]) -> bytes:
    """One body: for each frame its length, 4 bytes big endian, and its bytes."""
    return b"".join(part for frame in frames for part in (len(frame).to_bytes(_LENGTH_BYTES), frame))


def split_frames(body: bytes) -> list[bytes]:
    """The frames of a body; each is still to be decoded.

    Raises:
        MalformedError: the lengths do not add up to the body, or a frame is empty or over MAX_FRAME_BYTES.
    """
    frames: list[bytes] = []
    place = 0
    while place < len(body):
        start = place + _LENGTH_BYTES
        size = int.from_bytes(body[place:start])
        place = start + size
        if not 0 < size <= MAX_FRAME_BYTES or place > len(body):
            raise MalformedError("a body is frames, each behind its length")
        frames.append(body[start:place])
    return frames


def _fixed(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise MalformedError(f"{length} bytes are signed here, not {len(value)}")
    return value
