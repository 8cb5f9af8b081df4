"""The constants in code are those in the specifications: each stands in a table of the page that its block names.

A table row counts where its first cell is a constant's name in backquotes; its second cell is the value. A constant may
stand in tables of other pages too, and must have the same value there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cocoon_core.protocol import constants
from cocoon_core.social import post_view

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "cocoon_core" / "protocol" / "constants.py"
PAGES = sorted((ROOT / "specs").glob("*.md"))

_BLOCK = re.compile(r"^# --- .*?: specs/([a-z-]+\.md)")
_NAME = re.compile(r"^([A-Z][A-Z0-9_]*): Final")
_ROW = re.compile(r"^\| *`([A-Z][A-Z0-9_]*)` *\|([^|]*)\|")
_OTHER_MODULES = {"POST_ID_BYTES": post_view.POST_ID_BYTES, "MAX_TEXT_BYTES": post_view.MAX_TEXT_BYTES}


def homes() -> dict[str, str]:
    """Every constant in code, with the page that the head of its block names."""
    found: dict[str, str] = {}
    page = ""
    for line in SOURCE.read_text("utf-8").splitlines():
        if block := _BLOCK.match(line):
            page = block[1]
        elif name := _NAME.match(line):
            found[name[1]] = page
    return found


def value_of(cell: str) -> int | str:
    """A number as pages write it (2^53 − 1, 1,048,576, 16_384, 256 * 1024), or a label in backquotes."""
    text = cell.strip()
    if text.startswith("`cocoon/"):
        return text.strip("`")
    number = text.strip("`").replace(",", "").replace("_", "").replace("−", "-")
    if power := re.fullmatch(r"2\^(\d+)(?: - (\d+))?", number):
        return (1 << int(power[1])) - int(power[2] or 0)
    if product := re.fullmatch(r"(\d+)(?: [*×] (\d+))*", number):
        result = 1
        for factor in re.split(r" [*×] ", product[0]):
            result *= int(factor)
        return result
    raise AssertionError(f"not a value as pages write it: {cell!r}")


def rows() -> list[tuple[str, str, int | str]]:
    """(page, name, value) of every row of every table that names a constant."""
    found = []
    for page in PAGES:
        for line in page.read_text("utf-8").splitlines():
            if row := _ROW.match(line):
                found.append((page.name, row[1], value_of(row[2])))
    return found


def in_code(name: str) -> int | str:
    value = vars(constants).get(name, _OTHER_MODULES.get(name))
    assert isinstance(value, int | str), f"no constant {name} in code"
    return value


def test_every_block_names_its_page() -> None:
    assert len(homes()) == len([name for name in vars(constants) if name.isupper()])
    assert all(homes().values())


@pytest.mark.parametrize("name", homes())
def test_a_constant_stands_once_in_the_tables_of_its_page(name: str) -> None:
    home = homes()[name]
    assert [page for page, named, _ in rows() if named == name].count(home) == 1, f"{name} is not in specs/{home}"


@pytest.mark.parametrize(("page", "name", "value"), rows())
def test_what_a_table_says_is_what_the_code_has(page: str, name: str, value: int | str) -> None:
    assert in_code(name) == value, page


def test_every_label_has_a_value_of_its_own() -> None:
    labels = [value for name, value in vars(constants).items() if name.startswith("LABEL_")]
    assert len(set(labels)) == len(labels)


def test_values_are_read_as_pages_write_them() -> None:
    assert value_of(" 2^53 − 1 ") == 2**53 - 1
    assert value_of("1,048,576") == value_of("`1024 * 1024`") == 2**20
    assert value_of("`cocoon/v1/run`") == "cocoon/v1/run"
    with pytest.raises(AssertionError):
        value_of("about a MiB")
