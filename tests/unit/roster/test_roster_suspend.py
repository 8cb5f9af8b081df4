"""Suspension by a proof: what is a proof, whom it puts out, and which branch and pin hold."""

from __future__ import annotations

import pytest

from cocoon_core.errors import UpdateNeededError
from cocoon_core.protocol import encoding
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operations_devices import Suspend
from cocoon_core.protocol.run import Run
from tests.support.roster_people import fork, make_run
from tests.support.roster_story import Person, Story, pin


def test_a_proof_puts_a_device_out_whoever_wrote_it() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    written = story.suspend(cleo, ben, fork(story.group, ben))
    state = story.evaluate()
    assert state.refused == {}
    assert state.former_devices[ben.device].out_by == written.id
    assert state.members[story.member(ben)].devices == ()


def test_a_proof_counts_though_its_author_is_out() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.remove(story.ana, cleo)
    story.suspend(cleo, ben, fork(story.group, ben))
    state = story.evaluate()
    assert (state.refused, ben.device in state.devices) == ({}, False)


def test_a_suspension_comes_before_all_other_decisions() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    heads = story.heads()
    void = story.remove(story.ana, ben, parents=heads)
    story.suspend(ben, story.ana, fork(story.group, story.ana), parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {void.id}
    assert state.is_admin(story.member(ben)), "no admin has a device left"


def _one_run_twice(story: Story, ben: Person) -> tuple[Run, Run]:
    run = make_run(story.group, ben, 3, EntryId(bytes(32)), [1, 2])
    return run, run


def _one_chain(story: Story, ben: Person) -> tuple[Run, Run]:
    first = make_run(story.group, ben, 3, EntryId(bytes(32)), [1])
    return first, make_run(story.group, ben, 4, first.last_id, [2])


def _two_devices(story: Story, ben: Person) -> tuple[Run, Run]:
    return fork(story.group, ben)[0], fork(story.group, story.ana)[1]


@pytest.mark.parametrize("make", [_one_run_twice, _one_chain, _two_devices])
def test_runs_that_do_not_contradict_each_other_prove_nothing(make: object) -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    written = story.suspend(story.ana, ben, make(story, ben))  # type: ignore[operator]
    state = story.evaluate()
    assert state.refused[written.id].error == "NotPermittedError"
    assert ben.device in state.devices


def test_a_run_that_the_device_did_not_sign_proves_nothing() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    first, second = fork(story.group, ben)
    plain = encoding.decode(second.wire)
    plain[-1] = bytes(64)
    forged = story.write(story.ana, Suspend(ben.device, first.wire, encoding.encode(plain)))
    trash = story.write(story.ana, Suspend(ben.device, first.wire, b"\x80"))
    refused = story.evaluate().refused
    assert [refused[it.id].error for it in (forged, trash)] == ["SignatureError", "MalformedError"]


def test_a_proof_of_a_later_version_stops_the_group() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    first, second = fork(story.group, ben)
    plain = encoding.decode(second.wire)
    plain[0] = 99
    later = story.write(story.ana, Suspend(ben.device, first.wire, encoding.encode(plain)))
    graph = story.graph([it for it in story.operations.values() if it is not later])
    with pytest.raises(UpdateNeededError):
        graph.add(later)
    assert later.id not in graph


def seq_of_pin(story: Story, ben: Person, final: frozenset[EntryId] = frozenset()) -> tuple[int, EntryId] | None:
    found = story.graph().evaluate(final).former_devices[ben.device].pin
    return (found.seq, found.entry) if found is not None else None


def test_the_pin_on_the_deciding_branch_holds_and_one_on_the_other_is_ignored() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    deciding, losing = fork(story.group, ben, 5)
    before = deciding.entries[0].prev
    story.suspend(story.ana, ben, (losing, deciding), [pin(ben, 6, losing.last_id)])
    assert seq_of_pin(story, ben) == (4, before), "what both branches follow is in doubt nowhere"
    story.suspend(story.ana, ben, (losing, deciding), [pin(ben, 6, deciding.last_id)])
    assert seq_of_pin(story, ben) == (6, deciding.last_id)


def test_the_final_branch_decides() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    smaller, larger = fork(story.group, ben, 5)
    story.suspend(story.ana, ben, (smaller, larger), [pin(ben, 6, larger.last_id)])
    assert seq_of_pin(story, ben) == (4, smaller.entries[0].prev)
    assert seq_of_pin(story, ben, frozenset({larger.entries[0].id})) == (6, larger.last_id)


def test_no_other_pin_saves_what_stands_on_the_losing_branch() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    deciding, losing = fork(story.group, ben, 5)
    heads = story.heads()
    story.remove(story.ana, ben, [pin(ben, 6, losing.last_id)], parents=heads)
    story.suspend(story.ana, ben, (deciding, losing), [pin(ben, 5, deciding.entries[0].id)], parents=heads)
    assert seq_of_pin(story, ben) == (5, deciding.entries[0].id)


def test_a_fork_from_the_first_entry_on_leaves_nothing_common() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    deciding, losing = fork(story.group, ben, 0)
    story.suspend(story.ana, ben, (deciding, losing))
    assert seq_of_pin(story, ben) is None
