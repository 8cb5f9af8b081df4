"""Invites: who gets in, what closing one does to the joins it knew and to those it did not."""

from __future__ import annotations

from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Join
from cocoon_core.protocol.primitives import SigningKey
from tests.support.roster_story import Link, Person, Story


def names(story: Story) -> set[str]:
    return {member.name for member in story.evaluate().members.values()}


def test_a_join_spends_a_use_and_a_spent_invite_is_closed() -> None:
    story = Story()
    link, invite = story.invite(story.ana, uses=2)
    first = story.join(Person(1), link)
    (state,) = story.evaluate().invites.values()
    assert (state.operation, state.joins, state.is_open, state.is_spent) == (invite.id, (first.id,), True, False)
    second = story.join(Person(2), link)
    (state,) = story.evaluate().invites.values()
    assert (state.joins, state.is_open, state.is_spent) == (tuple(sorted([first.id, second.id])), False, True)
    assert story.evaluate().open_invites() == ()


def test_a_join_that_knew_of_the_winner_does_not_win_by_its_id() -> None:
    story = Story()
    link, _ = story.invite(story.ana)
    first = story.join(Person(1), link)
    late = story.join(Person(2), link, below=first)
    assert set(story.evaluate().refused) == {late.id}


def test_of_joins_at_once_the_smallest_id_wins() -> None:
    story = Story()
    link, invite = story.invite(story.ana)
    first = story.join(Person(1), link, parents=[invite])
    smaller = story.join(Person(2), link, parents=[invite], below=first)
    state = story.evaluate()
    assert set(state.refused) == {first.id}
    assert state.member_of(smaller.device).joined_by == smaller.id


def test_what_a_losing_join_built_on_falls_with_it() -> None:
    story = Story()
    link, invite = story.invite(story.ana)
    loser, winner = Person(1), Person(2)
    join = story.join(loser, link, parents=[invite])
    _, later = story.invite(loser, parents=[join])
    story.join(winner, link, parents=[invite], below=join)
    assert set(story.evaluate().refused) == {join.id, later.id}


def test_after_a_revocation_nobody_enters() -> None:
    story = Story()
    link, _ = story.invite(story.ana, uses=5)
    inside = story.join(Person(1), link)
    story.revoke(story.ana, link, [inside])
    late = story.join(Person(2), link)
    state = story.evaluate()
    assert set(state.refused) == {late.id}
    (closed,) = state.invites.values()
    assert closed.revoked
    assert not closed.is_open


def test_a_join_at_once_with_a_revocation_stands_if_another_revocation_knew_it() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(story.ana, uses=2)
    join = story.join(Person(2), link, parents=[invite])
    story.revoke(ben, link, parents=[invite])
    assert set(story.evaluate().refused) == {join.id}
    story.revoke(story.ana, link, [join], parents=[join])
    assert story.evaluate().refused == {}


def test_closing_what_is_closed_brings_nobody_in() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(story.ana, uses=2)
    join = story.join(Person(2), link, parents=[invite])
    story.revoke(story.ana, link, parents=[invite])
    story.revoke(ben, link, [join])
    assert set(story.evaluate().refused) == {join.id}


def test_a_join_that_the_revocation_knew_stands_though_it_is_not_named() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, _ = story.invite(story.ana, uses=3)
    story.join(Person(2), link)
    story.revoke(ben, link, [])
    assert story.evaluate().refused == {}


def test_a_join_that_the_revocation_names_stands_though_no_parent_leads_to_it() -> None:
    """More people can join at once than an entry has room for parents."""
    story = Story()
    link, invite = story.invite(story.ana, uses=3)
    named = story.join(Person(1), link, parents=[invite])
    unnamed = story.join(Person(2), link, parents=[invite])
    story.revoke(story.ana, link, [named], parents=[invite])
    assert set(story.evaluate().refused) == {unnamed.id}


def test_naming_a_join_of_another_invite_does_nothing_for_it() -> None:
    story = Story()
    link, invite = story.invite(story.ana, uses=3)
    join = story.join(Person(1), link, parents=[invite])
    other_link, other = story.invite(story.ana, parents=[invite])
    closed = story.revoke(story.ana, other_link, [join], parents=[other])
    story.revoke(story.ana, link, parents=[closed])
    assert set(story.evaluate().refused) == {join.id}


def test_an_invite_that_does_not_count_lets_nobody_in() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(ben, role=Role.ADMIN)
    join = story.join(Person(2), link)
    assert set(story.evaluate().refused) == {invite.id, join.id}


def test_a_join_must_know_its_invite() -> None:
    story = Story()
    link, _ = story.invite(story.ana)
    join = story.join(Person(1), link, parents=[story.create])
    assert story.evaluate().refused[join.id].error == "NotPermittedError"


def test_a_device_enters_once() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, _ = story.invite(story.ana)
    again = story.join(ben, link)
    creator = story.join(story.ana, link)
    state = story.evaluate()
    assert set(state.refused) == {again.id, creator.id}
    assert len(state.members) == 2


def test_a_join_is_the_first_entry_of_its_device() -> None:
    story = Story()
    link, _ = story.invite(story.ana)
    join = story.join(Person(1), link, seq=3)
    assert story.evaluate().refused[join.id].error == "MalformedError"


def test_a_proof_by_another_key_is_refused() -> None:
    story = Story()
    link, _ = story.invite(story.ana)
    ben = Person(1)
    key: SigningKey = Link(777).key
    stolen = Join.make(key, story.group, ben.device, ben.hpke, "Ben")
    named = Join.make(link.key, story.group, ben.device, ben.hpke, "Ben")
    join = story.write(ben, Join(named.invite, ben.hpke, "Ben", stolen.proof))
    assert story.evaluate().refused[join.id].error == "SignatureError"
    assert names(story) == {"Person AAA"}
