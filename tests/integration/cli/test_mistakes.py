"""Every mistake ends with its own exit code and one sentence that helps, and never with a traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from cocoon_cli import group
from cocoon_cli.main import main
from cocoon_cli.text import as_sentence
from cocoon_core import Cocoon
from tests.integration.cli.conftest import Done, Person
from tests.support.servers import free_ports


def require_sentence(done: Done, *parts: str) -> None:
    """One line for people on standard error, which holds these parts; nothing on standard output."""
    assert done.out == ""
    assert done.err.startswith("cocoon: ")
    assert done.err.count("\n") == 1, done.err
    for part in parts:
        assert part in done.err


def require_mistake(person: Person, words: tuple[str, ...], exit_code: int, code: str, *parts: str) -> None:
    """The same mistake in both forms, for people and for scripts."""
    spoken = person.type(*words)
    assert spoken.code == exit_code, spoken
    require_sentence(spoken, *parts)
    told = person.type("--json", *words)
    assert told.code == exit_code
    assert told.err == ""
    assert told.json.keys() == {"error"}
    assert told.error.keys() == {"code", "message"}
    assert told.error["code"] == code
    assert f"cocoon: {as_sentence(told.error['message'])}\n" == spoken.err


@pytest.mark.parametrize(
    "words", [("feed",), ("group", "list"), ("post", "hello"), ("sync",), ("join", "cocoon:x", "--name", "Ben")]
)
def test_no_profile(tmp_path: Path, words: tuple[str, ...]) -> None:
    require_mistake(Person(tmp_path / "nobody"), words, 6, "no_profile", "cocoon init")
    assert not (tmp_path / "nobody").exists()


def test_a_second_init_keeps_the_first_profile(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    again = ana.type("init")
    assert again.code != 0
    require_sentence(again)
    assert [group["name"] for group in ana.do("group", "list")["groups"]] == ["Family"]


def test_neither_key_ring_nor_passphrase(tmp_path: Path) -> None:
    person = Person(tmp_path / "ana", {"COCOON_PASSPHRASE": ""})
    require_mistake(person, ("init",), 6, "no_key_ring", "COCOON_PASSPHRASE")


def test_attack_39_a_wrong_passphrase(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    require_mistake(ana.with_settings(COCOON_PASSPHRASE="a guess"), ("feed",), 6, "wrong_passphrase", "passphrase")
    require_mistake(ana.with_settings(COCOON_PASSPHRASE=""), ("feed",), 6, "wrong_passphrase", "COCOON_PASSPHRASE")


def test_no_group_yet(make_person: Callable[[str], Person]) -> None:
    require_mistake(make_person("ana"), ("post", "hello"), 2, "usage", "cocoon group new", "cocoon join")


def test_names_and_ids_that_nothing_has(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    made = ana.do("group", "new", "Family", "--name", "Ana", "--relay", "ws://127.0.0.1:1")
    require_mistake(ana, ("--group", "Famly", "feed"), 2, "unknown_group", "Family", made["id"][:8])
    require_mistake(ana, ("role", "Bert", "admin"), 2, "unknown_member", "Ana")
    require_mistake(ana, ("thread", "ffffffffffff"), 2, "unknown_item", "cocoon sync")
    require_mistake(ana, ("reply", "ffffffffffff", "yes"), 2, "unknown_item")
    require_mistake(ana, ("feed", "--before", "ffffffffffff"), 2, "unknown_item")
    require_mistake(ana, ("revoke", "ffffffffffff"), 2, "unknown_item")
    assert ana.do("feed")["posts"] == []


def test_texts_and_names_that_cannot_be(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    for words in (("post", ""), ("post", " \n"), ("post", "-")):
        assert ana.type("--json", *words).error["code"] == "usage"
    assert ana.type("--json", "post", "-", stdin=b"\xff\xfe").error["code"] == "usage"
    for call, parts in (
        (("group", "new", "Band", "--relay", "localhost:8787"), ("ws://localhost:8787",)),
        (("group", "new", "", "--relay", "ws://127.0.0.1:1"), ("at least one letter",)),
        (("--home", "", "feed"), ("--home", "empty")),
    ):
        require_sentence(ana.type(*call), *parts)
    for relay in ("", "127.0.0.1", "ftp://example.org", "ws://"):
        assert ana.type("--json", "group", "new", "Band", "--relay", relay).error["code"] == "usage"
    assert ana.type("--json", "group", "new", "x" * 300, "--relay", "ws://127.0.0.1:1").error["code"] == "usage"
    assert ana.do("feed")["posts"] == []
    assert len(ana.do("group", "list")["groups"]) == 1


def test_a_text_from_the_command_line_that_is_not_utf_8(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"cocoon_cli", b"post", b"broken \xff"],
        env=ana.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_link_that_is_not_whole(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    link = ana.do("invite")["link"]
    require_mistake(ana, ("join", link[:-1], "--name", "Ben"), 2, "invalid_link", "copy it again")
    for damaged in (
        link[: len(link) // 2],
        link[len("cocoon:") :],
        link[:40] + ("b" if link[40] == "a" else "a") + link[41:],
        link + "x",
        "cocoon:",
        "",
        "https://example.org/",
        "\x1b[31m",
    ):
        assert ana.type("--json", "join", damaged, "--name", "Ben").error["code"] == "invalid_link", damaged


def test_a_relay_that_nobody_runs(make_person: Callable[[str], Person]) -> None:
    ana, ben = make_person("ana"), make_person("ben")
    (port,) = free_ports(1)
    ana.do("group", "new", "Family", "--relay", f"ws://127.0.0.1:{port}")
    ana.do("post", "kept")
    require_mistake(ana, ("sync",), 5, "relay_unavailable")
    require_mistake(ana, ("audit",), 5, "relay_unavailable")
    link = ana.do("invite")["link"]
    require_mistake(ben, ("join", link, "--name", "Ben"), 5, "relay_unavailable")
    assert ben.do("group", "list") == {"groups": []}
    assert [post["text"] for post in ana.do("feed")["posts"]] == ["kept"]


def test_something_else_listens_where_the_relay_should(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=ana.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        ana.do("group", "new", "Family", "--relay", f"ws://127.0.0.1:{port}")
        done = ana.type("sync")
        assert done.code == 5
        require_sentence(done)
    finally:
        server.terminate()
        server.communicate()


async def test_a_profile_that_a_program_has_open(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    async with await Cocoon.open(ana.home, passphrase="a passphrase"):
        require_mistake(ana, ("post", "hello"), 6, "profile_locked", "--home", str(os.getpid()))
        require_mistake(ana, ("sync", "--watch"), 6, "profile_locked", "--home")
    require_mistake(ana, ("post", "hello"), 2, "usage", "cocoon group new")


def test_a_full_disk_changes_nothing(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    ana.do("post", "before")

    def limit() -> None:
        # No file can be written beyond this, a fraction of the post: writing fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "cocoon_cli", "--json", "post", "x" * 50_000],
        env=ana.environment,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert Done(done.returncode, done.stdout, done.stderr).error["code"] == "storage_full"
    assert [post["text"] for post in ana.do("feed")["posts"]] == ["before"]
    assert ana.do("post", "after")


def test_a_home_that_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a profile")
    done = Person(tmp_path / "file").type("init")
    assert done.code == 6
    require_sentence(done)


def test_a_profile_whose_files_are_damaged(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    database = max((path for path in ana.home.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    raw = bytearray(database.read_bytes())
    raw[100:2000] = bytes(1900)
    database.write_bytes(raw)
    done = ana.type("--json", "feed")
    assert done.error["code"] in {"profile_damaged", "wrong_passphrase"}
    assert done.code == 6


def test_a_reader_that_goes_away_is_no_mistake(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    ana.do("group", "new", "Family", "--relay", "ws://127.0.0.1:1")
    process = ana.start("group", "list")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("words", [("--version",), ("--json", "group", "list"), ("--help",), ("--json", "dance")])
def test_a_standard_output_that_takes_nothing_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    Cocoon.init(tmp_path / "ana", "a passphrase")
    command = [sys.executable, "-m", "cocoon_cli", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command,
            env=Person(tmp_path / "ana").environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    require_sentence(Done(done.returncode, "", done.stderr))
    assert done.returncode == (2 if "dance" in words else 6)


def test_a_closed_standard_output_is_one_sentence(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "cocoon_cli", "group", "list"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    require_sentence(Done(done.returncode, "", done.stderr), "closed")
    assert done.returncode == 6


def test_no_command_shows_those_there_are(tmp_path: Path) -> None:
    nobody = Person(tmp_path / "nobody")
    for words, part in (((), "  init "), (("group",), "  new ")):
        done = nobody.type(*words)
        assert (done.code, done.out) == (2, "")
        assert part in done.err
        assert nobody.type("--json", *words).error["code"] == "usage"


def test_a_relay_that_cannot_start_says_so_in_both_forms(tmp_path: Path) -> None:
    nobody = Person(tmp_path / "nobody")
    for words, part in (
        (("relay",), "--data"),
        (("relay", "serve", "--data", ""), "--data"),
        (("relay", "--data", str(tmp_path / "data"), "--stored-bytes", "a lot"), "--stored-bytes"),
        (("relay", "--data", str(tmp_path / "data"), "--listen", "8787"), "HOST:PORT"),
    ):
        done = nobody.type(*words)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
        assert part in done.err
    assert nobody.type("--json", "relay").error["code"] == "usage"
    shown = nobody.type("relay", "--help").out
    assert "--listen HOST:PORT" in shown
    assert "--data DIR" in shown


def test_a_fault_of_cocoon_itself_is_one_sentence_unless_debugged(
    make_person: Callable[[str], Person], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in make_person("ana").environment.items():
        monkeypatch.setenv(name, value)

    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(group, "list_groups", fail)
    assert main(["group", "list"]) == 70
    out, err = capsys.readouterr()
    require_sentence(Done(70, out, err), "ZeroDivisionError", "--debug")
    assert "secret words" not in err
    assert main(["group", "list", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err
