"""`profile backup` and `profile restore`, typed: alone, through a watch, killed in the middle, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import watching

WORDS = {"COCOON_BACKUP_PASSPHRASE": "of the backup"}


def test_a_restored_profile_goes_on_as_a_new_device(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = (person.with_settings(**WORDS) for person in family)
    ana.do("post", "before the backup")
    done = ana.do("profile", "backup", str(tmp_path / "file"))
    assert (done["path"], done["groups"]) == (str(tmp_path / "file"), 1)
    assert done["bytes"] == (tmp_path / "file").stat().st_size
    ana.do("sync")
    (before,) = (device["id"] for device in ana.do("device", "list")["devices"] if device["this"])

    copy = Person(tmp_path / "copy", {**WORDS, "COCOON_PASSPHRASE": "of the copy"})
    restored = copy.do("profile", "restore", str(tmp_path / "file"))
    assert (restored["home"], restored["groups"], restored["dropped"]) == (str(tmp_path / "copy"), 1, 0)
    assert restored["time"] == done["time"]
    assert [post["text"] for post in copy.do("feed")["posts"]] == ["before the backup"]
    refused = copy.type("--json", "post", "too early")
    assert refused.error["code"] == "restored"
    assert "cocoon sync" in refused.error["message"]
    copy.do("sync")
    copy.do("post", "after")
    copy.do("sync")
    (after,) = (device["id"] for device in copy.do("device", "list")["devices"] if device["this"])
    assert before != after
    ben.do("sync")
    assert [post["text"] for post in ben.do("feed")["posts"]] == ["after", "before the backup"]
    assert {member["name"]: member["devices"] for member in ben.do("members")["members"]} == {"Ana": 1, "Ben": 1}


def test_a_backup_goes_through_a_watch_and_lands_where_it_was_asked_for(
    family: tuple[Person, Person], tmp_path: Path
) -> None:
    ana = family[0].with_settings(**WORDS)
    ana.do("post", "Soup is ready.")
    (tmp_path / "here").mkdir()
    with watching(ana):
        typed = subprocess.run(
            [sys.executable, "-m", "cocoon_cli", "profile", "backup", "file"],
            env=ana.environment,
            cwd=tmp_path / "here",
            capture_output=True,
            text=True,
            check=False,
        )
        assert typed.returncode == 0, typed.stderr
        assert "keep the two apart" in typed.stderr
        assert (tmp_path / "here" / "file").exists()
        again = ana.type("--json", "profile", "backup", str(tmp_path / "here" / "file"))
        assert again.code == 2
        ana.do("profile", "backup", str(tmp_path / "here" / "file"), "--force")
    copy = Person(tmp_path / "copy", WORDS)
    copy.do("profile", "restore", str(tmp_path / "here" / "file"))
    assert [post["text"] for post in copy.do("feed")["posts"]] == ["Soup is ready."]


def test_what_cannot_be_backed_up_or_restored_is_said(make_person: Callable[[str], Person], tmp_path: Path) -> None:
    ana = make_person("ana")
    nobody = ana.type("--json", "profile", "backup", str(tmp_path / "file"))
    assert "COCOON_BACKUP_PASSPHRASE" in nobody.error["message"]
    ana = ana.with_settings(**WORDS)
    wrong = ana.with_settings(COCOON_PASSPHRASE="wrong").type("--json", "profile", "backup", str(tmp_path / "file"))
    assert wrong.error["code"] == "wrong_passphrase"
    assert not (tmp_path / "file").exists()
    ana.do("profile", "backup", str(tmp_path / "file"))
    assert ana.type("--json", "profile", "restore", str(tmp_path / "file")).code == 2  # there is a profile already
    copy = Person(tmp_path / "copy", WORDS)
    other = copy.with_settings(COCOON_BACKUP_PASSPHRASE="another")
    assert other.type("--json", "profile", "restore", str(tmp_path / "file")).error["code"] == "wrong_passphrase"
    raw = (tmp_path / "file").read_bytes()
    for name, content, code in (
        ("short", raw[:-1], "backup_damaged"),
        ("other", raw[:-5] + b"12345", "backup_damaged"),
        ("newer", raw.replace(b"/1\n", b"/2\n", 1), "update_needed"),
        ("photo", b"\xff\xd8\xff", "backup_damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        assert copy.type("--json", "profile", "restore", str(tmp_path / name)).error["code"] == code, name
    assert copy.type("--json", "profile", "restore", str(tmp_path / "none")).error["code"] == "local_state"
    assert not copy.home.exists()


@pytest.mark.parametrize("after", [0.35, 0.45, 0.55, 0.65, 0.8])
def test_a_restore_that_is_killed_leaves_no_profile_or_a_whole_one(
    make_person: Callable[[str], Person], tmp_path: Path, after: float
) -> None:
    ana = make_person("ana").with_settings(**WORDS)
    ana.do("profile", "backup", str(tmp_path / "file"))
    copy = Person(tmp_path / "copy", WORDS)
    process = copy.start("profile", "restore", str(tmp_path / "file"))
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    if not (copy.home / "profile.key").exists():
        copy.do("profile", "restore", str(tmp_path / "file"))
    assert copy.do("group", "list")["groups"] == []
    assert not (copy.home / "profile.db.new").exists()
    assert os.stat(copy.home / "profile.key").st_mode & 0o777 == 0o600
