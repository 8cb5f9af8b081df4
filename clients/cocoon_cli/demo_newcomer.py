"""The scene of `demo` in which somebody comes after all that was written before was packed, and its topics are gone.

What the relay is made to forget is deleted by the operator's own command, while the relay is stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys

from cocoon_cli.demo_cast import CommandFailed
from cocoon_cli.demo_scenes import Scenes, posts_bytes

NEWCOMER = "Dorothea"


class Newcomer(Scenes):
    """Somebody joins when nothing but the current topic is left."""

    def _let_one_in(self) -> None:
        """What everybody wrote comes out of the pages that the last rotation packed."""
        ana = self._members[0]
        self._narrator.chapter("All is packed anew, the old topics are deleted from the relay, and somebody joins")
        ana.run("rotate")
        link = ana.run("invite", "--uses", "1")["link"]
        self._names += [link, NEWCOMER]
        ana.run("sync")
        before = self._count_topics()
        self._relay.stop()
        removed = self._drop_ended()
        self._relay.start()
        self._narrator.say(f"relay: {removed} of {before} topics deleted by its operator, all that had ended")
        self._narrator.check("no topic with what was written before is left", self._count_topics() == before - removed)
        newcomer = self._new_home(NEWCOMER, "home-of-the-newcomer")
        self._names.append(newcomer.home.name)
        newcomer.run("init")
        newcomer.run("join", link, "--name", NEWCOMER)
        ana.run("sync")
        feeds = [posts_bytes(member.print("--json", "feed", "--limit", "1000")) for member in (newcomer, ana)]
        roots = [post["id"] for post in json.loads(feeds[1])]
        threads = [[posts_bytes(who.read("--json", "thread", root)) for root in roots] for who in (newcomer, ana)]
        self._narrator.check("the newcomer has every post, to the byte", feeds[0] == feeds[1] != "[]")
        self._narrator.check("and every reply", threads[0] == threads[1])
        self._members.append(newcomer)

    def _count_topics(self) -> int:
        return len(self._ask_relay("stats")["topics"])

    def _drop_ended(self) -> int:
        return int(self._ask_relay("drop", "--sealed")["removed"]["topics"])

    def _ask_relay(self, *words: str) -> dict[str, dict[str, int]]:
        """Type a command of the relay's operator, and give what it prints."""
        command = [sys.executable, "-m", "cocoon_relay", *words, "--data", str(self._relay.folder / "data"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"`cocoon-relay {words[0]}` failed: {done.stdout}{done.stderr}".strip())
        return dict(json.loads(done.stdout))
