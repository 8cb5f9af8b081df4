"""Linking a device and verifying a member, as people and scripts type it: processes, homes, a real relay."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cocoon_cli.demo_cast import RelayProcess
from cocoon_core import Cocoon
from tests.integration.cli.conftest import PASSPHRASE, SECONDS, Done, Person

Family = tuple[Person, Person]
Make = Callable[[str], Person]


class Running:
    """A command that is running, and asks."""

    def __init__(self, person: Person, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cocoon_cli", *words],
            env=person.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def told(self) -> dict[str, Any]:
        """The next line on standard error, from a command with --json."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("{"), (line, self.process.poll())
        return dict(json.loads(line))

    def say(self, answer: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(answer + "\n")
        self.process.stdin.flush()

    def end(self) -> Done:
        out, err = self.process.communicate(timeout=SECONDS)
        assert "Traceback" not in out + err, err
        return Done(self.process.returncode, out, err)


@contextmanager
def running(person: Person, *words: str) -> Iterator[Running]:
    command = Running(person, *words)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait()
        for stream in (command.process.stdin, command.process.stdout, command.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


@pytest.fixture
def ana(relay: RelayProcess, make_person: Make) -> Person:
    """Ana, alone in the group Family."""
    person = make_person("ana")

    async def make() -> None:
        async with await Cocoon.open(person.home, PASSPHRASE) as hers:
            await (await hers.create_group("Family", member_name="Ana", relays=[relay.url])).sync()

    asyncio.run(make())
    return person


def test_a_second_device_comes_in_with_matching_words_and_the_history(
    relay: RelayProcess, family: Family, make_person: Make
) -> None:
    ana, ben = family
    ana.do("post", "written before")
    ana.do("sync")
    phone = make_person("phone")
    with (
        running(phone, "--json", "device", "link", "--relay", relay.url) as new,
    ):
        code = new.told()["code"]
        with running(ana, "--json", "device", "accept", code) as old:
            words = old.told()["words"]
            assert new.told()["words"] == words
            assert len(words) == 4
            old.say("yes")
            new.say("y")
            linked, accepted = new.end(), old.end()
    assert [group["name"] for group in linked.json["groups"]] == ["Family"]
    assert accepted.json["told"]
    assert linked.json["words"] == accepted.json["words"] == words
    assert [post["text"] for post in phone.do("feed")["posts"]] == ["written before"]
    phone.do("post", "from the phone")
    phone.do("sync")
    ben.do("sync")
    posts = ben.do("feed")["posts"]
    assert {post["author"] for post in posts} == {"Ana"}
    devices = ana.do("device", "list")["devices"]
    assert [device["this"] for device in devices].count(True) == 1
    assert len(devices) == 2
    assert len(ben.do("device", "list", "--all")["devices"]) == 3


@pytest.mark.parametrize("who", ["new", "old"])
def test_a_no_burns_the_code_and_leaves_nothing(who: str, relay: RelayProcess, ana: Person, make_person: Make) -> None:
    phone = make_person("phone")
    with running(phone, "--json", "device", "link", "--relay", relay.url) as new:
        code = new.told()["code"]
        with running(ana, "--json", "device", "accept", code) as old:
            new.told(), old.told()
            (new if who == "new" else old).say("no")
            ended = [new.end(), old.end()]
    assert [done.code for done in ended] == [3, 3]
    assert [done.json["error"]["code"] for done in ended] == ["linking", "linking"]
    assert phone.do("group", "list")["groups"] == []
    again = ana.type("--json", "device", "accept", code, "--yes")
    assert again.error["code"] == "linking"
    assert len(ana.do("device", "list")["devices"]) == 1


def test_ctrl_c_on_the_new_device_ends_the_old_one_too(relay: RelayProcess, ana: Person, make_person: Make) -> None:
    phone = make_person("phone")
    with running(phone, "--json", "device", "link", "--relay", relay.url) as new:
        code = new.told()["code"]
        with running(ana, "--json", "device", "accept", code) as old:
            old.told(), new.told()
            new.process.send_signal(signal.SIGINT)
            assert new.end().code == 130
            assert old.end().error["message"].startswith("the other device stopped")
    assert phone.do("group", "list")["groups"] == []


def test_people_see_a_qr_code_words_and_a_question(relay: RelayProcess, ana: Person, make_person: Make) -> None:
    phone = make_person("phone")
    with running(phone, "device", "link", "--relay", relay.url) as new:
        assert new.process.stderr is not None
        shown = ""
        while "Waiting" not in shown:
            line = new.process.stderr.readline()
            assert line, shown
            shown += line
        assert "█" in shown
        (code,) = [word for word in shown.split() if word.startswith("cocoon-device:")]
        with running(ana, "device", "accept", code) as old:
            old.say("yes")
            new.say("yes")
            linked, accepted = new.end(), old.end()
    assert linked.code == accepted.code == 0, (linked, accepted)
    assert "Does your old device show the same words? [y/N]" in linked.err
    assert linked.out == "This device is in 1 group now: Family.\n"
    assert accepted.out == "The new device is in 1 group: Family.\n"


def test_a_removed_device_is_out(relay: RelayProcess, family: Family, make_person: Make) -> None:
    ana, ben = family
    phone = make_person("phone")
    link(ana, phone, relay)
    (device,) = [device["id"] for device in ana.do("device", "list")["devices"] if not device["this"]]
    ana.do("device", "remove", device[:8], "--yes")
    ana.do("sync")
    ben.do("sync")
    assert len(ben.do("device", "list", "--all")["devices"]) == 2
    refused = ana.type("--json", "device", "remove", device[:8])
    assert refused.error["code"] == "unknown_item"


def link(old: Person, phone: Person, relay: RelayProcess) -> None:
    with running(phone, "--json", "device", "link", "--relay", relay.url, "--yes") as new:
        done = old.type("--json", "device", "accept", new.told()["code"], "--yes")
        assert done.code == 0, done
        assert new.end().code == 0


def test_safety_numbers_are_equal_and_a_new_device_clears_the_mark_loudly(
    relay: RelayProcess, family: Family, make_person: Make
) -> None:
    ana, ben = family
    hers, his = ana.do("verify", "Ben"), ben.do("verify", "Ana")
    assert (hers["digits"], hers["words"]) == (his["digits"], his["words"])
    assert hers["mark"] == "none"
    assert ana.do("verify", "Ben", "--compare", his["digits"])["mark"] == "verified"
    assert [m["verified"] for m in ana.do("members")["members"] if m["name"] == "Ben"] == [True]
    assert ben.do("verify", "Ana", "--confirm")["mark"] == "verified"
    phone = make_person("phone")
    link(ben, phone, relay)
    synced = ana.type("sync")
    assert "not those that you verified" in synced.err
    changed = ana.do("verify", "Ben")
    assert changed["mark"] == "changed"
    assert changed["change"].startswith("new: ")
    assert changed["digits"] != hers["digits"]
    assert "DEVICES CHANGED" in ana.type("members").out
    assert ben.do("verify", "Ana")["mark"] == "verified"  # Ana's devices are those that Ben compared
    stale = ana.type("--json", "verify", "Ben", "--compare", his["digits"])
    assert stale.error["code"] == "usage"
    assert [person.do("verify", "Ana")["digits"] for person in (ben, phone)] == [changed["digits"]] * 2
    assert ana.do("verify", "Ben", "--compare", changed["digits"])["mark"] == "verified"
    assert "not those that you verified" not in ana.type("sync").err


def test_mistakes_are_told(relay: RelayProcess, ana: Person) -> None:
    for words, code in (
        (("device", "accept", "cocoon-device:nonsense"), "invalid_link"),
        (("device", "remove", "ffffffffffff", "--yes"), "unknown_item"),
        (("verify", "Nobody"), "unknown_member"),
        (("verify", "Ana"), "usage"),
        (("device", "link", "--relay", "ws://127.0.0.1:1"), "relay_unavailable"),
    ):
        assert ana.type("--json", *words).error["code"] == code, words
    (device,) = ana.do("device", "list")["devices"]
    assert "this device" in ana.type("--json", "device", "remove", device["id"]).error["message"]
