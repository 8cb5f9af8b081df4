"""DESIGN's layers, where they can only be seen at run time: what an import really loads, and what stands where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cocoon_cli.main import FAMILIES

ROOT = Path(__file__).resolve().parents[2]

# What the relay may load of the core: the frames, the primitives, and what those need.
SHARED_WITH_RELAY = {
    "cocoon_core",
    "cocoon_core.errors",
    "cocoon_core.protocol",
    "cocoon_core.protocol.constants",
    "cocoon_core.protocol.encoding",
    "cocoon_core.protocol.frames",
    "cocoon_core.protocol.ids",
    "cocoon_core.protocol.primitives",
    "cocoon_core.protocol.requests",
}
HEAVY = {"automerge", "apsw", "keyring", "rich"}
RELAY_MODULES = sorted(
    ".".join(path.relative_to(ROOT / "relay").with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "relay" / "cocoon_relay").rglob("*.py")
    if path.name != "__main__.py"
)


def modules_after(*imports: str) -> set[str]:
    """The names of all modules that a fresh interpreter holds after these imports."""
    code = f"import sys, {', '.join(imports)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=search_path(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def search_path() -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT}:{ROOT / 'relay'}:{ROOT / 'clients'}", "PATH": "/usr/bin:/bin"}


def test_importing_all_of_the_relay_loads_neither_automerge_nor_apsw_nor_keyring() -> None:
    loaded = modules_after(*RELAY_MODULES)
    assert "cocoon_relay" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_the_relay_loads_of_the_core_only_what_frames_requests_and_primitives_need() -> None:
    assert {name for name in modules_after(*RELAY_MODULES) if name.split(".")[0] == "cocoon_core"} <= SHARED_WITH_RELAY


def test_importing_the_core_loads_nothing_heavy_until_a_public_name_is_used() -> None:
    assert not {name.split(".")[0] for name in modules_after("cocoon_core")} & (HEAVY | {"aiohttp", "nacl"})


def test_a_call_loads_the_module_of_its_command_and_of_no_other() -> None:
    code = (
        "import sys; from cocoon_cli.main import parse_call; parse_call(['--home', 'h', 'feed']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=search_path(), capture_output=True, text=True, check=True
    )
    loaded = {name.removeprefix("cocoon_cli.") for name in done.stdout.split()}
    assert loaded & FAMILIES.keys() == {"posts"}


@pytest.mark.parametrize(
    "path",
    [
        "cocoon_core/protocol",
        "cocoon_core/documents",
        "cocoon_core/storage",
        "cocoon_core/sync",
        "cocoon_core/social",
        "relay/cocoon_relay",
        "relay/README.md",
        "clients/cocoon_cli",
        "specs/threat-model.md",
        "specs/vectors",
        "tests/vectors",
        "tests/convergence",
        "tests/adversary",
        "tests/benchmarks",
    ],
)
def test_the_layout_that_the_design_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_no_module_is_left_without_its_charter() -> None:
    sources = [p for d in ("cocoon_core", "relay", "clients") for p in (ROOT / d).rglob("*.py")]
    assert sources
    assert [str(p) for p in sources if not p.read_text("utf-8").lstrip().startswith('"""')] == []
