"""The published rosters, read as a stranger would: bodies decoded, every order of arrival, the state compared."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cocoon_core.protocol.encoding import decode
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId
from cocoon_core.protocol.operations import decode_operation
from cocoon_core.protocol.roster import Operation, RosterGraph
from tests.vectors.rosters import state_value

FILE = Path(__file__).resolve().parents[2] / "specs" / "vectors" / "rosters.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


def _operation(entry: str) -> Operation:
    value = VECTORS["operations"][entry]
    return Operation(
        EntryId(bytes.fromhex(entry)),
        DeviceId(bytes.fromhex(value["device"])),
        value["seq"],
        tuple(EntryId(bytes.fromhex(parent)) for parent in value["parents"]),
        decode_operation(decode(bytes.fromhex(value["body"]))),
    )


def _arrive(case: dict[str, Any], rng: random.Random) -> RosterGraph:
    graph = RosterGraph(GroupId(bytes.fromhex(case["group_id"])))
    waiting = [_operation(entry) for entry in case["arrived"]]
    rng.shuffle(waiting)
    while waiting:
        able = next(it for it in waiting if all(parent in graph for parent in it.parents))
        waiting.remove(able)
        graph.add(able)
    return graph


@pytest.mark.parametrize("case", VECTORS["cases"], ids=[case["name"] for case in VECTORS["cases"]])
def test_a_roster_evaluates_to_its_state(case: dict[str, Any]) -> None:
    final = frozenset(EntryId(bytes.fromhex(entry)) for entry in case["final"])
    for seed in range(3):
        state = state_value(_arrive(case, random.Random(seed)).evaluate(final))
        assert json.loads(json.dumps(state)) == case["state"], f"order {seed}"


def test_there_are_rosters_enough_and_they_differ() -> None:
    assert len(VECTORS["cases"]) >= 45
    assert len({case["name"] for case in VECTORS["cases"]}) == len(VECTORS["cases"])
    assert len({json.dumps(case["state"]) for case in VECTORS["cases"]}) > 40
