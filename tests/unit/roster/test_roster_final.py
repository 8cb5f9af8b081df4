"""What is final stands where it contradicts what is not: branches, joins. And one more operation costs little."""

from __future__ import annotations

import random

import pytest

from cocoon_core.errors import NotYetError
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.roster_rules import Evaluation
from tests.support.roster_story import Person, Story


def test_a_final_branch_of_a_fork_stands() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    heads = story.heads()
    first = story.set_role(story.ana, ben, Role.ADMIN, parents=heads)
    smaller = story.set_role(story.ana, cleo, Role.ADMIN, parents=heads, seq=first.seq, below=first)
    graph = story.graph()
    assert set(graph.evaluate().refused) == {first.id}
    assert set(graph.evaluate(frozenset({first.id})).refused) == {smaller.id}


def test_what_a_final_operation_left_out_is_contested_though_it_comes_first() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    heads = story.heads()
    left_out = story.invite(story.ana, parents=heads)[1]
    final = story.set_role(story.ana, ben, Role.ADMIN, parents=heads)
    state = story.graph().evaluate(frozenset({final.id}))
    assert set(state.refused) == {left_out.id}
    assert "leaves it out" in state.refused[left_out.id].reason


def test_a_final_join_is_placed_first_and_no_closing_reaches_it() -> None:
    story = Story()
    ben = story.enter(story.ana, 9)
    link, invite = story.invite(story.ana)
    join = story.join(Person(1), link, parents=[invite])
    smaller = story.join(Person(2), link, parents=[invite], below=join)
    graph = story.graph()
    assert set(graph.evaluate().refused) == {join.id}
    assert set(graph.evaluate(frozenset({join.id})).refused) == {smaller.id}
    graph.add(story.revoke(ben, link, parents=[invite]))
    assert join.id not in graph.evaluate(frozenset({join.id})).refused


def test_the_graph_answers_who_knew_what() -> None:
    story = Story()
    link, invite = story.invite(story.ana)
    join = story.join(Person(1), link)
    graph = story.graph()
    assert graph.knows(join.id, invite.id)
    assert not graph.knows(invite.id, join.id)
    assert not graph.knows(join.id, join.id)
    assert graph.operation(join.id) == join
    assert set(graph.past([invite.id])) == {story.create.id, invite.id}
    for ask in (lambda: graph.knows(EntryId(bytes(32)), join.id), lambda: graph.operation(EntryId(bytes(32)))):
        with pytest.raises(NotYetError):
            ask()


def _evaluations(monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    whole: list[Evaluation] = []
    run = Evaluation.run

    def counted(evaluation: Evaluation) -> None:
        whole.append(evaluation)
        run(evaluation)

    monkeypatch.setattr(Evaluation, "run", counted)
    return whole


def test_one_more_operation_on_the_heads_needs_no_whole_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    graph = story.graph()
    graph.evaluate()
    whole = _evaluations(monkeypatch)
    ben = story.enter(story.ana, 1)
    story.set_role(story.ana, ben, Role.ADMIN)
    story.add_device(ben, ben.on(1))
    story.set_recovery(ben, phrase=ben.phrase(), guardians=[story.ana])
    story.rotate(ben.on(1))
    story.remove_device(ben, ben.on(1))
    story.remove(ben, ben)
    story.remove(ben, story.ana)
    for operation in story.operations.values():
        if graph.add(operation):
            graph.evaluate()
    assert whole == []
    assert graph.evaluate() == story.evaluate()
    assert list(graph.evaluate().members) == list(story.evaluate().members)


def test_an_operation_beside_another_needs_a_whole_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    heads = story.heads()
    graph = story.graph()
    graph.evaluate()
    whole = _evaluations(monkeypatch)
    for operation in (story.rotate(ben, parents=heads), story.rotate(story.ana, 2, parents=heads)):
        graph.add(operation)
        graph.evaluate()
    assert len(whole) == 1


def test_a_state_once_given_out_never_changes() -> None:
    story = Story()
    rng = random.Random(1)
    graph = story.graph()
    seen = []
    for number in range(1, 20):
        person = story.enter(story.ana, number)
        if rng.random() < 0.5:
            story.remove(story.ana, person)
        for operation in story.operations.values():
            graph.add(operation)
        state = graph.evaluate()
        seen.append((state, dict(state.members), dict(state.former_devices), dict(state.invites)))
    for state, members, formers, invites in seen:
        assert (dict(state.members), dict(state.former_devices), dict(state.invites)) == (members, formers, invites)
