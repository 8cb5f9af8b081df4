"""Later scenes of `demo`: one is removed, a second device comes, everything is lost and comes back."""

from __future__ import annotations

import json
from typing import Any

from cocoon_cli.demo_cast import Member, Running
from cocoon_cli.demo_scenes import Scenes, posts_bytes
from cocoon_cli.text import count, shorten_id


class Belonging(Scenes):
    """Who belongs, and who no longer does."""

    def _put_one_out(self) -> None:
        """Ben is removed while he is offline and writing."""
        ana, ben, chi = self._members
        tell = self._narrator
        tell.chapter("Ben is removed while he is offline and writing")
        before = list(self._written)
        late = "Written offline, after I was already out."
        self._write(ben, "post", late)
        gone = ana.run("remove", ben.name, "--yes")
        ana.run("sync")
        after = "Now that we are two: the key to the shed hangs behind the water butt."
        self._write(ana, "post", after)
        for member in (ana, chi, ana):
            member.run("sync")
        told = ben.try_("sync")
        if "error" in told:
            tell.say(f"Ben's device: {told['error']['message']}")
        for alarm in told.get("alarms", []):
            tell.say(f"Ben's device: {alarm}")
        for member in (ana, chi):
            member.run("sync")
        tell.check("both others see that he is gone", all(gone["id"] not in self._ids_of(m) for m in (ana, chi)))
        shown = [self._shown(member) for member in (ana, chi)]
        tell.check("what he wrote before still stands", all(text in feed for text in before for feed in shown))
        tell.check("what he wrote after counts nowhere", all(late not in feed for feed in shown))
        tell.check("the two read on", all(after in feed for feed in shown))
        tell.check("he does not", after not in self._shown(ben))
        theirs, his = (self._topics(member) for member in (ana, ben))
        tell.check("they write to a topic whose keys his device does not hold", bool(theirs - his))
        tell.check("his device writes no more", ben.fail("post", "Am I still in?") == "usage")
        self._written.append("Am I still in?")
        probes = ben.run("audit", "--probe")["probes"]
        for probe in probes:
            tell.say(f"append to {shorten_id(probe['id'])}… with his old keys: {probe['reason'] or 'taken'}")
        refused = bool(probes) and all(probe["refused"] for probe in probes)
        tell.check("the relay refuses what is appended with his old keys", refused)

    def _add_a_device(self) -> None:
        """Ana links a second device."""
        ana, _, chi = self._members
        tell = self._narrator
        tell.chapter("Ana links a second device")
        second = self._new_home(ana.name, f"second-home-of-{ana.name.lower()}")
        self._names.append(second.home.name)
        second.run("init")
        self._link(ana, second)
        self._follow(second, ana)
        feeds = [posts_bytes(member.print("--json", "feed", "--limit", "1000")) for member in (ana, second)]
        tell.check("the whole history is on it", feeds[0] == feeds[1] and len(json.loads(feeds[0])) > 0)
        text = "Typed on my other device, on the bench by the compost."
        self._write(second, "post", text)
        self._follow(second, chi, ana)
        (post,) = [post for post in self._feed(chi) if post["text"] == text]
        members = {member["name"]: member for member in chi.run("members")["members"]}
        tell.check("what is written on it is hers, for everybody", post["author_id"] == members[ana.name]["id"])
        tell.check("she has two devices now", members[ana.name]["devices"] == 2)

    def _link(self, old: Member, new: Member) -> None:
        """The code goes from the new device to the old one; both show words, and she sees that they are the same."""
        running: list[Running] = []
        try:
            running.append(new.start("device", "link", "--relay", self._relay.url))
            code = running[0].hear("code")
            self._names.append(code)
            running.append(old.start("device", "accept", code))
            words = [" ".join(command.hear("words")) for command in running]
            for where, shown in zip(("new", "old"), words, strict=True):
                self._narrator.say(f"the {where} device shows: {shown}")
            self._narrator.check("both show the same words", words[0] == words[1])
            for command in running:
                command.answer("yes")
            for command in reversed(running):
                command.end()
            running.clear()
        finally:
            for command in running:
                command.stop()

    def _lose_everything(self) -> None:
        """Chi writes down a phrase, loses the only device, and comes back."""
        ana, _, chi = self._members
        tell = self._narrator
        tell.chapter("Chi loses everything, and comes back with words on paper")
        phrase = str(chi.run("recovery", "new")["phrase"])
        self._names.append(phrase)
        tell.say(f"on paper: {count(len(phrase.split()), 'word')}")
        self._follow(chi, ana)
        before = posts_bytes(chi.read("--json", "feed", "--limit", "1000"))
        (me,) = [member["id"] for member in chi.run("members")["members"] if member["me"]]
        chi.lose_home()
        tell.say(f"{chi.home.name} is gone, with every key in it")
        back = self._new_home(chi.name, f"new-home-of-{chi.name.lower()}")
        self._names.append(back.home.name)
        back.run("init")
        back.run("recovery", "use", "--relay", self._relay.url, stdin=f"{phrase}\n")
        self._follow(back, ana, back)
        after = posts_bytes(back.print("--json", "feed", "--limit", "1000"))
        tell.check("the whole history is there again, to the byte", before == after)
        (lost,) = [device["id"] for device in back.run("device", "list")["devices"] if not device["this"]]
        back.run("device", "remove", shorten_id(lost), "--yes")
        text = "Back on a borrowed laptop. Nothing is missing."
        self._write(back, "post", text)
        self._follow(back, ana)
        (post,) = [post for post in self._feed(ana) if post["text"] == text]
        tell.check("it is the same member who writes", post["author_id"] == me)
        members = {member["id"]: member for member in ana.run("members")["members"]}
        tell.check("the lost device is out, the new one in", members[me]["devices"] == 1)

    # --- what they see

    def _follow(self, *members: Member) -> None:
        for member in members:
            member.run("sync")

    def _feed(self, member: Member) -> list[dict[str, Any]]:
        return list(json.loads(member.read("--json", "feed", "--limit", "1000"))["posts"])

    def _ids_of(self, member: Member) -> set[str]:
        return {known["id"] for known in member.run("members")["members"]}

    def _topics(self, member: Member) -> set[str]:
        """Topics that the relay holds and that a member's device has the keys of."""
        return {topic["id"] for topic in member.run("audit")["topics"]}
