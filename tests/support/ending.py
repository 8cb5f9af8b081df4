"""How a story that a seed tells begins, and who must agree in the end."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from cocoon_core.sync import driver
from tests.support.key_ring import use_key_ring
from tests.support.world import Seat


def prepare(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Let the seed decide keys and ids too. A relay in memory answers at once or never: silence is not waited for."""
    use_key_ring(monkeypatch)
    chance = Random(~seed)
    monkeypatch.setattr(secrets, "token_bytes", chance.randbytes)
    monkeypatch.setattr(secrets, "token_hex", lambda size: chance.randbytes(size).hex())
    monkeypatch.setattr(driver, "SILENCE_SECONDS", 0.005)


def assert_outside(seat: Seat, member: Seat, seed: int) -> None:
    """Who is out learns nothing new: not who joined since nor what is final by now, and so not always that it is out.
    Then it is told that it is left out; and who knows all of that comes to the same.
    """
    mine, theirs = seat.replica.members, member.replica.members
    assert member.replica.epoch.topic not in seat.replica.epochs.held, f"{seat.name} reads on, seed {seed}"
    if seat.group.me is not None:
        if mine.knows(operation.id for operation in theirs.graph.operations()):
            roster = mine.graph.evaluate(theirs.final_operations)
            assert seat.device not in roster.devices, f"{seat.name} would be in by all that is known, seed {seed}"
        alarms = {kind for kind, *_ in seat.replica.groups.alarms(seat.replica.record.number)}
        assert alarms & {"excluded", "out", "withheld"}, f"{seat.name} was told nothing, seed {seed}"


def find_members(seats: Sequence[Seat], seed: int) -> list[Seat]:
    """Those who are in the group, by the word of most: they have one epoch and are level. The others know that they
    are out.
    """
    thinking = [one for one in seats if one.group.me is not None and one.replica.epochs.is_level]
    (most, _), *_ = Counter(one.replica.epoch.topic for one in thinking).most_common()
    member = next(one for one in thinking if one.replica.epoch.topic == most)
    found = [one for one in seats if member.replica.members.member_of(one.device) is not None]
    for seat in seats:
        if seat not in found:
            assert_outside(seat, member, seed)
    assert len({seat.replica.epoch.topic for seat in found}) == 1, f"seed {seed}"
    assert all(seat.replica.epochs.is_level for seat in found), f"somebody is left out, seed {seed}"
    return found
