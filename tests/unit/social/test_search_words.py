"""How texts and what is typed are spelled, so that one finds the other. Spec: specs/search.md §2."""

from __future__ import annotations

import sys
import unicodedata
from random import Random

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.protocol.constants import MAX_QUERY_CHARS, MAX_QUERY_WORDS, MAX_SEARCH_CHARS
from cocoon_core.social.search_words import (
    expression_of,
    find_places,
    fold_letters,
    mark_group,
    mark_kind,
    mark_member,
    read_query,
    spell_text,
    spell_words,
    trigrams_of,
)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("", ""),
        ("…!? \n\t", ""),
        ("Soup in 北京!", "  soup  in 北 京 "),
        ("a@b.org", "  a  b  org "),
        ("C++", "  c + + "),
        ("🎉party", " 🎉  party "),
        ("ﬁne Ｃａｆé STRASSE Straße", "  fine  cafe  strasse  strasse "),
        ("e\u0301 İ Ǆ ℌ", "  e  i  dz  h "),
        ("pass\u200bword soft\u00adly ❤\ufe0f", "  password  softly ❤ "),
        ("2026-11-22", "  2026  11  22 "),
        ("ヴァイオリン", " ヴ ァ イ オ リ ン "),
        ("\u1112\u1161\u11ab글", " 한 글 "),
        ("हिन्दी", "  हिन्दी "),
        ("\x02x\x00y \ue000\uf8f0z", "  x  y  z "),
    ],
)
def test_spelling(text: str, spelled: str) -> None:
    assert spell_words(text) == spelled


@pytest.mark.parametrize(
    ("typed", "text", "fits"),
    [
        ("house", "the Greenhouses", True),
        ("ok", "okay then", True),
        ("ok", "a book", False),
        ("o", "then okay", True),
        ("o", "go to", False),
        ("京", "我在北京工作", True),
        ("北京", "我在北京工作", True),
        ("京北", "我在北京工作", False),
        ("在工", "我在北京工作", False),
        ("กา", "ฟังกาแฟ", True),
        ("c++", "C++ and C", True),
        ("c++", "C+", False),
        ("a@b.or", "mail a@b.org", True),
        ("a@b.org", "org b a", False),
        ("soup low", "The lower soup", True),
        ("soup low", "The soup", False),
        ("cafe", "Café", True),
        ("CAFÉ", "cafe", True),
        ("北京w", "北京 world", True),
        ('"soup" OR *', "a soup or two", True),
        ("NOT soup", "a soup", False),
        ("soup NEAR(", "a soup", False),
        ("don't", "I don't", True),
    ],
)
def test_what_is_typed_finds(typed: str, text: str, fits: bool) -> None:
    spelled = spell_text([text])
    needles = read_query(typed)
    assert needles
    assert all(needle in spelled for needle in needles) is fits
    if fits:
        assert all(piece in spelled for piece in trigrams_of(needles)), "the index would not have given it"


def test_every_beginning_of_a_word_finds_it_while_it_is_typed() -> None:
    text = "Gewächshaus 温室 теплица 온실 🎉 θερμοκήπιο"
    spelled = spell_words(text)
    for word in text.split():
        for end in range(1, len(word) + 1):
            needles = read_query(word[:end])
            assert needles
            assert all(needle in spelled for needle in needles), word[:end]


def test_any_piece_of_any_text_is_found_by_the_index_and_the_eye() -> None:
    chance = Random(11)
    letters = "ab cö 北京ｶﾞก์ 🎉ß\u0301\u200d.,\"'*()-ïﬀ한\uac01क्षि\n"
    for _ in range(400):
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(1, 30)))
        spelled = spell_words(text)
        words = text.split()
        for word in words:
            for needle in read_query(word):
                assert needle in spelled
                pieces = trigrams_of([needle])
                assert pieces
                assert all(len(piece) == 3 and piece in spelled for piece in pieces), (text, needle, pieces)


def test_no_character_is_more_than_itself_to_the_index() -> None:
    """Spelled text has no quotation mark, no private character and no control, whatever was written."""
    for code in (*range(0x3000), 0xE000, 0xE001, 0xF7FF, 0xF8F0, 0xF8F2, 0xFF02, 0x1D11E, 0xE0001, 0x10FFFD):
        spelled = spell_words(f"x{chr(code)}y")
        assert not any(
            character == '"' or unicodedata.category(character) in ("Cc", "Co", "Cs", "Cf") for character in spelled
        ), hex(code)
    assert sys.maxunicode == 0x10FFFF
    assert expression_of(["abc", ["d  ", " e "]]) == '"abc" AND ("d  " OR " e ")'


def test_bounds() -> None:
    assert read_query("… ! ?") == []
    assert len(read_query(" ".join(f"w{n}" for n in range(MAX_QUERY_WORDS)))) == MAX_QUERY_WORDS
    assert read_query("same same SAME") == ["same"]
    with pytest.raises(UsageError, match="words"):
        read_query(" ".join(f"w{n}" for n in range(MAX_QUERY_WORDS + 1)))
    with pytest.raises(UsageError, match="characters"):
        read_query("x" * (MAX_QUERY_CHARS + 1))
    assert len(spell_text(["\ufdfa" * 60_000])) == MAX_SEARCH_CHARS
    assert fold_letters("ΣΑΣ") == fold_letters("σας")


def test_marks_are_pieces_of_three_that_no_text_has() -> None:
    marks = [mark_group(1), mark_group(40_000), mark_member(b"\xff" * 32), mark_kind("post"), mark_kind("reply")]
    assert len(set(marks)) == len(marks)
    for mark in marks:
        assert len(mark) == 3
        assert spell_words(mark) == ""
        assert all(unicodedata.category(character) == "Co" for character in mark)


def test_places_for_the_eye() -> None:
    text = "The Gréen House, 北京 and c++"
    found = [text[first:last] for first, last in find_places(text, read_query("green hou 京 c++"))]
    assert found == ["Gréen", "Hou", "京", "c++"]
    assert find_places(text, ()) == []
    assert find_places("okay book", read_query("ok")) == [(0, 2)]
