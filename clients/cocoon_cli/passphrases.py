"""Asking for a passphrase that is new: twice at a terminal, or from the environment. Never from the command line, where
other users of the machine can read it.
"""

from __future__ import annotations

import getpass
import os
import sys

from cocoon_cli.context import Context
from cocoon_core.errors import UsageError


def read_new_passphrase(context: Context, variable: str, prompt: str) -> str:
    """The passphrase in that variable; else what a person types twice.

    Raises:
        UsageError: there is nobody to ask, or the two differ.
    """
    given = os.environ.get(variable)
    if given:
        return given
    if context.output.as_json or not sys.stdin.isatty():
        raise UsageError(f"There is nobody to ask for the passphrase: set {variable} to it.")
    return ask_twice(prompt)


def ask_twice(prompt: str) -> str:
    """A passphrase that a person typed twice, alike.

    Raises:
        UsageError: the two differ, or it is empty.
    """
    passphrase = getpass.getpass(prompt)
    if not passphrase:
        raise UsageError("A passphrase may not be empty; nothing was done.")
    if getpass.getpass("Again: ") != passphrase:
        raise UsageError("The two differ; nothing was done.")
    return passphrase


def read_passphrase(context: Context, variable: str, prompt: str) -> str:
    """One that exists already: from that variable, else what a person types.

    Raises:
        UsageError: there is nobody to ask.
    """
    given = os.environ.get(variable)
    if given:
        return given
    if context.output.as_json or not sys.stdin.isatty():
        raise UsageError(f"There is nobody to ask for the passphrase: set {variable} to it.")
    return getpass.getpass(prompt)
