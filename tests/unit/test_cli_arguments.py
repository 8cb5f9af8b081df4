"""The grammar of the command line, as far as it can be told without a profile."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from datetime import timedelta

import pytest

from cocoon_cli.arguments import Parser, duration, plain_text, positive, read_words
from cocoon_cli.context import ProfileCommand
from cocoon_cli.main import FAMILIES, build_parser, main, parse_call
from cocoon_cli.text import as_sentence
from cocoon_core.errors import UsageError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_lengths_of_time(written: str, meant: timedelta) -> None:
    assert duration(written) == meant


@pytest.mark.parametrize("written", ["", "7", "d", "0d", "-1d", "7 d", "7D", "7days", "1.5h", "٣d", "9999999d"])
def test_what_is_no_length_of_time(written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="7d"):
        duration(written)


@pytest.mark.parametrize("written", ["22", "25:00-07:00", "22:60-1", "7-", "22:00 07:00", "on", ""])
def test_what_is_no_two_times_of_the_day(written: str) -> None:
    with pytest.raises(UsageError, match="22:00-07:00"):
        read_words(build_parser(), ["quiet", written])


@pytest.mark.parametrize("written", ["", "0", "-1", "1.0", "one"])
def test_what_is_no_whole_number_from_one(written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        positive(written)


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="UTF-8"):
        plain_text("broken \udcff")


@pytest.mark.parametrize(
    "words",
    [
        ["--home", "there", "--json", "--group", "G", "feed"],
        ["feed", "--home", "there", "--json", "--group", "G"],
        ["--home", "there", "feed", "--json", "--group", "G"],
        ["--json", "--group", "G", "group", "--home", "there", "list"],
        ["group", "list", "--group=G", "--json", "--home=there"],
    ],
)
def test_global_options_stand_on_either_side_of_the_command(words: list[str]) -> None:
    args = read_words(build_parser(), words)
    assert (str(args.home), args.json, args.group) == ("there", True, "G")


def test_a_value_after_the_command_wins() -> None:
    args = read_words(build_parser(), ["--group", "first", "feed", "--group", "second"])
    assert args.group == "second"


@pytest.mark.parametrize("family", ["list", "note", "event"])
def test_a_family_without_a_command_shows_what_there_is(family: str) -> None:
    alone, shown = (vars(read_words(build_parser(), words)) for words in ([family], [family, "show"]))
    differs = {key for key in shown if alone.get(key, ...) != shown[key]}
    assert differs == {"command", "run"}
    assert isinstance(alone["run"], ProfileCommand)
    with pytest.raises(UsageError, match="milk"):
        read_words(build_parser(), [family, "milk"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drafts"], "there is no command 'drafts'; did you mean `cocoon draft`?"),
        (["xyzzy"], "there is no command 'xyzzy'"),
        (["list", "shwo"], "did you mean `cocoon list show`?"),
        (["thread"], "ID is missing"),
        (["event", "new"], "NAME and --at are missing"),
        (["list", "new"], "NAME is missing"),
        (["search", "x", "--kind", "fish"], "'fish' is none of: post, reply, file"),
        (["event", "reply", "Party", "perhaps"], "'perhaps' is none of: yes, no, maybe"),
        (["mute", "--thread"], "--thread needs a value"),
    ],
)
def test_a_mistake_is_told_in_one_short_sentence(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_words(build_parser(), words)
    assert said in str(caught.value)
    assert "`cocoon" in str(caught.value)
    assert len(str(caught.value)) < 160


def test_only_relay_passes_on_what_it_does_not_know() -> None:
    args = read_words(build_parser(), ["relay", "--listen", "127.0.0.1:0", "--data", "d", "--origin", "wss://r"])
    assert args.passed_on == ["--listen", "127.0.0.1:0", "--data", "d", "--origin", "wss://r"]
    with pytest.raises(UsageError, match="--listen"):
        read_words(build_parser(), ["feed", "--listen", "127.0.0.1:0"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("dance",), "dance"),
        (("reply",), "ID"),
        (("feed", "--limit", "0"), "--limit"),
        (("feed", "--limit", "many"), "--limit"),
        (("feed", "--lim", "3"), "--lim"),
        (("invite", "--uses", "-1"), "--uses"),
        (("invite", "--expires", "soon"), "30m, 12h, 7d or 2w"),
        (("role", "Ben", "king"), "king"),
        (("join", "cocoon:abc"), "--name"),
        (("group", "new", "Family"), "--relay"),
        (("post", "--group"), "--group"),
    ],
)
def test_a_call_that_no_command_has(words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cocoon: ")
    assert part in err
    assert "--help` shows how" in err
    assert err.count("\n") == 1
    assert main(["--json", *words]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["error"]["code"] == "usage"
    assert f"cocoon: {as_sentence(told['error']['message'])}\n" == err


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_families_names_the_commands_that_each_adds(family: str) -> None:
    assert _commands(build_parser(family)) == list(FAMILIES[family])


def test_every_command_stands_in_the_whole_grammar_in_the_order_of_the_table() -> None:
    assert _commands(build_parser()) == [command for commands in FAMILIES.values() for command in commands]


@pytest.mark.parametrize("words", [["--help"], ["--help", "feed"], ["--json", "--version"], ["dance"], ["--", "feed"]])
def test_what_names_no_command_first_is_read_by_the_whole_grammar(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []

    def noted(family: str | None = None) -> Parser:
        asked.append(family)
        return build_parser(family)

    monkeypatch.setattr("cocoon_cli.main.build_parser", noted)
    with suppress(SystemExit, UsageError):
        parse_call(words)
    assert asked == [None]


def _commands(parser: Parser) -> list[str]:
    return [name for action in parser._subparsers._group_actions for name in action.choices]  # type: ignore[union-attr]
