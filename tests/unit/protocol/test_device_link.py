"""The conversation of two linking devices, as two state machines: what they agree on, in any order, and how it ends."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from cocoon_core.errors import InvalidLinkError, LinkingError, MalformedError, UpdateNeededError, UsageError
from cocoon_core.protocol.constants import MAX_LINK_GROUPS, VERSION
from cocoon_core.protocol.device_code import CODE_PREFIX, DeviceCode, read_code, write_code
from cocoon_core.protocol.device_link import Answered, Done, LinkEnded, LinkSession, Offered, PutLetter
from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.invite import Link, write_link
from cocoon_core.protocol.link_letters import (
    Enrolled,
    Enrolment,
    Reason,
    Side,
    decode_enrolments,
    decode_letter,
    decode_offers,
    encode_offers,
)
from cocoon_core.protocol.operations_devices import AddDevice
from cocoon_core.protocol.words import to_words, word_list
from tests.support.flips import flip
from tests.support.link_story import CODE, OFFER, Mailbox, link_keys, make_session, meet
from tests.support.protocol_story import ANA, EPOCH, GROUP, RELAYS, device_keys, named_secret

NEW_DEVICE = device_keys("ana's phone")
ENROLMENT = Enrolment(GROUP, AddDevice.make(NEW_DEVICE.signing, GROUP, ANA.id, NEW_DEVICE.hpke_public))


def pair() -> tuple[LinkSession, LinkSession, Mailbox]:
    return make_session(Side.NEW), make_session(Side.OLD), Mailbox()


def confirm_both(new: LinkSession, old: LinkSession, mailbox: Mailbox) -> None:
    mailbox.do(new, new.words_confirmed(same=True))
    mailbox.do(old, old.words_confirmed(same=True))
    mailbox.do(old, old.offer([OFFER]))
    mailbox.settle(new, old)


def test_two_devices_agree_on_words_and_one_group_passes() -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    assert mailbox.words(new) == mailbox.words(old)
    assert len(mailbox.words(new)) == 4
    confirm_both(new, old, mailbox)
    (offered,) = [effect for effect in mailbox.others[id(new)] if isinstance(effect, Offered)]
    assert encode_offers(offered.offers) == encode_offers([OFFER])
    mailbox.do(new, new.answer([ENROLMENT]))
    mailbox.settle(new, old)
    assert Answered((ENROLMENT,)) in mailbox.others[id(old)]
    mailbox.do(old, old.enrolled([Enrolled(GROUP, EPOCH)]))
    mailbox.settle(new, old)
    (done,) = [effect for effect in mailbox.others[id(new)] if isinstance(effect, Done)]
    assert [(one.group, one.epoch.secret) for one in done.enrolled] == [(GROUP, EPOCH.secret)]
    assert new.is_done
    assert old.is_done


def test_nothing_of_a_group_is_said_before_both_confirmed() -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    with pytest.raises(UsageError):
        old.offer([OFFER])
    mailbox.do(new, new.words_confirmed(same=True))
    mailbox.settle(new, old)
    assert len(mailbox.letters) == 4  # two commitments and two openings
    mailbox.do(old, old.words_confirmed(same=True))
    mailbox.do(old, old.offer([OFFER]))
    raw = b"".join(mailbox.letters)
    assert len(mailbox.letters) == 5
    assert EPOCH.secret.reveal() not in raw
    assert b"Family" not in raw


def test_an_offer_waits_for_the_new_devices_person() -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    mailbox.do(old, old.words_confirmed(same=True))
    mailbox.do(old, old.offer([OFFER]))
    mailbox.settle(new, old)
    assert not any(isinstance(effect, Offered) for effect in mailbox.others[id(new)])
    mailbox.do(new, new.words_confirmed(same=True))
    assert any(isinstance(effect, Offered) for effect in mailbox.others[id(new)])


def test_each_side_opens_its_keys_only_after_the_others_commitment() -> None:
    new, old, mailbox = pair()
    mailbox.do(new, new.start())
    assert [decode(letter)[2] for letter in mailbox.letters] == [0]
    mailbox.do(old, old.start())
    assert len(mailbox.letters) == 1  # the old one commits once it read that somebody waits
    mailbox.settle(new, old)
    assert [decode(letter)[1:3] for letter in mailbox.letters] == [[0, 0], [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("seed", range(20))
def test_order_and_repetition_of_letters_do_no_harm(seed: int) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    new, old = make_session(Side.NEW), make_session(Side.OLD)
    letters: list[bytes] = [effect.value for effect in new.start() if isinstance(effect, PutLetter)]
    compared: dict[Side, tuple[str, ...]] = {}
    for _ in range(200):
        session = chance.choice((new, old))
        for effect in session.letter_received(chance.choice(letters)):
            if isinstance(effect, PutLetter):
                letters.append(effect.value)
            else:
                compared[session.side] = effect.words  # type: ignore[union-attr]
    assert compared[Side.NEW] == compared[Side.OLD]


def test_a_conversation_depends_on_every_key_byte() -> None:
    found = set()
    for name in ("one", "two", "three"):
        new, old, mailbox = make_session(Side.NEW, name), make_session(Side.OLD), Mailbox()
        meet(new, old, mailbox)
        found.add(mailbox.words(new))
    assert len(found) == 3


# --- ends


def test_words_that_differ_end_both_sides() -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    with pytest.raises(LinkEnded, match="somebody may have the code") as ended:
        old.words_confirmed(same=False)
    mailbox.letters.append(old.end_letter(ended.value.reason))
    with pytest.raises(LinkEnded, match="words differed") as told:
        mailbox.settle(new)
    assert told.value.reason is Reason.WORDS_DIFFER
    assert new.was_ended_by_other
    assert not old.letter_received(mailbox.letters[0])  # over is over


@pytest.mark.parametrize("side", [Side.NEW, Side.OLD])
def test_a_second_one_with_the_same_code_is_noticed_by_both(side: Side) -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    other = make_session(side, "somebody else")
    if side is Side.NEW:
        mailbox.do(other, other.start())
    else:
        mailbox.do(other, other.letter_received(mailbox.letters[0]))
    for session in (new, old):
        with pytest.raises(LinkEnded) as ended:
            mailbox.settle(session)
        assert ended.value.reason is Reason.CODE_USED


def test_an_opening_that_was_not_committed_to_is_refused() -> None:
    new, old, mailbox = pair()
    mailbox.do(new, new.start())
    mailbox.deliver(old)
    forged = decode(make_opening(Side.OLD, "not committed to"))
    mailbox.letters.append(encode(forged))
    with pytest.raises(LinkEnded, match="not those that it committed to"):
        mailbox.settle(new)


def make_opening(side: Side, name: str) -> bytes:
    opening = link_keys(name).opening
    return encode([VERSION, int(side), 1, opening.signing, opening.hpke, opening.nonce])


def test_bad_keys_are_refused_though_committed_to() -> None:
    bad = [VERSION, 1, 1, b"\x01" + bytes(31), link_keys("x").opening.hpke, bytes(32)]
    opening = decode_letter(encode(bad)).opening  # type: ignore[union-attr]
    new, _, mailbox = pair()
    mailbox.do(new, new.start())
    mailbox.letters += [encode([VERSION, 1, 0, opening.commitment(Side.OLD)]), encode(bad)]
    with pytest.raises(LinkEnded, match="cannot be used"):
        mailbox.settle(new)


@pytest.mark.parametrize("place", ["wrapped", "signature"])
def test_a_sealed_letter_that_was_changed_ends_it(place: str) -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    mailbox.do(new, new.words_confirmed(same=True))
    old.words_confirmed(same=True)
    (letter,) = old.offer([OFFER])
    assert isinstance(letter, PutLetter)
    fields = decode(letter.value)
    at = {"wrapped": 4, "signature": 5}[place]
    fields[at] = flip(fields[at])
    with pytest.raises(LinkEnded, match="somebody else"):
        new.letter_received(encode(fields))


def test_a_group_that_was_not_offered_is_refused() -> None:
    new, old, mailbox = pair()
    meet(new, old, mailbox)
    confirm_both(new, old, mailbox)
    foreign = Enrolment(type(GROUP)(bytes(32)), ENROLMENT.operation)
    mailbox.do(new, new.answer([foreign]))
    with pytest.raises(LinkEnded, match="not offered"):
        mailbox.settle(old)


def test_a_letter_of_a_newer_version_says_so() -> None:
    with pytest.raises(UpdateNeededError):
        make_session(Side.NEW).letter_received(encode([2, 1, 0, bytes(32)]))


@pytest.mark.parametrize(
    "value",
    [
        encode([]),
        encode([1, 2, 0, bytes(32)]),
        encode([1, True, 0, bytes(32)]),
        encode([1, 1, 0, bytes(31)]),
        encode([1, 1, 3, 4]),
        encode([1, 1, 2, 2, b"", bytes(64)]),
        encode([1, 1, 0, bytes(32), 0]),
        b"\xff",
    ],
)
def test_what_is_no_letter_is_malformed_and_ends_it(value: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_letter(value)
    with pytest.raises(LinkingError):
        make_session(Side.NEW).letter_received(value)


def test_a_letter_names_each_group_once_and_not_too_many() -> None:
    one = encode_offers([OFFER])
    assert encode_offers(decode_offers(one)) == one
    with pytest.raises(MalformedError):
        decode_offers(encode(decode(one) * 2))
    with pytest.raises(MalformedError):
        decode_offers(encode([]))
    with pytest.raises(MalformedError):
        decode_enrolments(encode([[bytes(32)] * 4] * (MAX_LINK_GROUPS + 1)))
    assert decode_enrolments(encode([])) == ()


# --- the code and its words


def test_a_code_is_read_back_through_broken_lines() -> None:
    text = write_code(CODE)
    assert text.startswith(CODE_PREFIX)
    assert read_code("  " + "\n".join(text[at : at + 20] for at in range(0, len(text), 20)) + " ") == CODE


@pytest.mark.parametrize("at", range(len(CODE_PREFIX), len(write_code(CODE))))
def test_a_code_with_one_wrong_character_is_not_one(at: int) -> None:
    text = write_code(CODE)
    wrong = "A" if text[at] != "A" else "B"
    with pytest.raises(InvalidLinkError):
        read_code(text[:at] + wrong + text[at + 1 :])


def test_a_link_into_a_group_is_told_from_a_code() -> None:
    with pytest.raises(InvalidLinkError, match="cocoon join"):
        read_code(write_link(Link(GROUP, named_secret("link"), RELAYS)))


def test_a_code_of_a_newer_version_says_so() -> None:
    from cocoon_core.protocol.device_code import _check, _to_base64

    payload = encode([2, bytes(32), ["wss://relay.example"]])
    with pytest.raises(InvalidLinkError, match="newer"):
        read_code(CODE_PREFIX + _to_base64(payload + _check(payload)))


def test_a_code_and_its_mailbox_say_nothing_of_the_secret() -> None:
    assert "hidden" in repr(CODE) or CODE.secret.reveal().hex() not in repr(CODE)
    other = DeviceCode(named_secret("another"), CODE.relays)
    assert CODE.mailbox().topic != other.mailbox().topic


def test_words_are_the_first_bits_in_order() -> None:
    words = word_list()
    assert len(words) == 2048
    assert all(left < right for left, right in pairwise(words))
    assert len({word[:4] for word in words}) == 2048
    assert to_words(bytes(8), 2) == (words[0], words[0])
    assert to_words(b"\xff\xff\xff", 2) == (words[2047], words[2047])
    assert to_words(bytes((0b00000000, 0b00100000)), 1) == (words[1],)
