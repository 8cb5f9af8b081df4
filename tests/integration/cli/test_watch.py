"""`sync --watch` shows what others write as they write it, and Ctrl-C ends it."""

from __future__ import annotations

import json
import re

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Person, interrupt


def test_posts_and_replies_are_shown_while_watching(family: tuple[Person, Person]) -> None:
    ana, ben = family
    watching = ana.start("--json", "sync", "--watch")
    try:
        assert watching.stdout is not None
        first = ben.do("post", "Are you there?")["id"]
        ben.do("sync")
        shown = json.loads(watching.stdout.readline())
        assert (shown["post"]["author"], shown["post"]["text"]) == ("Ben", "Are you there?")
        ben.do("reply", first, "Hello?")
        ben.do("sync")
        shown = json.loads(watching.stdout.readline())
        assert (shown["post"]["parent"], shown["post"]["text"]) == (first, "Hello?")
    finally:
        ended = interrupt(watching)
    assert ended.code == 0, ended
    assert ended.err == ""
    assert [post["text"] for post in ana.do("feed")["posts"]] == ["Are you there?"]


def test_watching_outlives_the_relay(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, ben = family
    watching = ana.start("sync", "--watch")
    try:
        assert watching.stderr is not None
        assert "Ctrl-C" in watching.stderr.readline()
        relay.stop()
        assert f"Not in sync with {relay.url}, trying again" in watching.stderr.readline()
        ben.do("post", "Written while the relay was away")
        relay.start()
        assert watching.stderr.readline() == f"In sync with {relay.url} again.\n"
        ben.do("sync")
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("Ben")
        assert watching.stdout.readline() == "  Written while the relay was away\n"
    finally:
        ended = interrupt(watching)
    assert ended.code == 0, ended
    assert ended.err == ""  # each change was said once, however often it was tried


def test_alarms_are_shown_while_watching(family: tuple[Person, Person]) -> None:
    ana, ben = family
    watching = ben.start("sync", "--watch")
    try:
        assert watching.stderr is not None
        assert "Ctrl-C" in watching.stderr.readline()
        ana.do("remove", "Ben", "--yes")
        ana.do("sync")
        assert re.fullmatch(r"Warning \(Family\): .*put out of the group.*\n", watching.stderr.readline())
    finally:
        interrupt(watching)
