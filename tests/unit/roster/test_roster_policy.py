"""The policy in a past: who changes it, which of several words on a rule holds, what a stricter one takes."""

from __future__ import annotations

from dataclasses import replace

from cocoon_core.protocol.operation_forms import Policy, Role
from tests.support.roster_story import Person, Story

OPEN = Policy(max_members=100)


def two_admins() -> tuple[Story, Person, Person]:
    story = Story(OPEN)
    ben = story.enter(story.ana, 1, role=Role.ADMIN)
    return story, ben, story.enter(story.ana, 2)


def test_an_admin_changes_the_policy_and_nobody_else_does() -> None:
    story, ben, cleo = two_admins()
    story.set_policy(ben, replace(OPEN, max_members=50))
    refused = story.set_policy(cleo, replace(OPEN, max_members=60))
    state = story.evaluate()
    assert set(state.refused) == {refused.id}
    assert state.policy.max_members == 50


def test_the_newest_word_holds_though_it_is_looser() -> None:
    story, ben, _ = two_admins()
    story.set_policy(ben, replace(OPEN, max_members=50, inviters=Role.ADMIN, epoch_days=5))
    story.set_policy(story.ana, replace(OPEN, max_members=60))
    assert story.evaluate().policy == replace(OPEN, max_members=60)


def test_of_words_at_once_the_strictest_holds_and_each_about_its_own_rule() -> None:
    story, ben, _ = two_admins()
    heads = story.heads()
    story.set_policy(story.ana, replace(OPEN, max_members=50, vouches=1, epoch_days=9), parents=heads)
    story.set_policy(ben, replace(OPEN, max_members=60, vouches=2, inviters=Role.ADMIN), parents=heads)
    expected = Policy(max_members=50, inviters=Role.ADMIN, vouches=2, epoch_days=9)
    assert story.evaluate().policy == expected


def test_two_admins_at_once_do_not_undo_each_others_rules() -> None:
    story, ben, _ = two_admins()
    heads = story.heads()
    story.set_policy(story.ana, replace(OPEN, relays=("ws://a",), tokens=(("ws://a", "t"),)), parents=heads)
    story.set_policy(ben, replace(OPEN, max_members=30), parents=heads)
    assert story.evaluate().policy == Policy(30, relays=("ws://a",), tokens=(("ws://a", "t"),))


def test_an_operation_is_judged_by_the_policy_that_its_author_knew() -> None:
    story, ben, cleo = two_admins()
    before = story.invite(cleo)[1]
    strict = story.set_policy(ben, replace(OPEN, inviters=Role.ADMIN))
    after = story.invite(cleo)[1]
    story.set_policy(ben, OPEN)
    story.invite(cleo)
    assert set(story.evaluate().refused) == {after.id}
    assert before.id in story.operations
    assert strict.id in story.operations


def test_a_stricter_rule_reaches_invites_that_did_not_know_it() -> None:
    for rule in ({"inviters": Role.ADMIN}, {"vouches": 1}, {"max_members": 3}):
        story, ben, cleo = two_admins()
        heads = story.heads()
        story.set_policy(ben, replace(OPEN, **rule), parents=heads)
        invite = story.invite(cleo, parents=heads)[1]
        assert set(story.evaluate().refused) == {invite.id}, rule


def test_a_word_about_another_rule_reaches_no_invite() -> None:
    story, ben, cleo = two_admins()
    story.set_policy(story.ana, replace(OPEN, inviters=Role.ADMIN))
    heads = story.heads()
    loose = story.set_policy(story.ana, OPEN, parents=heads)
    story.set_policy(ben, replace(OPEN, inviters=Role.ADMIN, max_members=90), parents=heads)
    story.invite(cleo, parents=[loose])
    assert story.evaluate().refused == {}, "Ben said nothing new about who invites"


def test_an_admins_invite_stays_where_only_members_may_not() -> None:
    story, ben, _ = two_admins()
    heads = story.heads()
    story.set_policy(story.ana, replace(OPEN, inviters=Role.ADMIN), parents=heads)
    story.invite(ben, parents=heads)
    assert story.evaluate().refused == {}


def test_the_policy_of_a_removed_admin_falls_with_what_the_removal_did_not_know() -> None:
    story, ben, _ = two_admins()
    heads = story.heads()
    void = story.set_policy(ben, replace(OPEN, max_members=3), parents=heads)
    story.remove(story.ana, ben, parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {void.id}
    assert state.policy == OPEN
