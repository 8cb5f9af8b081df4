"""Commands of `cocoon` as processes that cost milliseconds: forked off one that has imported the command line.

Each is a process like any other: with a home, an environment, streams and an exit code of its own, killed if it hangs.
What it does not show is the start and the end of an interpreter: what depends on these is typed as a new process.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

from cocoon_cli.main import FAMILIES, main
from tests.support.forks import make_forks

for family in FAMILIES:
    import_module(f"cocoon_cli.{family}")

_STREAMS = ("in", os.O_RDONLY), ("out", os.O_WRONLY | os.O_APPEND), ("err", os.O_WRONLY | os.O_APPEND)


def run_command(
    words: Sequence[str], environment: Mapping[str, str], stdin: bytes, seconds: float
) -> tuple[int, bytes, bytes]:
    """Run a command to its end; its exit code, and what it wrote to standard output and standard error."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for stream, _ in _STREAMS:
            (folder / stream).write_bytes(stdin if stream == "in" else b"")
        child = make_forks().Process(target=_run, args=(tuple(words), dict(environment), folder))
        child.start()
        try:
            ended = wait([child.sentinel], seconds)
        finally:
            child.kill()
            child.join()
            status = child.exitcode
            child.close()
        out, err = (folder / "out").read_bytes(), (folder / "err").read_bytes()
        assert ended, f"still running after {seconds} s: {words}, {out!r}, {err!r}"
        # Written by the command itself, since of two threads that wait here only one may learn its child's status.
        code = folder / "code"
        if code.exists():
            return int(code.read_text()), out, err
        assert status is not None  # it became another program, or was killed
        return status, out, err


def _run(words: Sequence[str], environment: dict[str, str], folder: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, (stream, flags) in enumerate(_STREAMS):
        opened = os.open(folder / stream, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process runs
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["cocoon", *words]
    gc.freeze()  # what was imported is no garbage, and is shared as long as nobody looks through it
    code = main(words)
    (folder / "code").write_text(str(code))
