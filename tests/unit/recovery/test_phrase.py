"""The phrase: words and secret, what a person's handwriting does to it, and what derives from it."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.errors import DecryptionError, InvalidPhraseError
from cocoon_core.protocol.ids import GroupId
from cocoon_core.protocol.primitives import Secret, wrap
from cocoon_core.protocol.recovery import (
    PhraseKeys,
    RecoveryKeys,
    index_mailbox,
    open_seed,
    read_phrase,
    seal_seed,
    write_phrase,
)
from cocoon_core.protocol.words import word_list
from tests.support.protocol_story import GROUP, named_secret

SECRET = Secret(bytes(range(16)), 16)
PHRASE = write_phrase(SECRET)
KEYS = PhraseKeys(SECRET)


@given(st.binary(min_size=16, max_size=16))
def test_every_secret_comes_back_from_its_words(raw: bytes) -> None:
    phrase = write_phrase(Secret(raw, 16))
    assert len(phrase.split()) == 12
    assert read_phrase(phrase) == Secret(raw, 16)


def test_the_words_are_those_of_bip_39() -> None:
    # from the vectors of BIP-39 itself
    assert write_phrase(Secret(bytes(16), 16)) == "abandon " * 11 + "about"
    assert read_phrase("legal winner thank year wave sausage worth useful legal winner thank yellow") == Secret(
        b"\x7f" * 16, 16
    )


@pytest.mark.parametrize(
    "written",
    [
        PHRASE.upper(),
        PHRASE.title() + "\n",
        "\n".join(PHRASE.split()),
        "\t " + "  ".join(PHRASE.split()) + "\r\n",
        "\n".join(f"{place}. {word}" for place, word in enumerate(PHRASE.split(), 1)),
        ", ".join(PHRASE.split()) + ".",
        f"“{PHRASE}”",
    ],
)
def test_how_it_was_written_down_does_no_harm(written: str) -> None:
    assert read_phrase(written) == SECRET


def test_a_word_that_is_none_is_named_with_its_place_and_the_nearest_one() -> None:
    words = PHRASE.split()
    words[4] = words[4][:-1] + "xx"
    with pytest.raises(InvalidPhraseError, match=f"word 5, '{words[4]}', is not in the list"):
        read_phrase(" ".join(words))
    with pytest.raises(InvalidPhraseError, match="did you mean 'abandon'"):
        read_phrase(PHRASE.replace(words[0], "abandom"))


@pytest.mark.parametrize("count", [0, 1, 11, 13, 24])
def test_too_few_or_too_many_words_are_counted(count: int) -> None:
    with pytest.raises(InvalidPhraseError, match=f"has 12 words, and this has {count}"):
        read_phrase(" ".join((PHRASE.split() * 2)[:count]))


def test_most_mistakes_with_right_words_are_found_by_the_checksum() -> None:
    """Four bits: one mistake in sixteen passes, and then opens no index."""
    words = PHRASE.split()
    refused = [other for other in word_list()[:320] if not is_read([other, *words[1:]])]
    assert 280 <= len(refused) <= 315
    with pytest.raises(InvalidPhraseError, match="do not belong together"):
        read_phrase(" ".join([refused[0], *words[1:]]))


def is_read(words: list[str]) -> bool:
    try:
        read_phrase(" ".join(words))
    except InvalidPhraseError:
        return False
    return True


def test_the_error_shows_no_more_of_the_phrase_than_the_wrong_word() -> None:
    words = PHRASE.split()
    with pytest.raises(InvalidPhraseError) as raised:
        read_phrase(" ".join(["qqqqqq", *words[1:]]))
    assert not any(word in str(raised.value).split() for word in words[1:])


def test_one_relay_sees_another_mailbox_than_the_next() -> None:
    urls = ["wss://a.example", "wss://b.example", "ws://a.example", "wss://a.example:444"]
    assert len({index_mailbox(KEYS.index_secret, url).topic for url in urls}) == len(urls)
    assert (
        index_mailbox(KEYS.index_secret, "wss://A.example:443/").topic
        == index_mailbox(KEYS.index_secret, urls[0]).topic
    )


def test_a_seed_opens_for_its_phrase_and_group_alone() -> None:
    keys = RecoveryKeys(named_secret("recovery seed"))
    sealed = seal_seed(keys, KEYS.opening.public, GROUP)
    assert open_seed(sealed, KEYS, GROUP).id == keys.id
    with pytest.raises(DecryptionError):
        open_seed(sealed, KEYS, GroupId(bytes(32)))
    with pytest.raises(DecryptionError):
        open_seed(sealed, PhraseKeys(Secret(bytes(16), 16)), GROUP)
    with pytest.raises(DecryptionError):
        open_seed(sealed[:-1], KEYS, GROUP)
    short = wrap(KEYS.opening.public, bytes(31), b"cocoon/v1/recovery-seed\0" + GROUP)
    with pytest.raises(DecryptionError, match="not 32 bytes"):
        open_seed(short, KEYS, GROUP)


@pytest.mark.parametrize("keys", [KEYS, RecoveryKeys(named_secret("recovery seed"))])
def test_keys_neither_print_nor_pickle(keys: PhraseKeys | RecoveryKeys) -> None:
    assert "hidden" in repr(keys)
    with pytest.raises(TypeError):
        pickle.dumps(keys)
