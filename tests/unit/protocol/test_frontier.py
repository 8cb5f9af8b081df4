"""Frontiers: what they prove, their one form, and how two become one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cocoon_core.errors import MalformedError, SignatureError
from cocoon_core.protocol.frontier import (
    Frontier,
    decode_frontier,
    encode_frontier,
    frontier_digest,
    frontier_of,
    join_frontiers,
    run_end_of,
)
from cocoon_core.protocol.ids import EntryId, Signature
from tests.support.epoch_story import BEN
from tests.support.protocol_story import ANA, CREATE, Writer


def written(*sizes: int) -> list[Frontier]:
    """The frontier after each run of Ana, Ben always at the end of his second."""
    ana, ben = Writer(), Writer(BEN)
    ana.operate(CREATE)
    first = [run_end_of(ana.run(1))]
    theirs = run_end_of(ben.write_runs([1, 2])[-1])
    return [frontier_of([end, theirs]) for end in first + [run_end_of(run) for run in ana.write_runs(sizes)]]


def test_every_run_end_proves_itself() -> None:
    for frontier in written(2, 1):
        for end in frontier.values():
            end.verify()
            with pytest.raises(SignatureError):
                replace(end, entry=EntryId(bytes(32))).verify()
            with pytest.raises(SignatureError):
                replace(end, signature=Signature(bytes(64))).verify()


def test_the_encoding_is_one_and_comes_back() -> None:
    frontier = written(1)[-1]
    value = encode_frontier(frontier)
    assert decode_frontier(value) == frontier
    bad_values: list[Any] = [
        {},
        [value[0], value[0]],
        value[::-1],
        [value[0][:4]],
        [[*value[0][:1], -1, *value[0][2:]]],
    ]
    for bad in bad_values:
        with pytest.raises(MalformedError):
            decode_frontier(bad)


def test_the_digest_is_of_the_last_entries_alone() -> None:
    before, after = written(1)
    copied = {device: replace(end, signature=Signature(bytes(64))) for device, end in after.items()}
    assert frontier_digest(copied) == frontier_digest(dict(reversed(list(after.items())))) == frontier_digest(after)
    assert frontier_digest(before) != frontier_digest(after)


def test_two_frontiers_join_to_the_higher_end_of_each_device() -> None:
    low, middle, high = written(1, 1)
    without_ben = frontier_of([high[ANA.id]])
    assert join_frontiers(low, [without_ben, middle]) == high
    assert join_frontiers(high, [low]) == high
    assert list(join_frontiers(without_ben, [low])) == sorted([ANA.id, BEN.id])


def test_a_device_that_was_cut_stays_where_the_chosen_frontier_has_it() -> None:
    low, _, high = written(1, 1)
    assert join_frontiers(low, [high], held={ANA.id}) == low
    without_ben = frontier_of([low[ANA.id]])
    assert BEN.id not in join_frontiers(without_ben, [high], held={BEN.id})
