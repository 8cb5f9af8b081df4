"""The examples of docs/embedding.md, run one after another as they stand, against a real relay.

What follows `# →` is what the line before it prints; ` | ` parts the lines of one that prints several.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.relay_process import RelayProcess

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "embedding.md").read_text("utf-8")
LONG = 60.0


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path / "relay") as process:
        yield process


def read_examples() -> list[tuple[str, str]]:
    """Title and code of each."""
    found = re.findall(r"^## (\d+\. [^\n]*)\n.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    return [(title, code) for title, code in found]


def test_there_are_ten_examples_one_under_each_title() -> None:
    examples = read_examples()
    assert [title.split(".")[0] for title, _ in examples] == [str(number) for number in range(1, 11)]
    assert PAGE.count("```python") == len(examples)


async def test_every_example_prints_what_the_page_says(
    relay: RelayProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"home": tmp_path, "RELAY": relay.url}
    for title, code in read_examples():
        compiled = compile(code, title, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(compiled, names)
        async with asyncio.timeout(LONG):
            if inspect.isawaitable(running):
                await running
        expected = [line for said in re.findall(r"# → (.*)", code) for line in said.split(" | ")]
        assert capsys.readouterr().out.splitlines() == expected, title
