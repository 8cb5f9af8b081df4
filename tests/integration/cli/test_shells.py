"""`completion` in the shells themselves: keys are typed into bash, zsh and fish, and what comes is looked at."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cocoon_core import Cocoon
from tests.integration.cli.conftest import PASSPHRASE, Person
from tests.support.typed_shell import SHELLS, TypedShell

HOSTILE = "$(touch pwned)`touch pwned`;touch pwned|touch pwned '\"\\ %F{red}{a,b}* &"
STEERING = f"{HOSTILE} \x1b]0;OWNED\x07 \u202eabc"  # no name may hold such, a post may

NOWHERE = "ws://127.0.0.1:1"

OpenShell = Callable[[Person], TypedShell]


@pytest.fixture(params=SHELLS)
def open_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenShell]:
    """Opens one of the shells for a person, in the folder `here`."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "here").mkdir()
    opened: list[TypedShell] = []

    def open_one(person: Person) -> TypedShell:
        opened.append(TypedShell(request.param, person.environment, tmp_path / "here", tmp_path / "shell"))
        return opened[-1]

    yield open_one
    for shell in opened:
        shell.close()


def test_a_shell_completes_commands_options_names_ids_and_files(
    make_person: Callable[[str], Person], open_shell: OpenShell, tmp_path: Path
) -> None:
    ana = make_person("ana")

    async def make() -> list[str]:
        async with await Cocoon.open(ana.home, PASSPHRASE) as cocoon:
            group = await cocoon.create_group("Family", member_name="Ana", relays=[NOWHERE])
            return [(await group.feed.post(text)).id for text in ("soup: “hot”", "bread: 100%")]

    post, _ = asyncio.run(make())
    (tmp_path / "here" / "two words.txt").touch()
    (tmp_path / "here" / "a folder").mkdir()
    shell = open_shell(ana.with_settings(COCOON_HOME=str(tmp_path / "nobody")))
    assert shell.call("cocoon sear\t--ki\tpho\tcake") == ["search", "--kind", "photo", "cake"]
    assert shell.call("cocoon vault add tw\t") == ["vault", "add", "two words.txt"]
    assert shell.call('cocoon vault add "tw\t') == ["vault", "add", "two words.txt"]
    assert [word.rstrip("/") for word in shell.call("cocoon --home=a\tfeed")] in (
        ["--home=a folder", "feed"],
        ["--home=a folder/feed"],  # where no space follows a folder
    )
    assert shell.call("cocoon feed --limit tw\t") == ["feed", "--limit", "tw"], "no files where a number stands"
    home = f'--home "{ana.home}"'
    called = shell.call(f"cocoon {home} --group=Fa\treply {post[:6]}\thi")
    assert called == ["--home", str(ana.home), "--group=Family", "reply", post[:8], "hi"]
    shown = shell.show(f"cocoon {home} reply \t\t\t")  # the first may put what both begin with
    assert "Ana: soup: “hot”" in shown
    assert "Ana: bread: 100%" in shown


def test_attack_21_what_members_write_is_never_run_by_a_shell_that_completes(
    make_person: Callable[[str], Person], open_shell: OpenShell, tmp_path: Path
) -> None:
    ana = make_person("ana")

    async def make() -> tuple[list[str], list[str], str]:
        async with await Cocoon.open(ana.home, PASSPHRASE) as cocoon:
            names = HOSTILE, f"{HOSTILE}2"
            groups = [
                await cocoon.create_group(name, member_name="Mal|touch pwned", relays=[NOWHERE]) for name in names
            ]
            texts = STEERING, f":files\t{STEERING}"
            posts = [(await groups[0].feed.post(text)).id for text in texts]
            return [str(group.id) for group in groups], posts, str(groups[0].me)

    groups, posts, member = asyncio.run(make())
    (tmp_path / "here" / "$(touch pwned);'x.txt").touch()
    shell = open_shell(ana.with_settings(COCOON_GROUP=groups[0]))
    called = shell.call(f"cocoon --group {groups[0][:6]}\tsearch --from \tcake")
    assert called == ["--group", groups[0][:8], "search", "--from", member[:8], "cake"]
    assert shell.call("cocoon vault add \\$\t") == ["vault", "add", "$(touch pwned);'x.txt"]
    for asked, ids in (("--group", groups), ("thread", posts)):
        listed = shell.show(f"cocoon {asked} \t\t\t")
        assert all(one[:8] in listed for one in ids)
        assert "touch pwned" in listed
    assert b"\x1b]0;OWNED" not in shell.raw
    assert "\u202e" not in shell.raw.decode()
    assert not list(tmp_path.rglob("pwned"))
