"""The entry of `cocoon`: read the call, run one command, print its outcome or its error, give the exit code.

Exit codes are those of the error tree in `cocoon_core.errors`; 0 is success, 70 a fault of Cocoon itself, 130 Ctrl-C.

A call loads the module of the command that it names, and no other: `FAMILIES` says which that is.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from cocoon_cli.arguments import Commands, Parser, global_options, read_words
from cocoon_cli.context import Context
from cocoon_cli.faults import tell_error
from cocoon_cli.output import Output
from cocoon_cli.standard_input import STANDARD_INPUT, StandardInput
from cocoon_core.errors import LocalStateError

EXIT_INTERRUPTED = 130
# The modules with commands, in the order of the help, and the commands that each adds.
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": ("init", "profile"),
    "group": ("group",),
    "invites": ("invite", "revoke", "join", "requests", "vouch", "admit"),
    "members": ("members", "role", "remove", "leave", "rotate"),
    "people": ("who", "me", "seen"),
    "devices": ("device",),
    "recovery": ("recovery",),
    "verify": ("verify",),
    "policy": ("policy",),
    "relays": ("relays",),
    "months": ("months",),
    "posts": ("post", "reply", "feed", "thread"),
    "post_changes": ("edit", "versions", "delete", "erase", "hide", "unhide", "pin", "unpin"),
    "drafts": ("draft",),
    "calls": ("call", "ask", "answer", "solve", "asked"),
    "lists": ("list",),
    "notes": ("note",),
    "events": ("event",),
    "search": ("search",),
    "vault": ("vault",),
    "notices": ("notices",),
    "mutes": ("mute", "quiet"),
    "sync": ("sync",),
    "export": ("export", "import"),
    "audit": ("audit",),
    "check": ("check",),
    "relay": ("relay",),
    "demo": ("demo",),
    "completion": ("completion",),
}
GARBAGE = 20_000, 20, 20  # objects before they are looked through: loading the core makes many, and none is garbage


class ShowVersion(argparse.Action):
    """Prints the version of the installed distribution, which takes a while to look up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser._print_message(f"cocoon {version('cocoon-sync')}\n", sys.stdout)
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. Never raises, and never prints a traceback unless asked with --debug."""
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(*GARBAGE)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process runs
    if sys.stdout is None:  # closed by whoever started this
        sys.stderr.write("cocoon: Standard output is closed; nothing was done.\n")
        return LocalStateError.exit_code
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    output = Output(as_json="--json" in words)
    try:
        exit_code = _run(words, output)
        sys.stdout.flush()
        return exit_code
    except BrokenPipeError:  # the reader has gone, as `head` does
        _quieten()
        return 0
    except OSError:
        _quieten()
        return output.fail(LocalStateError("This cannot be printed: standard output takes nothing."))


def _run(words: list[str], output: Output) -> int:
    stdin = StandardInput()
    STANDARD_INPUT.set(stdin)
    args = Namespace()
    try:
        args = parse_call(words)
        return output.finish(args.run(read_context(args, output, words, stdin), args))
    except SystemExit as stop:  # --help and --version end so
        return int(stop.code or 0)
    except KeyboardInterrupt:
        output.note(*filter(None, [getattr(args, "broken_off", "")]))
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        exit_code = tell_error(error, output, words)
        _quieten_if_full()  # the error is told, and counts
        return exit_code


def _quieten_if_full() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _quieten()


def _quieten() -> None:
    """Point standard output away, so that what it did not take is not tried, and told about, once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_call(words: Sequence[str]) -> Namespace:
    """Read one call.

    Raises:
        UsageError: there is no such call.
    """
    return read_words(build_parser(_family_of(words)), words)


def build_parser(family: str | None = None) -> Parser:
    """The whole grammar, or one with the commands of a single family, which reads their calls as the whole one does."""
    options = global_options()
    parser = Parser(
        prog="cocoon", description="Small private groups, through relays that can read nothing.", parents=[options]
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and end")
    commands = Commands(parser, options)
    for name in FAMILIES if family is None else (family,):
        import_module(f"cocoon_cli.{name}").add_commands(commands)
    return parser


def _family_of(words: Sequence[str]) -> str | None:
    """The family of the command that a call names; None where it names none, or something else stands before it."""
    rest = iter(words)
    for word in rest:
        if word in ("--home", "--group"):
            next(rest, None)
        elif word not in ("--json", "--debug") and not word.startswith(("--home=", "--group=")):
            return next((family for family, commands in FAMILIES.items() if word in commands), None)
    return None


def read_context(args: Namespace, output: Output, words: Sequence[str], stdin: StandardInput) -> Context:
    """Settings from the options, else from the environment; an empty variable is as none."""
    home = getattr(args, "home", None) or _environment("COCOON_HOME")
    return Context(
        home=Path(home).expanduser() if home else None,
        passphrase=_environment("COCOON_PASSPHRASE"),
        group=getattr(args, "group", None) or _environment("COCOON_GROUP"),
        output=output,
        words=words,
        stdin=stdin,
        parse=parse_call,
    )


def _environment(name: str) -> str | None:
    return os.environ.get(name) or None
