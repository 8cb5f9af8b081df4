"""Posts that are edited, taken back, hidden, pinned, quoted and drafted, as people and scripts see it."""

from __future__ import annotations

import re
from datetime import datetime

from tests.integration.cli.conftest import Person


def sync(*people: Person) -> None:
    for person in people:
        person.do("sync")


def shown(person: Person, *words: str) -> str:
    """What a person sees, without what depends on the time of day."""
    return re.sub(r"just now|\d+ min ago", "AGE", person.type(*words).out)


def test_a_post_is_edited_and_its_versions_are_shown(family: tuple[Person, Person]) -> None:
    ana, ben = family
    post = ana.do("post", "Soup at seven.")["id"]
    sync(ana, ben)
    assert ana.type("edit", post[:8], "Soup", "at", "eight.").out == f"Edited {post[:8]}.\n"
    assert ana.do("edit", post, "-", stdin=b"Soup at nine.\n") == {"id": post, "edited": True}
    refused = ben.type("--json", "edit", post, "No soup.")
    assert (refused.code, refused.error["message"]) == (2, "only its author can edit a post")
    sync(ana, ben)
    (seen,) = ben.do("feed")["posts"]
    assert (seen["text"], seen["edited"]) == ("Soup at nine.", True)
    assert datetime.fromisoformat(seen["edited_at"]) >= datetime.fromisoformat(seen["time"])
    versions = ben.do("versions", post)["versions"]
    assert [(one["text"], one["current"]) for one in versions] == [
        ("Soup at seven.", False), ("Soup at eight.", False), ("Soup at nine.", True),
    ]  # fmt: skip
    assert shown(ben, "versions", post).splitlines()[-2:] == ["AGE · what it says now", "  Soup at nine."]
    assert f"Ana  AGE · edited  {post[:8]}" in shown(ben, "feed")


def test_a_deleted_post_stays_where_it_was_answered(family: tuple[Person, Person]) -> None:
    ana, ben = family
    alone, post = ana.do("post", "alone")["id"], ana.do("post", "never said")["id"]
    sync(ana, ben)
    ben.do("reply", post, "an answer")
    done = ana.type("delete", alone[:10], post, "--yes")
    assert done.out == "Deleted 2 posts.\n"
    assert "`cocoon erase` takes it from there too" in done.err
    sync(ana, ben)
    sync(ana)
    for person in family:
        (seen,) = person.do("feed")["posts"]
        assert (seen["id"], seen["text"], seen["deleted"], seen["replies"]) == (post, "", True, 1)
        assert f"Ana  AGE · deleted by its author · 1 reply  {post[:8]}" in shown(person, "feed")
        assert "never said" not in shown(person, "feed")


def test_an_admin_hides_and_pins_and_a_member_does_not(family: tuple[Person, Person]) -> None:
    ana, ben = family
    post, rules = ben.do("post", "harsh words")["id"], ben.do("post", "our rules")["id"]
    sync(ben, ana)
    assert ana.type("hide", post[:8]).out == "Hid 1 post.\n"
    assert ana.do("pin", rules) == {"pinned": [rules]}
    refused = ben.type("--json", "unhide", post)
    assert refused.error["message"] == "only an admin can show hidden posts again; you are a member"
    sync(ana, ben)
    for person in family:
        feed = person.do("feed")
        seen = {one["id"]: one for one in feed["posts"]}
        assert (seen[post]["hidden"], seen[post]["text"]) == (True, "")
        assert [one["id"] for one in feed["pinned"]] == [rules]
        assert "harsh words" not in shown(person, "feed")
        assert "hidden by an admin" in shown(person, "feed")
        assert "harsh words" in shown(person, "thread", post, "--hidden")
        assert person.do("thread", post, "--hidden")["posts"][0]["text"] == "harsh words"
        assert person.type("--json", "versions", post).error["message"] == "an admin hid this post"
    assert ana.do("unhide", post) == {"shown": [post]}
    assert ana.type("unpin", rules).out == "Unpinned 1 post.\n"
    assert ana.do("feed")["pinned"] == []


def test_what_is_pinned_stands_above_a_page_that_lacks_it(family: tuple[Person, Person]) -> None:
    ana, _ = family
    rules = ana.do("post", "our rules")["id"]
    for number in range(3):
        ana.do("post", f"post {number}")
    ana.do("pin", rules)
    lines = shown(ana, "feed", "--limit", "2").splitlines()
    assert lines[:2] == [f"Ana  AGE · pinned  {rules[:8]}", "  our rules"]
    assert sum("our rules" in line for line in lines) == 1
    first = ana.do("feed", "--limit", "2")
    second = ana.do("feed", "--limit", "2", "--before", first["next"])
    assert [one["text"] for one in (*first["posts"], *second["posts"])] == ["post 2", "post 1", "post 0", "our rules"]
    assert (second["next"], second["pinned"]) == (None, [])


def test_what_is_new_is_marked_until_it_was_shown(family: tuple[Person, Person]) -> None:
    ana, ben = family
    ben.do("post", "before she looked")
    sync(ben, ana)
    assert ana.do("feed", "--new") == {"posts": [], "unread": 0}
    assert "●" not in shown(ana, "feed")
    own = ana.do("post", "hers")["id"]
    sync(ana, ben)
    reply = ben.do("reply", own, "@Ana a reply", "--quote", own)["id"]
    sync(ben, ana)
    for _ in range(2):  # scripts are shown it, and it stays new
        new = ana.do("feed", "--new")
        assert (new["unread"], [(one["id"], one["unread"]) for one in new["posts"]]) == (
            1,
            [(own, False), (reply, True)],
        )
    me = next(member["id"] for member in ana.do("members")["members"] if member["me"])
    assert (new["posts"][1]["mentions"], new["posts"][1]["quote"]["text"]) == ([me], "hers")
    assert shown(ana, "feed", "--new").splitlines() == [
        f"Ana  AGE · 1 reply  {own[:8]}",
        "  hers",
        f"    ● ↳ Ben  AGE  {reply[:8]}",
        "      │ Ana: hers",
        "      @Ana a reply",
    ]
    assert ana.type("feed", "--new").err == "Nothing new.\n"
    assert [ben.type("feed", "--new").err[:14] for _ in range(2)] == ["The first look", "Nothing new.\n"]
    ben.do("post", "another")
    sync(ben, ana)
    assert ana.do("feed", "--new", "--read")["unread"] == 1
    assert ana.do("feed", "--new")["unread"] == 0


def test_a_draft_is_kept_listed_posted_and_dropped(family: tuple[Person, Person]) -> None:
    ana, _ = family
    post = ana.do("post", "who comes?")["id"]
    assert ana.type("draft").err == "No drafts.\n"
    assert ana.type("draft", "The", "new", "greenhouse").out == "Kept on this device; `cocoon draft --send` posts it.\n"
    kept = ana.type("draft", "--reply", post[:8], "I do", "--quote", post)
    assert kept.out == f"Kept on this device; `cocoon draft --send --reply {post[:8]}` posts it.\n"
    drafts = ana.do("draft")["drafts"]
    assert [(one["text"], one["reply_to"], one["quote"]) for one in drafts] == [
        ("I do", post, post),
        ("The new greenhouse", None, None),
    ]
    assert shown(ana, "draft").splitlines() == [
        f"reply to {post[:8]}  AGE · quotes {post[:8]}", "  I do", "new post  AGE", "  The new greenhouse",
    ]  # fmt: skip
    sent = ana.do("draft", "--send", "--reply", post)["id"]
    assert ana.do("thread", post)["posts"][1]["id"] == sent
    assert ana.do("draft", "--drop")["dropped"]["text"] == "The new greenhouse"
    assert ana.do("draft") == {"drafts": []}
    for words in (("--send",), ("--drop",), ("--send", "text"), ("--reply", post), ("--send", "--drop")):
        assert ana.type("--json", "draft", *words).code == 2
