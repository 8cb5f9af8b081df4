"""What is piped into a call: read once, when a word is `-`, and kept, so that it can go through another process."""

from __future__ import annotations

import sys
from contextvars import ContextVar


class StandardInput:
    """The standard input of one call: this process's own, or what came with a call from another one."""

    def __init__(self, given: bytes | None = None) -> None:
        self._taken = given

    def read(self) -> bytes:
        """All of it, the same each time."""
        if self._taken is None:
            self._taken = sys.stdin.buffer.read()
        return self._taken

    @property
    def taken(self) -> bytes | None:
        """What was read so far; None if nothing asked for it."""
        return self._taken


STANDARD_INPUT: ContextVar[StandardInput] = ContextVar("STANDARD_INPUT")  # of the call that is being parsed
