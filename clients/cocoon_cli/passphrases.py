"""Asking for a passphrase that is new: twice at a terminal, or from the environment. Never from the command line, where
other users of the machine can read it.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from cocoon_cli.context import Context
from cocoon_core.errors import NoKeyRingError, UsageError

Made = TypeVar("Made")


def make_with_passphrase(context: Context, make: Callable[[str | None], Made]) -> Made:
    """Make a profile under the passphrase of this call, else in the key ring; where there is none, ask a person."""
    try:
        return make(context.passphrase)
    except NoKeyRingError:
        if context.passphrase is not None or context.output.as_json or not sys.stdin.isatty():
            raise
        context.output.note("This system has no safe key ring; the profile is sealed under a passphrase instead.")
        return make(ask_twice("New passphrase: "))


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
