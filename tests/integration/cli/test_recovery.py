"""Losing a device and coming back, as people type it: the phrase, and the guardians."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from cocoon_cli.demo_cast import RelayProcess
from cocoon_core import Cocoon
from tests.integration.cli.conftest import PASSPHRASE, Done, Person

DAYS_4_MS = 4 * 86_400_000
Family = tuple[Person, Person]
Make = Callable[[str], Person]


def test_a_phrase_brings_everything_back_on_a_bare_machine(
    family: Family, make_person: Make, relay: RelayProcess
) -> None:
    ana, ben = family
    ana.do("post", "before the loss")
    made = ana.do("recovery", "new")
    assert len(made["phrase"].split()) == 12
    assert (made["groups"], made["left_out"], made["relays"]) == (["Family"], [], [relay.url])
    ana.do("sync")
    ben.do("sync")
    ben.do("post", "meanwhile")
    ben.do("sync")

    again = make_person("ana2")
    used = again.do("recovery", "use", "--relay", relay.url, stdin=made["phrase"].encode())
    (group,) = used["groups"]
    assert (group["name"], group["ok"], group["error"]) == ("Family", True, None)
    assert [post["text"] for post in again.do("feed")["posts"]] == ["meanwhile", "before the loss"]
    assert [member["name"] for member in again.do("members")["members"] if member["me"]] == ["Ana"]
    lost = next(device for device in again.do("device", "list")["devices"] if not device["this"])
    again.do("device", "remove", lost["id"])
    again.do("post", "back")
    again.do("sync")
    ben.do("sync")
    assert ben.do("feed")["posts"][0]["text"] == "back"
    assert {m["name"]: m["devices"] for m in ben.do("members")["members"]} == {"Ana": 1, "Ben": 1}


def test_people_read_the_words_with_their_numbers_and_pipe_them_back(
    family: Family, make_person: Make, relay: RelayProcess
) -> None:
    ana, _ = family
    shown = ana.type("recovery", "new")
    assert re.fullmatch(r"(?: ?\d+\. [a-z]+ *\n?){12}", shown.out)
    assert "Write these words on paper" in shown.err
    assert relay.url in shown.err
    assert "`cocoon sync`" in shown.err
    ana.do("sync")
    again = make_person("ana2")
    typed = again.type("recovery", "use", "--relay", relay.url, stdin=shown.out.upper().encode())
    assert (typed.code, re.sub(r"\([0-9a-f]{8}\)", "(ID)", typed.out)) == (0, "Back in Family (ID).\n")
    assert "`cocoon device remove ID`" in typed.err


def test_there_is_one_phrase_until_another_is_wanted(family: Family, make_person: Make, relay: RelayProcess) -> None:
    ana, _ = family
    old = ana.do("recovery", "new")["phrase"]
    refused = ana.type("--json", "recovery", "new")
    assert refused.error["code"] == "usage"
    assert "--replace" in refused.error["message"]
    assert not set(old.split()) <= set(refused.error["message"].split())
    new = ana.do("recovery", "new", "--replace")["phrase"]
    assert new != old
    ana.do("sync")
    thief = make_person("thief")
    found = thief.type("--json", "recovery", "use", "--relay", relay.url, stdin=old.encode())
    assert found.error["code"] == "not_yet"
    assert thief.do("group", "list") == {"groups": []}
    make_person("ana2").do("recovery", "use", "--relay", relay.url, stdin=new.encode())


def test_mistakes_in_the_words_are_told_apart(make_person: Make, relay: RelayProcess) -> None:
    nobody = make_person("nobody")

    def use(words: str) -> Done:
        return nobody.type("recovery", "use", "--relay", relay.url, stdin=words.encode())

    for words, said in (
        ("legal winer thank", "Word 2, 'winer', is not in the list of words; did you mean 'winter' or 'winner'?"),
        ("legal winner thank", "A recovery phrase has 12 words, and this has 3."),
        ("", "A recovery phrase has 12 words, and this has 0."),
        ("zoo " * 12, "All of these are words of the list, but they do not belong together"),
        ("abandon " * 11 + "about", "No index of this phrase is there"),
    ):
        done = use(words)
        assert done.code != 0
        assert said in done.err, done.err
        assert done.out == ""
    refused = nobody.type("--json", "recovery", "use", "--relay", "ws://127.0.0.1:1", stdin=b"abandon " * 11 + b"about")
    assert refused.error["code"] == "relay_unavailable"
    assert nobody.type("--json", "recovery", "use", stdin=b"").error["code"] == "usage"


def test_a_phrase_is_recommended_after_writing_but_not_each_time_and_never_to_scripts(family: Family) -> None:
    ana, _ = family
    assert ana.do("post", "for a script") is not None  # whose standard error is empty
    assert "`cocoon recovery new`" in ana.type("post", "hello").err
    assert "recovery" not in ana.type("post", "again").err
    assert "recovery" not in ana.type("sync").err
    ana.do("recovery", "new")


def test_guardians_bring_a_member_back(family: Family, make_person: Make) -> None:
    ana, ben = family
    ben.do("post", "from the lost phone")
    chosen = ben.do("recovery", "guardians", "set", "Ana", "--threshold", "1")
    assert (chosen["guardians"], chosen["threshold"], chosen["phrase"]) == (["Ana"], 1, False)
    assert ben.type("recovery", "guardians", "show").out.splitlines() == [
        "No phrase covers you here.",
        "Any one of Ana can bring you back.",
    ]
    ben.do("sync")
    ana.do("sync")

    helping = ana.type("recovery", "help", "Ben")
    assert re.fullmatch(r"cocoon-help:\S+\n", helping.out)
    again = make_person("ben2")
    asked = again.do("recovery", "request", helping.out.strip())
    assert len(asked["words"].split()) == 6
    assert asked["code"] in again.type("recovery", "request", helping.out.strip()).out  # the same, with a QR code

    for words, said in (((), "with --words"), (("--words", "zoo " * 6), "not the words of this request")):
        refused = ana.type("--json", "recovery", "vouch", asked["code"], *words)
        assert said in refused.error["message"]
    vouched = ana.do("recovery", "vouch", asked["code"], "--words", asked["words"])
    assert (vouched["name"], vouched["vouchers"], vouched["wanted"], vouched["granted"]) == ("Ben", ["Ana"], 1, False)
    ana.do("sync")
    assert any("you lost your devices" in alarm for alarm in ben.do("sync")["alarms"])
    assert again.do("sync")["entered"] == []
    assert again.do("recovery", "request")["waiting"][0]["words"] == asked["words"]

    asyncio.run(sync_later(ana, DAYS_4_MS))  # three days on, her device admits him
    assert again.do("sync")["entered"] == ["Family"]
    assert [post["text"] for post in again.do("feed")["posts"]] == ["from the lost phone"]
    ana.do("sync")
    assert {m["name"]: m["devices"] for m in ana.do("members")["members"]} == {"Ana": 1, "Ben": 1}


def test_a_member_who_lost_nothing_objects(family: Family, make_person: Make) -> None:
    ana, ben = family
    ben.do("recovery", "guardians", "set", "Ana", "--threshold", "1")
    ben.do("sync")
    ana.do("sync")
    thief = make_person("thief")
    asked = thief.do("recovery", "request", ana.do("recovery", "help", "Ben")["code"])
    ana.do("recovery", "vouch", asked["code"], "--words", asked["words"])
    ana.do("sync")
    ben.do("sync")
    assert ben.do("recovery", "object", "--yes")["guardians"] == []
    ben.do("sync")
    asyncio.run(sync_later(ana, DAYS_4_MS))
    assert thief.do("sync")["entered"] == []
    assert ben.type("--json", "recovery", "object", "--yes").error["code"] == "usage"


async def sync_later(person: Person, later_ms: int) -> None:
    """A sync of this person's device on another day."""
    clock = lambda: time.time_ns() // 1_000_000 + later_ms  # noqa: E731
    async with await Cocoon.open(person.home, PASSPHRASE, clock=clock) as cocoon:
        for group in cocoon.groups():
            await group.sync()
