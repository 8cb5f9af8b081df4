"""`vault` and `post --attach`, typed: from one home to the other over a real relay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Person, interrupt
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture

ITEM_KEYS = {"id", "name", "size", "mime", "kind", "author", "author_id", "time", "caption", "album", "duration"}


def make(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_files_go_from_one_home_to_the_other(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = family
    film = os.urandom(2_500_000)
    paths = [make(tmp_path, "Summer/film.bin", film), make(tmp_path, "Summer/list.txt", b"milk")]
    added = ana.do("vault", "add", str(tmp_path / "Summer"), "https://example.org/cake", "--caption", "By the sea")
    assert [(item["name"], item["album"], item["caption"]) for item in added["items"]] == [
        ("example.org", None, "By the sea"),
        ("film.bin", "Summer", "By the sea"),
        ("list.txt", "Summer", "By the sea"),
    ]
    assert all(item.keys() >= ITEM_KEYS for item in added["items"])
    link = added["items"][0]["id"]
    post = ana.do("post", "look", "at", "this", "--attach", paths[1], "--attach", link)
    assert ana.do("vault", "status")["waiting"] == {"files": 2, "bytes": len(film) + 4}
    assert ana.do("sync")["files"] == {"sent": 2, "fetched": 0, "renewed": 0, "lost": 0, "errors": []}
    ben.do("sync")
    (shown,) = ben.do("feed")["posts"]
    assert shown["id"] == post["id"]
    assert [item["name"] for item in shown["attachments"]] == ["list.txt", "example.org"]
    listed = ben.do("vault", "list", "--kind", "file")["items"]
    assert [item["name"] for item in listed] == ["list.txt", "film.bin"]
    many = ben.do("vault", "get", "--album", "Summer", "-o", str(tmp_path / "all"))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["film.bin", "list.txt"]
    assert (tmp_path / "all" / "film.bin").read_bytes() == film
    assert len(many["items"]) == 2
    assert ben.do("vault", "check")["relays"][0]["lacking"] == 0
    assert ana.do("vault", "album", "Sea", listed[1]["id"])["items"][0]["album"] == "Sea"
    assert ana.do("vault", "remove", "--erase", listed[0]["id"], "--yes")["erased"] is True
    ana.do("sync")
    ben.do("sync")
    assert ben.do("feed")["posts"][0]["missing"] == 1
    text = ben.type("vault", "list").out
    assert "Sea" in text
    assert "list.txt" not in text


def test_what_cannot_be_done_is_said(alone: Person, tmp_path: Path) -> None:  # noqa: F811
    good = make(tmp_path, "good.txt", b"words")
    for words in (
        ["vault", "add", str(tmp_path / "nothing.txt")],
        ["vault", "add", good, "--preview"],
        ["vault", "get", "0123456789"],
        ["vault", "get"],
        ["vault", "status", "--limit", "many"],
        ["post", "text", "--attach", str(tmp_path / "nothing.txt")],
    ):
        done = alone.type("--json", *words)
        assert done.code == 2, words
        assert done.error["message"], words
    item = alone.do("vault", "add", good)["items"][0]["id"]
    for target, said in ((good, "--force"), (str(tmp_path / "none" / "x"), "no folder"), ("/dev/null/x", "no folder")):
        done = alone.type("--json", "vault", "get", item, "-o", target)
        assert (done.code, said in done.error["message"]) == (2, True), done
    os.mkfifo(tmp_path / "pipe")
    pipe = alone.type("--json", "vault", "add", str(tmp_path / "pipe"))
    assert (pipe.code, pipe.error["message"]) == (2, "this is not a file: pipe")
    some = alone.type("--json", "vault", "add", good, make(tmp_path, "broken.jpg", b"\xff\xd8\xff\xe0\x00"))
    assert some.code == 2
    assert [item["name"] for item in some.json["items"]] == ["good.txt"]
    assert some.json["skipped"][0]["code"] == "metadata"
    assert [item["name"] for item in alone.do("vault", "list")["items"]] == ["good.txt"]


@pytest.mark.parametrize("through_a_watch", [False, True])
def test_a_file_is_served_to_a_player(alone: Person, tmp_path: Path, through_a_watch: bool) -> None:  # noqa: F811
    content = os.urandom(1_500_000)
    item = alone.do("vault", "add", make(tmp_path, "a.bin", content))["items"][0]["id"]
    if through_a_watch:
        with watching(alone):
            url = alone.do("vault", "open", item)["url"]
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == content
            assert alone.do("vault", "list")["items"][0]["id"] == item  # it keeps no other command waiting
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "cocoon_cli", "--json", "vault", "open", item],
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    asked = urllib.request.Request(url, headers={"Range": "bytes=1400000-"})
    with urllib.request.urlopen(asked) as answer:
        assert (answer.status, answer.read()) == (206, content[1_400_000:])
    ended = interrupt(process)
    assert ended.err == ""
