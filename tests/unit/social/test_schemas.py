"""The documents that Cocoon itself writes are those that specs/documents.md §11 names, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cocoon_core.errors import UsageError
from cocoon_core.social.circle_view import CIRCLE, CircleView
from cocoon_core.social.member_profiles import PROFILE_NAME, MemberProfiles
from cocoon_core.social.noticing import Noticing
from cocoon_core.social.owned_view import OwnedView
from cocoon_core.social.seen import SEEN_PREFIX, SeenView
from cocoon_core.social.shared_view import SharedView
from tests.support.world import World, make_world

__all__ = ["make_world"]

PAGE = Path(__file__).resolve().parents[3] / "specs" / "documents.md"
_ROW = re.compile(r"^\| `([a-z]+/?)(?:YYYY-MM|…)?` \| (owned|shared|admin)(?:, `(.*?)`)? \| .*: ([a-z-]+\.md)")


def rows() -> dict[str, tuple[str, dict[str, str]]]:
    """What the page says: of each name, or what begins it, its kind and its schema."""
    lines = PAGE.read_text("utf-8").split("## 11.")[1].splitlines()
    found = [match for line in lines if (match := _ROW.match(line))]
    assert all((PAGE.parent / match[4]).exists() for match in found)
    assert len(found) == sum(line.startswith("| `") for line in lines), "a row that is not of the form of the others"
    return {match[1]: (match[2], json.loads(match[3] or "{}")) for match in found}


async def test_every_view_reads_documents_that_the_page_names(world: World) -> None:
    (ana,) = await world.group("ana")
    read: dict[str, tuple[str, dict[str, str]]] = {}
    for view in ana.replica.shelf.views:
        match view:
            case OwnedView():
                read[view.documents] = ("owned", {})
            case SharedView():
                read[view.documents] = ("shared", dict(view.schema))
            case CircleView():
                read[CIRCLE.name] = ("admin", dict(CIRCLE.schema))
            case MemberProfiles():
                read[PROFILE_NAME] = ("owned", {})
            case SeenView():
                read[SEEN_PREFIX] = ("owned", {})
            case _:
                assert isinstance(view, Noticing), "a view that this test does not know"
    assert read == rows()


@pytest.mark.parametrize("name", sorted(rows()))
async def test_apps_are_refused_these_documents(world: World, name: str) -> None:
    (ana,) = await world.group("ana")
    kind, schema = rows()[name]
    types = {"map": dict, "list": list, "text": str}
    given = {key: types[value] for key, value in schema.items()} or None
    with pytest.raises(UsageError):
        ana.group.document(f"{name}x" if name.endswith("/") else name, given, admin=kind == "admin")
