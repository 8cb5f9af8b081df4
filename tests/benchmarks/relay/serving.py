"""The servers that are measured: each in a process of its own, all its threads on one processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from tests.support.relay_process import REPOSITORY, relay_environment

SERVER_PROCESSOR: Final = 0
ALL_PROCESSORS: Final = os.sched_getaffinity(0)
# Every limit is kept and counted as always; those that hold back one address are wide, since all load comes from one.
_SETTINGS: Final = """
[limits]
topic_entries = 100000000
topic_bytes = "100 GiB"
topic_deliveries = "100000000/s"
topic_deliveries_burst = 1000000000
connection_puts = "10000000/s"
connection_puts_burst = 1000000000
connection_put_bytes = "100 GiB/s"
connection_put_bytes_burst = "1000 GiB"
connection_frames = "10000000/s"
connection_frames_burst = 1000000000
address_connections = 100000
address_requests = "1000000/s"
address_requests_burst = 1000000
address_waiting_bytes = "1 GiB"
address_proofs = "1000000/s"
address_proofs_burst = 10000000
address_topics = "1000000/s"
address_topics_burst = 10000000
connection_unanswered_puts = 4096
connection_unanswered_bytes = "16 MiB"
connections = 100000
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One that listens. `processor` is None where it may use all."""

    name: str
    pids: tuple[int, ...]
    ports: tuple[int, ...]
    extra: dict[str, Any]

    def used(self) -> float:
        """Seconds of processor time so far."""
        return sum(_used(pid) for pid in self.pids)


def other_processors() -> set[int]:
    """Where the load runs: beside the server, if the machine has more than one."""
    return ALL_PROCESSORS - {SERVER_PROCESSOR} or {SERVER_PROCESSOR}


def measure(server: Server, what: str, **given: Any) -> dict[str, Any]:
    """Give the load one order; its result, and how much of one processor the server used meanwhile."""
    order = {"server": server.name, "ports": server.ports, "what": what, "with": given, **server.extra}
    before = server.used()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.relay.load"],
        input=json.dumps(order), stdout=subprocess.PIPE, text=True, env=relay_environment(), check=True,
        preexec_fn=partial(_pin, other_processors()), cwd=REPOSITORY,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    result["server_used"] = server.used() - before
    return result


@contextmanager
def run_pinned(
    command: Sequence[str | Path],
    *,
    processor: int | None = SERVER_PROCESSOR,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended by its pid."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=relay_environment() | (environment or {}),
        cwd=REPOSITORY,
        preexec_fn=partial(_pin, ALL_PROCESSORS if processor is None else {processor}),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_line(process: subprocess.Popen[str]) -> str:
    output: IO[str] | None = process.stdout
    assert output is not None
    line = output.readline().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} did not start")
    return line


@contextmanager
def serve_bare(folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    with run_pinned([sys.executable, "-m", "tests.benchmarks.relay.bare", folder]) as process:
        yield Server("bare", (process.pid,), (int(read_line(process)),), {})


@contextmanager
def serve_relay(
    folder: Path, *arguments: str, processor: int | None = SERVER_PROCESSOR, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """`cocoon-relay serve` as everybody runs it, but for the limits of one address."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "relay.toml"
    config.write_text(_SETTINGS)
    command: list[str | Path] = [
        sys.executable, "-m", "cocoon_relay", "serve", "--listen", "127.0.0.1:0", "--data", folder / "data",
        "--config", config, *arguments,
    ]  # fmt: skip
    with run_pinned(command, processor=processor, environment=environment) as process:
        port = int(read_line(process).rpartition(":")[2])
        yield Server("relay", (process.pid,), (port,), {})


def _pin(processors: set[int]) -> None:
    os.sched_setaffinity(0, processors)


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
