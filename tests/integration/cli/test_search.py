"""`search`, typed: what one writes the other finds."""

from __future__ import annotations

from pathlib import Path

from cocoon_cli.search import KINDS
from cocoon_core.social.search import KINDS as SEARCHED
from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture

RESULT_KEYS = {"id", "kind", "text", "author", "author_id", "time", "parent"}


def test_what_one_writes_the_other_finds(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = family
    post = ana.do("post", "Who has the Größe ladder?")["id"]
    ben.do("sync")
    ana.do("sync")
    ben.do("sync")
    answer = ben.do("reply", post[:8], "the ladder is 在北京")["id"]
    picture = tmp_path / "ladder.txt"
    picture.write_text("steps")
    ben.do("vault", "add", str(picture), "--caption", "how it looks")
    ben.do("sync")
    ana.do("sync")
    for person in family:
        results = person.do("search", "LADD")["results"]
        assert [one["kind"] for one in results] == ["file", "reply", "post"]
        assert all(one.keys() >= RESULT_KEYS for one in results)
        assert [one["id"] for one in person.do("search", "grosse")["results"]] == [post]
        assert [one["id"] for one in person.do("search", "große", "ladder")["results"]] == [post]
        assert [one["id"] for one in person.do("search", "北京")["results"]] == [answer]
        assert [one["kind"] for one in person.do("search", "--from", "Ben", "--kind", "file")["results"]] == ["file"]
        assert len(person.do("search", "ladder", "--since", "1h")["results"]) == 3
        assert person.do("search", "ladder", "--until", "2020-01-31")["results"] == []
        assert len(person.do("search", "--limit", "1", "ladder")["results"]) == 1
    shown = ana.type("search", "looks", "ladder").out
    assert "how it looks" in shown
    assert ana.type("search", "nowhere").err == "Nothing on this device fits.\n"
    ana.do("erase", post[:8], "--yes")
    assert ana.do("search", "große")["results"] == []


def test_what_cannot_be_sought_is_said(alone: Person) -> None:  # noqa: F811
    for words in ([], ["a", "--since", "soon"], ["x" * 1_001], ["--kind", "cake"]):
        done = alone.type("--json", "search", *words)
        assert done.code == 2, words
        assert done.error["message"], words
    assert alone.do("search", "…")["results"] == []


def test_the_kinds_of_the_command_are_those_of_the_core() -> None:
    assert set(KINDS) == set(SEARCHED)
