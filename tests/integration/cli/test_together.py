"""`list`, `note` and `event`, typed: from one home to the other over a real relay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Person
from tests.integration.cli.test_local_socket import alone, watching  # noqa: F401  a fixture


def test_lists_notes_and_events_go_from_one_home_to_the_other(family: tuple[Person, Person], tmp_path: Path) -> None:
    ana, ben = family
    ana.do("list", "new", "Shopping", "milk", "rye bread")
    ana.do("list", "add", "Shopping", "-", "--before", "rye bread", stdin=b"eggs\n\nsalt\n")
    ana.do("note", "new", "House rules", "Shoes", "off.")
    ana.do("event", "new", "Party", "--at", "2099-12-24 18:00", "--until", "2099-12-24 20:00", "--place", "pier")
    ana.do("sync")
    ben.do("sync")
    ben.do("list", "done", "Shopping", "milk", "eggs")
    ben.do("list", "move", "Shopping", "rye bread", "--first")
    ben.do("note", "append", "house rules", "No", "smoking.")
    ben.do("event", "reply", "party", "yes", "with", "cake")
    ben.do("sync")
    ana.do("sync")
    items = ana.do("list", "show", "Shopping")["list"]["items"]
    assert [(item["text"], item["done"] is not None) for item in items] == [
        ("rye bread", False),
        ("milk", True),
        ("eggs", True),
        ("salt", False),
    ]
    assert ana.do("note", "show", "House rules")["note"]["text"] == "Shoes off.\nNo smoking."
    (event,) = ana.do("event", "show")["events"]
    assert [(reply["member"], reply["answer"], reply["words"]) for reply in event["replies"]] == [
        ("Ben", "yes", "with cake")
    ]
    shown = ana.type("list", "show", "Shopping").out
    assert "☑ milk" in shown
    assert "☐ salt" in shown
    path = tmp_path / "family.ics"
    assert ana.do("event", "export", "-o", str(path)) == {"path": str(path), "events": 1}
    assert b"SUMMARY:Party\r\n" in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert ana.type("--json", "event", "export", "-o", str(path)).error["code"] == "usage"


@pytest.mark.parametrize("through_a_watch", [False, True])
def test_a_note_is_changed_in_an_editor(alone: Person, tmp_path: Path, through_a_watch: bool) -> None:  # noqa: F811
    script = tmp_path / "edit.py"
    seen = tmp_path / "seen"
    script.write_text(
        "import os, pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "modes = [f'{one.stat().st_mode:o}' for one in (path, path.parent)]\n"
        f"pathlib.Path({str(seen)!r}).write_text(' '.join([str(path), *modes]))\n"
        "path.with_name('note.txt~').write_text('a backup of the editor')\n"
        "path.write_text(path.read_text().replace('off', 'off, please') + '\\n')\n"
        "sys.exit(int(os.environ.get('FAIL', '0')))\n"
    )
    person = alone.with_settings(EDITOR=f"{sys.executable} {script}", VISUAL="")
    person.do("note", "new", "Rules", "Shoes off.")

    def edit() -> None:
        assert person.do("note", "edit", "rules")["note"]["text"] == "Shoes off, please."
        path, mode, folder = seen.read_text().split()
        assert (mode[-3:], folder[-3:]) == ("600", "700")
        assert not Path(path).parent.exists()
        failed = person.with_settings(FAIL="3").type("--json", "note", "edit", "Rules")
        assert (failed.code, failed.error["code"]) == (2, "usage")
        assert not Path(seen.read_text().split()[0]).parent.exists()
        assert person.do("note", "show", "Rules")["note"]["text"] == "Shoes off, please."
        assert person.type("--json", "note", "edit", "nothing").error["message"]

    if through_a_watch:
        with watching(person):
            edit()
    else:
        edit()


def test_calls_and_questions_are_answered(family: tuple[Person, Person]) -> None:
    ana, ben = family
    call = ana.do("call", "Who", "helps?", "--until", "2099-08-01")["id"]
    question = ana.do("ask", "Who knows a roofer?")["id"]
    for person in family:
        person.do("sync")
    ben.do("answer", call[:8], "no", "I", "am", "away.")
    reply = ben.do("reply", question, "Mine is good.")["id"]
    for person in (ben, ana):
        person.do("sync")
    answers = ana.do("asked", call)
    assert (answers["yes"], answers["silent"]) == ([], [])
    assert (answers["no"][0]["post"]["text"], answers["no"][0]["late"]) == ("I am away.", False)
    assert "I am away." in ana.type("asked", call).out
    assert ana.do("solve", question, reply)["post"]["solved"] == [reply]
    assert [post["id"] for post in ana.do("asked")["posts"]] == [call]
    assert ana.type("--json", "answer", question, "yes").error["code"] == "usage"


def test_what_cannot_be_done_is_said(alone: Person) -> None:  # noqa: F811
    for words in (
        ["list", "add", "nothing", "milk"],
        ["note", "new", "x" * 300],
        ["event", "new", "Party", "--at", "tomorrow"],
        ["event", "new", "Party", "--at", "2099-12-24", "--until", "2099-12-23"],
    ):
        done = alone.type("--json", *words)
        assert done.code == 2, words
        assert done.error["message"], words
