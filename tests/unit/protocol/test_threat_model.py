"""The threat model's table of attacks names tests that exist, and leaves out no attack that has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"def test_attack_((?:\d\d_)+)")


def files_by_attack() -> dict[int, set[str]]:
    """For every attack the files, below tests/, that hold a test with its number."""
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for numbers in _TEST.findall(path.read_text("utf-8")):
            for number in numbers.strip("_").split("_"):
                found.setdefault(int(number), set()).add(path.relative_to(ROOT / "tests").as_posix())
    return found


def rows() -> dict[int, tuple[str, set[str]]]:
    page = (ROOT / "specs" / "threat-model.md").read_text("utf-8")
    return {int(row[1]): (row[2], set(re.findall(r"`([^`]+)`", row[3]))) for row in _ROW.finditer(page)}


def test_every_attack_has_its_row() -> None:
    assert sorted(rows()) == list(range(1, 45))


def test_every_file_that_a_row_names_holds_a_test_of_that_attack() -> None:
    found = files_by_attack()
    missing = {number: files - found.get(number, set()) for number, (_, files) in rows().items()}
    assert not {number: files for number, files in missing.items() if files}


def test_a_row_without_a_test_is_of_an_attack_that_has_none() -> None:
    found = files_by_attack()
    assert not {number: found[number] for number, (_, files) in rows().items() if not files and number in found}
