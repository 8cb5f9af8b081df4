"""Rights: who may do what, what happens when several act at once, and who is senior."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.roster import Operation, Roster
from cocoon_core.protocol.roster_rules import Evaluation
from tests.support.roster_story import Person, Story


def role_of(story: Story, state: Roster, person: Person) -> Role:
    return state.members[story.member(person)].role


def test_create_makes_its_author_the_first_member_and_admin() -> None:
    story = Story()
    state = story.evaluate()
    (ana,) = state.members.values()
    assert (ana.name, ana.role, ana.devices, ana.joined_by) == (
        "Person AAA",
        Role.ADMIN,
        (story.ana.device,),
        story.create.id,
    )
    assert (state.group_id, state.group_name, state.heads, state.refused) == (
        story.group,
        "Family",
        (story.create.id,),
        {},
    )
    assert state.member_of(story.ana.device) == ana
    assert state.is_admin(ana.id)


def test_an_invite_brings_in_a_member_of_its_role() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    state = story.evaluate()
    assert (role_of(story, state, ben), role_of(story, state, cleo)) == (Role.MEMBER, Role.ADMIN)
    assert state.refused == {}


def test_an_admin_makes_and_unmakes_admins() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_role(story.ana, ben, Role.ADMIN)
    cleo = story.enter(ben, 2, role=Role.ADMIN)
    assert role_of(story, story.evaluate(), cleo) is Role.ADMIN
    story.set_role(ben, cleo, Role.MEMBER)
    story.set_role(story.ana, ben, Role.MEMBER)
    state = story.evaluate()
    assert {role_of(story, state, person) for person in (ben, cleo)} == {Role.MEMBER}
    assert state.refused == {}


def _promotes_self(story: Story, ben: Person) -> Operation:
    return story.set_role(ben, ben, Role.ADMIN)


def _demotes_the_admin(story: Story, ben: Person) -> Operation:
    return story.set_role(ben, story.ana, Role.MEMBER)


def _invites_an_admin(story: Story, ben: Person) -> Operation:
    return story.invite(ben, role=Role.ADMIN)[1]


def _stranger_invites(story: Story, ben: Person) -> Operation:
    return story.invite(Person(9))[1]


def _stranger_revokes(story: Story, ben: Person) -> Operation:
    link, _ = story.invite(story.ana)
    return story.revoke(Person(9), link)


def _names_nobody(story: Story, ben: Person) -> Operation:
    return story.set_role(story.ana, Person(9), Role.ADMIN)


@pytest.mark.parametrize(
    "act",
    [_promotes_self, _demotes_the_admin, _invites_an_admin, _stranger_invites, _stranger_revokes, _names_nobody],
)
def test_an_operation_without_the_right_is_refused(act: Callable[[Story, Person], Operation]) -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    operation = act(story, ben)
    state = story.evaluate()
    assert state.refused[operation.id].error == "NotPermittedError"
    assert len(state.refused) == 1
    assert role_of(story, state, ben) is Role.MEMBER
    assert role_of(story, state, story.ana) is Role.ADMIN


def test_a_policy_can_leave_inviting_to_admins() -> None:
    story = Story(Policy(inviters=Role.ADMIN))
    ben = story.enter(story.ana, 1)
    _, invite = story.invite(ben)
    assert set(story.evaluate().refused) == {invite.id}


def test_a_right_given_later_does_not_reach_back() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    early = story.set_role(ben, ben, Role.ADMIN)
    story.set_role(story.ana, ben, Role.ADMIN)
    assert set(story.evaluate().refused) == {early.id}


# --- at once


def two_admins() -> tuple[Story, Person]:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_role(story.ana, ben, Role.ADMIN)
    return story, ben


def test_of_two_who_demote_each_other_the_senior_stays() -> None:
    story, ben = two_admins()
    heads = story.heads()
    junior = story.set_role(ben, story.ana, Role.MEMBER, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {junior.id}
    assert (role_of(story, state, story.ana), role_of(story, state, ben)) == (Role.ADMIN, Role.MEMBER)


def test_knowing_a_demotion_a_senior_cannot_undo_it() -> None:
    story, ben = two_admins()
    story.set_role(ben, story.ana, Role.MEMBER)
    answer = story.set_role(story.ana, ben, Role.MEMBER)
    state = story.evaluate()
    assert set(state.refused) == {answer.id}
    assert (role_of(story, state, story.ana), role_of(story, state, ben)) == (Role.MEMBER, Role.ADMIN)


def test_of_a_promotion_and_a_demotion_at_once_the_demotion_holds() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    story.set_role(story.ana, cleo, Role.MEMBER, parents=heads)
    story.set_role(ben, cleo, Role.ADMIN, parents=heads)
    assert role_of(story, story.evaluate(), cleo) is Role.MEMBER
    story.set_role(ben, cleo, Role.ADMIN)
    assert role_of(story, story.evaluate(), cleo) is Role.ADMIN


def test_what_a_demotion_knew_stays_and_what_it_did_not_know_goes() -> None:
    story, ben = two_admins()
    known = story.enter(ben, 2, role=Role.ADMIN)
    heads = story.heads()
    _, unknown = story.invite(ben, role=Role.ADMIN, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {unknown.id}
    assert role_of(story, state, known) is Role.ADMIN


def test_of_two_demotions_at_once_the_one_that_knew_more_decides_what_stays() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    _, invite = story.invite(ben, role=Role.ADMIN, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    story.set_role(cleo, ben, Role.MEMBER, parents=[invite])
    assert story.evaluate().refused == {}


def test_a_demotion_that_knew_of_the_first_brings_nothing_back() -> None:
    story, ben = two_admins()
    heads = story.heads()
    _, invite = story.invite(ben, role=Role.ADMIN, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER)
    assert set(story.evaluate().refused) == {invite.id}


def test_a_junior_whom_a_senior_demotes_cannot_demote_a_third_at_once() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    void = story.set_role(ben, cleo, Role.MEMBER, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {void.id}
    assert role_of(story, state, cleo) is Role.ADMIN


def test_rights_that_hang_on_a_lost_right_are_lost_with_it() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2)
    heads = story.heads()
    promotion = story.set_role(ben, cleo, Role.ADMIN, parents=heads)
    invite = story.invite(cleo, role=Role.ADMIN, parents=[promotion])[1]
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    assert set(story.evaluate().refused) == {promotion.id, invite.id}


# --- seniority


def test_promoting_an_admin_again_does_not_make_them_junior() -> None:
    story, ben = two_admins()
    story.set_role(ben, story.ana, Role.ADMIN)
    heads = story.heads()
    junior = story.set_role(ben, story.ana, Role.MEMBER, parents=heads)
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    assert set(story.evaluate().refused) == {junior.id}


def test_a_late_joiner_is_no_senior_by_naming_early_parents() -> None:
    story = Story()
    _, early = story.invite(story.ana)
    ben = story.enter(story.ana, 1)
    link, late = story.invite(story.ana)
    cleo = Person(2)
    story.join(cleo, link, parents=[late])
    members = story.evaluate().members
    assert members[story.member(ben)].seniority < members[story.member(cleo)].seniority
    assert early.id not in members[story.member(cleo)].seniority


def test_if_no_admin_is_left_the_senior_member_becomes_one() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.set_role(story.ana, ben, Role.ADMIN)
    heads = story.heads()
    story.set_role(story.ana, story.ana, Role.MEMBER, parents=heads)
    story.set_role(ben, ben, Role.MEMBER, parents=heads)
    state = story.evaluate()
    assert [role_of(story, state, person) for person in (story.ana, ben, cleo)] == [
        Role.ADMIN,
        Role.MEMBER,
        Role.MEMBER,
    ]
    usurper = story.set_role(ben, ben, Role.ADMIN)
    story.set_role(story.ana, cleo, Role.ADMIN)
    state = story.evaluate()
    assert set(state.refused) == {usurper.id}
    assert [role_of(story, state, person) for person in (story.ana, ben, cleo)] == [
        Role.MEMBER,
        Role.MEMBER,
        Role.ADMIN,
    ]


def test_an_admin_who_was_never_a_member_does_not_stop_succession() -> None:
    """Found by a random story: a promoted stranger once counted as the admin that was left."""
    story = Story()
    stranger = Person(7)
    link, invite = story.invite(Person(8))
    join = story.join(stranger, link)
    story.set_role(story.ana, story.ana, Role.MEMBER)
    promotion = story.set_role(story.ana, stranger, Role.ADMIN)
    state = story.evaluate()
    assert set(state.refused) == {invite.id, join.id, promotion.id}
    assert role_of(story, state, story.ana) is Role.ADMIN


# --- limits


def test_members_and_open_uses_stay_within_the_policy() -> None:
    story = Story(Policy(max_members=4))
    story.enter(story.ana, 1)
    link, _ = story.invite(story.ana, uses=2)
    _, one_too_many = story.invite(story.ana)
    assert set(story.evaluate().refused) == {one_too_many.id}
    story.join(Person(2), link)
    story.join(Person(3), link)
    _, full = story.invite(story.ana)
    assert set(story.evaluate().refused) == {one_too_many.id, full.id}


def test_a_closed_invite_frees_the_uses_that_are_left() -> None:
    story = Story(Policy(max_members=4))
    link, _ = story.invite(story.ana, uses=3)
    join = story.join(Person(1), link)
    story.revoke(story.ana, link, [join])
    _, fits = story.invite(story.ana, uses=2)
    _, does_not = story.invite(story.ana, uses=1)
    assert set(story.evaluate().refused) == {does_not.id}
    assert fits.id not in story.evaluate().refused


def _count_passes(monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    passes: list[Evaluation] = []
    one_pass = Evaluation._pass

    def counted_pass(evaluation: Evaluation) -> None:
        passes.append(evaluation)
        one_pass(evaluation)

    monkeypatch.setattr(Evaluation, "_pass", counted_pass)
    return passes


def test_role_changes_at_once_take_one_pass_while_nobody_acts_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by measuring: two admins who argue about a third's role cost a pass for every word."""
    story = Story()
    ben, cleo = story.enter(story.ana, 1, role=Role.ADMIN), story.enter(story.ana, 2)
    tips = {story.ana: story.heads(), ben: story.heads()}
    for turn in range(40):
        for author, parents in list(tips.items()):
            role = Role.MEMBER if turn % 2 else Role.ADMIN
            tips[author] = (story.set_role(author, cleo, role, parents=parents).id,)
    passes = _count_passes(monkeypatch)
    assert story.evaluate().refused == {}
    assert len(passes) == 1


def test_a_quiet_history_takes_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revocations that disturb nothing are decided together, so thousands of spent invites cost no pass each."""
    story = Story(Policy(max_members=100))
    for number in range(1, 60):
        link, _ = story.invite(story.ana)
        join = story.join(Person(number), link)
        story.revoke(story.ana, link, [join])
    passes = _count_passes(monkeypatch)
    state = story.evaluate()
    assert (len(state.members), state.refused, len(passes)) == (60, {}, 1)
