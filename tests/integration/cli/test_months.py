"""`cocoon months` as people type it."""

from __future__ import annotations

from tests.integration.cli.conftest import Person

Family = tuple[Person, Person]


def test_months_are_kept_and_asked_for(family: Family) -> None:
    ana, _ = family
    assert ana.do("months", "list") == {"kept": None, "away": []}
    assert ana.do("months", "keep", "3") == {"kept": 3, "away": []}
    assert "Kept here: 3 months." in ana.type("months", "list").out
    assert ana.do("months", "keep", "all")["kept"] is None
    assert "everything" in ana.type("months", "list").out


def test_mistakes_are_named(family: Family) -> None:
    ana, _ = family
    for words, code in (
        (("keep", "0"), "usage"),
        (("keep", "many"), "usage"),
        (("fetch", "december"), "usage"),
        (("fetch", "2020-01"), "unknown_item"),
        (("fetch",), "usage"),
    ):
        done = ana.type("--json", "months", *words)
        assert (done.code != 0, done.error["code"]) == (True, code), words
