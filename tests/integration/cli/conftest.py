"""People who type commands, and the relay between them: real processes, real homes, a real relay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cocoon_cli.demo_cast import RelayProcess
from cocoon_core import Cocoon
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from tests.support.commands import run_command
from tests.support.servers import free_ports

SECONDS = 120  # a command that takes longer hangs
PASSPHRASE = "a passphrase"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        assert self.out.count("\n") == 1, self.out
        return dict(json.loads(self.out))

    @property
    def error(self) -> dict[str, str]:
        assert self.code != 0
        return dict(self.json["error"])


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a home and a passphrase."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "COCOON_HOME": str(self.home), "COCOON_PASSPHRASE": PASSPHRASE, **self.settings}

    def with_settings(self, **settings: str) -> Person:
        return Person(self.home, {**self.settings, **settings})

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Type a command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "cocoon_cli", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def type(self, *words: str, stdin: bytes = b"") -> Done:
        """Type a command and wait for its end; there is never a traceback."""
        code, out, err = run_command(words, self.environment, stdin, SECONDS)
        assert b"Traceback" not in out + err, err.decode()
        return Done(code, out.decode(), err.decode())

    def do(self, *words: str, stdin: bytes = b"") -> dict[str, Any]:
        """Type a command with --json that must succeed."""
        done = self.type("--json", *words, stdin=stdin)
        assert done.code == 0, done
        assert done.err == "", done
        return done.json


@pytest.fixture
def make_person(tmp_path: Path) -> Callable[[str], Person]:
    """Someone new, with a profile that opens as fast as one may."""

    def make(name: str) -> Person:
        Profile.create(tmp_path / name, PASSPHRASE, cost=COST_FLOOR).close()
        return Person(tmp_path / name)

    return make


def make_relay(folder: Path) -> RelayProcess:
    """A relay at a port that is kept for it, also while it does not run."""
    process = RelayProcess(folder)
    process.url = f"ws://127.0.0.1:{free_ports(1)[0]}"
    return process


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    """A running relay; it must end in good order."""
    process = make_relay(tmp_path / "relay")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def family(relay: RelayProcess, make_person: Callable[[str], Person]) -> tuple[Person, Person]:
    """Ana and Ben in the group Family, on a relay. Made through the façade, since every command is a new process."""
    ana, ben = make_person("ana"), make_person("ben")

    async def make() -> None:
        async with (
            await Cocoon.open(ana.home, PASSPHRASE) as hers,
            await Cocoon.open(ben.home, PASSPHRASE) as his,
        ):
            group = await hers.create_group("Family", member_name="Ana", relays=[relay.url])
            link = await group.invite()
            await group.sync()
            await his.join(link, member_name="Ben")
            await group.sync()

    asyncio.run(make())
    return ana, ben


def interrupt(process: subprocess.Popen[str]) -> Done:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    return Done(process.returncode, out, err)
