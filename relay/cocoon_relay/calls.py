"""What is called in the event loop for others: a fault of one is the loop's to report, and in nobody's way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


def call_each(calls: deque[Callable[[], None]], what: str) -> None:
    """Call all, in order, those that come meanwhile too. Each stands in front until it has been called."""
    while calls:
        try:
            calls[0]()
        except Exception as error:
            report_fault(what, error)
        finally:
            calls.popleft()


def report_fault(what: str, error: Exception) -> None:
    """Give it to the loop, as something that failed there."""
    asyncio.get_running_loop().call_exception_handler({"message": f"{what} failed", "exception": error})
