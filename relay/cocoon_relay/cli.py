"""`cocoon-relay COMMAND`: reads the call and hands it on; what goes wrong becomes one sentence and an exit code.

Exit codes: 2 for a wrong call or setting, 6 for what this machine does not allow. Implements relay/README.md.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cocoon_core.errors import CocoonError, LocalStateError, UsageError
from cocoon_relay import __version__, cli_backup, cli_data, cli_serve, cli_settings, cli_tokens
from cocoon_relay.limits import Scope
from cocoon_relay.settings import ALL_SETTINGS, CONFIG_VARIABLE, LIMIT_SETTINGS, Setting, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        options = make_parser().parse_args(words)
        if options.keys is not None:
            given = {key: getattr(options, key) for key in options.keys}
            needs_data = options.run is not cli_settings.check
            options.settings = read_settings(given, os.environ, options.config, needs_data=needs_data)
        code: int = options.run(options)
        return code
    except CocoonError as error:
        return _fail(error, str(error), as_json)
    except (OSError, sqlite3.Error) as error:
        return _fail(LocalStateError(), _explain(error, options), as_json)


def _fail(error: CocoonError, message: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"code": error.code, "message": message}}), flush=True)
    else:
        print(f"cocoon-relay: {message}", file=sys.stderr)
    return error.exit_code


def _explain(error: OSError | sqlite3.Error, options: argparse.Namespace) -> str:
    settings = getattr(options, "settings", None)
    listen = settings["listen"] if settings is not None else ""
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{listen} is in use by another program; give another --listen"
    if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
        return f"{listen} is not an address of this machine; give another --listen"
    if isinstance(error, PermissionError) and error.filename is None:
        return f"this user may not listen at {listen}; give a port above 1023"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}"
    return f"{settings['data'] if settings is not None else 'this'} cannot be used: {error}"


# --- the parser


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing a usage text and exiting."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows how)")


def make_parser() -> argparse.ArgumentParser:
    """All commands. `keys` of what is parsed are the settings that the command takes, or None."""
    parser = _Parser(prog="cocoon-relay", description="Stores and forwards what it cannot read, for Cocoon groups.")
    parser.add_argument("--version", action="version", version=f"cocoon-relay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    every = list(ALL_SETTINGS.values())

    def add(
        name: str, run: Any, text: str, settings: Iterable[Setting] | None = None, under: Any = commands
    ) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = under.add_parser(name, help=text, description=text)
        if settings is ALL_SETTINGS.values():
            command.usage = "%(prog)s --data DIR [--listen HOST:PORT] [--config FILE] [OPTION]…"
        command.set_defaults(run=run, keys=None)
        command.add_argument("--json", action="store_true", help="what is said, and an error, as one JSON object")
        if settings is not None:
            command.add_argument("--config", type=Path, metavar="FILE", help=f"settings; or ${CONFIG_VARIABLE}")
            command.set_defaults(keys=_add_settings(command, settings))
        return command

    data = [ALL_SETTINGS["data"]]
    kept = [ALL_SETTINGS[key] for key in ("data", "database", "blobs")]
    leases = [one for one in LIMIT_SETTINGS if one.limit is not None and one.limit.scope is Scope.LEASE]
    add("serve", cli_serve.serve, "serve until SIGINT or SIGTERM", every)
    add("stats", cli_data.stats, "what is kept", kept)
    add("gc", cli_data.gc, "remove what outlived its lease, also beside a serving relay", [*kept, *leases])
    drop = add("drop", cli_data.drop, "let go of topics now, whatever their lease, while no relay serves them", kept)
    drop.add_argument("--sealed", action="store_true", help="all that have ended")
    drop.add_argument("topics", nargs="*", metavar="TOPIC", help="their ids, as `stats` shows them")
    backup = add("backup", cli_backup.make, "copy the data to a new directory, also beside a serving relay", data)
    backup.add_argument("folder", type=Path, metavar="DEST", help="a directory that is not there yet")
    restore = add("restore", cli_backup.bring_back, "make a data directory from a backup; never over another", data)
    restore.add_argument("folder", type=Path, metavar="SOURCE", help="what `backup` made")
    tokens = commands.add_parser("token", help="who may use this relay: new, list, revoke")
    kinds = tokens.add_subparsers(required=True, metavar="new|list|revoke")
    new = add("new", cli_tokens.new, "make an access token, and show it once", data, kinds)
    new.add_argument("name", metavar="NAME", help="by which you know it again; members do not see it")
    new.add_argument("--class", dest="kind", metavar="CLASS", help="of the settings, whose limits hold for it")
    new.add_argument(
        "--expires", type=cli_tokens.parse_end, metavar="DATE|TIME", help="its last day, or how long it holds"
    )
    new.add_argument("--stdin", action="store_true", help="take in a token that you have, from standard input")
    add("list", cli_tokens.show, "the tokens by name and day; never what they are", data, kinds)
    revoke = add("revoke", cli_tokens.revoke, "end a token, and every connection that came in by it", data, kinds)
    revoke.add_argument("name", metavar="NAME|ID", help="as `token list` shows it")
    add("check-config", cli_settings.check, "check the settings without serving, and show them", every)
    add("default-config", cli_settings.show_default, "print a configuration file with every setting at its default")
    return parser


def _add_settings(command: argparse.ArgumentParser, settings: Iterable[Setting]) -> list[str]:
    groups: dict[Scope, Any] = {}
    keys = []
    for setting in settings:
        place: Any = command
        if setting.limit is not None:
            scope = setting.limit.scope
            place = groups[scope] = groups.get(scope) or command.add_argument_group(f"limits: {scope}")
        default = "" if setting.default in (None, (), False) else f" ({setting.show(setting.default).strip(chr(34))})"
        how: dict[str, Any] = {
            "dest": setting.key,
            "default": None,
            "help": (setting.text + default).replace("%", "%%"),
        }
        if isinstance(setting.default, bool):
            place.add_argument(setting.option, action=argparse.BooleanOptionalAction, **how)
        else:
            action = "append" if isinstance(setting.default, tuple) else "store"
            place.add_argument(setting.option, action=action, metavar=setting.metavar, **how)
        keys.append(setting.key)
    return keys


if __name__ == "__main__":
    sys.exit(main())
