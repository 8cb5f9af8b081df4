"""A later scene of `demo`: a second relay, which loses everything, and is all that is left after that."""

from __future__ import annotations

import json
import shutil

from cocoon_cli.demo_cast import RelayProcess
from cocoon_cli.demo_scenes import Scenes, posts_bytes


class Relays(Scenes):
    """Send to all, take from any, survive the loss of each."""

    def _lose_a_relay(self) -> None:
        """One of two relays is wiped; then the other is gone."""
        ana = self._members[0]
        tell = self._narrator
        tell.chapter("A second relay comes, loses everything, and then it is all there is")
        second = RelayProcess(self._relay.folder / "second")  # searched at the end like the first
        second.start()
        try:
            ana.run("relays", "add", second.url)
            link = ana.run("invite")["link"]
            self._names.append(link)
            ana.run("sync")
            second.stop()
            shutil.rmtree(second.folder)
            second.start()
            tell.say("the second relay's files are deleted, and it starts anew, empty")
            ana.run("sync")
            self._relay.stop()
            tell.say("the first relay is stopped")
            newcomer = self._new_home("Dominique", "home-of-dominique")
            self._names += [newcomer.name, newcomer.home.name]
            newcomer.run("init")
            newcomer.run("join", link, "--name", newcomer.name)
            feeds = [posts_bytes(one.read("--json", "feed", "--limit", "1000")) for one in (ana, newcomer)]
            tell.check("who joins now has everything", feeds[0] == feeds[1] and len(json.loads(feeds[0])) > 0)
            text = "Hello from the new plot, by way of the other relay."
            self._write(newcomer, "post", text)
            for member in (newcomer, ana):
                member.run("sync")
            tell.check("and is heard", text in self._shown(ana))
            self._relay.start()
            tell.say("the first relay is back; the group leaves the second one")
            ana.run("relays", "remove", second.url)
            newcomer.run("sync")
            shown = [one.run("relays", "list")["relays"] for one in (ana, newcomer)]
            left = all([relay["url"] for relay in relays] == [self._relay.url] for relays in shown)
            tell.check("both of them use the first relay alone", left)
        finally:
            second.stop()
