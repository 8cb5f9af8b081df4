"""How a call ends that did not succeed: one sentence or one object, and an exit code; a traceback only with --debug."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from cocoon_cli.output import Output
from cocoon_core.errors import CocoonError

EXIT_FAULT = 70


class InternalError(CocoonError):
    """Something went wrong inside Cocoon."""

    exit_code = EXIT_FAULT
    code = "internal"


def tell_error(error: Exception, output: Output, words: Sequence[str]) -> int:
    """Print an error in the form that was asked for, and give the exit code."""
    if "--debug" in words:
        traceback.print_exception(error, file=output.err)
    return output.fail(error if isinstance(error, CocoonError) else InternalError(_fault_sentence(error)))


def _fault_sentence(error: Exception) -> str:
    kind = type(error).__name__
    return f"Something unexpected went wrong ({kind}). Nothing that was acknowledged is lost; --debug shows where."
