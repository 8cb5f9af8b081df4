"""What members do all day, through the command line: each command's JSON and its words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cocoon_cli.demo_cast import RelayProcess
from tests.integration.cli.conftest import Person

POST_KEYS = {"id", "author", "author_id", "text", "time", "edited", "hidden", "attachments", "replies"}
MEMBER_KEYS = {"id", "name", "role", "devices", "last_seen", "me"}


def test_two_members_write_and_answer_through_a_relay(family: tuple[Person, Person]) -> None:
    ana, ben = family
    first = ana.do("post", "Soup is ready.")["id"]
    assert ana.do("sync")["sent"] >= 1
    report = ben.do("sync")
    assert report["received"] >= 1
    assert [relay["ok"] for relay in report["relays"]] == [True]
    answer = ben.do("reply", first[:10], "On my way!")["id"]
    ben.do("sync")
    ana.do("sync")

    (root,) = ana.do("feed")["posts"]
    thread = ana.do("thread", answer)["posts"]
    assert thread[0] == root
    assert all(post.keys() >= POST_KEYS for post in thread)
    assert [(post["id"], post["author"], post["text"], post["replies"]) for post in thread] == [
        (first, "Ana", "Soup is ready.", 1),
        (answer, "Ben", "On my way!", 0),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", root["time"])
    assert [root[key] for key in ("edited", "hidden", "attachments")] == [False, False, []]
    for words in (("feed",), ("thread", first)):
        assert ana.type(*words, "--json").out == ben.type(*words, "--json").out


def test_a_group_is_shown_with_its_members_and_relays(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, ben = family
    shown = ana.do("group", "show")
    assert shown.keys() >= {"id", "name", "members", "relays"}
    assert (shown["name"], shown["relays"]) == ("Family", [relay.url])
    assert [group["id"] for group in ben.do("group", "list")["groups"]] == [shown["id"]]

    members = ana.do("members")["members"]
    assert all(member.keys() >= MEMBER_KEYS for member in members)
    assert {(m["name"], m["role"], m["devices"], m["me"]) for m in members} == {
        ("Ana", "admin", 1, True),
        ("Ben", "member", 1, False),
    }
    assert {m["id"] for m in members} == {m["id"] for m in ben.do("members")["members"]}


def test_an_admin_makes_another_one_by_name_prefix_or_id(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ben_id = next(m["id"] for m in ana.do("members")["members"] if m["name"] == "Ben")
    for reference, role in (("Ben", "admin"), (ben_id[:8], "member"), (ben_id, "admin")):
        assert ana.do("role", reference, role)["role"] == role
    assert ana.type("role", "Ben", "admin").out == "Ben is an admin already.\n"
    ana.do("sync")
    ben.do("sync")
    assert {m["name"]: m["role"] for m in ben.do("members")["members"]} == {"Ana": "admin", "Ben": "admin"}
    assert ben.type("role", "Ana", "member").out == "Ana is a member now.\n"


def test_a_role_that_cannot_change_is_not_said_to(family: tuple[Person, Person]) -> None:
    ana, ben = family
    for words in (("role", "Ana", "member"), ("role", ana.do("group", "show")["members"][0]["id"], "member")):
        refused = ana.type("--json", *words)
        assert (refused.code, refused.error["message"]) == (
            2,
            "Ana is the only admin; make somebody else an admin first",
        )
    assert ben.type("role", "Ana", "member").err == "cocoon: Only an admin can change roles; you are a member.\n"
    assert {m["name"]: m["role"] for m in ana.do("members")["members"]} == {"Ana": "admin", "Ben": "member"}


def test_each_group_is_told_of_when_some_are_not_reached(family: tuple[Person, Person], relay: RelayProcess) -> None:
    ana, _ = family
    ana.do("group", "new", "Family", "--name", "Ana", "--relay", "ws://127.0.0.1:1")
    ana.do("group", "new", "Band", "--name", "Ana", "--relay", relay.url)
    reached, lost, _ = sorted(ana.do("group", "list")["groups"], key=lambda g: (g["name"] == "Band", g["relays"][0]))
    if lost["relays"] == [relay.url]:
        reached, lost = lost, reached
    done = ana.type("sync")
    assert done.code == 5
    assert sorted(line.partition(":")[0] for line in done.out.splitlines()) == sorted(
        [f"Family ({reached['id'][:8]})", f"Family ({lost['id'][:8]})", "Band"]
    )
    assert f"Family ({lost['id'][:8]}): not reached: " in done.out
    told = ana.type("--json", "sync")
    assert told.code == 5
    assert {r["group"]: (r["ok"], r["error"] is None) for r in told.json["relays"]}[lost["id"]] == (False, False)
    assert [r["ok"] for r in told.json["relays"]].count(True) == 2
    keys = {"sent", "received", "relays", "alarms", "withheld", "unread", "entered", "waiting", "files"}
    assert told.json.keys() == keys
    relay.stop()
    nobody = ana.type("--json", "sync")
    assert nobody.code == 5
    assert nobody.error["code"] == "relay_unavailable"
    assert [r["ok"] for r in nobody.json["relays"]] == [False] * 3
    relay.start()


def test_words_need_no_quotes(family: tuple[Person, Person]) -> None:
    ana, _ = family
    first = ana.do("post", "Soup", "is", "ready")["id"]
    ana.do("reply", first, "On", "my", "way", "-", "soon")
    assert [post["text"] for post in ana.do("thread", first)["posts"]] == ["Soup is ready", "On my way - soon"]


def test_an_invite_for_two_lets_two_in_and_a_closed_one_nobody(
    relay: RelayProcess, make_person: Callable[[str], Person]
) -> None:
    ana, ben, cleo = make_person("ana"), make_person("ben"), make_person("cleo")
    ana.do("group", "new", "Family", "--name", "Ana", "--relay", relay.url)
    invited = ana.type("invite", "--uses", "2", "--expires", "12h")
    assert invited.code == 0
    assert re.fullmatch(r"cocoon:\S+\n", invited.out)  # the link alone, so that it can be piped
    assert "2 people" in invited.err
    assert "12 hours" in invited.err
    assert "can read the whole group" in invited.err
    ana.do("sync")
    ben.do("join", invited.out.strip(), "--name", "Ben")
    ana.do("sync")
    (state,) = ana.do("invite", "--list")["invites"]
    assert (state["uses"], state["used"], state["open"]) == (2, 1, True)
    assert ana.do("revoke", state["id"][:8])
    ana.do("sync")
    assert ana.do("invite", "--list")["invites"][0]["open"] is False
    refused = cleo.type("--json", "join", invited.out.strip(), "--name", "Cleo")
    assert refused.error["message"]
    assert {m["name"] for m in ana.do("members")["members"]} == {"Ana", "Ben"}


def test_a_post_is_erased_by_its_author_and_shown_as_that(family: tuple[Person, Person]) -> None:
    ana, ben = family
    kept, gone = ana.do("post", "kept")["id"], ana.do("post", "never said")["id"]
    ana.do("sync")
    ben.do("sync")
    answer = ben.do("reply", gone, "an answer")["id"]
    ben.do("sync")
    refused = ben.type("--json", "erase", gone)
    assert (refused.code, refused.error["message"]) == (2, "only its author can erase a post")
    done = ana.type("erase", gone[:10], "--yes")
    assert done.out == "Erased 1 post.\n"
    assert "`cocoon rotate` begins one at once" in done.err
    assert "copied or backed up stays" in done.err
    assert ana.do("erase", kept, gone, "--now", "--yes") == {"erased": [kept, gone], "rotated": True}
    ana.do("sync")
    ben.do("sync")
    for person in family:
        posts = {post["id"]: post for post in person.do("feed")["posts"]}
        assert [(posts[one]["text"], posts[one]["erased"]) for one in (kept, gone)] == [("", True)] * 2
        assert posts[gone]["replies"] == 1
        shown = person.type("thread", answer).out
        assert "never said" not in shown
        assert "erased by its author" in shown
        assert "an answer" in shown


def test_the_feed_is_read_in_pages(make_person: Callable[[str], Person], family: tuple[Person, Person]) -> None:
    ana, _ = family
    written = [ana.do("post", f"number {n}")["id"] for n in range(5)]
    every = [post["id"] for post in ana.do("feed")["posts"]]
    assert sorted(every) == sorted(written)
    newest = [post["id"] for post in ana.do("feed", "--limit", "2")["posts"]]
    assert set(newest) == set(written[-2:])
    oldest_shown = min(newest, key=written.index)
    earlier = [post["id"] for post in ana.do("feed", "--limit", "2", "--before", oldest_shown[:12])["posts"]]
    assert set(earlier) == set(written[1:3])


def test_writing_needs_no_relay_and_says_when_it_will_be_sent(
    family: tuple[Person, Person], relay: RelayProcess
) -> None:
    ana, ben = family
    relay.stop()
    written = ana.type("post", "-", stdin="from a pipe: ☕ and\na second line\n".encode())
    assert written.code == 0
    assert "cocoon sync" in written.err
    relay.start()
    ana.do("sync")
    ben.do("sync")
    assert [post["text"] for post in ben.do("feed")["posts"]] == ["from a pipe: ☕ and\na second line"]


def test_people_read_threads_drawn_with_indentation(family: tuple[Person, Person]) -> None:
    ana, ben = family
    first = ana.do("post", "Soup is ready.\nBring spoons.")["id"]
    ana.do("sync")
    ben.do("sync")
    answer = ben.do("reply", first, "On my way!")["id"]
    ben.do("sync")
    ana.do("sync")
    deeper = ana.do("reply", answer, "Hurry.")["id"]
    shown = re.sub("just now|1 min ago", "AGE", ana.type("thread", first).out)
    assert shown.splitlines() == [
        f"Ana  AGE · 1 reply  {first[:8]}",
        "  Soup is ready.",
        "  Bring spoons.",
        f"    ↳ Ben  AGE · 1 reply  {answer[:8]}",
        "      On my way!",
        f"        ↳ Ana  AGE  {deeper[:8]}",
        "          Hurry.",
    ]


def test_attack_21_a_member_cannot_steer_the_terminal_of_another(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ben.do("post", "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\nAna  just now  00000000\n  forged")
    ben.do("sync")
    ana.do("sync")
    shown = ana.type("feed").out
    assert not set(shown) & {"\x1b", "\x07", "\u202e", "\x9b"}
    assert "\n  Ana  just now  00000000\n" in shown  # further in than a true heading
    assert ana.type("--json", "feed").out.isascii()


def test_global_options_stand_on_either_side_and_in_the_environment(tmp_path: Path) -> None:
    person = Person(tmp_path / "elsewhere", {"COCOON_HOME": str(tmp_path / "wrong")})
    home = str(person.home)
    assert person.type("--home", home, "--json", "init").json["home"] == home
    assert person.type("group", "list", "--json", "--home", home).json == {"groups": []}
    assert person.with_settings(COCOON_HOME=home).do("group", "list") == {"groups": []}


def test_where_there_are_two_groups_one_is_named(make_person: Callable[[str], Person]) -> None:
    ana = make_person("ana")
    for name in ("Family", "Band"):
        ana.do("group", "new", name, "--relay", "ws://127.0.0.1:1")
    which = ana.type("--json", "post", "hello").error
    assert which["code"] == "usage"
    assert "Family" in which["message"]
    assert "Band" in which["message"]
    ana.do("--group", "Band", "post", "hello")
    band = ana.do("group", "show", "--group", "Band")["id"]
    assert [ana.do("group", "show", reference)["id"] for reference in ("Band", band[:8])] == [band, band]
    assert len(ana.with_settings(COCOON_GROUP=band[:8]).do("feed")["posts"]) == 1
    assert ana.do("feed", "--group", "Family")["posts"] == []


def test_the_audit_shows_numbers_and_no_words(family: tuple[Person, Person]) -> None:
    ana, _ = family
    ana.do("post", "Soup is ready.")
    ana.do("sync")
    audit = ana.do("audit")
    assert audit["blobs"] == 0
    assert audit["topics"]
    assert all(topic.keys() >= {"id", "entries", "bytes"} for topic in audit["topics"])
    assert sum(topic["entries"] for topic in audit["topics"]) >= 3
    shown = ana.type("audit").out
    assert "Soup" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_version_and_help_are_plain_successes(tmp_path: Path) -> None:
    person = Person(tmp_path / "nobody")
    assert re.fullmatch(r"cocoon \S+\n", person.type("--version").out)
    helped = person.type("--help")
    assert helped.code == 0
    for command in ("init", "group", "invite", "join", "members", "post", "feed", "thread", "sync", "relay", "demo"):
        assert re.search(rf"^    {command} ", helped.out, re.MULTILINE), command
