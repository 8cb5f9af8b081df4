"""Many connections in small groups: nothing is lost, nothing comes twice, and what that costs is printed."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.benchmarks.relay.crowd import Outcome, run_crowd
from tests.benchmarks.relay.load import resident
from tests.support.relay_process import RelayProcess

LIMITS = [
    "--connections", "6000", "--address-connections", "6000", "--address-proofs-burst", "20000",
    "--address-requests-burst", "20000",
]  # fmt: skip


def serve_crowd(data: Path, *, groups: int, every: float, seconds: float) -> Outcome:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with RelayProcess(data, *LIMITS) as relay:
        before = resident(relay.pid)
        outcome = run_crowd([relay.port], groups=groups, each=10, every=every, seconds=seconds)
        grown = resident(relay.pid) - before
        print(f"{10 * groups} connections: {outcome}; memory {before / 2**20:.0f} MiB + {grown / 2**20:.0f} MiB")
        assert relay.stop() == 0
        assert relay.errors == ""
    return outcome


def test_a_crowd_loses_nothing(tmp_path: Path) -> None:
    outcome = serve_crowd(tmp_path / "data", groups=12, every=0.5, seconds=2.0)
    assert (outcome.puts, outcome.lost, outcome.twice) == (480, 0, 0)
    assert outcome.deliveries == 4_800


@pytest.mark.soak
def test_five_thousand_connections_for_ten_minutes_lose_nothing(tmp_path: Path) -> None:
    outcome = serve_crowd(tmp_path / "data", groups=500, every=10.0, seconds=600.0)
    assert outcome.puts > 290_000
    assert (outcome.lost, outcome.twice) == (0, 0)
