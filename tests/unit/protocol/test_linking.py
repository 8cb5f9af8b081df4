"""Which runs of a batch continue a chain: one signature a device and batch, and nobody without a key in the way.

`checks` counts how often a signature was verified.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoon_core.protocol.encoding import decode, encode
from cocoon_core.protocol.ids import DeviceId, EntryId
from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.run import Run, UnverifiedRun, parse_run, sign_run, verify_run
from cocoon_core.sync import linking
from cocoon_core.sync.linking import Linked, link_runs
from tests.support.protocol_story import CREATE, FEED, GROUP, LIST, Writer, device_keys, forged, parsed, unsigned

Ends = dict[DeviceId, tuple[int, EntryId]]
NOTHING: Ends = {}


class Checks:
    """Counts verify_run, as linking calls it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, run: UnverifiedRun) -> Run:
        self.count += 1
        return self.real(run)

    real = staticmethod(verify_run)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    counter = Checks()
    monkeypatch.setattr(linking, "verify_run", counter)
    return counter


def link(batch: Sequence[UnverifiedRun], known: Sequence[Run] = ()) -> Linked:
    """Link a batch to chains that hold `known`."""
    ends: Ends = {}
    ids: dict[tuple[DeviceId, int], EntryId] = {}
    for run in known:
        ends[run.device] = (run.last_seq, run.last_id)
        ids.update({(run.device, entry.seq): entry.id for entry in run.entries})
    return link_runs(ends, lambda device, seq, *_: ids.get((device, seq)), batch)


def ids(runs: Sequence[Run] | Sequence[UnverifiedRun]) -> list[EntryId]:
    return [run.last_id for run in runs]


def with_operation(writer: Writer) -> Run:
    writer.operate(RevokeInvite(CREATE.topic))  # type: ignore[arg-type]
    return writer.run(1)


# --- the usual


def test_one_check_for_a_device_and_batch(checks: Checks) -> None:
    ana, ben = Writer().write_runs([1] * 50), Writer(keys=device_keys("ben")).write_runs([3] * 20)
    linked = link([parsed(run) for run in [*ana, *ben]])
    assert linked.accepted == [*ana, *ben]
    assert checks.count == 2
    assert not linked.refused
    assert not linked.early
    assert not linked.forks


def test_runs_with_operations_are_each_checked(checks: Checks) -> None:
    writer = Writer()
    runs = [with_operation(writer), *writer.write_runs([2, 2]), with_operation(writer), *writer.write_runs([1])]
    assert link([parsed(run) for run in runs]).accepted == runs
    assert checks.count == 3


def test_what_is_known_is_not_checked_again(checks: Checks) -> None:
    runs = Writer().write_runs([2, 2])
    linked = link([parsed(run) for run in runs], known=runs)
    assert ids(linked.known) == ids(runs)
    assert linked.accepted == []
    assert checks.count == 0


def test_the_same_batch_twice_over_is_taken_once(checks: Checks) -> None:
    runs = Writer().write_runs([1, 2, 1])
    linked = link([parsed(run) for run in [*runs, *runs]])
    assert linked.accepted == runs
    assert ids(linked.known) == ids(runs)
    assert checks.count == 1


def test_after_a_gap_runs_are_early(checks: Checks) -> None:
    runs = Writer().write_runs([1, 1, 1])
    linked = link([parsed(runs[0]), parsed(runs[2])])
    assert linked.accepted == runs[:1]
    assert ids(linked.early) == ids(runs[2:])
    assert checks.count == 1


def test_an_overlapping_run_continues_the_chain() -> None:
    writer = Writer()
    first = writer.write_runs([3])[0]
    writer.edit(FEED)
    longer = sign_run(writer.entries, writer.descriptors.__getitem__, writer.keys.signing, writer.heads.digest())
    assert link([parsed(longer)], known=[first]).accepted == [longer]
    assert link([parsed(first), parsed(longer)]).accepted == [first, longer]
    linked = link([parsed(longer), parsed(first)])
    assert linked.accepted == [longer]
    assert ids(linked.known) == ids([first])


# --- forks


def two_branches() -> tuple[Run, Run, Run]:
    """A run, and two that both follow it."""
    writer, other = Writer(), Writer()
    base = writer.write_runs([1])[0]
    other.write_runs([1])
    writer.edit(FEED)
    other.edit(LIST)
    return base, writer.run(1), other.run(1)


def test_a_fork_from_what_is_known_is_proved() -> None:
    base, one, two = two_branches()
    linked = link([parsed(two)], known=[base, one])
    assert [(fork.run, fork.seq) for fork in linked.forks] == [(two, 1)]
    assert linked.accepted == []


def test_of_two_signed_branches_in_a_batch_the_first_is_taken_and_the_other_is_the_proof() -> None:
    base, one, two = two_branches()
    linked = link([parsed(base), parsed(one), parsed(two)])
    assert linked.accepted == [base, one]
    assert [(fork.run, fork.seq) for fork in linked.forks] == [(two, 1)]


def test_a_run_that_names_another_entry_before_it_is_a_fork_at_that_place() -> None:
    """Mended: the place was the run's first seq, where nothing else stands that could be shown beside it."""
    writer, other = Writer(), Writer()
    base = writer.write_runs([2])[0]
    other.write_runs([1])
    other.edit(LIST)
    other.run(1)
    later = other.write_runs([1])[0]
    linked = link([parsed(later)], known=[base])
    assert [(fork.run, fork.seq) for fork in linked.forks] == [(later, 1)]


def test_a_fork_without_a_signature_accuses_nobody() -> None:
    base, one, _ = two_branches()
    linked = link([forged(one)], known=[base, one])
    assert linked.forks == []
    assert len(linked.refused) == 1


# --- what somebody who can seal, but has no key, may try


def test_a_bad_last_signature_costs_only_that_run(checks: Checks) -> None:
    runs = Writer().write_runs([1, 1, 1])
    linked = link([parsed(runs[0]), parsed(runs[1]), unsigned(runs[2])])
    assert linked.accepted == runs[:2]
    assert ids([run for run, _ in linked.refused]) == ids(runs[2:])
    assert checks.count == 2


def test_a_forged_run_before_the_true_one_neither_keeps_it_out_nor_makes_it_a_fork() -> None:
    """Mended: the forged one took the place unverified, and the true one was recorded as equivocation and lost."""
    runs = Writer().write_runs([1, 1, 2])
    for place in range(3):
        batch = [parsed(run) for run in runs]
        batch.insert(place, forged(runs[place]))
        linked = link(batch)
        assert linked.accepted == runs
        assert linked.forks == []
        assert len(linked.refused) == 1


def test_a_forged_longer_run_does_not_hide_the_true_shorter_one() -> None:
    writer = Writer()
    true = writer.write_runs([2])[0]
    writer.edit(LIST)
    fields = decode(
        sign_run(writer.entries, writer.descriptors.__getitem__, writer.keys.signing, writer.heads.digest()).wire
    )
    fields[9] = bytes(64)
    linked = link([parse_run(encode(fields), GROUP), parsed(true)])
    assert linked.accepted == [true]
    assert linked.forks == []
    assert len(linked.refused) == 1


def test_many_forged_runs_cost_one_check_each(checks: Checks) -> None:
    runs = Writer().write_runs([1] * 200)
    batch = [copy for run in runs for copy in (forged(run), parsed(run))]
    linked = link(batch)
    assert linked.accepted == runs
    assert linked.forks == []
    assert len(linked.refused) == 200
    assert checks.count <= 600


def test_an_operation_with_a_bad_own_signature_holds_up_what_follows_until_a_sound_copy_comes() -> None:
    writer = Writer()
    before = writer.write_runs([1])[0]
    operation = with_operation(writer)
    after = writer.write_runs([1])[0]
    batch = [parsed(before), unsigned(operation), parsed(after)]
    linked = link(batch)
    assert linked.accepted == [before]
    assert ids(linked.early) == ids([after])
    assert ids([run for run, _ in linked.refused]) == ids([operation])
    linked = link([*batch, parsed(operation)])
    assert linked.accepted == [before, operation, after]


def test_of_copies_that_differ_the_signed_one_is_kept() -> None:
    """Mended: links prove the entries alone, so a copy with another heads digest could take the true one's place."""
    first, second = Writer().write_runs([1, 1])
    for digest in (True, False):
        linked = link([unsigned(first, digest=digest), parsed(first), parsed(second)])
        assert linked.accepted == [first, second]


def test_a_run_with_another_devices_name_is_not_taken() -> None:
    run = Writer().write_runs([1])[0]
    fields = decode(run.wire)
    fields[1] = bytes(device_keys("ben").id)
    linked = link([parse_run(encode(fields), GROUP)])
    assert linked.accepted == []
    assert len(linked.refused) == 1


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_whatever_is_mixed_in_the_true_chain_gets_through(shuffle: random.Random, sizes: list[int]) -> None:
    """True runs in order, forged and altered ones anywhere between: all true ones are accepted, nobody is accused."""
    runs = Writer().write_runs(sizes)
    batch = [parsed(run) for run in runs]
    for _ in range(shuffle.randrange(8)):
        run = shuffle.choice(runs)
        spoiled = (forged(run), unsigned(run), unsigned(run, digest=True))
        batch.insert(shuffle.randrange(len(batch) + 1), shuffle.choice(spoiled))
    linked = link(batch)
    assert ids(linked.accepted) == ids(runs)
    assert linked.forks == []


def test_weakened_without_a_check_of_the_last_signature_forged_runs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above see a build that does not check."""
    monkeypatch.setattr(linking, "verify_run", lambda run: run.stored())
    runs = Writer().write_runs([1, 1])
    linked = link([forged(runs[0]), *map(parsed, runs)])
    assert linked.accepted != runs
