"""What happened, through the command line: the list, reading on by a token, and each as it comes."""

from __future__ import annotations

import json
import re

from tests.integration.cli.conftest import Person, interrupt

NOTICE_KEYS = {"group", "number", "kind", "time", "member", "name", "post", "text", "read", "token"}


def test_what_happened_is_listed_marked_and_read_on(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ana.do("notices", "--read")
    first = ana.do("post", "Soup is ready.")["id"]
    ana.do("sync")
    ben.do("sync")
    answer = ben.do("reply", first, "On my\x1b[2J way!")["id"]
    ben.do("post", "Who has the ladder?")
    ben.do("sync")
    ana.do("sync")

    shown = ana.do("notices", "--unread")
    assert all(notice.keys() == NOTICE_KEYS for notice in shown["notices"])
    newest, reply = shown["notices"]
    assert (newest["kind"], newest["name"], newest["text"]) == ("post", "Ben", "Who has the ladder?")
    assert (reply["kind"], reply["post"], reply["read"]) == ("reply", answer, False)
    assert shown["unread"] == 2
    assert [*shown["tokens"].values()] == [newest["token"]]

    page = ana.do("notices", "--after", reply["token"])
    assert (page["notices"], page["token"], page["missed"], page["more"]) == ([newest], newest["token"], False, False)
    assert ana.do("notices", "--after", page["token"])["notices"] == []
    wrong = ana.type("--json", "notices", "--after", "yesterday")
    assert wrong.error["code"] == "usage"

    words = ana.type("notices", "--unread", "--read")
    lines = words.out.splitlines()
    assert re.fullmatch(rf"● Ben replied  just now  {answer[:8]}", lines[0])
    assert lines[1] == "    On my ␛[2J way!"
    assert lines[2].startswith("● Ben wrote  just now  ")
    assert lines[3] == "    Who has the ladder?"
    assert words.err == "Marked 2 as read.\n"
    assert ana.do("notices", "--unread") == {"notices": [], "unread": 0, "tokens": shown["tokens"]}
    assert ana.type("notices", "--unread").err == "Nothing new.\n"
    assert ana.type("notices").out.startswith("  Ben is a member now")


def test_each_is_shown_while_watching(family: tuple[Person, Person]) -> None:
    ana, ben = family
    watching = ana.start("--json", "notices", "--watch")
    try:
        assert watching.stdout is not None
        ben.do("post", "Are you there?")
        ben.do("sync")
        shown = json.loads(watching.stdout.readline())
        assert (shown["notice"]["kind"], shown["notice"]["text"]) == ("post", "Are you there?")
        listed = ana.do("notices", "--limit", "1")  # through the watch
        assert listed["notices"] == [shown["notice"]]
    finally:
        ended = interrupt(watching)
    assert ended.code == 0, ended
    assert ended.err == ""
