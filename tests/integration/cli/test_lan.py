"""`sync --lan`: two people at one table, whose relay is gone. Processes, multicast DNS and hosts are real."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Done, Person

HERE = ("sync", "--lan", "--lan-listen", "127.0.0.1")


def test_two_people_at_one_table(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, ben = family
    relay.stop()
    ana.do("post", "Over the table.")
    ben.do("post", "And back.")
    with ThreadPoolExecutor(2) as both:
        hers, his = both.map(lambda person: person.type("--json", *HERE), (ana, ben))
    for done in (hers, his):
        assert done.code == 0, done
        assert done.json["received"] >= 1  # and what a device does by itself, an invite closed
    for person in (ana, ben):
        assert {post["text"] for post in person.do("feed")["posts"]} == {"Over the table.", "And back."}
        assert not (person.home / "lan").exists()


def test_nobody_at_the_table_is_said_so(family: tuple[Person, Person]) -> None:
    ana, _ = family
    alone: Done = ana.type("--json", *HERE)
    assert (alone.code, alone.error["code"]) == (5, "relay_unavailable")
    assert "No device of your groups was found" in alone.error["message"]


def test_a_watch_on_the_network_ends_well(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, ben = family
    relay.stop()
    watching = ana.start("--json", *HERE, "--watch")
    try:
        ben.do("post", "Are you watching?")
        done = ben.type("--json", *HERE)
        assert done.code == 0, done
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["post"]["text"] == "Are you watching?"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    finally:
        watching.kill()
        watching.communicate()
