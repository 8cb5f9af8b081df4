"""A relay host needs none of the core's heavy half."""

from __future__ import annotations

import subprocess
import sys

from tests.support.relay_process import relay_environment

_FORBIDDEN = ("automerge", "keyring", "apsw")


def test_importing_every_module_of_the_relay_loads_no_automerge_keyring_or_apsw() -> None:
    program = (
        "import importlib, pkgutil, sys, cocoon_relay\n"
        "for module in pkgutil.iter_modules(cocoon_relay.__path__):\n"
        "    importlib.import_module('cocoon_relay.' + module.name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('cocoon_core.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=relay_environment(), capture_output=True, check=True)
    roots, core = (line.split() for line in done.stdout.decode().splitlines())
    assert "aiohttp" in roots
    assert not set(_FORBIDDEN) & set(roots)
    assert set(core) == {
        "cocoon_core.errors",
        "cocoon_core.protocol",
        *(
            f"cocoon_core.protocol.{name}"
            for name in ("constants", "encoding", "frames", "ids", "primitives", "requests")
        ),
    }
