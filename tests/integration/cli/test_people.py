"""`who` and `me`, typed: from one home to the other over a real relay."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from tests.integration.cli.conftest import Person
from tests.support.media_files import photo

PERSON_KEYS = {"id", "name", "role", "me", "about", "picture", "last_seen", "quiet", "online", "typing"}


def test_what_one_says_of_oneself_is_shown_to_the_other(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = family
    (tmp_path / "me.jpg").write_bytes(photo("jpg"))
    mine = ana.do("me", "--about", "Bakes on Sundays", "--picture", str(tmp_path / "me.jpg"))
    assert (mine["about"], mine["quiet"]) == ("Bakes on Sundays", False)
    ana.do("sync")
    ben.do("me", "--quiet", "on")
    ben.do("sync")
    ana.do("sync")
    hers, his = ben.do("who")["people"]
    assert hers.keys() >= PERSON_KEYS
    assert (hers["name"], hers["about"], hers["picture"], hers["me"]) == ("Ana", mine["about"], mine["picture"], False)
    assert hers["last_seen"].endswith(":00:00.000Z")
    assert (his["name"], his["me"], his["quiet"], his["last_seen"]) == ("Ben", True, True, None)
    table = ana.type("who").out
    assert [line.split()[0] for line in table.splitlines()] == ["NAME", "Ana", "Ben"]
    assert "Bakes on Sundays" in table
    assert "not shown" in table
    assert "not shown" in ana.type("members").out
    saved = ben.do("who", "Ana", "--picture", str(tmp_path / "ana.webp"))
    with Image.open(io.BytesIO((tmp_path / "ana.webp").read_bytes())) as image:
        assert image.format == "WEBP"
    assert [one["name"] for one in saved["people"]] == ["Ana"]
    shown = ana.type("me").out
    assert "Bakes on Sundays" in shown
    assert ana.do("me", "--no-picture", "--about", "") | {"id": None} == {
        **{"id": None, "about": "", "picture": None, "quiet": False}
    }
    for words in (
        ["who", "Ana", "--picture", str(tmp_path / "ana.webp")],
        ["who", "--picture", str(tmp_path / "new.webp")],
        ["who", "Nobody"],
        ["me", "--picture", str(tmp_path / "nothing.jpg")],
        ["me", "--about", "a" * 600],
        ["me", "--quiet", "maybe"],
    ):
        done = ana.type("--json", *words)
        assert (done.code, bool(done.error["message"])) == (2, True), words
