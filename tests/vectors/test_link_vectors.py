"""The vectors of linking and of safety numbers, read from their files as a stranger would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cocoon_core import errors
from cocoon_core.protocol.device_code import read_code, write_code
from cocoon_core.protocol.device_link import Done, LinkKeys, LinkSession, Offered, PutLetter
from cocoon_core.protocol.ids import DeviceId, GroupId, MemberId
from cocoon_core.protocol.link_letters import (
    Side,
    decode_enrolled,
    decode_enrolments,
    decode_letter,
    decode_offers,
    encode_enrolled,
    encode_offers,
)
from cocoon_core.protocol.primitives import Secret
from cocoon_core.protocol.safety_number import make_safety_number
from cocoon_core.protocol.words import to_words
from tests.vectors.generate import DIRECTORY
from tests.vectors.linking import replay

_DECODERS: dict[str, Any] = {"offer": decode_offers, "answer": decode_enrolments, "enrolled": decode_enrolled}


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    return value


LINK = read("device-link")


def test_the_code_is_read_and_written() -> None:
    given = LINK["code"]
    code = read_code(given["text"])
    assert code.secret.reveal().hex() == given["secret"]
    assert list(code.relays) == given["relays"]
    assert write_code(code) == given["text"]
    assert code.mailbox().topic.hex() == given["mailbox"]


@pytest.mark.parametrize("case", LINK["bad_codes"], ids=lambda case: case["name"])
def test_bad_codes(case: dict[str, str]) -> None:
    with pytest.raises(errors.CocoonError) as caught:
        read_code(case["text"])
    assert type(caught.value).__name__ == case["error"]


@pytest.mark.parametrize("side", list(Side))
def test_each_side_writes_these_letters_and_shows_these_words(side: Side) -> None:
    keys = LINK["sides"][side.name.lower()]
    seeds = [Secret(bytes.fromhex(keys[name])) for name in ("signing_seed", "hpke_seed", "nonce")]
    session = LinkSession(side, read_code(LINK["code"]["text"]).mailbox().topic, LinkKeys(*seeds))
    put = [effect for effect in session.start() if isinstance(effect, PutLetter)]
    shown = []
    for letter in LINK["letters"]:
        effects = session.letter_received(bytes.fromhex(letter))
        put += [effect for effect in effects if isinstance(effect, PutLetter)]
        shown += [effect for effect in effects if not isinstance(effect, PutLetter)]
    assert [effect.value.hex() for effect in put] == LINK["letters"][side::2]
    assert [list(effect.words) for effect in shown] == [LINK["words"]]  # type: ignore[union-attr]


def test_the_sealed_letters_open() -> None:
    sealed = LINK["sealed"]
    before = [bytes.fromhex(letter) for letter in LINK["letters"]]
    session, effects = replay([*before, bytes.fromhex(sealed["offer"])], Side.NEW, confirm=True)
    (offered,) = [effect for effect in effects if isinstance(effect, Offered)]
    assert encode_offers(offered.offers).hex() == sealed["offer_content"]
    (enrolment,) = decode_enrolments(bytes.fromhex(sealed["answer_content"]))
    enrolment.operation.verify_proof(enrolment.group, offered.offers[0].author)
    session.answer([enrolment])
    (done,) = session.letter_received(bytes.fromhex(sealed["enrolled"]))
    assert isinstance(done, Done)
    assert encode_enrolled(done.enrolled).hex() == sealed["enrolled_content"]


@pytest.mark.parametrize("case", LINK["bad_letters"], ids=lambda case: case["name"])
def test_bad_letters(case: dict[str, str]) -> None:
    with pytest.raises(errors.CocoonError) as caught:
        decode_letter(bytes.fromhex(case["value"]))
    assert type(caught.value).__name__ == case["error"]


@pytest.mark.parametrize("case", LINK["bad_contents"], ids=lambda case: case["name"])
def test_bad_contents(case: dict[str, str]) -> None:
    with pytest.raises(errors.CocoonError) as caught:
        _DECODERS[case["kind"]](bytes.fromhex(case["content"]))
    assert type(caught.value).__name__ == case["error"]


@pytest.mark.parametrize("case", LINK["to_words"], ids=lambda case: case["data"])
def test_words(case: dict[str, Any]) -> None:
    assert list(to_words(bytes.fromhex(case["data"]), case["count"])) == case["words"]


@pytest.mark.parametrize("case", read("verification")["good"], ids=lambda case: case["name"])
def test_safety_numbers(case: dict[str, Any]) -> None:
    sides = [
        (MemberId(bytes.fromhex(side["member"])), [DeviceId(bytes.fromhex(device)) for device in side["devices"]])
        for side in (case["one"], case["other"])
    ]
    group = GroupId(bytes.fromhex(read("verification")["group_id"]))
    for one, other in (sides, sides[::-1]):
        number = make_safety_number(group, one, other)
        assert (number.raw.hex(), number.digits, list(number.words)) == (case["number"], case["digits"], case["words"])
