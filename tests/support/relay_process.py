"""A real relay on a free port, in a process of its own or in this one, for tests and measurements."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from cocoon_relay.config import RelayConfig
from cocoon_relay.limits import Limits
from cocoon_relay.relay_store import open_store
from cocoon_relay.server import Relay
from tests.support.servers import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
_READY = "relay ready at "


def relay_environment() -> dict[str, str]:
    """An environment in which `python -m cocoon_relay` is found without being installed."""
    paths = [str(REPOSITORY), str(REPOSITORY / "relay")]
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, inherited] if inherited else paths)}


def relay_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cocoon_relay", *arguments]


class RelayProcess:
    """`python -m cocoon_relay serve`. `url` is what it printed when it was ready; `data` is its directory.

    Its port is kept for it: when it has ended, another one can be started there.
    """

    def __init__(self, data: Path, *arguments: str, port: int | None = None) -> None:
        self.data = data
        self._errors = data.with_name(data.name + ".stderr")
        listen = f"127.0.0.1:{port or free_ports(1)[0]}"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                relay_command("serve", "--listen", listen, "--data", str(data), *arguments),
                stdout=subprocess.PIPE,
                stderr=errors,
                env=relay_environment(),
            )
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline().decode().strip()
        if not self.ready_line.startswith(_READY):
            self._process.wait()
            self._process.stdout.close()
            raise AssertionError(f"the relay did not start: {self.errors}")
        self.url = self.ready_line.removeprefix(_READY)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self._errors.read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, as a power cut would; the exit code."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@asynccontextmanager
async def serve_relay(data: Path, **changed: object) -> AsyncIterator[Relay]:
    """A relay in this process. `changed` are fields of Limits; no part of the disk is reserved."""
    limits = replace(Limits(), **{"free_bytes": 0, **changed})  # type: ignore[arg-type]
    async with _serve(RelayConfig(data, "127.0.0.1", 0, limits=limits)) as relay:
        yield relay


@asynccontextmanager
async def serve_node(
    data: Path, databases: tuple[str, ...], bucket: str | None, origins: tuple[str, ...] = ()
) -> AsyncIterator[Relay]:
    """One node of a relay in this process."""
    limits = replace(Limits(), free_bytes=0)
    config = RelayConfig(data, "127.0.0.1", 0, origins, limits=limits, databases=databases, bucket=bucket)
    async with _serve(config) as relay:
        yield relay


@asynccontextmanager
async def _serve(config: RelayConfig) -> AsyncIterator[Relay]:
    relay = Relay(config, await open_store(config.data, config.databases, config.bucket, config.limits))
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
