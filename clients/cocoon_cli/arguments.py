"""The command line's grammar: one parser, global options on either side of the command, errors as `UsageError`.

Each command module adds its own commands; this one holds what they share.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from cocoon_cli.context import Context, Handler
from cocoon_cli.output import Printed
from cocoon_cli.standard_input import STANDARD_INPUT
from cocoon_core.errors import LocalStateError, UsageError

_BYTES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing and exiting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{_say_mistake(message)} (`{self.prog} --help` shows how)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Say what was meant, where it is near; the inherited message counts everything up."""
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        near = get_close_matches(str(value), names, 1, 0.7)
        if action.nargs == argparse.PARSER:
            meant = f"; did you mean `{self.prog} {near[0]}`?" if near else ""
            raise argparse.ArgumentError(None, f"there is no command {str(value)[:40]!r}{meant}")
        raise argparse.ArgumentError(None, f"{str(value)[:40]!r} is none of: {', '.join(names)}")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help, without the silence of the inherited one where it cannot be."""
        try:
            (file or sys.stderr).write(message)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise LocalStateError(f"This cannot be printed: {error.strerror}.") from error


def _say_mistake(message: str) -> str:
    """What argparse says, as this program speaks."""
    missing = message.removeprefix("the following arguments are required: ")
    if missing != message:
        *first, last = missing.split(", ")
        return f"{', '.join(first)} and {last} are missing" if first else f"{last} is missing"
    if message.endswith(": expected one argument"):
        return f"{message.removesuffix(': expected one argument').removeprefix('argument ')} needs a value"
    return message


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps what is written as prose to the terminal, and leaves lines that begin with spaces as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        return "\n".join(line if line.startswith(" ") or not line else fill(line, width) for line in lines)


class Commands:
    """The commands of one parser; nested ones, as in `group new`, are commands of a command."""

    def __init__(self, parser: argparse.ArgumentParser, options: Parser) -> None:
        self._options = options
        self._all = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
        parser.set_defaults(run=partial(_show_commands, parser), passes_on=False, broken_off="")

    def add(
        self,
        name: str,
        handler: Handler,
        help: str,
        note: str | None = None,
        passes_on: bool = False,
        examples: Sequence[str] = (),
        broken_off: str = "",
    ) -> argparse.ArgumentParser:
        """Add a command with its one-line help, and a note and examples below its options.

        With `passes_on`, what the command does not know itself reaches it as `args.passed_on`. `broken_off` is what
        people are told who end it with Ctrl-C.
        """
        if examples:
            shown = "\n".join(["examples:", *(f"  {example}" for example in examples)])
            note = shown if note is None else f"{note}\n\n{shown}"
        parser = self._all.add_parser(
            name,
            help=help,
            description=help,
            epilog=note,
            parents=[self._options],
            formatter_class=Help,
        )
        parser.set_defaults(run=handler, passes_on=passes_on, broken_off=broken_off)
        return parser

    def nest(self, name: str, help: str, *, bare: Handler | None = None, **defaults: Any) -> Commands:
        """Add a command that has commands of its own.

        Args:
            bare: runs where none of these is given, with `defaults` in place of what it would be given; else they are
                shown.
        """
        description = help if bare is None else f"{help}. Without any of these commands, what there is is shown."
        parser = self._all.add_parser(name, help=help, description=description, parents=[self._options])
        nested = Commands(parser, self._options)
        if bare is not None:
            parser.set_defaults(run=bare, **defaults)
        return nested


def _show_commands(parser: argparse.ArgumentParser, context: Context, args: argparse.Namespace) -> Printed:
    """What is printed where no command was given."""
    if context.output.as_json:
        parser.error("a COMMAND is missing")
    return Printed("", parser.format_help(), UsageError.exit_code)


def read_words(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a call.

    Raises:
        UsageError: the grammar has no such call.
    """
    args, rest = parser.parse_known_args(words)
    if rest and not args.passes_on:
        parser.error(f"unknown: {' '.join(rest)}")
    args.passed_on = rest
    return args


def global_options() -> Parser:
    """The options that stand before or after the command.

    Nothing is stored for what was not given, so that a value before the command is not undone after it.
    """
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("options everywhere")
    group.add_argument("--home", type=folder, metavar="DIR", help="the profile's folder (COCOON_HOME)")
    group.add_argument("--group", metavar="G", help="a group's name or the beginning of its id (COCOON_GROUP)")
    group.add_argument("--json", action="store_true", help="print one JSON object, for scripts")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return options


@contextmanager
def _reason(sentence: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(sentence) from error


def plain_text(value: str) -> str:
    """A text from the command line; `-` reads standard input."""
    with _reason("this is not UTF-8 text"):
        text = STANDARD_INPUT.get().read().decode("utf-8").removesuffix("\n") if value == "-" else value
        text.encode("utf-8")
    return text


class JoinWords(argparse.Action):
    """Words that were typed without quotes, as one text; a single `-` reads standard input."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        try:
            setattr(namespace, self.dest, plain_text(values[0] if len(values) == 1 else " ".join(values)))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def name(value: str) -> str:
    """A name of a member or a group, which may not be empty."""
    text = plain_text(value)
    if not text.strip():
        raise argparse.ArgumentTypeError("a name has at least one letter")
    return text


def folder(value: str) -> Path:
    """A folder, which may not be the empty text that an unset variable gives."""
    if not value.strip():
        raise argparse.ArgumentTypeError("this is empty; give the name of a folder")
    return Path(value)


def file(value: str) -> Path:
    """The name of a file, which may not be the empty text that an unset variable gives."""
    if not value.strip():
        raise argparse.ArgumentTypeError("this is empty; give the name of a file")
    return Path(value)


def relay_url(value: str) -> str:
    """The address of a relay, with its scheme."""
    if not value.startswith(("ws://", "wss://", "http://", "https://")):
        host = value.partition("://")[2] or value
        scheme = "ws" if host.startswith(("127.", "localhost", "[::1]")) else "wss"
        meant = f"; did you mean {scheme}://{host}?" if host.strip() else ""
        raise argparse.ArgumentTypeError(f"a relay's address begins with ws:// or wss://, not {value!r}{meant}")
    return value


def duration(value: str) -> timedelta:
    """A length of time such as 30m, 12h, 7d or 2w."""
    sentence = f"{value!r} is no length of time; write 30m, 12h, 7d or 2w"
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", value)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(sentence)
    with _reason(sentence):
        return int(match[1]) * _UNITS[match[2]]


def byte_count(value: str) -> int:
    """A number of bytes such as 500MiB, 20GiB or 1.5G; units are of 1024."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kmgt]?)(?:i?b)?", value.strip(), re.ASCII | re.I)
    if match is None:
        raise argparse.ArgumentTypeError(f"{value!r} is no size; write 500MiB, 20GiB or a number of bytes")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def positive(value: str) -> int:
    """A whole number from 1."""
    sentence = f"{value!r} is not a whole number from 1"
    with _reason(sentence):
        number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(sentence)
    return number


def whole(value: str) -> int:
    """A whole number from 0."""
    sentence = f"{value!r} is not a whole number from 0"
    with _reason(sentence):
        number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError(sentence)
    return number


def relay_token(value: str) -> tuple[str, str]:
    """The address of a relay and its access token, as URL=TOKEN; with nothing after the sign, no token any more."""
    url, sign, token = value.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{value!r} is not URL=TOKEN")
    return relay_url(url), token


def add_yes(parser: argparse.ArgumentParser) -> None:
    """The option of a command that asks a person first."""
    parser.add_argument("--yes", action="store_true", help="do not ask first")
