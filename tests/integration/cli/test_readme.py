"""The README's sessions, typed as they stand: each terminal is a shell, each printed line must come.

`…` in an expected line stands for anything. Two things differ from a reader's hands: the port is a free one, and
the folder is a fresh one with the environment linked into it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import free_ports

README = (Path(__file__).resolve().parents[3] / "README.md").read_text("utf-8")
END = "--- end of command"


@dataclass(frozen=True, slots=True)
class Block:
    """What one terminal types in one go: commands, each with the lines that it must print."""

    terminal: str
    commands: tuple[tuple[str, tuple[str, ...]], ...]


def read_blocks(text: str) -> Iterator[Block]:
    """The ```console blocks; each belongs to the terminal that was named last before it."""
    for match in re.finditer(r"```console\n(.*?)```", text, re.DOTALL):
        terminal = re.findall(r"\*\*[Tt]erminal (\d)\*\*", text[: match.start()])[-1]
        commands: list[tuple[str, list[str]]] = []
        for line in match[1].splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        yield Block(terminal, tuple((command, tuple(lines)) for command, lines in commands))


def read_program(text: str) -> str:
    """The one ```python block."""
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(program)


class Terminal:
    """One shell that keeps its variables, as a terminal does."""

    def __init__(self, folder: Path) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def type(self, command: str) -> list[str]:
        """Type a command, wait for its end and give what it printed. It must succeed."""
        self._write(f'{command}\necho "{END} $?"\n')
        printed = list(iter(self._read, None))
        *lines, last = printed
        assert last == f"{END} 0", "\n".join([command, *printed])
        return lines

    def leave_running(self, command: str, until: str) -> None:
        """Type a command that stays, and wait for a line of it."""
        self._write(f"{command}\n")
        while until not in (line := self._read() or ""):
            assert line, f"{command} ended"

    def close(self) -> None:
        """Close the window."""
        os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.communicate()

    def _write(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text)
        self._shell.stdin.flush()

    def _read(self) -> str | None:
        """The next line; None after the last one of a command."""
        if self._ended:
            self._ended = False
            return None
        assert self._shell.stdout is not None
        line = self._shell.stdout.readline().rstrip("\n")
        self._ended = line.startswith(END)
        return line

    _ended = False


def require_lines(expected: tuple[str, ...], printed: list[str], command: str) -> None:
    """Every expected line was printed, in this order; others may stand between."""
    rest = iter(printed)
    for line in expected:
        pattern = re.compile(".*".join(re.escape(part) for part in re.split("… ?", line.rstrip())))
        assert any(pattern.fullmatch(candidate) for candidate in rest), "\n".join(
            [f"{command}: no {line!r} in", *printed]
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone after `make venv`."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def terminals(folder: Path) -> Iterator[dict[str, Terminal]]:
    """The three windows."""
    windows = {number: Terminal(folder) for number in "123"}
    yield windows
    for window in windows.values():
        window.close()


@pytest.mark.long
def test_a_newcomer_with_three_terminals_gets_there(terminals: dict[str, Terminal], folder: Path) -> None:
    (port,) = free_ports(1)
    text = README.replace("8787", str(port))
    blocks = list(read_blocks(text))
    assert [block.terminal for block in blocks] == ["1", "2", "3", "2", "2", "2"]
    for block in blocks:
        window = terminals[block.terminal]
        for command, expected in block.commands:
            if command.startswith("cocoon relay"):
                window.leave_running(command, until=f"ws://127.0.0.1:{port}")
            else:
                require_lines(expected, window.type(command), command)

    program = folder / "program.py"
    program.write_text(read_program(text), "utf-8")
    printed = terminals["2"].type(f"{sys.executable} -W error program.py")
    assert printed == ["Emil: Rehearsal on Friday?", "Dora: Yes, at eight.", "['Dora']"]
    assert "`Emil: Rehearsal on Friday?`, `Dora: Yes, at eight.` and `['Dora']`" in README
