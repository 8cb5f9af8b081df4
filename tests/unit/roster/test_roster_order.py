"""The order of decisions where one rests on another; each of these once came out wrong."""

from __future__ import annotations

from cocoon_core.protocol.operation_forms import Policy, Role
from tests.support.roster_story import Person, Story


def test_a_known_removal_is_not_answered_by_a_device_that_it_did_not_know() -> None:
    """Found by writing the tests of devices: a thief's second device removed the owner's, by a smaller id."""
    story = Story()
    ben = story.enter(story.ana, 1)
    second, third = ben.on(1), ben.on(2)
    story.add_device(ben, second)
    heads = story.heads()
    removal = story.remove_device(ben, second, parents=heads)
    added = story.add_device(second, third, parents=heads)
    answer = story.remove_device(third, ben, below=removal)
    state = story.evaluate()
    assert set(state.refused) == {added.id, answer.id}
    assert state.members[story.member(ben)].devices == (ben.device,)


def test_a_known_removal_is_not_answered_by_a_recovery_that_it_did_not_know() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    second, third = ben.on(1), ben.on(2)
    story.add_device(ben, second)
    heads = story.heads()
    removal = story.remove_device(ben, second, parents=heads)
    phrase = story.set_recovery(second, phrase=ben.phrase(), parents=heads)
    recovered = story.recover(third, ben.phrase())
    answer = story.remove_device(third, ben, below=removal)
    state = story.evaluate()
    assert set(state.refused) == {phrase.id, recovered.id, answer.id}


def test_the_thief_of_a_spent_link_does_not_act_with_its_seniority() -> None:
    """Found by reasoning: the join was refused in the end, but what it did had been decided before its closing."""
    story = Story()
    link, invite = story.invite(story.ana, role=Role.ADMIN)
    ben, thief = Person(1), Person(2)
    join = story.join(ben, link)
    cleo = story.enter(story.ana, 3)
    story.revoke(cleo, link, [join])
    stolen = story.join(thief, link, parents=[invite], below=join)
    attack = story.remove(thief, cleo, parents=[*story.heads()])
    earlier = story.set_role(thief, ben, Role.MEMBER, parents=[stolen, join], seq=2)
    state = story.evaluate()
    assert {stolen.id, attack.id} <= set(state.refused)
    assert earlier.id in state.refused
    assert {story.member(it) for it in (story.ana, ben, cleo)} == set(state.members)


def test_a_confirmed_join_waits_for_no_closing() -> None:
    """Else a quiet member would close an old invite to make a senior's removal come after an own one."""
    story = Story()
    mallory = story.enter(story.ana, 9, role=Role.ADMIN)
    link, invite = story.invite(story.ana, role=Role.ADMIN, uses=2)
    story.join(Person(1), link)
    story.rotate(story.ana)
    heads = story.heads()
    story.revoke(mallory, link, parents=[invite])
    story.remove(Person(1), mallory, parents=heads)
    state = story.evaluate()
    assert state.refused == {}
    assert Person(1).device in state.devices


def test_two_joins_that_close_each_others_invites_are_decided_all_the_same() -> None:
    """Each waits for the other; then the first of both counts."""
    story = Story()
    first, one = story.invite(story.ana, uses=2)
    second, other = story.invite(story.ana, uses=2, parents=[one])
    ben, cleo = Person(1), Person(2)
    here = story.join(ben, first, parents=[other])
    there = story.join(cleo, second, parents=[other])
    closing = [story.revoke(ben, second, parents=[here]), story.revoke(cleo, first, parents=[there])]
    state = story.evaluate()
    lost = {closing[1].id, there.id}
    assert set(state.refused) in (lost, {closing[0].id, here.id})
    assert len(state.members) == 2


def test_who_was_admitted_decides_nothing_before_the_admission_is_decided() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    story.set_policy(story.ana, Policy(max_members=50, vouches=1))
    link, _ = story.invite(story.ana, role=Role.ADMIN)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    friend = Person(3)
    admitted = story.admit(ben, story.newcomer(friend, link), parents=heads)
    attack = story.remove(friend, cleo, parents=[admitted])
    state = story.evaluate()
    assert set(state.refused) == {admitted.id, attack.id}
