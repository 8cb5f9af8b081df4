"""Who comes and who goes, through the command line: each command's JSON, its words, and the question before it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Person, interrupt


def test_a_member_is_removed_and_reads_nothing_more(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ben.do("post", "too late")
    removed = ana.type("remove", "Ben", "--yes")
    assert removed.out == "Ben is no longer a member.\n"
    assert "they cannot read" in removed.err
    assert "cocoon sync" in removed.err
    ana.do("post", "alone now")
    ana.do("sync")
    told = ben.do("sync")
    assert any("put out" in alarm for alarm in told["alarms"])
    assert ben.do("feed")["posts"] == []
    assert ben.type("--json", "post", "and now?").error["code"] == "usage"
    ana.do("sync")
    assert [post["text"] for post in ana.do("feed")["posts"]] == ["alone now"]

    listed = ana.do("members", "--former")
    assert [member["name"] for member in listed["members"]] == ["Ana"]
    assert [(gone["name"], gone["left"]) for gone in listed["former"]] == [("Ben", False)]
    assert re.search(r"^[0-9a-f]{8}  Ben +removed$", ana.type("members", "--former").out, re.MULTILINE)
    assert "former" not in ana.do("members")

    probed = ben.do("audit", "--probe")["probes"]
    assert probed
    assert all(probe["refused"] for probe in probed)
    assert "refused: the relay refused: the topic is sealed" in ben.type("audit", "--probe").out
    shown = ben.type("group", "show")
    assert "cocoon group forget" in shown.err
    assert ben.do("group", "forget", "Family")["name"] == "Family"
    assert ben.do("group", "list") == {"groups": []}


def test_a_person_at_a_terminal_is_asked_first(family: tuple[Person, Person]) -> None:
    ana, _ = family

    def answer(line: bytes) -> tuple[int, bytes]:
        keyboard, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "cocoon_cli", "remove", "Ben"],
            env=ana.environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(terminal)
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N] "):
            asked += process.stderr.read(1)
        assert b"Remove Ben from the group for good?" in asked
        os.write(keyboard, line)
        out, err = process.communicate(timeout=60)
        os.close(keyboard)
        return process.returncode, out + err

    assert answer(b"n\n") == (2, b"cocoon: Nothing was done.\n")
    assert [member["name"] for member in ana.do("members")["members"]] == ["Ana", "Ben"]
    code, said = answer(b"y\n")
    assert (code, b"Ben is no longer a member." in said) == (0, True)
    assert ana.do("group", "show")["members"][0]["name"] == "Ana"


def test_who_leaves_tells_the_others(family: tuple[Person, Person]) -> None:
    ana, ben = family
    left = ben.type("leave", "--yes")
    assert left.out == "You left Family.\n"
    assert "cocoon group forget" in left.err
    ben.do("sync")
    ana.do("sync")
    assert [gone["left"] for gone in ana.do("members", "--former")["former"]] == [True]
    assert ben.type("--json", "leave", "--yes").error["code"] == "usage"


def test_rules_are_shown_and_changed(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, ben = family
    shown = ana.do("policy", "show")
    assert shown == {
        "max_members": 12,
        "inviters": "member",
        "vouches": 0,
        "epoch_days": 30,
        "relays": [relay.url],
        "tokens": [],
    }
    assert "come in by a link alone" in ana.type("policy", "show").out
    assert ana.do("policy", "set", "--inviters", "admin", "--epoch-days", "7")["inviters"] == "admin"
    grown = ana.type("policy", "set", "--max-members", "80")
    assert "a member lets them in" in grown.out
    assert "--vouches 0" in grown.err
    ana.do("sync")
    ben.do("sync")
    assert ben.do("policy", "show")["vouches"] == 1
    assert ben.type("--json", "invite").error["code"] == "usage"
    assert ben.type("policy", "set", "--vouches", "0").err == (
        "cocoon: Only an admin can change the rules of the group; you are a member.\n"
    )
    for wrong in ((), ("--vouches", "-1"), ("--max-members", "0"), ("--token", "x"), ("--relay", "here")):
        assert ana.type("--json", "policy", "set", *wrong).error["code"] == "usage", wrong
    assert ana.do("group", "show")["policy"]["max_members"] == 80
    assert ana.do("rotate")["rotated"] is True


def test_a_newcomer_asks_and_is_let_in(
    relay: RelayProcess, make_person: Callable[[str], Person], family: tuple[Person, Person]
) -> None:
    ana, ben = family
    dora = make_person("dora")
    ana.do("policy", "set", "--vouches", "2")
    invited = ana.type("invite")
    link = invited.out.strip()
    assert "can ask to be let in" in invited.err
    assert "Nobody reads anything by the link alone" in invited.err
    ana.do("sync")

    asked = dora.do("join", link, "--name", "Dora")
    assert (asked["name"], asked["pending"]) == ("Family", True)
    again = dora.type("join", link, "--name", "Dora")
    assert again.out == "Still asking to be admitted to Family.\n"
    assert "cocoon sync" in again.err
    waiting = dora.do("sync")
    assert (waiting["waiting"], waiting["entered"]) == (["Family"], [])
    assert "has not let you in yet" in dora.type("sync").err

    assert "cocoon requests" in ana.type("sync").err
    (request,) = ana.do("requests")["requests"]
    assert (request["name"], request["vouchers"], request["needed"]) == ("Dora", [], 2)
    assert re.search(r"^[0-9a-f]{8}  Dora  .*0 of 2", ana.type("requests").out, re.MULTILINE)
    early = ana.type("--json", "admit", "Dora").error
    assert (early["code"], "one more member" in early["message"]) == ("usage", True)
    assert ana.type("vouch", request["id"][:8]).out.startswith("You vouched for Dora; 1 member must still want it")
    assert ana.type("--json", "vouch", "Nobody").error["code"] == "unknown_item"
    ana.do("sync")
    ben.do("sync")
    let_in = ben.do("admit", "Dora")
    assert let_in["name"] == "Dora"
    ben.do("sync")

    entered = dora.type("sync")
    assert "Members of Family let you in." in entered.err
    dora.do("post", "hello all")
    dora.do("sync")
    ana.do("sync")
    assert [post["author"] for post in ana.do("feed")["posts"]] == ["Dora"]
    assert ana.do("requests") == {"requests": []}


def test_a_watch_enters_a_group_that_lets_one_in(
    relay: RelayProcess, make_person: Callable[[str], Person], family: tuple[Person, Person]
) -> None:
    ana, _ = family
    dora = make_person("dora")
    ana.do("policy", "set", "--vouches", "1")
    link = ana.do("invite")["link"]
    ana.do("sync")
    dora.do("join", link, "--name", "Dora")
    ana.do("sync")
    ana.do("admit", "Dora")
    ana.do("sync")
    watch = dora.start("sync", "--watch")
    assert watch.stderr is not None
    said = ""
    while "Members of Family let you in." not in said:
        line = watch.stderr.readline()
        assert line, said
        said += line
    written = dora.type("post", "through the watch")
    assert written.code == 0, written
    ended = interrupt(watch)
    assert ended.code == 0, ended
    ana.do("sync")
    assert [post["text"] for post in ana.do("feed")["posts"]] == ["through the watch"]


def test_helps_of_commands_that_cannot_be_undone_show_examples(tmp_path: Path) -> None:
    nobody = Person(tmp_path / "nobody")
    for words, part in (
        (("remove", "--help"), "cocoon remove Ben"),
        (("leave", "--help"), "cocoon --group Band leave --yes"),
        (("policy", "set", "--help"), "cocoon policy set --vouches 1"),
        (("admit", "--help"), "cocoon admit Dora"),
    ):
        helped = nobody.type(*words)
        assert helped.code == 0
        assert "examples:" in helped.out
        assert part in helped.out
