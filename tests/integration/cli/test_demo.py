"""`cocoon demo` holds what it claims, and would say so if it did not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cocoon_cli import demo
from cocoon_cli.demo import run_demo
from cocoon_cli.demo_scenes import DemoFailed, posts_bytes
from cocoon_cli.main import build_parser, read_context
from cocoon_cli.output import Output
from cocoon_cli.standard_input import StandardInput


@pytest.mark.long
def test_the_demo_passes_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", "cocoon_cli", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "the posts of the three feeds are the same to the byte" in done.stdout
    assert "0 hits" in done.stdout
    assert "Ana's device names Ben, the relay, and how much is missing" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_attack_19_the_demo_fails_if_the_relay_kept_one_piece_of_a_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TalkativeStory(demo.Story):
        def tell(self) -> dict[str, Any]:
            """The last chapter alone, after a relay that stored a piece of a text in a form of its own."""
            self._relay.start()
            self._written.append("Offline too, mending the greenhouse.")
            (self._relay.folder / "data" / "debug.bin").write_bytes(b"mending the greenhouse".hex().encode())
            return self._search([])

    monkeypatch.setattr(demo, "Story", TalkativeStory)
    words = ["demo", "--json"]
    args = build_parser().parse_args(words)
    with pytest.raises(DemoFailed, match=r"topics; of all that the members wrote and are called: [1-9][0-9]* hits"):
        run_demo(read_context(args, Output(as_json=True), words, StandardInput()), args)


@pytest.mark.parametrize("posts", [[], [{"id": "a", "text": 'x"posts": ]'}]])
def test_posts_are_compared_as_they_were_printed(posts: list[dict[str, str]]) -> None:
    printed = json.dumps({"posts": posts, "more": [1]})
    assert posts_bytes(printed) == json.dumps(posts)


def test_a_feed_without_posts_is_a_failure() -> None:
    with pytest.raises(DemoFailed):
        posts_bytes('{"error": {}}')
