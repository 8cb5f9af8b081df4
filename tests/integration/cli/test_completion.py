"""`completion`, by the shell that asks it: what stands next, and no name that is more than a name to the shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture


def complete(person: Person, *words: str, folder: Path | None = None) -> list[str]:
    """What bash would offer, in a shell that took the script in."""
    script = (
        'cocoon() { "$PYTHON" -m cocoon_cli "$@"; }\n'
        "source <(cocoon completion bash)\n"
        'COMP_WORDS=(cocoon "$@"); COMP_CWORD=$#\n'
        "compopt() { printf '<%s %s>\\n' \"$@\"; }\n"
        "_cocoon cocoon\n"
        'for one in "${COMPREPLY[@]}"; do printf \'%s\\n\' "$one"; done\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        env={**person.environment, "PYTHON": sys.executable},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_attack_21_a_name_is_no_command_to_a_shell_that_completes(
    make_person: Callable[[str], Person], tmp_path: Path
) -> None:
    ana = make_person("ana")
    hostile = "$(touch pwned)`touch pwned`;touch pwned"
    ana.do("group", "new", hostile, "--name", "Mal|touch pwned", "--relay", "ws://127.0.0.1:1")
    group = ana.do("group", "list")["groups"][0]["id"]
    assert complete(ana, "feed", "--group", "", folder=tmp_path) == [group[:8]]
    assert complete(ana, "search", "--from", "", folder=tmp_path) == [ana.do("members")["members"][0]["id"][:8]]
    post = ana.do("post", "$(touch pwned)\n:files\t'; touch pwned")["id"]
    assert complete(ana, "thread", "", folder=tmp_path) == [post[:8]]
    assert not (tmp_path / "pwned").exists()


def test_bash_is_told_commands_names_and_ids(alone: Person) -> None:  # noqa: F811
    post = alone.do("post", "soup")["id"]
    assert "search" in complete(alone, "")
    assert complete(alone, "--home", str(alone.home), "reply", "") == [post[:8]]
    assert complete(alone, "search", "--kind", "=", "p") == ["post", "photo"]
    call = alone.do("call", "who", "helps?")["id"]
    assert complete(alone, "answer", "") == [call[:8]]
    alone.do("list", "new", "Shopping")
    assert complete(alone, "list", "add", "S") == ["Shopping"]
    assert complete(alone, "vault", "add", "") == ["<-o default>"]
    assert complete(alone.with_settings(COCOON_PASSPHRASE="another"), "reply", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_whole(make_person: Callable[[str], Person], shell: str) -> None:
    person = make_person("ana")
    done = person.type("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert done.out == person.do("completion", shell)["script"]
    assert "cocoon" in done.out
    assert "completion answer" in done.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.out, text=True, check=True)
