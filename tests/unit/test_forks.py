"""What tests fork off is ready at once: nobody imports for himself what the fork server lacks."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import run_command
from tests.support.forks import PRELOADED, a_child, make_forks, tell_modules


def test_a_child_finds_everything_imported() -> None:
    with a_child(make_forks(), tell_modules) as (_, told):
        modules = told.recv()
    assert modules >= {*PRELOADED, "cocoon_core.cocoon", "cocoon_cli.main", "cocoon_relay.server"}


def test_a_command_has_streams_an_environment_and_an_exit_code_of_its_own(tmp_path: Path) -> None:
    environment = {"COCOON_HOME": str(tmp_path / "home"), "COCOON_PASSPHRASE": "a passphrase"}
    assert run_command(["init"], environment, b"", 60)[0] == 0
    code, out, err = run_command(["--json", "post", "-"], environment, "grüße".encode(), 60)
    assert (code, err) == (2, b"")
    assert out.startswith(b'{"error": {"code": ')
    code, out, err = run_command(["feed", "--group", "x"], {}, b"", 60)
    assert code != 0
    assert out == b""
    assert err.startswith(b"cocoon: ")
