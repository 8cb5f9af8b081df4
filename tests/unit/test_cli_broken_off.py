"""What people are told who press Ctrl-C while files move."""

from __future__ import annotations

import pytest

from cocoon_cli import main as entry
from cocoon_cli.main import EXIT_INTERRUPTED, build_parser, main


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "words",
    [["vault", "add", "x"], ["vault", "get", "x"], ["vault", "pin", "x"], ["vault", "check"], ["sync"]],
)
def test_who_breaks_off_is_told_how_it_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "read_context", interrupt)
    assert main(words) == EXIT_INTERRUPTED
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("Broken off. ")
    assert build_parser().parse_args(words).broken_off in told.err
    assert main(["--json", *words]) == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "")
    assert main(["feed"]) == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "")
