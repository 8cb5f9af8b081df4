"""What may stand next in a call that is being typed: read from the parser, so it is never behind the commands.

Names and ids of the profile are looked up only where one of them is asked for. They were written by members, and are
given only where no shell takes any character of them for more than itself; else their ids are.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cocoon_cli.text import neutralise

FILES, FOLDERS = ":files", ":folders"  # what the shell completes itself
_SHOWN = 60  # characters of a description
_PLAIN = re.compile(r"[\w.+][\w.+-]*")  # no shell sees more in it, wherever it stands, nor splits a word there
_SHORT_IDS = 8, 16, 32  # characters of an id, of which the least is given that no other begins with
_FILES = {"FILE", "PATH", "PATH|ID", "PATH|URL"}
_FOLDERS = {"DIR"}

Answer = tuple[str, str]  # what may stand there, and what it is
# Looks up names and ids: given what is asked for (a metavar) and the commands that were typed.
LookUp = Callable[[str, Sequence[str]], Sequence[Answer]]


@dataclass(slots=True)
class _Call:
    """A call as far as it was typed: the commands, and what stands after the last of them."""

    parser: argparse.ArgumentParser
    path: list[str]
    given: int = 0  # arguments that have no name
    awaited: argparse.Action | None = None  # an option whose value comes next
    only_arguments: bool = False  # after --


def complete(parser: argparse.ArgumentParser, words: Sequence[str], look_up: LookUp) -> list[Answer]:
    """What may stand in the place of the last word, of which a beginning was typed; `FILES` or `FOLDERS` alone where
    that is for the shell.
    """
    *before, typed = words or [""]
    call = _Call(parser, [])
    for word in before:
        _read(call, word)
    if call.awaited is None and typed.startswith("--") and "=" in typed and not call.only_arguments:
        name, _, begun = typed.partition("=")
        action = _options(call.parser).get(name)
        answers = [] if action is None or action.nargs == 0 else _values(action, call, look_up)
        return _fitting(answers, begun, f"{name}=")
    if call.awaited is not None:
        return _fitting(_values(call.awaited, call, look_up), typed)
    if typed.startswith("-") and not call.only_arguments:
        options = _options(call.parser)
        return _fitting([(name, action.help or "") for name, action in options.items() if name[:2] == "--"], typed)
    commands = _commands(call.parser)
    if commands is not None:
        return _fitting(sorted((one.dest, one.help or "") for one in commands._choices_actions), typed)
    expected = _expected(call)
    return [] if expected is None else _fitting(_values(expected, call, look_up), typed)


def _read(call: _Call, word: str) -> None:
    """Go on by a word that is whole."""
    if call.awaited is not None:
        call.awaited = None
    elif word == "--" and not call.only_arguments:
        call.only_arguments = True
    elif word.startswith("-") and not call.only_arguments:
        action = _options(call.parser).get(word.partition("=")[0])
        if action is not None and action.nargs != 0 and "=" not in word:
            call.awaited = action
    else:
        commands = _commands(call.parser)
        chosen = None if commands is None else commands.choices.get(word)
        if isinstance(chosen, argparse.ArgumentParser):
            call.parser = chosen
            call.path.append(word)
        else:
            call.given += 1


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {
        name: action
        for action in parser._actions
        if action.help is not argparse.SUPPRESS
        for name in action.option_strings
    }


def _commands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _expected(call: _Call) -> argparse.Action | None:
    """The argument that comes next; the last one again where it takes several."""
    arguments = [action for action in call.parser._actions if not action.option_strings]
    if call.given < len(arguments):
        return arguments[call.given]
    return arguments[-1] if arguments and arguments[-1].nargs in ("*", "+") else None


def _values(action: argparse.Action, call: _Call, look_up: LookUp) -> list[Answer]:
    kind = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices is not None:
        return [(str(choice), "") for choice in (kind.split("|") if "|" in kind else action.choices)]
    if kind in _FILES:
        return [(FILES, "")]
    if kind in _FOLDERS:
        return [(FOLDERS, "")]
    return list(look_up(kind, call.path))


def _fitting(answers: Sequence[Answer], begun: str, before: str = "") -> list[Answer]:
    """Those that begin so, or what is for the shell."""
    if [value for value, _ in answers] in ([FILES], [FOLDERS]):
        return list(answers)
    return [(before + value, _describe(what)) for value, what in answers if value.startswith(begun)]


def _describe(what: str) -> str:
    text = neutralise(what.replace("%%", "%"))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def name_things(things: Sequence[tuple[str, str]]) -> Iterator[Answer]:
    """Things with ids and names, by their name where no other has it and no shell sees more in it; else by id."""
    names = Counter(name for _, name in things)
    for (_, name), by_id in zip(things, name_ids(things), strict=True):
        yield (name, "") if _PLAIN.fullmatch(name) and names[name] == 1 else by_id


def name_ids(things: Sequence[tuple[str, str]]) -> Iterator[Answer]:
    """Things with ids and words, each by as much of its id as no other of them begins with.

    Members choose the ids of what they write: of two that were the same a shell would take the words for a beginning.
    """
    beginnings = Counter(identifier[:length] for identifier, _ in things for length in _SHORT_IDS)
    for identifier, words in things:
        short = (identifier[:length] for length in _SHORT_IDS if beginnings[identifier[:length]] == 1)
        yield next(short, identifier), words
