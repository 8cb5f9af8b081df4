"""`demo`: a relay and three members, for real: separate processes, separate homes, the same commands a person types.

It tells what it does, checks each thing it claims, and ends with a non-zero exit code if one of them is not so. How
somebody goes, how a device comes, and how one comes back are in demo_belonging; a relay that lies is in
demo_withholding, one that is lost in demo_relays, and who comes when all topics but one are gone in demo_newcomer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocoon_cli.arguments import Commands
from cocoon_cli.context import Context
from cocoon_cli.demo_belonging import Belonging
from cocoon_cli.demo_cast import CommandFailed, RelayProcess
from cocoon_cli.demo_newcomer import Newcomer
from cocoon_cli.demo_relays import Relays
from cocoon_cli.demo_scenes import GROUP, NAMES, DemoFailed, Narrator, posts_bytes
from cocoon_cli.demo_vault import Vaulting
from cocoon_cli.demo_withholding import Withholding
from cocoon_cli.leaks import Search, id_forms, needles_of, search_tree, short_forms
from cocoon_cli.output import Outcome
from cocoon_cli.text import count, shorten_id, size

ROUNDS = 2  # of `sync`: in the second everyone fetches what the last ones sent in the first


def add_commands(commands: Commands) -> None:
    """Add `demo`."""
    demo = commands.add("demo", run_demo, "a relay and three members on this machine; leaves nothing behind")
    demo.add_argument("--keep", action="store_true", help="keep the folder with the homes and the relay's data")


def run_demo(context: Context, args: argparse.Namespace) -> Outcome:
    """Tell and check the whole story.

    Raises:
        DemoFailed: a claim did not hold, or a command failed that should not.
    """
    narrator = Narrator(listening=not context.output.as_json)
    with _folder(args.keep) as root:
        relay = RelayProcess(root / "relay")
        try:
            outcome = Story(root, relay, narrator).tell()
        except CommandFailed as error:
            raise DemoFailed(str(error)) from error
        finally:
            relay.stop()
    wrong = [check["claim"] for check in narrator.checks if not check["holds"]]
    if wrong:
        raise DemoFailed(f"Not as it should be: {'; '.join(wrong)}.")
    narrator.say("")
    narrator.say((f"All {len(narrator.checks)} checks hold.", "bold green"))
    kept = [f"Kept in {root}."] if args.keep else []
    return Outcome(data=outcome | {"checks": narrator.checks}, draw=lambda screen: None, notes=kept)


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="cocoon-demo-"))
    else:
        with tempfile.TemporaryDirectory(prefix="cocoon-demo-") as folder:
            yield Path(folder)


class Story(Belonging, Withholding, Relays, Newcomer, Vaulting):
    """The chapters, in order. They note what is written and what things are called, to be searched for at the end."""

    def tell(self) -> dict[str, Any]:
        """From an empty folder to the search of the relay's files."""
        self._found()
        self._talk()
        self._go_offline()
        self._come_back()
        self._withhold()
        self._put_one_out()
        self._add_a_device()
        self._lose_everything()
        self._let_one_in()
        self._lose_a_relay()
        self._keep_files()
        audit = self._audit()
        return audit | self._search([topic["id"] for topic in audit["topics"]])

    def _found(self) -> None:
        ana, *others = self._members
        self._narrator.chapter("A relay starts, and three people make a profile each, in a home of its own")
        self._relay.start()
        self._narrator.say(f"relay: {self._relay.url}, its data in a folder of its own")
        for member in self._members:
            member.run("init")
        self._narrator.chapter("One makes a group and invites the others")
        group = ana.run("group", "new", GROUP, "--name", ana.name, "--relay", self._relay.url)
        link = ana.run("invite", "--uses", "2")["link"]
        self._names.append(link)
        ana.run("sync")
        joined = [member.run("join", link, "--name", member.name) for member in others]
        ana.run("sync")
        members = ana.run("members")["members"]
        self._ids = [group["id"], *(member["id"] for member in members)]
        self._narrator.check("the two who joined are in the same group", {j["id"] for j in joined} == {group["id"]})
        self._narrator.check("all three names are in it", sorted(m["name"] for m in members) == sorted(NAMES))

    def _talk(self) -> None:
        ana, ben, chi = self._members
        self._narrator.chapter("They write to each other")
        first = self._write(ana, "post", "The gooseberries are ripe: bring baskets on Saturday morning!")
        self._sync_all(self._members)
        answer = self._write(ben, "reply", "I have four wickerwork baskets and a wheelbarrow.", to=first)
        self._sync_all(self._members)
        self._write(chi, "reply", "Splendid. Who brings sandwiches? — 我可以带茶 ☕", to=answer)
        self._sync_all(self._members)
        self._narrator.show(chi.print("thread", first))

    def _go_offline(self) -> None:
        self._narrator.chapter("The relay is stopped; all three go on writing")
        self._relay.stop()
        self._narrator.say("relay: stopped")
        for member, text in zip(
            self._members,
            (
                "Offline thought: strawberries?",
                "Offline too, mending the greenhouse.",
                "Nobody hears me… yet.",
            ),
            strict=True,
        ):
            written = self._write(member, "post", text)
            self._write(member, "reply", f"Footnote, also offline, signed {member.name}", to=written)
        error = self._members[0].fail("sync")
        self._narrator.check("a sync without a relay says so and loses nothing", error == "relay_unavailable")

    def _come_back(self) -> None:
        self._narrator.chapter("The relay comes back")
        self._relay.start()
        self._narrator.say("relay: running again, with the data it had")
        for _ in range(ROUNDS):
            self._sync_all(self._members)
        feeds = [posts_bytes(member.print("--json", "feed", "--limit", "1000")) for member in self._members]
        roots = [post["id"] for post in json.loads(feeds[0])]
        threads = [[posts_bytes(member.read("--json", "thread", root)) for root in roots] for member in self._members]
        arrived = sum(len(json.loads(thread)) for thread in threads[0])
        self._narrator.show(self._members[2].print("feed"))
        self._narrator.check(f"all {len(self._written)} posts and replies have arrived", arrived == len(self._written))
        self._narrator.check("the posts of the three feeds are the same to the byte", len(set(feeds)) == 1)
        self._narrator.check("so are all threads", threads[0] == threads[1] == threads[2])

    def _audit(self) -> dict[str, Any]:
        self._narrator.chapter("What the relay saw")
        audit = self._members[0].run("audit")
        for topic in audit["topics"]:
            envelopes, stored = count(topic["entries"], "envelope"), size(topic["bytes"])
            self._narrator.say(f"topic {shorten_id(topic['id'])}…: {envelopes}, {stored}, all ciphertext")
        self._narrator.say(f"{count(audit['blobs'], 'blob')}")
        self._narrator.say("and connections from this machine: when they came, and how much they moved")
        self._narrator.check("the relay holds what was written", any(topic["entries"] for topic in audit["topics"]))
        return audit

    def _search(self, topics: list[str]) -> dict[str, Any]:
        self._narrator.chapter("Is there a word of it in the relay's files?")
        needles = needles_of([*self._names, *self._written])
        needles |= {identifier: id_forms(identifier) for identifier in self._ids}
        of_files = {word: short_forms(word) for word in self.vault_words}
        needles |= needles_of(self.vault_words)
        known = {topic: id_forms(topic) for topic in topics}
        while_running = search_tree(self._relay.folder, needles, {})
        self._relay.stop()
        stopped = search_tree(self._relay.folder, needles, of_files)
        control = search_tree(self._relay.folder, known, {})
        for hit in {*while_running.hits, *stopped.hits}:
            self._narrator.say(f"found {hit.needle!r} ({hit.form}) in {hit.path.name}")
        self._narrator.say(
            f"searched {count(stopped.files, 'file')}, {size(stopped.bytes)}, while the relay ran and after it ended, "
            f"for {len(needles)} texts, pieces of texts, names, folder names and ids,"
        )
        self._narrator.say("as UTF-8, UTF-16, hex and base64;")
        self._narrator.say(f"the chunks of a MiB, for {len(of_files)} names, types, captions and what cameras had said")
        found = {hit.needle for hit in control.hits}
        self._narrator.check("the search finds what the relay must know: its topics", found == set(topics) != set())
        hits = len(while_running.hits) + len(stopped.hits)
        self._narrator.check(f"of all that the members wrote and are called: {hits} hits", hits == 0)
        return {"searched": _search_data(stopped, len(needles)), "hits": hits}


def _search_data(search: Search, needles: int) -> dict[str, int]:
    return {"files": search.files, "bytes": search.bytes, "needles": needles}
