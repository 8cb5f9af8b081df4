"""A real shell in a pseudo-terminal, for tests: keys go in, what it shows and which calls it makes come out.

`cocoon` is the real one where the shell asks it for completions. Any other call is only written down, word by word as
the shell gave them: so a test sees what a line would do that was completed, and nothing is waited for but that.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

SHELLS = {  # how each is started, takes the script in, and is given the prompt below
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(cocoon completion bash); PS1='=rea''dy='"),
    "zsh": (["zsh", "-f", "-i"], "source <(cocoon completion zsh); PS1='=rea''dy='"),
    "fish": (
        ["fish", "--no-config", "-i"],
        "cocoon completion fish | source; function fish_prompt; echo '=rea''dy='; end",
    ),
}
SECONDS = 60.0
ROWS, COLUMNS = 40, 120

_KILL_LINE = "\x15"
_LEAD = (  # gives what follows a terminal of its own, as a login does
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_NOTE_CALL = (
    "import json, sys; open(sys.argv[1], 'a').write(json.dumps(sys.argv[2:]) + '\\n'); print('=' + 'called' + '=')"
)
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])")
_ASKED = {b"\x1b[c": b"\x1b[?62;22c", b"\x1b[0c": b"\x1b[?62;22c", b"\x1b[6n": b"\x1b[1;1R"}  # of the terminal itself


class TypedShell:
    """One shell that took in its completion script. `raw` is all that it wrote to its terminal."""

    def __init__(self, shell: str, environment: Mapping[str, str], folder: Path, home: Path) -> None:
        home.mkdir()
        self._calls = home / "calls"
        program = home / "bin" / "cocoon"
        program.parent.mkdir()
        program.write_text(
            "#!/bin/sh\n"
            f'if [ "$1" = completion ]; then exec "{sys.executable}" -m cocoon_cli "$@"; fi\n'
            f'exec "{sys.executable}" -I -S -c "{_NOTE_CALL}" "{self._calls}" "$@"\n'
        )
        program.chmod(0o755)
        words, self._take_in = SHELLS[shell]
        self._outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        settings = {name: value for name, value in environment.items() if not name.startswith(("XDG_", "ZDOTDIR"))}
        settings |= {"TERM": "xterm-256color", "HOME": str(home), "PATH": f"{program.parent}:{os.environ['PATH']}"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LEAD, *words],
            env=settings,
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        self.raw = b""
        self.call(f"{self._take_in}; cocoon ready")

    def call(self, keys: str) -> list[str]:
        """Type these, and Enter: the words that `cocoon` was called with."""
        self._write(f"{keys}\r")
        called = self._wait_for(b"=called=", len(self.raw))
        self._wait_for(b"=ready=", called)  # only now the shell, and not the terminal, reads what is typed
        return list(json.loads(self._calls.read_text().splitlines()[-1]))

    def show(self, keys: str) -> str:
        """Type these, and take the line back: what was shown meanwhile, without what moves and colours it."""
        before = len(self.raw)
        assert self.call(f"{keys}{_KILL_LINE}cocoon shown") == ["shown"]
        return _SEQUENCES.sub("", self.raw[before:].decode())

    def close(self) -> None:
        """Hang up."""
        os.close(self._outer)
        self._process.wait(SECONDS)

    def _write(self, keys: str) -> None:
        left = keys.encode()
        while left:
            left = left[os.write(self._outer, left) :]

    def _wait_for(self, words: bytes, start: int) -> int:
        """Read until these stand there; the place behind them."""
        until = time.monotonic() + SECONDS
        while (place := self.raw.find(words, start)) < 0:
            left = until - time.monotonic()
            assert left > 0, f"never shown: {words!r}; but {self.raw[start:]!r}"
            if select.select([self._outer], [], [], left)[0]:
                part = os.read(self._outer, 65536)
                self.raw += part
                for question, answer in _ASKED.items():
                    if question in part:
                        os.write(self._outer, answer)
        return place + len(words)
