"""Which errors are worth a retry is what the specification says, for every class of the tree."""

from __future__ import annotations

import re
from pathlib import Path

from cocoon_core import errors
from cocoon_core.errors import CocoonError, Retry

PAGE = (Path(__file__).resolve().parents[2] / "specs" / "events.md").read_text("utf-8")


def named(value: Retry) -> set[type[CocoonError]]:
    """The classes that a row of the table names, with all below those of which it says so."""
    (cell,) = re.findall(rf"^\| `{value}` \| (.*?) \|", PAGE, re.MULTILINE)
    found: set[type[CocoonError]] = set()
    for name, below in re.findall(r"`(\w+)`( and all below it)?", cell):
        kind = getattr(errors, name)
        found |= {kind, *all_below(kind)} if below else {kind}
    return found


def all_below(kind: type[CocoonError]) -> set[type[CocoonError]]:
    found = set()
    for sub in kind.__subclasses__():
        if sub.__module__ == errors.__name__:
            found |= {sub, *all_below(sub)}
    return found


def test_each_error_has_the_retry_that_the_page_says() -> None:
    later, after_sync = named(Retry.LATER), named(Retry.AFTER_SYNC)
    assert later
    assert after_sync
    for kind in all_below(CocoonError):
        wanted = Retry.LATER if kind in later else Retry.AFTER_SYNC if kind in after_sync else Retry.NEVER
        assert kind.retry is wanted, kind.__name__


def test_every_class_stands_in_the_tree_that_the_module_draws() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert {kind.__name__ for kind in all_below(CocoonError)} == drawn
