"""What the scenes of `demo` share: the one who tells, who plays, and what is kept to be searched for at the end."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cocoon_cli.demo_cast import Member, RelayProcess
from cocoon_cli.output import Screen
from cocoon_cli.text import shorten_id
from cocoon_core.errors import CocoonError

GROUP = "Kestrel Lane Allotments"
NAMES = ("Anastasia", "Benjamin", "Chidinma")

_UNREAD: Final = re.compile(r', "unread": (?:true|false)')  # inside of a text the quotes are escaped


class DemoFailed(CocoonError):
    """The demo found something that is not as it should be."""

    code = "demo_failed"


class Narrator:
    """Tells the story to a person, if one is listening, and keeps what turned out wrong."""

    def __init__(self, listening: bool) -> None:
        self._screen = Screen() if listening else None
        self._chapter = 0
        self.checks: list[dict[str, Any]] = []

    def chapter(self, title: str) -> None:
        """A new numbered heading."""
        self._chapter += 1
        self.say("")
        self.say((f"{self._chapter}. {title}", "bold"))

    def say(self, *parts: str | tuple[str, str]) -> None:
        """One line."""
        if self._screen is not None:
            self._screen.line(*parts, indent=0 if isinstance(parts[0], tuple) else 3)
            sys.stdout.flush()

    def command(self, who: str, words: Sequence[str]) -> None:
        """A command as a person would type it."""
        shown = " ".join(word if word and " " not in word else f"“{word}”" for word in words)
        if len(shown) > 92:
            shown = shown[:80] + "…"
        if self._screen is not None:
            self._screen.line((f"{who:>10} $ ", "dim"), ("cocoon ", "cyan"), shown)
            sys.stdout.flush()

    def show(self, text: str) -> None:
        """What a command printed."""
        if self._screen is not None:
            self._screen.body(text.rstrip("\n"), indent=13)

    def check(self, claim: str, holds: bool) -> None:
        """A claim, and whether it is so."""
        self.checks.append({"claim": claim, "holds": holds})
        self.say(("   ✓ ", "green") if holds else ("   ✗ ", "bold red"), claim)


class Scenes:
    """What every scene works with. The scenes note what is written and what things are called."""

    def __init__(self, root: Path, relay: RelayProcess, narrator: Narrator) -> None:
        self._root = root
        self._relay = relay
        self._narrator = narrator
        self._members = [self._new_home(name, f"home-of-{name.lower()}") for name in NAMES]
        self._names = [GROUP, *NAMES, *(member.home.name for member in self._members)]
        self._written: list[str] = []
        self._ids: list[str] = []

    def _new_home(self, name: str, folder: str) -> Member:
        return Member(name, self._root / folder, self._narrator.command)

    def _write(self, member: Member, command: str, text: str, to: str | None = None) -> str:
        """Post or reply; keeps the text and gives the id."""
        self._written.append(text)
        words = [command, text] if to is None else [command, to, text]
        return shorten_id(member.run(*words)["id"])

    def _sync_all(self, members: Sequence[Member]) -> None:
        for member in members:
            member.run("sync")

    def _shown(self, member: Member) -> str:
        """All that a member's device shows, with every thread."""
        return member.read("feed", "--limit", "1000")


def posts_bytes(printed: str) -> str:
    """The `posts` of one `feed --json`, as the very characters that were printed; but not what was read on that device.

    Raises:
        DemoFailed: this is not what `feed --json` prints.
    """
    key = '"posts": '
    start = printed.find(key) + len(key)
    if start < len(key):
        raise DemoFailed("`feed --json` printed no posts")
    _, end = json.JSONDecoder().raw_decode(printed, start)
    return _UNREAD.sub("", printed[start:end])
