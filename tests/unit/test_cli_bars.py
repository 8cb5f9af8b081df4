"""Bars of bytes: one line at every width, a rate of what moved now, and several transfers in one."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from cocoon_cli.bars import ByteProgress

MIB = 1024 * 1024


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(monkeypatch: pytest.MonkeyPatch, label: str = "Sending") -> tuple[ByteProgress, Clock]:
    clock = Clock()
    monkeypatch.setattr(ByteProgress, "_start", lambda self: None)
    return ByteProgress(label, True, clock), clock


@pytest.mark.parametrize("width", [4, 10, 17, 24, 33, 40, 59, 79, 119, 300])
@pytest.mark.parametrize(
    "name", ["film.mp4", "夏の海辺で撮った長い長い映画" * 5 + ".mp4", "x" * 300, "\x1b]0;x\x07\u202e"]
)
def test_a_bar_fits_into_one_line(monkeypatch: pytest.MonkeyPatch, width: int, name: str) -> None:
    bar, clock = make(monkeypatch)
    bar(10 * MIB, 1000 * MIB, name)
    clock.now += 2
    bar(30 * MIB, 1000 * MIB, name)
    line = bar.line(width)
    cells = cell_len(line.name) + 1 + (line.bar + 1 if line.bar else 0) + cell_len(line.figures)
    assert cells <= max(width, 6)
    assert "3%" in line.figures or "30.0/1000.0 MiB" in line.figures
    assert "\x1b" not in line.name
    if width >= 79:
        assert line.bar >= 12
        assert "10.0 MiB/s" in line.figures
        assert "1:37" in line.figures


def test_what_was_there_before_says_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, clock = make(monkeypatch)
    bar(900 * MIB, 1000 * MIB, "film")
    clock.now += 4
    bar(904 * MIB, 1000 * MIB, "film")
    assert "1.0 MiB/s" in bar.line(100).figures
    assert bar.line(100).figures.endswith("1:36")


def test_what_is_found_done_later_says_nothing_of_the_rate_either(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, clock = make(monkeypatch)
    bar(MIB, 1000 * MIB, "film", part="film")
    clock.now += 1
    bar(900 * MIB, 1000 * MIB, "film", part="film", is_moving=False)
    assert "/s" not in bar.line(100).figures
    clock.now += 4
    bar(904 * MIB, 1000 * MIB, "film", part="film")
    assert "1.0 MiB/s" in bar.line(100).figures


def test_several_at_once_are_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, clock = make(monkeypatch, "")
    bar(0, 10 * MIB, "Sending a", part="a")
    bar(5 * MIB, 30 * MIB, "Sending b", part="b")
    clock.now += 1
    bar(4 * MIB, 10 * MIB, "Sending a", part="a")
    line = bar.line(100)
    assert line.name == "Sending a and 1 more"
    assert line.figures.startswith(" 9.0/40.0 MiB")
    assert " 4.0 MiB/s" in line.figures
    bar(30 * MIB, 30 * MIB, "Sending b", part="b")
    assert bar.line(100).name == "Sending b"


def test_a_step_in_files_follows_one_in_bytes_and_another_thing_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, clock = make(monkeypatch, "")
    bar(5 * MIB, 5 * MIB, "Reading")
    clock.now += 1
    bar.files(100, 10_000, "Asking")
    clock.now += 2
    bar.files(1_100, 10_000, "Asking")
    line = bar.line(100)
    assert line.name == "Asking"
    assert line.figures.startswith(" 1100/10000")
    assert line.figures.endswith("0:18")
    bar.files(0, 50, "Asking another")
    assert bar.line(100).figures.startswith(" 0/50")


def test_silence_is_shown_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, clock = make(monkeypatch)
    bar(0, 10 * MIB, "a")
    clock.now += 1
    bar(MIB, 10 * MIB, "a")
    assert "MiB/s" in bar.line(80).figures
    clock.now += 60
    assert "waiting" in bar.line(80).figures


def test_nothing_is_shown_where_none_is_wanted() -> None:
    with ByteProgress("Sending", False) as bar:
        bar(1, 2, "a")
        bar.files(1, 2, "a")
    assert bar.line(80).figures.strip().startswith("0/0")
