"""What line 15 measures in processes of their own: a command from cold, and a session that pages and searches.

The profile's key lies in a key ring, as most people's does; here one that reads a file, so that what is measured is
ours. `python -m tests.benchmarks.feed_children NAME ARGUMENT…`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Final

import keyring
import keyring.backend

PAGES: Final = 40
QUERIES: Final = 400
SEED: Final = 7


class FileRing(keyring.backend.KeyringBackend):
    """Passwords by account, in a file. For measurements alone."""

    priority = 5

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_password(self, service: str, username: str) -> str | None:
        return self._kept().get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self._path.write_text(json.dumps(self._kept() | {username: password}))

    def _kept(self) -> dict[str, str]:
        kept: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return kept


FileRing.__module__ = "keyring.backends.SecretService"  # for that of this system


def use_ring(path: Path) -> None:
    ring = FileRing(path)
    keyring.get_keyring = lambda: ring


def cold(ring: str, *words: str) -> int:
    """Type one command; what memory it took goes to standard error."""
    use_ring(Path(ring))
    from cocoon_cli.main import main as run_command

    code = run_command(words)
    status = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"peak": int(peak) * 1024}), file=sys.stderr)
    return code


async def session(ring: str, home: str) -> None:
    """Page and search, as an app does that stays open."""
    use_ring(Path(ring))
    from cocoon_core import Cocoon

    async with await Cocoon.open(home) as cocoon:
        (group,) = cocoon.groups()
        began = time.perf_counter()
        await group.search("the")
        taken_in = time.perf_counter() - began
        pages, last = [], None
        words: list[str] = []
        for _ in range(PAGES):
            began = time.perf_counter()
            posts = await group.feed.list(limit=50, before=last)
            pages.append((time.perf_counter() - began) * 1000)
            last = posts[-1].id
            words += [word for post in posts for word in post.text.lower().replace(".", "").split()]
        authors = [member.id for member in group.members()]
        searches, found = [], 0
        for text, options in _queries(random.Random(SEED), words, authors):
            began = time.perf_counter()
            found += bool(await group.search(text, **options))
            searches.append((time.perf_counter() - began) * 1000)
        status = Path("/proc/self/status").read_text()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status.splitlines() if " kB" in line}
        database = group.replica.database
        index = sum(
            int(database.query_value(f"SELECT sum({what}) FROM {table}") or 0)
            for table, what in (("search_index_data", "length(block)"), ("search_texts", "length(words)"))
        )
    print(
        json.dumps(
            {
                "taken_in": taken_in,
                "pages": pages[1:],
                "searches": searches,
                "found": found,
                "peak": sizes["VmHWM"],
                "index": index,
            }
        )
    )


def _queries(rng: random.Random, words: list[str], authors: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Words as they are typed, letter by letter, alone and after another; with authors and kinds; that nobody wrote."""
    found: list[tuple[str, dict[str, Any]]] = []
    while len(found) < QUERIES:
        word, other = rng.choice(words), rng.choice(words)
        found += [(word[:end], {}) for end in range(1, len(word) + 1)]
        found += [(f"{other} {word[:end]}", {}) for end in range(1, len(word) + 1)]
        found += [
            (f"{word} {other}", {"author": rng.choice(authors)}),
            (word, {"kind": "reply", "limit": 20}),
            (word, {"kind": "photo"}),
            (f"{word}{other}", {}),
            ("", {"author": rng.choice(authors)}),
        ]
    return found[:QUERIES]


def main(arguments: list[str]) -> int:
    name, *rest = arguments
    if name == "cold":
        return cold(*rest)
    asyncio.run(session(*rest))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
