"""What happened, through the command line: the list, reading on by a token, and each as it comes."""

from __future__ import annotations

import json
import re

from tests.integration.cli.conftest import Person, interrupt

NOTICE_KEYS = {"group", "number", "kind", "time", "member", "name", "me", "post", "text", "read", "token"} | {
    *("about", "title", "change")
}


def test_what_happened_is_listed_marked_and_read_on(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ana.do("notices", "--read")
    first = ana.do("post", "Soup is ready.")["id"]
    ana.do("sync")
    ben.do("sync")
    answer = ben.do("reply", first, "On my way!\x1b[2J")["id"]
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

    words = ana.type("notices", "--unread", "--read")
    lines = words.out.splitlines()
    assert re.fullmatch(rf"● Ben replied  (just now|\d+ min ago)  {answer[:8]}", lines[0])
    assert lines[1] == "    On my way!␛[2J"
    assert re.match(r"● Ben wrote  (just now|\d+ min ago)  ", lines[2])
    assert lines[3] == "    Who has the ladder?"
    assert words.err == "Marked 2 as read.\n"
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


def test_mutes_and_quiet_hours_are_set_shown_and_taken_back(family: tuple[Person, Person]) -> None:
    ana, ben = family
    post = ben.do("post", "A long thread")["id"]
    ben.do("sync")
    ana.do("sync")
    (muted,) = ana.do("mute", "--person", "Ben", "--for", "8h")["mutes"]
    assert (muted["kind"], muted["name"]) == ("member", "Ben")
    assert muted["until"] is not None
    assert "A long thread" not in [notice["text"] for notice in ana.do("notices")["notices"]]
    assert ana.do("notices", "--muted")["notices"][0]["text"] == "A long thread"
    assert ana.do("mute", "--person", "Ben", "--off") == {"mutes": []}
    ana.do("mute", "--thread", post[:8])
    ana.do("mute", "--everything")
    words = ana.type("mute")
    assert words.out.splitlines()[0].split() == ["GROUP", "MUTED", "UNTIL"]
    assert [line.split("  ")[1].strip() for line in words.out.splitlines()[1:]] == [
        "everything",
        f"the thread {post[:8]} of Ben",
    ]

    assert ana.do("quiet", "22:30-7")["quiet"] == {"from": "22:30", "to": "07:00"}
    assert ana.type("quiet").out == "Quiet from 22:30 to 07:00.\n"
    assert ana.do("quiet", "off") == {"quiet": None}
