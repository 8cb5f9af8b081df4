"""What people would run instead, installed by the bench itself: mosquitto from Debian, hocuspocus from npm.

Nothing is installed into the system: packages are unpacked into a cache folder (COCOON_BENCH_CACHE, else the user's
cache). Both run as their makers ship them, without a disk to wait for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from tests.benchmarks.relay.serving import Server, read_line, run_pinned
from tests.support.servers import free_ports, wait_listens

_HOCUSPOCUS: Final = ("@hocuspocus/server@2.15.3", "yjs@13.6.27")
_INSTALL_SECONDS: Final = 300
_SERVER: Final = """
import { Server } from "@hocuspocus/server";
const server = Server.configure({ port: Number(process.argv[2]), address: "127.0.0.1", quiet: true });
await server.listen();
console.log("ready");
"""
_UPDATES: Final = """
import * as Y from "yjs";
import { writeSync, openSync } from "node:fs";
const [count, size, path] = process.argv.slice(2);
const doc = new Y.Doc();
const text = doc.getText("t");
const out = openSync(path, "w");
doc.on("update", (update) => {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(update.length);
  writeSync(out, Buffer.concat([head, update]));
});
for (let number = 0; number < Number(count); number += 1) {
  text.insert(text.length, "x".repeat(Number(size)));
}
"""


class NotInstalledError(Exception):
    """A peer cannot be had here; says why."""


def cache_folder() -> Path:
    given = os.environ.get("COCOON_BENCH_CACHE")
    folder = Path(given) if given else user_cache_path("cocoon-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: Sequence[str | Path], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{command[0]}: {type(error).__name__}") from error
    if done.returncode:
        raise NotInstalledError(f"{command[0]} ends with {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


# --- mosquitto


def _find_debian(program: str, package: str) -> tuple[str, dict[str, str]]:
    """A program of the system, or of a package that is unpacked into the cache; and its environment."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found:
        return found, {}
    root = cache_folder() / package
    unpacked = root / "usr" / "sbin" / program
    if not unpacked.exists():
        if not shutil.which("apt-get"):
            raise NotInstalledError("no apt-get here")
        debs = cache_folder() / f"{package}-debs"
        debs.mkdir(exist_ok=True)
        lines = _run(["apt-get", "install", "--simulate", package], debs).splitlines()
        names = [line.split()[1] for line in lines if line.startswith("Inst ")]
        _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *names], debs)
        for deb in sorted(debs.glob("*.deb")):
            _run(["dpkg-deb", "-x", deb, root], debs)
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    return str(unpacked), {"LD_LIBRARY_PATH": ":".join(libraries)}


@contextmanager
def serve_mosquitto(folder: Path) -> Iterator[Server]:
    """QoS 1, without a limit on what is under way, and without a disk."""
    program, environment = _find_debian("mosquitto", "mosquitto")
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type none\n"
        "max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n"
        + ("user root\n" if os.getuid() == 0 else "")
    )
    with run_pinned([program, "-c", config], environment=environment) as process:
        wait_listens(port, process)
        yield Server("mosquitto", (process.pid,), (port,), {})


# --- hocuspocus


def _install_hocuspocus() -> Path:
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotInstalledError("no node and npm here (apt-get install nodejs npm)")
    folder = cache_folder() / "hocuspocus"
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules" / "@hocuspocus" / "server").exists():
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *_HOCUSPOCUS], folder)
    (folder / "server.mjs").write_text(_SERVER)
    (folder / "updates.mjs").write_text(_UPDATES)
    return folder


@contextmanager
def serve_hocuspocus(folder: Path, updates: int, size: int) -> Iterator[Server]:
    """A server without extensions, so without a store."""
    installed = _install_hocuspocus()
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "updates"
    _run(["node", installed / "updates.mjs", str(updates), str(size), made], installed)
    (port,) = free_ports(1)
    with run_pinned(["node", installed / "server.mjs", str(port)]) as process:
        read_line(process)
        yield Server("hocuspocus", (process.pid,), (port,), {"updates": str(made)})
