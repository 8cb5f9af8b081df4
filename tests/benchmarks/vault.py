"""Line 13: a file into the vault and out of it, beside one bare core, beside `age`, and through a relay over loopback
beside a bare PUT that hashes and syncs. The relay's rates by address are set so high that they bound nothing.

COCOON_BENCH_MIB sets the size (1024 unless set). Each measurement is a process of its own, so that memory is its own;
the rounds of what is compared alternate. `age` is Debian's, if it is installed; it does not sync what it writes, so
it is measured as it is, and again with the sync of its output counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from cocoon_core import Cocoon
from cocoon_core.storage.passphrase import COST_FLOOR
from cocoon_core.storage.profile import Profile
from cocoon_relay.uploads import sync_path
from tests.benchmarks.table import Row, Samples, compare_at_least, compare_freely
from tests.benchmarks.vault_children import CHUNK, command_of, read_report
from tests.benchmarks.world import PASSPHRASE
from tests.support.relay_process import RelayProcess, relay_environment

ROUNDS: Final = 3
MOST_GROWTH: Final = 40.0  # MB
# What a relay's rates by address keep of a long measurement is not what is measured.
_UNBOUNDED: Final = """[limits]
address_requests = "10000/s"
address_blob_bytes = "10 GiB/s"
address_read_bytes = "10 GiB/s"
"""
MIB: Final = int(os.environ.get("COCOON_BENCH_MIB", "1024"))


class _Bench:
    """Runs children and keeps what they report."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.grown: dict[str, float] = {}

    def run(self, name: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            command_of(name, *arguments), env=relay_environment(), stdout=subprocess.PIPE, text=True, check=True
        )
        report = read_report(done.stdout.splitlines()[-1])
        self.rates.setdefault(name, []).append(report["rate"])
        self.grown[name] = max(self.grown.get(name, 0.0), report["grown"])

    def run_age(self, name: str, size: int, target: Path, *options: str | Path) -> None:
        """`age`, which leaves it to others when its output is on the disk; and the same with a sync of that."""
        began = time.perf_counter()
        subprocess.run(["age", "-o", target, *options], check=True, stderr=subprocess.DEVNULL)
        self._note(name, size, began)
        sync_path(target)
        self._note(f"{name} and a sync", size, began)

    def _note(self, name: str, size: int, began: float) -> None:
        self.rates.setdefault(name, []).append(size / 1e6 / (time.perf_counter() - began))

    def samples(self, name: str) -> Samples:
        return Samples(self.rates[name], "MB a second")


async def measure_vault(base: Path) -> list[Row]:
    bench, source = _Bench(), base / "source"
    with source.open("wb") as file:
        for _ in range(MIB):
            file.write(os.urandom(CHUNK))
    settings = base / "relay.toml"
    settings.write_text(_UNBOUNDED)
    with RelayProcess(base / "relay", "--config", str(settings)) as relay:
        homes = await _make_group(base, relay.url)
        for number in range(ROUNDS):
            _measure_once(bench, base, source, homes, number)
    return _rows(bench)


def _measure_once(bench: _Bench, base: Path, source: Path, homes: tuple[Path, Path], number: int) -> None:
    ana, ben = homes
    fresh, bare, out = base / f"source{number}", base / "bare", base / "out"
    source.rename(fresh)  # another file each time: the one before is known
    _make_way(bare)
    bench.run("bare-seal", fresh, bare)
    bench.run("seal", ana, fresh)
    _make_way(out)
    bench.run("bare-open", bare, out)
    _make_way(out)
    bench.run("open", ana, fresh, out)
    _measure_age(bench, base, fresh, out)
    _measure_bare_put(bench, base, bare)
    bench.run("send", ana, fresh)
    bench.run("fetch", ben, fresh)
    for folder in (ana, ben):
        shutil.rmtree(folder / "vault")
    fresh.rename(source)


def _make_way(target: Path) -> None:
    """Let each write a new file, and pay for nothing that was let go of before it."""
    target.unlink(missing_ok=True)
    os.sync()


def _measure_age(bench: _Bench, base: Path, source: Path, out: Path) -> None:
    if shutil.which("age") is None:
        return
    identity, sealed, size = base / "age.key", base / "age", source.stat().st_size
    if not identity.exists():
        subprocess.run(["age-keygen", "-o", identity], check=True, stderr=subprocess.DEVNULL)
    recipient = subprocess.run(
        ["age-keygen", "-y", identity], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    for name, target, options in (
        ("age", sealed, ("-r", recipient, source)),
        ("age -d", out, ("-d", "-i", identity, sealed)),
    ):
        _make_way(target)
        bench.run_age(name, size, target, *options)


def _measure_bare_put(bench: _Bench, base: Path, bare: Path) -> None:
    folder = base / "bare-blobs"
    folder.mkdir()
    server = subprocess.Popen(
        command_of("bare-server", folder), env=relay_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        bench.run("bare-put", bare, str(port))
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


async def _make_group(base: Path, url: str) -> tuple[Path, Path]:
    homes = base / "ana", base / "ben"
    for home in homes:
        Profile.create(home, PASSPHRASE, cost=COST_FLOOR).close()
    async with await Cocoon.open(homes[0], PASSPHRASE) as ana:
        group = await ana.create_group("Bench", member_name="Ana", relays=[url])
        link = await group.invite()
        await group.sync()
        async with await Cocoon.open(homes[1], PASSPHRASE) as ben:
            await ben.join(link, member_name="Ben")
        await group.sync()
    return homes


def _rows(bench: _Bench) -> list[Row]:
    size = f"{MIB} MiB"
    rows = [
        compare_at_least(
            f"13 vault, {size} sealed", bench.samples("seal"), bench.samples("bare-seal"), 0.6, "one bare core"
        ),
        compare_at_least(
            f"13 vault, {size} opened", bench.samples("open"), bench.samples("bare-open"), 0.6, "one bare core"
        ),
        compare_at_least(f"13 vault, {size} sent", bench.samples("send"), bench.samples("bare-put"), 0.5, "a bare PUT"),
        compare_freely(f"13 vault, {size} fetched", bench.samples("fetch"), bench.samples("bare-put"), "a bare PUT"),
    ]
    if "age" in bench.rates:
        for what, ours, peer in (("sealed", "seal", "age"), ("opened", "open", "age -d")):
            line, synced = f"13 vault, {size} {what}", f"{peer} and a sync"
            rows.append(compare_at_least(line, bench.samples(ours), bench.samples(synced), 1, synced))
            rows.append(
                compare_freely(f"{line}, synced", bench.samples(ours), bench.samples(peer), f"{peer}, not synced")
            )
    for name in ("seal", "open", "send", "fetch"):
        grown = bench.grown[name]
        rows.append(
            Row(f"13 vault, memory: {name}", f"{grown:.0f} MB", f"≤ {MOST_GROWTH:.0f} MB", "", grown <= MOST_GROWTH)
        )
    return rows
