"""What members wrote is harmless on a terminal, and times and columns read as they should."""

from __future__ import annotations

import io
import json
import re
import time
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_cli.output import Screen, Terminal
from cocoon_cli.text import (
    age,
    as_sentence,
    columns,
    count,
    display_width,
    neutralise,
    neutralise_lines,
    size,
    timestamp,
    wrap_words,
)

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("the disk is full", "The disk is full."),
        ("There is none.", "There is none."),
        ("ws://127.0.0.1:1 is gone", "ws://127.0.0.1:1 is gone."),
        ("profile.db is damaged", "profile.db is damaged."),
        ("did you mean it?", "Did you mean it?"),
        ("no (`cocoon --help` shows how)", "No (`cocoon --help` shows how)."),
    ],
)
def test_errors_are_sentences(message: str, sentence: str) -> None:
    assert as_sentence(message) == sentence


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;owned\x07", "␛]0;owned␇"),
        ("\x1b[2J\x1b[H", "␛[2J␛[H"),
        ("\x9b31mred", "<U+009B>31mred"),
        ("\x7f", "<U+007F>"),
        ("pay \u202eevil\u202c", "pay <U+202E>evil<U+202C>"),
        ("\u2066a\u2069", "<U+2066>a<U+2069>"),
        ("a\u200bb\ufeff", "a<U+200B>b<U+FEFF>"),
        ("Ana\nBen: forged", "Ana␊Ben: forged"),
        ("a\u2028b", "a<U+2028>b"),
        ("\ud800", "<U+D800>"),
        ("\rBen", "␍Ben"),
    ],
)
def test_attack_21_no_character_that_moves_hides_or_reorders_others_is_printed(hostile: str, shown: str) -> None:
    assert neutralise(hostile) == shown


@pytest.mark.parametrize("fair", ["hello", "Größe", "我带茶 ☕", "👩‍👩‍👧", "می‌خواهم", "café", "שלום"])
def test_ordinary_words_of_all_scripts_are_left_alone(fair: str) -> None:
    assert neutralise(fair) == fair


@given(st.text(st.characters(), max_size=200))
def test_whatever_was_written_becomes_printable_lines(text: str) -> None:
    for line in neutralise_lines(text):
        assert not [c for c in line if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
        assert not [
            c
            for c in line
            if unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        ]


@given(st.text(st.characters(), max_size=50))
def test_json_is_ascii_without_controls(text: str) -> None:
    printed = json.dumps({"text": text})
    assert printed.isascii()
    assert printed.isprintable()


def test_columns_count_wide_characters_as_two_and_end_without_spaces() -> None:
    assert columns([["ID", "NAME", "X"], ["1", "我们", ""], ["22", "Ana", "y"]]) == [
        "ID  NAME  X",
        "1   我们",
        "22  Ana   y",
    ]


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "1 h ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=6, hours=23), "6 days ago"),
        (timedelta(days=7), "7 Mar 2026"),
        (timedelta(minutes=-59), "just now"),
        (timedelta(minutes=-61), "14 Mar 2026 (in the future)"),
        (timedelta(days=-366), "15 Mar 2027 (in the future)"),
    ],
)
def test_ages_are_coarse_and_the_future_is_marked(past: timedelta, words: str) -> None:
    assert age(NOW - past, NOW) == words


def test_times_in_json_are_utc_with_milliseconds() -> None:
    there = datetime(2026, 3, 14, 14, 0, 0, 1500, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(there) == "2026-03-14T12:00:00.001Z"


def test_numbers_are_said_in_words() -> None:
    assert [count(1, "reply"), count(2, "reply"), count(0, "day")] == ["1 reply", "2 replies", "0 days"]
    assert [size(0), size(1023), size(1024), size(5 * 1024 * 1024)] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]


class ATerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(stream: io.StringIO) -> list[str]:
    """What was drawn, without styles."""
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def drawn(width: int, *parts: str | tuple[str, str], indent: int = 0, out: io.StringIO | None = None) -> list[str]:
    stream = ATerminal() if out is None else out
    Screen(stream, Terminal(True, True, width, {"TERM": "xterm"})).line(*parts, indent=indent)
    return plain(stream)


@pytest.mark.parametrize(
    "words", ["one two three four five six seven eight nine ten", "шла Саша по шоссе и сосала сушку 大家 好"]
)
def test_a_line_that_is_too_long_goes_on_below_without_a_word_cut(words: str) -> None:
    for width in range(24, 60):
        lines = drawn(width, words[:7], (words[7:], "dim"), indent=2)
        assert " ".join(line.strip() for line in lines) == words
        assert all(display_width(line) <= width for line in lines)
        assert all(line.startswith("    ") for line in lines[1:])
        assert lines[0][:3] == "  " + words[0]
    assert drawn(20, words, out=io.StringIO()) == [words]  # a program gets it whole


def test_rows_of_a_table_go_on_below_their_last_column() -> None:
    stream = ATerminal()
    Screen(stream, Terminal(True, True, 28, {"TERM": "xterm"})).table(
        ("ID", "WHAT"), [("4f1c", "some words that are long")]
    )
    assert plain(stream) == ["ID    WHAT", "4f1c  some words that are", "      long"]


def test_messages_are_cut_between_words() -> None:
    assert wrap_words("one two three", 7) == ["one two", "three"]
    assert wrap_words("大家 好", 4) == ["大家", "好"]
    assert wrap_words("longer-than-that x", 4) == ["longer-than-that", "x"]
    assert wrap_words("", 4) == [""]


def drawn_body(words: str, width: int = 80) -> list[str]:
    stream = ATerminal()
    Screen(stream, Terminal(True, True, width, {"TERM": "xterm"})).body(words, 2)
    return stream.getvalue().splitlines()


def test_a_text_is_indented_and_wrapped_and_keeps_its_lines() -> None:
    assert drawn_body("one\n\n\ntwo\n  three  ") == ["  one", "", "", "  two", "    three"]
    assert drawn_body("ab " * 12, 22) == ["  ab ab ab ab ab ab ab", "  ab ab ab ab ab"]
    assert drawn_body("京" * 12, 22) == ["  " + "京" * 10, "  京京"]


def test_attack_42_a_text_of_line_ends_keeps_no_terminal_busy() -> None:
    """A member's post may hold 262,144 of them."""
    began = time.process_time()
    assert drawn_body("\n" * 262_144 + "end") == ["", "  end"]
    assert len(drawn_body("a\n" * 50_000)) == 50_001
    assert time.process_time() - began < 5
