"""Who plays in `demo`: the relay and the members, each a process of its own that only the command line reaches."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cocoon_core.errors import CocoonError

COMMAND_SECONDS = 120  # a command that takes longer has failed
STOP_SECONDS = 20
_URL = re.compile(r"wss?://[0-9A-Za-z.\[\]:-]+:[0-9]+")


class CommandFailed(CocoonError):
    """A command of the demo did not do what it should."""


class RelayProcess:
    """A relay on a free port of this machine, which can be stopped and started again over the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.module = "cocoon_relay"  # the program
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it says where it listens; on the same port as before, if there was one.

        Raises:
            CommandFailed: it ended instead.
        """
        self.folder.mkdir(exist_ok=True)
        listen = self.url.partition("://")[2] or "127.0.0.1:0"
        words = [sys.executable, "-m", self.module, "serve", "--listen", listen, "--data", str(self.folder / "data")]
        with (self.folder / "log").open("a") as log:  # searched at the end like all that it writes
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        printed = []
        for line in self._process.stdout or ():
            printed.append(line)
            found = _URL.search(line)
            if found:
                self.url = found[0]
                return
        raise CommandFailed(f"The relay did not start: {''.join(printed)}{(self.folder / 'log').read_text()}".strip())

    def stop(self) -> None:
        """End it in good order, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            rest, _ = self._process.communicate(timeout=STOP_SECONDS)
            with (self.folder / "log").open("a") as log:
                log.write(rest)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise CommandFailed(f"The relay did not end within {STOP_SECONDS} seconds.") from None
        finally:
            self._process = None


class Running:
    """A command that a person has typed and that asks something before it ends."""

    def __init__(self, name: str, words: Sequence[str], environment: dict[str, str]) -> None:
        self._name, self._words = name, words
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cocoon_cli", "--json", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._watchdog = threading.Timer(COMMAND_SECONDS, self._process.kill)
        self._watchdog.start()

    def hear(self, key: str) -> Any:
        """Wait until it tells this, as an object on a line of standard error.

        Raises:
            CommandFailed: it ended before.
        """
        told = []
        for line in self._process.stderr or ():
            told.append(line)
            _, brace, rest = line.partition("{")
            if brace and key in (data := json.loads(brace + rest)):
                return data[key]
        raise CommandFailed(
            f"`cocoon {self._words[0]}` of {self._name} ended early: {''.join(told)}{self._finish()[0]}"
        )

    def answer(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for its end and give what it printed. Raises as `Member.run` does."""
        out, err = self._finish()
        if self._process.returncode != 0:
            raise CommandFailed(f"`cocoon {' '.join(self._words)}` of {self._name} failed: {out}{err}".strip())
        return dict(json.loads(out))

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._finish()

    def _finish(self) -> tuple[str, str]:
        try:
            return self._process.communicate()
        finally:
            self._watchdog.cancel()


class Member:
    """A person with a home and a passphrase who types commands."""

    def __init__(self, name: str, home: Path, tell: Callable[[str, Sequence[str]], None]) -> None:
        self.name = name
        self.home = home
        self._tell = tell
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("COCOON_")}
        self._environment |= {"COCOON_HOME": str(home), "COCOON_PASSPHRASE": secrets.token_urlsafe(24)}

    def run(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Type a command that must succeed, and give what `--json` prints.

        Raises:
            CommandFailed: it ended with an error.
        """
        self._tell(self.name, words)
        return dict(json.loads(self.read("--json", *words, stdin=stdin)))

    def try_(self, *words: str) -> dict[str, Any]:
        """Type a command that may succeed or fail, and give what `--json` prints."""
        self._tell(self.name, words)
        return dict(json.loads(self._type("--json", *words).stdout))

    def start(self, *words: str) -> Running:
        """Type a command that asks something before it ends."""
        self._tell(self.name, words)
        return Running(self.name, words, self._environment)

    def lose_home(self) -> None:
        """The device breaks, with all that was on it."""
        shutil.rmtree(self.home)

    def print(self, *words: str) -> str:
        """Type a command that must succeed, and give what it prints. Raises as `run` does."""
        self._tell(self.name, words)
        return self.read(*words)

    def read(self, *words: str, stdin: str = "") -> str:
        """The same without telling the audience."""
        done = self._type(*words, stdin=stdin)
        if done.returncode != 0:
            raise CommandFailed(f"`cocoon {' '.join(words)}` of {self.name} failed: {done.stdout}{done.stderr}".strip())
        return done.stdout

    def fail(self, *words: str) -> str:
        """Type a command that must fail, and give the code of its error.

        Raises:
            CommandFailed: it did not.
        """
        self._tell(self.name, words)
        done = self._type("--json", *words)
        if done.returncode == 0:
            raise CommandFailed(f"`cocoon {words[0]}` of {self.name} succeeded, and should not have.")
        return str(json.loads(done.stdout)["error"]["code"])

    def _type(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cocoon_cli", *words],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
            check=False,
        )
