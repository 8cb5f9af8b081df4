"""What the command line does where the system has no signals for event loops, and none that wait for standard input."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from cocoon_cli.dialogue import ask_yes, read_line
from cocoon_cli.watch import _asked_to_end


class WindowsLoop(asyncio.SelectorEventLoop):
    """One that lacks what those of Windows lack."""

    def add_signal_handler(self, *_: object) -> None:
        raise NotImplementedError

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError


def run_there(work: object) -> object:
    with asyncio.Runner(loop_factory=WindowsLoop) as runner:
        return runner.run(work)  # type: ignore[arg-type]


def test_a_watch_ends_when_it_is_asked_to() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def watch() -> bool:
        asked = _asked_to_end()
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(asked.wait(), 10)

    try:
        assert run_there(watch())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_question_is_answered_while_other_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)

        async def ask() -> list[object]:
            asked = asyncio.ensure_future(ask_yes("Go on?"))
            await asyncio.sleep(0)
            assert not asked.done()
            os.write(writer, b"yes\nmore\n")
            first = await asked
            second = await read_line()
            os.close(writer)
            return [first, second, await read_line()]

        assert run_there(ask()) == [True, "more", ""]
