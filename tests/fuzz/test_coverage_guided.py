"""Attack 41, coverage-guided: each parser for a while under atheris, from whole inputs. Part of `make soak`; skipped
where atheris is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parsers import all_parsers

ROOT = Path(__file__).resolve().parents[2]
SECONDS = os.environ.get("FUZZ_SECONDS", "60")  # for each parser


@pytest.mark.soak
@pytest.mark.parametrize("name", [parser.name for parser in all_parsers()])
def test_attack_41_fuzzing_finds_no_exception_that_is_not_named(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fuzz_parsers", name),
            *(f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=4096"),
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = [path.read_bytes().hex() for path in tmp_path.iterdir()]
    assert done.returncode == 0, f"{name}: {found}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
