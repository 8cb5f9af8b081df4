"""`export DIR`, typed: alone, through a watch, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture


def test_an_archive_is_written_where_it_was_asked_for(alone: Person, tmp_path: Path) -> None:  # noqa: F811
    alone.do("post", "Soup is ready. <script>")
    done = alone.do("export", str(tmp_path / "out"))
    assert (done["path"], done["posts"]) == (str(tmp_path / "out"), 1)
    assert [group["name"] for group in done["groups"]] == ["Family"]
    (group,) = json.loads((tmp_path / "out" / "archive.json").read_text())["groups"]
    (page,) = (tmp_path / "out" / group["folder"]).glob("2*.html")
    assert "Soup is ready. &lt;script&gt;" in page.read_text()
    (tmp_path / "here").mkdir()
    with watching(alone):
        typed = subprocess.run(
            [sys.executable, "-m", "cocoon_cli", "export", "archive"],
            env=alone.environment,
            cwd=tmp_path / "here",
            capture_output=True,
            text=True,
            check=False,
        )
    assert typed.returncode == 0, typed.stderr
    assert "everybody who gets this folder can read all of it" in typed.stderr
    assert (tmp_path / "here" / "archive" / "index.html").exists()


def test_what_cannot_be_exported_is_said(alone: Person, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for words in (
        [],
        [str(tmp_path / "full")],
        [str(tmp_path / "full"), "--force"],
        [str(tmp_path / "a"), "--bundle", str(tmp_path / "b")],
        [""],
        [str(tmp_path / "a"), "--group", "Nobody"],
    ):
        assert alone.type("--json", "export", *words).code == 2, words
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["x"]
    assert not (tmp_path / "a").exists()
