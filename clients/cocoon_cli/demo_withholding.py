"""A scene of `demo`: a relay that was edited to keep one member's writing from another is reported by name.

Run as a program, this module is that relay: the real one, with an edit of a few lines. What is put while a file called
`mark` lies in its folder, it leaves out of what it sends while one called `withhold` does, and shows something else in
its place, so that no number is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cocoon_cli.demo_scenes import Scenes

MARK, WITHHOLD = "mark", "withhold"


class Withholding(Scenes):
    """What a relay can keep back, and who tells of it."""

    def _withhold(self) -> None:
        """Ben's post reaches Chi and not Ana, whose device says so once it has heard from Chi's."""
        ana, ben, chi = self._members
        tell = self._narrator
        tell.chapter("The relay is edited to keep what Ben writes from Ana")
        self._relay.stop()
        self._relay.module = "cocoon_cli.demo_withholding"
        self._relay.start()
        tell.say("relay: running again, with a few lines changed")
        text = "Frost tonight: cover the beans!"
        with self._file(MARK):
            self._write(ben, "post", text)
            ben.run("sync")
        with self._file(WITHHOLD):
            first = ana.run("sync")
            tell.check("Ana does not see what he wrote, and nothing shows that there is something", not first["alarms"])
            tell.check("it is not in her feed", text not in self._shown(ana))
        chi.run("sync", "--beacon")
        tell.check("Chi sees it, and her device tells the others what has reached it", text in self._shown(chi))
        with self._file(WITHHOLD):
            told = ana.run("sync")
        for alarm in told["alarms"]:
            tell.say(f"Ana's device: {alarm}")
        found = [(one["name"], one["relays"], one["entries"]) for one in told["withheld"]]
        tell.check(
            "Ana's device names Ben, the relay, and how much is missing", found == [(ben.name, [self._relay.url], 1)]
        )
        self._relay.stop()
        self._relay.module = "cocoon_relay"
        self._relay.start()
        tell.say("relay: as it should be again")
        again = ana.run("sync")
        tell.check("what was kept back is there", text in self._shown(ana))
        tell.check("and the warning is gone", not again["withheld"] and not again["alarms"])

    def _file(self, name: str) -> _File:
        return _File(self._relay.folder / name)


class _File:
    """A file that lies there inside the block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._path.touch()

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


def run_edited_relay(folder: Path) -> int:
    """Be a relay that withholds."""
    from cocoon_relay import cli, sqlite_store, subscription

    store: Any = sqlite_store.SqliteStore
    sending: Any = subscription
    submit, encode = store.submit, sending.encode_frame
    marked: set[bytes] = set()

    def submit_and_mark(self: Any, info: Any, envelopes: tuple[bytes, ...], *rest: Any, **how: Any) -> None:
        if (folder / MARK).exists():
            marked.update(envelopes)
        submit(self, info, envelopes, *rest, **how)

    def leave_out(frame: Any) -> Any:
        if isinstance(frame, sending.Entries) and (folder / WITHHOLD).exists():
            shown = tuple(bytes(len(one)) if one in marked else one for one in frame.envelopes)
            frame = sending.Entries(frame.topic, frame.first, shown)
        return encode(frame)

    store.submit, sending.encode_frame = submit_and_mark, leave_out
    return cli.main()


if __name__ == "__main__":
    sys.exit(run_edited_relay(Path(sys.argv[sys.argv.index("--data") + 1]).parent))
