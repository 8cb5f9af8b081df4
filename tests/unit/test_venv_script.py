"""`make venv` on a machine that cannot: it says what is missing and how to get it, and leaves nothing half-made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "venv"


def run_script(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), str(folder / "env"), python], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("python", ["/nonexistent/python3", "false"])
def test_without_a_python_that_fits_it_names_the_versions(tmp_path: Path, python: str) -> None:
    done = run_script(tmp_path, python)
    assert done.returncode == 1
    assert "Python 3.11 or 3.12" in done.stderr
    assert "make venv PYTHON=" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_debian_packages_venv_apart_it_names_the_package(tmp_path: Path) -> None:
    bare = tmp_path / "python"  # this very Python without the module, as Debian's is
    bare.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = run_script(tmp_path, str(bare))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert list(tmp_path.iterdir()) == [bare]
