"""`export --bundle` and `import`: a group on a stick, by two people whose relay is gone."""

from __future__ import annotations

from pathlib import Path

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Person


def test_a_group_goes_on_by_files_while_the_relay_is_gone(
    family: tuple[Person, Person], relay: RelayProcess, tmp_path: Path
) -> None:
    ana, ben = family
    ana.do("post", "By stick.")
    relay.stop()
    stick = tmp_path / "stick.cocoon"
    written = ana.do("export", "--bundle", str(stick))
    assert written["bytes"] == stick.stat().st_size
    assert (written["rotated"], written["lacking"]) == (False, 0)

    taken = ben.do("import", str(stick))
    assert taken["received"] >= 1  # and a beacon, where one is due
    assert [post["text"] for post in ben.do("feed")["posts"]] == ["By stick."]
    ben.do("post", "And back.")
    told = ben.type("import", str(stick))
    assert told.code == 0
    assert "received 0." in told.out
    assert "here that the file's author did not have" in told.err
    ben.do("export", "--bundle", str(tmp_path / "back"))
    assert ana.do("import", str(tmp_path / "back"))["received"] >= 1


def test_mistakes_with_files_are_told_in_one_sentence(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, _ = family
    stick = tmp_path / "stick.cocoon"
    ana.do("export", "--bundle", str(stick))
    again = ana.type("--json", "export", "--bundle", str(stick))
    assert (again.code, again.error["code"]) == (2, "usage")
    assert "--force" in again.error["message"]
    ana.do("export", "--bundle", str(stick), "--force")
    (tmp_path / "cut").write_bytes(stick.read_bytes()[:-1])
    assert ana.type("--json", "import", str(tmp_path / "cut")).error == {
        "code": "malformed",
        "message": "the bundle is cut off",
    }
    (tmp_path / "text").write_text("hello")
    assert ana.type("--json", "import", str(tmp_path / "text")).error["message"] == "this file is no bundle"
    assert ana.type("--json", "import", str(tmp_path / "none")).error["code"] == "usage"
    assert ana.type("--json", "export").error["code"] == "usage"
