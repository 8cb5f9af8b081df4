"""Who plays in `demo`: the relay and the members, each a process of its own that only the command line reaches."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
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
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it says where it listens; on the same port as before, if there was one.

        Raises:
            CommandFailed: it ended instead.
        """
        self.folder.mkdir(exist_ok=True)
        listen = self.url.partition("://")[2] or "127.0.0.1:0"
        words = [sys.executable, "-m", "cocoon_relay", "serve", "--listen", listen, "--data", str(self.folder / "data")]
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


class Member:
    """A person with a home and a passphrase who types commands."""

    def __init__(self, name: str, home: Path, tell: Callable[[str, Sequence[str]], None]) -> None:
        self.name = name
        self.home = home
        self._tell = tell
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("COCOON_")}
        self._environment |= {"COCOON_HOME": str(home), "COCOON_PASSPHRASE": secrets.token_urlsafe(24)}

    def run(self, *words: str) -> dict[str, Any]:
        """Type a command that must succeed, and give what `--json` prints.

        Raises:
            CommandFailed: it ended with an error.
        """
        self._tell(self.name, words)
        return dict(json.loads(self.read("--json", *words)))

    def print(self, *words: str) -> str:
        """Type a command that must succeed, and give what it prints. Raises as `run` does."""
        self._tell(self.name, words)
        return self.read(*words)

    def read(self, *words: str) -> str:
        """The same without telling the audience."""
        done = self._type(*words)
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

    def _type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cocoon_cli", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
            check=False,
        )
