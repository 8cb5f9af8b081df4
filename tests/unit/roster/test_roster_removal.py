"""Members who go: removal, leaving, what it reaches and what it keeps, who follows when no admin is left."""

from __future__ import annotations

from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import InviteId
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.roster import Roster
from tests.support.roster_story import Person, Story, pin


def two_admins() -> tuple[Story, Person]:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_role(story.ana, ben, Role.ADMIN)
    return story, ben


def names(state: Roster) -> set[str]:
    return {member.name for member in state.members.values()}


def test_a_removed_member_is_out_with_every_device_and_kept_as_a_former_one() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.add_device(ben, ben.on(1))
    out = story.remove(story.ana, ben, [pin(ben, 4)])
    state = story.evaluate()
    assert (names(state), set(state.devices)) == ({story.ana.name}, {story.ana.device})
    former = state.former_members[story.member(ben)]
    assert (former.name, former.out_by) == (ben.name, out.id)
    assert {device: it.pin and it.pin.seq for device, it in state.former_devices.items()} == {
        ben.device: 4,
        ben.on(1).device: None,
    }
    assert state.member_ever(ben.on(1).device) == story.member(ben)
    assert [it.id for it in state.recipients()] == [story.ana.device]


def test_entries_of_a_former_device_count_up_to_the_pin_and_no_further() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.remove(story.ana, ben, [pin(ben, 4)])
    story.remove(story.ana, cleo)
    state = story.evaluate()
    for kind in (DocumentKind.OWNED, DocumentKind.SHARED):
        assert [state.counts(ben.device, seq, kind) for seq in (4, 5)] == [True, False]
        assert not state.counts(cleo.device, 0, kind), "not named is pinned at nothing"
    assert not state.counts(ben.device, 0, DocumentKind.ADMIN), "he never was an admin"


def test_the_admin_entries_of_a_removed_admin_count_up_to_the_pin() -> None:
    story, ben = two_admins()
    story.remove(story.ana, ben, [pin(ben, 4)])
    state = story.evaluate()
    assert [state.counts(ben.device, seq, DocumentKind.ADMIN) for seq in (4, 5)] == [True, False]


def test_who_was_an_admin_no_more_gets_no_admin_entries_back_by_the_removals_pin() -> None:
    story, ben = two_admins()
    story.set_role(story.ana, ben, Role.MEMBER, pins=[pin(ben, 2)])
    story.remove(story.ana, ben, [pin(ben, 9)])
    state = story.evaluate()
    assert [state.counts(ben.device, seq, DocumentKind.ADMIN) for seq in (2, 3)] == [True, False]
    assert state.counts(ben.device, 9, DocumentKind.OWNED)


def test_a_device_that_was_out_before_a_demotion_keeps_its_admin_entries() -> None:
    story, ben = two_admins()
    story.add_device(ben, ben.on(1))
    story.remove_device(ben, ben.on(1), [pin(ben.on(1), 3)])
    story.set_role(story.ana, ben, Role.MEMBER, pins=[pin(ben, 8)])
    state = story.evaluate()
    assert [state.counts(ben.on(1).device, seq, DocumentKind.ADMIN) for seq in (3, 4)] == [True, False]


def test_removal_wins_over_all_that_the_removed_did_at_once() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    acts = [
        story.set_role(ben, cleo, Role.ADMIN, parents=heads),
        story.add_device(ben, ben.on(1), parents=heads),
        story.set_policy(ben, Policy(max_members=5), parents=heads),
    ]
    link, invite = story.invite(ben, parents=heads)
    acts += [invite, story.join(Person(3), link, parents=[invite])]
    state = story.evaluate()
    assert set(state.refused) == {act.id for act in acts}
    assert names(state) == {story.ana.name, cleo.name}


def test_what_the_remover_knew_stays() -> None:
    story, ben = two_admins()
    cleo = story.enter(ben, 2, role=Role.ADMIN)
    story.remove(story.ana, ben)
    state = story.evaluate()
    assert state.refused == {}
    assert state.is_admin(story.member(cleo))


def test_of_two_who_remove_each_other_the_senior_stays() -> None:
    story, ben = two_admins()
    heads = story.heads()
    junior = story.remove(ben, story.ana, parents=heads)
    story.remove(story.ana, ben, parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {junior.id}
    assert names(state) == {story.ana.name}


def test_a_known_removal_cannot_be_answered() -> None:
    story, ben = two_admins()
    story.remove(ben, story.ana)
    answer = story.remove(story.ana, ben)
    state = story.evaluate()
    assert set(state.refused) == {answer.id}
    assert names(state) == {ben.name}


def test_only_an_admin_removes_a_member() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    refused = [story.remove(ben, cleo), story.remove(ben, ben), story.remove_device(ben, cleo)]
    assert set(story.evaluate().refused) == {it.id for it in refused}


def test_of_two_removals_at_once_the_highest_pin_holds() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    story.remove(story.ana, ben, [pin(ben, 3)], parents=heads)
    story.remove(cleo, ben, [pin(ben, 6)], parents=heads)
    found = story.evaluate().former_devices[ben.device].pin
    assert found is not None
    assert found.seq == 6


def test_a_removal_of_who_is_out_already_raises_no_pin() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.remove(story.ana, ben, [pin(ben, 3)])
    again = story.remove(story.ana, ben, [pin(ben, 99)])
    state = story.evaluate()
    found = state.former_devices[ben.device].pin
    assert found is not None
    assert (set(state.refused), found.seq) == ({again.id}, 3)


def test_of_two_removals_at_once_the_one_that_knew_an_act_saves_it() -> None:
    story, ben = two_admins()
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    act = story.add_device(ben, ben.on(1), parents=heads)
    invite = story.invite(ben, parents=[act])[1]
    story.remove(story.ana, ben, parents=heads)
    story.remove(cleo, ben, parents=[invite])
    assert story.evaluate().refused == {}


def test_a_removal_closes_the_invites_of_the_removed() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(ben, uses=3)
    inside = story.join(Person(2), link)
    story.remove(story.ana, ben)
    late = [story.join(Person(3), link), story.join(Person(4), link, parents=[invite])]
    state = story.evaluate()
    assert set(state.refused) == {it.id for it in late}
    assert inside.device in state.devices
    assert state.invites[InviteId(link.key.public)].revoked


def test_who_leaves_is_out_and_pinned_at_leaving() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.add_device(ben, ben.on(1))
    gone = story.leave(ben, [pin(ben.on(1), 2)])
    state = story.evaluate()
    assert state.former_members[story.member(ben)].out_by == gone.id
    pins = {device: it.pin for device, it in state.former_devices.items()}
    assert {device: it and (it.seq, it.entry) for device, it in pins.items()} == {
        ben.device: (gone.seq, gone.id),
        ben.on(1).device: (2, pin(ben.on(1), 2).entry),
    }


def test_when_the_last_admin_leaves_the_senior_member_follows() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.leave(story.ana)
    state = story.evaluate()
    assert [state.is_admin(story.member(it)) for it in (ben, cleo)] == [True, False]
    story.remove(ben, cleo)
    assert story.evaluate().refused == {}


def test_an_admin_without_a_device_does_not_stop_succession_and_is_one_again_with_a_device() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_recovery(story.ana, phrase=story.ana.phrase())
    story.remove_device(story.ana, story.ana)
    state = story.evaluate()
    assert state.members[story.member(story.ana)].devices == ()
    assert state.is_admin(story.member(ben))
    story.recover(story.ana.on(1), story.ana.phrase())
    state = story.evaluate()
    assert state.is_admin(story.member(story.ana))
    assert not state.is_admin(story.member(ben))


def test_a_removal_frees_a_place() -> None:
    story = Story(Policy(max_members=2))
    ben = story.enter(story.ana, 1)
    full = story.invite(story.ana)[1]
    story.remove(story.ana, ben)
    story.invite(story.ana)
    assert set(story.evaluate().refused) == {full.id}


def test_a_group_may_run_empty() -> None:
    story = Story()
    story.leave(story.ana)
    state = story.evaluate()
    assert (state.members, state.devices, state.refused) == ({}, {}, {})


def test_a_removal_closes_the_link_by_which_the_removed_came_in() -> None:
    story = Story()
    ben = Person(1)
    link, _ = story.invite(story.ana, uses=3)
    story.join(ben, link)
    assert InviteId(link.key.public) in {one.id for one in story.evaluate().recipients()}
    story.remove(story.ana, ben)
    state = story.evaluate()
    assert state.invites[InviteId(link.key.public)].revoked
    assert {one.id for one in state.recipients()} == {story.ana.device}
