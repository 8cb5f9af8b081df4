"""Dated challenges: this relay's own, for ten minutes, and nothing else."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.constants import LABEL_BLOB, LABEL_OPEN
from cocoon_core.protocol.frames import ErrorCode, blob_message
from cocoon_core.protocol.ids import TopicId
from cocoon_relay.proofs import CHALLENGE_SECONDS, DatedChallenges
from cocoon_relay.refusal import Refusal
from tests.support.relay_client import make_key

ORIGINS = ("ws://relay.test:80", "wss://relay.test:443")
NOW = 1_700_000_000.0


def header(label: str = LABEL_BLOB, origin: str = ORIGINS[1], challenge: bytes | None = None) -> tuple[str, TopicId]:
    key = make_key(b"s" * 32)  # fixed, so that the names of the cases are
    topic = TopicId(key.public)
    asked = challenge if challenge is not None else DatedChallenges(b"k" * 32).make(NOW)
    proof = key.sign(label, blob_message(origin, asked, topic))
    return f"Cocoon {topic.hex()}.{asked.hex()}.{proof.hex()}", topic


def test_a_challenge_holds_for_ten_minutes() -> None:
    made = DatedChallenges(b"k" * 32)
    challenge = made.make(NOW)
    assert made.is_current(challenge, NOW)
    assert made.is_current(challenge, NOW + CHALLENGE_SECONDS)
    assert not made.is_current(challenge, NOW + CHALLENGE_SECONDS + 1)
    assert not made.is_current(challenge, NOW - 1)
    assert not DatedChallenges(b"l" * 32).is_current(challenge, NOW)


def test_no_changed_bit_of_a_challenge_passes() -> None:
    made = DatedChallenges(b"k" * 32)
    challenge = made.make(NOW)
    for bit in range(256):
        changed = bytearray(challenge)
        changed[bit // 8] ^= 1 << bit % 8
        assert not made.is_current(bytes(changed), NOW)


def test_a_proof_for_any_origin_of_the_relay_gives_the_topic() -> None:
    for origin in ORIGINS:
        text, topic = header(origin=origin)
        assert DatedChallenges(b"k" * 32).check(ORIGINS, text, NOW, LABEL_BLOB, blob_message) == topic


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Cocoon",
        "Cocoon a.b",
        "Bearer x",
        "Cocoon zz.zz.zz",
        f"Cocoon {'00' * 32}.{'00' * 32}.{'00' * 64}",
        header(label=LABEL_OPEN)[0],
        header(origin="ws://elsewhere.test:80")[0],
        header(challenge=bytes(32))[0],
    ],
)
def test_everything_else_is_refused(text: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        DatedChallenges(b"k" * 32).check(ORIGINS, text, NOW, LABEL_BLOB, blob_message)
    assert caught.value.code is ErrorCode.BAD_PROOF
