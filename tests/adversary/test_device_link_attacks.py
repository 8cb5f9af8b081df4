"""Attack 6 on device links: somebody who has the code stands between the two devices, or is faster than the right one.

The attacker here holds all that a photograph of the code gives, and a relay that shows to each side what the attacker
wants. Each attack is also run on a build that was weakened where the defence is.
"""

from __future__ import annotations

import random

import pytest

from cocoon_core.errors import LinkingError
from cocoon_core.protocol import device_link
from cocoon_core.protocol.device_link import (
    CompareWords,
    LinkEnded,
    LinkKeys,
    LinkSession,
    Offered,
    PutLetter,
    make_transcript,
    words_of,
)
from cocoon_core.protocol.link_letters import (
    CommitLetter,
    Opening,
    OpenLetter,
    Reason,
    Side,
    decode_letter,
    encode_letter,
    encode_offers,
)
from cocoon_core.protocol.primitives import Secret
from tests.support.link_story import CODE, OFFER, Mailbox, link_keys, make_session, meet

TOPIC = CODE.mailbox().topic


def random_keys(chance: random.Random) -> LinkKeys:
    return LinkKeys(*(Secret(chance.randbytes(32)) for _ in range(3)))


# --- between the two


@pytest.mark.parametrize("seed", range(25))
def test_attack_06_whoever_stands_between_two_linking_devices_shows_them_different_words(seed: int) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    new, old = LinkSession(Side.NEW, TOPIC, random_keys(chance)), LinkSession(Side.OLD, TOPIC, random_keys(chance))
    to_new, to_old = (
        LinkSession(Side.OLD, TOPIC, random_keys(chance)),
        LinkSession(Side.NEW, TOPIC, random_keys(chance)),
    )
    with_new, with_old = Mailbox(), Mailbox()
    meet(new, to_new, with_new)
    meet(to_old, old, with_old)
    assert with_new.words(new) == with_new.words(to_new)
    assert with_new.words(new) != with_old.words(old)
    with pytest.raises(LinkEnded) as ended:
        old.words_confirmed(same=False)
    with_old.letters.append(old.end_letter(ended.value.reason))
    assert not [effect for effect in with_old.others[id(to_old)] if isinstance(effect, Offered)]
    with pytest.raises(LinkEnded):  # the code is burned: no side of this conversation goes on
        with_old.settle(to_old)


def committing_first(session: LinkSession, chance: random.Random) -> tuple[Opening, Opening]:
    """Play the new device to the old one as far as the old one has opened; give the attacker's and its opening."""
    keys = random_keys(chance)
    (commit,) = session.letter_received(encode_letter(CommitLetter(Side.NEW, keys.opening.commitment(Side.NEW))))
    assert isinstance(commit, PutLetter)
    effects = session.letter_received(encode_letter(OpenLetter(Side.NEW, keys.opening)))
    opened = [decode_letter(effect.value) for effect in effects if isinstance(effect, PutLetter)]
    assert isinstance(opened[0], OpenLetter)
    return keys.opening, opened[0].opening


def grind(chance: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The attack that commitments prevent: see the new device's opening first, then choose one's own.

    The attacker plays the old device to the new one. It commits to something, gets the opening, and tries openings of
    its own until the words are those of its other conversation.
    """
    old = make_session(Side.OLD)
    mine, theirs = committing_first(old, chance)
    wanted = words_of(make_transcript(TOPIC, mine, theirs))
    new = LinkSession(Side.NEW, TOPIC, random_keys(chance))
    new.start()
    decoy = random_keys(chance).opening
    (opened,) = new.letter_received(encode_letter(CommitLetter(Side.OLD, decoy.commitment(Side.OLD))))
    assert isinstance(opened, PutLetter)
    letter = decode_letter(opened.value)
    assert isinstance(letter, OpenLetter)
    for _ in range(50_000):
        tried = Opening(decoy.signing, decoy.hpke, chance.randbytes(32))
        if words_of(make_transcript(TOPIC, letter.opening, tried)) == wanted:
            effects = new.letter_received(encode_letter(OpenLetter(Side.OLD, tried)))
            (compare,) = [effect for effect in effects if isinstance(effect, CompareWords)]
            return compare.words, wanted
    raise AssertionError("no opening was found")


def test_attack_06_words_cannot_be_steered_after_the_commitment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_link, "LINK_WORDS", 1)  # so that trying is quick: the defence is not the number of words
    with pytest.raises(LinkEnded, match="not those that it committed to"):
        grind(random.Random(6))


def test_attack_06_words_can_be_steered_where_the_commitment_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_link, "LINK_WORDS", 1)
    monkeypatch.setattr(LinkSession, "_check_opening", lambda self: None)
    shown, wanted = grind(random.Random(6))
    assert shown == wanted


# --- faster than the right one


@pytest.mark.parametrize("side", [Side.NEW, Side.OLD])
def test_attack_06_a_second_answer_to_a_code_burns_it(side: Side) -> None:
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    mailbox.do(new, new.start())
    thief = LinkSession(side, TOPIC, link_keys("thief"))
    if side is Side.NEW:
        mailbox.do(thief, thief.start())
    else:
        mailbox.deliver(thief)
    for session in (new, old):
        with pytest.raises(LinkEnded) as ended:
            mailbox.settle(session)
            mailbox.settle(new, old)
        assert ended.value.reason in (Reason.CODE_USED, Reason.STOPPED)


def test_attack_06_a_thief_who_is_first_shows_other_words_than_the_right_device() -> None:
    """The thief answers before the old device: its person sees no words at all, or others."""
    new, mailbox = make_session(Side.NEW), Mailbox()
    thief, old = LinkSession(Side.OLD, TOPIC, link_keys("thief")), make_session(Side.OLD)
    meet(new, thief, mailbox)
    with pytest.raises(LinkEnded) as ended:
        mailbox.do(old, old.start())
        mailbox.settle(old)
    assert ended.value.reason is Reason.CODE_USED


# --- after the words


def forge_offer(mailbox: Mailbox, new: LinkSession) -> None:
    """Whoever reads the mailbox knows the new device's linking key, and can seal to it."""
    thief = LinkSession(Side.OLD, TOPIC, link_keys("thief"))
    thief._transcript = new._transcript
    thief._theirs = {(1, 0): OpenLetter(Side.NEW, link_keys("new").opening)}
    mailbox.letters.append(thief._put_sealed(0, encode_offers([OFFER])).value)


def test_attack_06_a_thief_who_only_listens_cannot_slip_in_groups_of_theirs() -> None:
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    mailbox.do(new, new.words_confirmed(same=True))
    forge_offer(mailbox, new)
    with pytest.raises(LinkingError, match="somebody else"):
        mailbox.settle(new)


def test_attack_06_a_thief_slips_in_groups_where_letters_are_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    mailbox.do(new, new.words_confirmed(same=True))
    forge_offer(mailbox, new)
    monkeypatch.setattr(device_link, "verify", lambda *_: None)
    mailbox.settle(new)
    assert [effect for effect in mailbox.others[id(new)] if isinstance(effect, Offered)]


def test_attack_06_a_thief_who_only_listens_reads_nothing_of_the_groups() -> None:
    new, old, mailbox = make_session(Side.NEW), make_session(Side.OLD), Mailbox()
    meet(new, old, mailbox)
    mailbox.do(new, new.words_confirmed(same=True))
    mailbox.do(old, old.words_confirmed(same=True))
    mailbox.do(old, old.offer([OFFER]))
    thief = LinkSession(Side.NEW, TOPIC, link_keys("thief"))
    thief._transcript, thief._theirs = old._transcript, {(1, 0): OpenLetter(Side.OLD, link_keys("old").opening)}
    sealed = decode_letter(mailbox.letters[-1])
    thief._theirs[2, 0] = sealed
    with pytest.raises(LinkingError):
        thief._open(0)


def test_attack_06_every_link_of_the_transcript_changes_the_words() -> None:
    new, old = link_keys("new").opening, link_keys("old").opening
    other = link_keys("other").opening
    words = {
        words_of(make_transcript(TOPIC, new, old)),
        words_of(make_transcript(TOPIC, old, new)),
        words_of(make_transcript(type(TOPIC)(new.signing), new, old)),
        *(words_of(make_transcript(TOPIC, new, mixed)) for mixed in _mixed(old, other)),
        *(words_of(make_transcript(TOPIC, mixed, old)) for mixed in _mixed(new, other)),
    }
    assert len(words) == 9


def _mixed(one: Opening, other: Opening) -> list[Opening]:
    return [
        Opening(other.signing, one.hpke, one.nonce),
        Opening(one.signing, other.hpke, one.nonce),
        Opening(one.signing, one.hpke, other.nonce),
    ]
