"""Several relays as people type it, with relays that are processes of their own: one is wiped, the other is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cocoon_cli.demo_cast import RelayProcess
from cocoon_relay.tokens import TOKENS_NAME, add_token, revoke_token
from tests.integration.cli.conftest import Person, make_relay
from tests.support.relay_process import RelayProcess as ServedRelay

Family = tuple[Person, Person]
Make = Callable[[str], Person]
NOWHERE = "ws://127.0.0.1:9"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RelayProcess]:
    """A second relay."""
    process = make_relay(tmp_path / "other")
    process.start()
    yield process
    process.stop()


def wipe(relay: RelayProcess) -> None:
    """Delete its directory, and start a fresh one at the same address."""
    relay.stop()
    shutil.rmtree(relay.folder)
    relay.start()


def texts(person: Person) -> list[str]:
    return [post["text"] for post in person.do("feed")["posts"]]


def test_one_relay_is_wiped_then_the_other_is_lost(
    family: Family, make_person: Make, relay: RelayProcess, other: RelayProcess
) -> None:
    ana, ben = family
    ana.do("post", "one")
    assert [one["url"] for one in ana.do("relays", "add", other.url)["relays"]] == [relay.url, other.url]
    ben.do("sync")
    ben.do("post", "two")
    phrase = ben.do("recovery", "new")["phrase"]
    ben.do("sync")
    link = ana.do("invite")["link"]
    ana.do("sync")

    wipe(relay)
    for person in (ana, ben, ana):
        person.do("sync")
    other.stop()

    chi = make_person("chi")
    chi.do("join", link, "--name", "Chi")
    assert texts(chi) == ["two", "one"]
    back = make_person("back")
    back.do("recovery", "use", "--relay", relay.url, stdin=phrase.encode())
    assert texts(back) == ["two", "one"]
    back.do("post", "three")
    assert [one["ok"] for one in back.do("sync")["relays"]] == [True, False]
    ana.do("sync")
    assert texts(ana)[0] == "three"

    removed = ana.do("relays", "remove", other.url)
    assert [(one["url"], one["standing"]) for one in removed["relays"]] == [(relay.url, "used"), (other.url, "left")]
    assert [one["url"] for one in removed["unreached"]] == [other.url]
    assert ana.do("group", "show")["policy"]["relays"] == [relay.url]
    other.start()
    for person in (ben, ana, ben):  # who is told there first leaves a sign; the others see it with their next sync
        person.do("sync")
    assert ben.do("group", "show")["relays"] == [relay.url]


def test_moving_is_one_command(family: Family, relay: RelayProcess, other: RelayProcess) -> None:
    ana, ben = family
    ana.do("post", "one")
    moved = ana.type("relays", "move", other.url)
    assert (moved.code, moved.out, moved.err) == (0, f"{other.url}\n", "")
    ben.do("post", "written meanwhile")
    ben.do("sync")
    relay.stop()
    assert texts(ben) == ["written meanwhile", "one"]
    ana.do("sync")
    assert texts(ana) == ["written meanwhile", "one"]
    assert ana.do("relays", "list") == {"relays": [{"url": other.url, "standing": "used", "unsent": 0, "token": False}]}


def test_the_old_relay_is_dead(family: Family, relay: RelayProcess, other: RelayProcess) -> None:
    ana, ben = family
    ana.do("post", "one")
    relay.stop()
    moved = ana.type("relays", "move", other.url)
    assert moved.code == 0
    assert moved.out == f"{other.url}\n{relay.url}, being left\n"
    assert "`cocoon relays use URL`" in moved.err
    assert ben.type("--json", "sync").error["code"] == "relay_unavailable"
    used = ben.type("relays", "use", other.url)
    assert (used.code, used.err) == (0, "Family is there.\n")
    assert texts(ben) == ["one"]
    stranger = ana.type("relays", "use", NOWHERE)
    assert stranger.code != 0


def test_what_is_said_where_it_cannot_be_done(family: Family, relay: RelayProcess) -> None:
    ana, ben = family
    for words in (("relays", "add", NOWHERE), ("relays", "move", NOWHERE), ("policy", "set", "--relay", NOWHERE)):
        refused = ana.type("--json", *words)
        assert refused.error["code"] == "relay_unavailable"
        assert NOWHERE in refused.error["message"]
    assert "--force" in ana.type("--json", "relays", "move", NOWHERE).error["message"]
    assert "only relay" in ana.type("--json", "relays", "remove", relay.url).error["message"]
    assert "only an admin" in ben.type("--json", "relays", "add", NOWHERE).error["message"]
    assert ana.type("--json", "relays", "add", "relay.test").error["code"] == "usage"
    assert ana.type("--json", "relays", "add", "ws://").error["code"] == "usage"
    assert ana.do("relays", "list")["relays"][0]["url"] == relay.url
    forced = ana.do("relays", "add", NOWHERE, "--force")
    assert [one["url"] for one in forced["unreached"]] == [NOWHERE]


def test_who_slept_while_the_access_token_was_replaced_is_let_in_by_the_new_one(
    make_person: Make, tmp_path: Path
) -> None:
    tokens = tmp_path / "data" / TOKENS_NAME
    with ServedRelay(tmp_path / "data", "--access", "token") as relay:
        _, old = add_token(tokens, "old")
        ana, ben = make_person("ana"), make_person("ben")
        ana.do("group", "new", "Choir", "--name", "Ana", "--relay", relay.url, "--token", f"{relay.url}={old}")
        link = ana.do("invite")["link"]
        ana.do("sync")
        ben.do("join", link, "--name", "Ben")
        ana.do("sync")
        _, new = add_token(tokens, "new")
        ana.do("policy", "set", "--token", f"{relay.url}={new}")
        ana.do("post", "by the new one")
        ana.do("sync")
        revoke_token(tokens, "old")
        assert any(ben.type("--json", "sync").code for _ in range(40))  # the relay follows within two seconds

        wrong = ben.type("--json", "relays", "use", relay.url, "--token", "x" * 30)
        assert "access token" in wrong.error["message"]
        ben.do("relays", "use", relay.url, "--token", new)
        ben.do("sync")
        assert texts(ben) == ["by the new one"]
