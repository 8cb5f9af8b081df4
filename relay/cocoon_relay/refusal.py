"""Why the relay did not do what was asked: one exception, which becomes an `error` frame or an HTTP answer.

Implements the table of specs/relay.md §7.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.protocol.frames import ErrorCode

HTTP_STATUS: Final = {
    ErrorCode.BAD_FRAME: 400,
    ErrorCode.VERSION: 404,
    ErrorCode.BAD_HASH: 400,
    ErrorCode.BAD_PROOF: 401,
    ErrorCode.TOKEN: 401,
    ErrorCode.NOT_OPEN: 404,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.SEALED: 409,
    ErrorCode.EXPECT: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.QUOTA: 403,
    ErrorCode.RATE: 429,
    ErrorCode.TOO_MANY_TOPICS: 429,
    ErrorCode.BUSY: 503,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.FULL: 507,
}


class Refusal(Exception):
    """The relay refuses. Nothing was changed. Messages name no address, topic or hash."""

    def __init__(
        self, code: ErrorCode, message: str, *, retry_after_ms: int | None = None, last: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.last = last


def describe_fault(error: BaseException) -> str:
    """A fault's type and the places it passed, without its message, which might quote what a client sent."""
    trace = error.__traceback__
    found: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} in {' > '.join(found[-6:])}"
