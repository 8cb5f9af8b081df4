"""The texts that a lost member and the guardians hand each other, and the request that one of them names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cocoon_core.errors import InvalidLinkError, MalformedError, SignatureError
from cocoon_core.protocol.circle import (
    CIRCLE_PREFIX,
    HELP_PREFIX,
    CircleCode,
    HelpCode,
    encode_request,
    read_circle_code,
    read_help_code,
    read_request,
    request_words,
    write_circle_code,
    write_help_code,
)
from cocoon_core.protocol.encoding import encode
from cocoon_core.protocol.ids import GroupId, MemberId, RequestId, Signature
from cocoon_core.protocol.operations_admission import LostMember, Newcomer, request_id
from cocoon_core.protocol.primitives import SigningKey
from tests.support.protocol_story import GROUP, MEMBER, RELAYS, device_keys, named_secret

NEW = device_keys("the new device")
REQUEST = LostMember.make(NEW.signing, GROUP, NEW.hpke_public, MEMBER)
CODE = CircleCode(GROUP, named_secret("mailbox"), request_id(REQUEST, GROUP))
HELP = HelpCode(GROUP, MEMBER, RELAYS, ((RELAYS[0], "token"),))
TEXTS = [write_help_code(HELP), write_circle_code(CODE)]


def read(text: str) -> object:
    return read_help_code(text) if text.lstrip("\n “").startswith(HELP_PREFIX) else read_circle_code(text)


def test_both_come_back_from_their_text() -> None:
    assert read_help_code(TEXTS[0]) == HELP
    found = read_circle_code(TEXTS[1])
    assert (found.group, found.mailbox_secret, found.request) == (GROUP, CODE.mailbox_secret, CODE.request)


@pytest.mark.parametrize("text", TEXTS)
def test_what_messengers_do_to_a_text_does_no_harm(text: str) -> None:
    wrapped = "\n".join(text[at : at + 40] for at in range(0, len(text), 40))
    assert read(f"“{text}”") == read(f"\n  {wrapped} \r\n") == read(text)


def test_the_circle_code_is_short_enough_for_a_qr_code() -> None:
    assert len(TEXTS[1]) < 180


@pytest.mark.parametrize("text", TEXTS)
def test_every_changed_or_missing_character_is_noticed(text: str) -> None:
    start = text.index(":") + 1
    for at in range(start, len(text)):
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(InvalidLinkError):
            read(text[:at] + other + text[at + 1 :])
        with pytest.raises(InvalidLinkError):
            read(text[:at] + text[at + 1 :])


def test_one_is_not_taken_for_the_other_or_for_a_link() -> None:
    for reader in (read_help_code, read_circle_code):
        for text in ("", "cocoon:AAAA", HELP_PREFIX, CIRCLE_PREFIX, "cocoon-help:" + "A" * 5000):
            with pytest.raises(InvalidLinkError):
                reader(text)
    with pytest.raises(InvalidLinkError, match="from cocoon-help: to its last"):
        read_help_code(TEXTS[1])
    with pytest.raises(InvalidLinkError):  # the check covers the kind
        read_circle_code(CIRCLE_PREFIX + TEXTS[0].removeprefix(HELP_PREFIX))


def test_the_request_in_the_mailbox_is_the_one_that_the_code_names() -> None:
    assert read_request(encode_request(REQUEST), CODE) == REQUEST


def other_requests() -> list[LostMember]:
    thief = device_keys("a thief")
    return [
        LostMember.make(thief.signing, GROUP, thief.hpke_public, MEMBER),
        LostMember.make(NEW.signing, GROUP, thief.hpke_public, MEMBER),
        LostMember.make(NEW.signing, GROUP, NEW.hpke_public, MemberId(bytes(32))),
        replace(REQUEST, proof=Signature(bytes(64))),
    ]


@pytest.mark.parametrize("request_", other_requests())
def test_attack_14_another_request_in_its_place_is_refused(request_: LostMember) -> None:
    with pytest.raises(MalformedError, match="another request"):
        read_request(encode_request(request_), CODE)


def test_a_request_that_its_device_did_not_sign_is_refused() -> None:
    forged = replace(REQUEST, proof=Signature(bytes(64)))
    with pytest.raises(SignatureError):
        read_request(encode_request(forged), replace(CODE, request=request_id(forged, GROUP)))


def test_a_request_for_another_group_is_refused() -> None:
    elsewhere = GroupId(bytes(32))
    moved = replace(CODE, group=elsewhere, request=request_id(REQUEST, elsewhere))
    with pytest.raises(SignatureError):
        read_request(encode_request(REQUEST), moved)


def test_a_newcomer_is_no_lost_member() -> None:
    link = SigningKey(named_secret("link"))
    newcomer = Newcomer.make(NEW.signing, link, GROUP, NEW.hpke_public, "Ana")
    with pytest.raises(MalformedError):
        read_request(encode([1, newcomer.to_value()]), replace(CODE, request=RequestId(request_id(newcomer, GROUP))))
    for value in (encode([2, REQUEST.to_value()]), encode([True, REQUEST.to_value()]), encode({}), encode([1, b""])):
        with pytest.raises(MalformedError):
            read_request(value, CODE)


def test_six_words_tell_two_requests_apart() -> None:
    words = {request_words(request_id(one, GROUP)) for one in [REQUEST, *other_requests()[:3]]}
    assert len(words) == 4
    assert all(len(one.split()) == 6 for one in words)
    low = RequestId(bytes(8) + b"\x3f" + bytes([255]) * 23)  # bits beyond the first 66 are not shown
    assert request_words(low) == " ".join(["abandon"] * 6)
    assert request_words(RequestId(b"\xff" * 32)) == " ".join(["zoo"] * 6)
