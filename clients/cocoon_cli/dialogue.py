"""Asking a person while the program goes on: a line of standard input, without a thread that Ctrl-C would wait for."""

from __future__ import annotations

import asyncio
import os
import sys

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


async def ask_yes(question: str) -> bool:
    """Whether a person says yes. Anything else, and the end of standard input, is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return (await read_line()).strip().casefold() in YES
