"""What may stand next in a call that is being typed, as far as it can be told without a profile."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from cocoon_cli.bash_words import is_redirected, read_parts
from cocoon_cli.completing import FILES, FOLDERS, complete, name_ids, name_things
from cocoon_cli.main import build_parser
from cocoon_cli.search import KINDS

KNOWN = {"G": ["Family", "Band"], "MEMBER": ["Ana", "Ben"], "ID": ["4f1c93aa", "a07bd2ff"]}


def values(*words: str) -> list[str]:
    def look_up(kind: str, path: Sequence[str]) -> list[tuple[str, str]]:
        return [(one, "what it is") for one in KNOWN.get(kind, [])]

    return [value for value, _ in complete(build_parser(), words, look_up)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fee"], ["feed"]),
        (["feed", "--li"], ["--limit"]),
        (["--json", "feed", "--be"], ["--before"]),
        (["feed", "--before", "4"], ["4f1c93aa"]),
        (["feed", "--before=a"], ["--before=a07bd2ff"]),
        (["feed", "--before="], ["--before=4f1c93aa", "--before=a07bd2ff"]),
        (["feed", "--limit", ""], []),
        (["--group", "F"], ["Family"]),
        (["feed", "--group", ""], ["Family", "Band"]),
        (["role", "B"], ["Ben"]),
        (["role", "Ben", ""], ["admin", "member"]),
        (["role", "Ben", "admin", ""], []),
        (["role", "--", "B"], ["Ben"]),
        (["vault", "albu"], ["album", "albums"]),
        (["search", "--kind", "p"], ["post", "photo"]),
        (["search", "--kind", "post", "--kind="], [f"--kind={kind}" for kind in KINDS]),
        (["erase", "4f1c93aa", ""], ["4f1c93aa", "a07bd2ff"]),
        (["vault", "add", "x", ""], [FILES]),
        (["--home", ""], [FOLDERS]),
        (["dance", ""], []),
        (["feed", "--dance", "--li"], ["--limit"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_what_may_stand_next(words: list[str], expected: list[str]) -> None:
    found = values(*words)
    if words == ["dance", ""]:
        assert "feed" in found, "what is no command yet may still become one"
    else:
        assert found == expected


def test_every_command_and_option_is_offered_with_its_help() -> None:
    answers = complete(build_parser(), [""], lambda *_: [])
    assert {"feed", "search", "vault", "sync", "completion"} <= {value for value, _ in answers}
    assert all(what and "\t" not in what and "\n" not in what for _, what in answers)
    options = complete(build_parser(), ["search", "--"], lambda *_: [])
    assert {"--kind", "--since", "--group", "--json", "--help"} <= {value for value, _ in options}


def test_attack_21_two_ids_that_begin_alike_are_told_apart() -> None:
    alike = [("0" * 31 + "1", "x; rm"), ("0" * 31 + "2", "x; rm"), ("0" * 8 + "7" * 24, "y"), ("a" * 32, "z")]
    assert list(name_ids(alike)) == [
        ("0" * 31 + "1", "x; rm"),
        ("0" * 31 + "2", "x; rm"),
        ("0" * 8 + "7" * 8, "y"),
        ("a" * 8, "z"),
    ]


@pytest.mark.parametrize(
    ("parts", "words", "left"),
    [
        (["feed", "--be"], ["feed", "--be"], ""),
        (["feed", "--before", "=", "a"], ["feed", "--before=a"], "--before="),
        (["feed", "--before", "="], ["feed", "--before="], "--before="),
        (["--home", "=", '"/a b"', "feed", ""], ["--home=/a b", "feed", ""], ""),
        (["new", "ws", ":", "//host", ":", "80", "--n"], ["new", "ws://host:80", "--n"], ""),
        (["add", "https", ":", "//x.org"], ["add", "https://x.org"], "https:"),
        (["--group", '"Our Ba'], ["--group", "Our Ba"], ""),
        (["--group", "'a\"b'\\''"], ["--group", "a\"b'"], ""),
        (["--group", '"a\\"b\\c$(x)`y`"'], ["--group", 'a"b\\c$(x)`y`'], ""),
        (["a\\ b", "c\\"], ["a b", "c"], ""),
        (["="], ["="], "="),
        ([], [], ""),
    ],
)
def test_bash_words_are_put_together_again(parts: list[str], words: list[str], left: str) -> None:
    assert read_parts(parts) == (words, left)


@pytest.mark.parametrize("parts", [["export", ">"], ["export", ">", "li"], ["export", "2", ">>", ""], ["x", "&>", "f"]])
def test_what_the_shell_opens_itself_is_a_file(parts: list[str]) -> None:
    assert is_redirected(parts)
    assert not is_redirected([*parts, "a", "b"])


def test_attack_21_a_name_that_a_shell_could_take_for_more_is_given_by_its_id() -> None:
    hostile = [
        "$(x)",
        "`x`",
        "a;b",
        "a b",
        "a'b",
        'a"b',
        "-x",
        "~",
        "a\nb",
        "a\tb",
        "#a",
        "!a",
        "a*",
        "{a,b}",
        "a\\b",
        "a@b",
        "a=b",
        "a:b",
        "",
    ]
    for name in hostile:
        assert list(name_things([("0123456789", name)])) == [("01234567", name)], name
    assert list(name_things([("0" * 9, "Ana"), ("1" * 9, "Ünal_2"), ("2" * 9, "Ana")])) == [
        ("0" * 8, "Ana"),
        ("Ünal_2", ""),
        ("2" * 8, "Ana"),
    ]
    shown = complete(build_parser(), ["role", ""], lambda *_: [("01234567", "x\n:files\t\x1b]0;x")])
    assert len(shown) == 1
    assert not re.search(r"[\x00-\x1f]", shown[0][1])
