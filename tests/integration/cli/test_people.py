"""`who` and `me`, typed: from one home to the other over a real relay."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import watching
from tests.support.media_files import photo

PERSON_KEYS = {"id", "name", "role", "me", "about", "picture", "last_seen", "quiet", "online", "typing", "tells_seen"}


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
    nothing = {"id": hers["id"], "about": "", "picture": None, "quiet": False, "tells_seen": False}
    assert ana.do("me", "--no-picture", "--about", "") == nothing
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


def test_an_author_is_told_who_has_seen_a_post(family: tuple[Person, Person]) -> None:
    ana, ben = family
    post = ana.do("post", "Soup is ready.")["id"]
    ana.do("sync")
    ben.do("me", "--seen", "on")
    ben.do("sync")
    ben.do("feed")  # a script is nobody who reads
    ben.do("sync")
    ana.do("sync")
    assert ana.do("seen", post) == {"id": post, "seen": [], "silent": []}
    assert "Soup is ready." in ben.type("feed").out
    ben.do("sync")
    ana.do("sync")
    assert [one["name"] for one in ana.do("seen", post)["seen"]] == ["Ben"]
    assert "Ben" in ana.type("seen", post[:8]).out
    assert ben.type("--json", "seen", post).error["code"] == "usage"


def test_who_watches_is_here(family: tuple[Person, Person]) -> None:
    ana, ben = family
    assert [one["online"] for one in ana.do("who")["people"]] == [None, None]
    with watching(ana), watching(ben):
        looks = (ana.do("who")["people"][1]["online"] for _ in range(60))
        assert any(looks)
        assert "here now" in ana.type("who").out
