"""Asking a person while the program goes on: a line of standard input, without a thread that Ctrl-C would wait for."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress

YES = ("y", "yes")


async def read_line() -> str:
    """The next line of standard input without its end; empty at its end. Other tasks run on meanwhile."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    ready = asyncio.Event()
    line = bytearray()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # a file, which is always ready
        return sys.stdin.readline().rstrip("\n")
    except NotImplementedError:  # on Windows
        return await _read_on_thread(loop)
    try:
        while True:  # byte by byte: what follows the line is for the next question
            await ready.wait()
            ready.clear()
            byte = os.read(descriptor, 1)
            if byte in (b"", b"\n"):
                return line.decode(errors="replace").rstrip("\r")
            line += byte
    finally:
        loop.remove_reader(descriptor)


async def _read_on_thread(loop: asyncio.AbstractEventLoop) -> str:
    """The same where a loop cannot wait for standard input. The end of the process does not wait for the thread."""
    answer: asyncio.Future[str] = loop.create_future()

    def settle(line: str) -> None:
        if not answer.done():
            answer.set_result(line.rstrip("\n"))

    def read() -> None:
        line = sys.stdin.readline()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, line)

    threading.Thread(target=read, daemon=True).start()
    return await answer


async def ask_yes(question: str) -> bool:
    """Whether a person says yes. Anything else, and the end of standard input, is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return (await read_line()).strip().casefold() in YES
