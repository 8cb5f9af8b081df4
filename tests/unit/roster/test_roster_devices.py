"""Devices of one member: adding, removing, replacing, and what happens when two do so at once."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations_devices import AddDevice, ReplaceDevice
from tests.support.roster_story import Person, Story, pin


def two_devices() -> tuple[Story, Person, Person]:
    story = Story()
    ben = story.enter(story.ana, 1)
    story.add_device(ben, ben.on(1))
    return story, ben, ben.on(1)


def test_an_added_device_acts_for_its_member() -> None:
    story, ben, second = two_devices()
    story.invite(second)
    story.add_device(second, ben.on(2))
    state = story.evaluate()
    assert state.refused == {}
    assert set(state.members[story.member(ben)].devices) == {ben.device, second.device, ben.on(2).device}
    assert state.devices[second.device].hpke == second.hpke


def test_an_added_device_begins_its_chain_with_anything() -> None:
    story, _, second = two_devices()
    first = story.rotate(second)
    assert first.seq == 0
    assert story.evaluate().refused == {}


def test_a_device_that_entered_by_itself_writes_no_second_entry_0() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    again = story.rotate(ben, seq=0)
    assert story.evaluate().refused[again.id].error == "MalformedError"


def test_nobody_adds_a_device_that_did_not_ask_for_it() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    for_ben = AddDevice.make(ben.on(1).key, story.group, ben.device, ben.on(1).hpke)
    stolen = story.write(cleo, for_ben)
    other_key = AddDevice(for_ben.device, cleo.hpke, for_ben.proof)
    swapped = story.write(ben, other_key)
    refused = story.evaluate().refused
    assert {refused[it.id].error for it in (stolen, swapped)} == {"SignatureError"}


def test_a_member_removes_an_own_device_and_an_admin_anybodys() -> None:
    story, ben, second = two_devices()
    story.remove_device(ben, second, [pin(second, 3)])
    story.remove_device(story.ana, ben)
    state = story.evaluate()
    assert state.refused == {}
    assert state.members[story.member(ben)].devices == ()
    assert {device: it.pin and it.pin.seq for device, it in state.former_devices.items()} == {
        second.device: 3,
        ben.device: None,
    }


def test_a_removed_device_never_comes_back() -> None:
    story, ben, second = two_devices()
    story.remove_device(ben, second)
    again = story.add_device(ben, second)
    state = story.evaluate()
    assert set(state.refused) == {again.id}
    assert second.device not in state.devices


def test_two_devices_that_remove_each_other_both_go() -> None:
    story, ben, second = two_devices()
    heads = story.heads()
    story.remove_device(ben, second, parents=heads)
    story.remove_device(second, ben, parents=heads)
    state = story.evaluate()
    assert (state.refused, state.members[story.member(ben)].devices) == ({}, ())


def test_what_a_removed_device_did_at_once_does_not_count() -> None:
    story, ben, second = two_devices()
    third = ben.on(2)
    heads = story.heads()
    story.remove_device(ben, second, parents=heads)
    acts = [
        story.add_device(second, third, parents=heads),
        story.set_recovery(second, phrase=second.phrase(5), parents=heads),
        story.invite(second, parents=heads)[1],
        story.remove_device(third, ben),
    ]
    state = story.evaluate()
    assert set(state.refused) == {it.id for it in acts}
    assert state.members[story.member(ben)].devices == (ben.device,)


def test_a_removed_device_cannot_answer_by_replacing_itself() -> None:
    story, ben, second = two_devices()
    heads = story.heads()
    story.remove_device(ben, second, parents=heads)
    answer = story.replace_device(second, ben.on(2), parents=heads)
    assert set(story.evaluate().refused) == {answer.id}


def test_removing_a_device_closes_the_links_that_it_knows() -> None:
    story, ben, second = two_devices()
    link, _ = story.invite(second)
    other, _ = story.invite(ben)
    story.remove_device(ben, second)
    state = story.evaluate()
    assert [state.invites[it.key.public].revoked for it in (link, other)] == [True, False]  # type: ignore[index]


def test_a_replacement_takes_the_place_of_the_old_device() -> None:
    story, ben, _ = two_devices()
    fresh = ben.on(2)
    written = story.replace_device(ben, fresh, [pin(ben, 7)])
    late = story.invite(ben)[1]
    state = story.evaluate()
    assert set(state.refused) == {late.id}
    assert state.devices[fresh.device].enrolled_by == written.id
    former = state.former_devices[ben.device]
    assert (former.out_by, former.pin and former.pin.seq) == (written.id, 7)


def test_two_replacements_of_one_device_at_once_are_both_void_until_another_device_decides() -> None:
    story, ben, second = two_devices()
    heads = story.heads()
    one, other = ben.on(2), ben.on(3)
    written = [story.replace_device(ben, it, parents=heads) for it in (one, other)]
    story.invite(one, parents=[written[0]])
    state = story.evaluate()
    assert {state.refused[it.id].error for it in written} == {"EquivocationError"}
    assert state.members[story.member(ben)].devices == (second.device,)
    assert {ben.device, one.device, other.device} <= set(state.former_devices)
    story.add_device(second, ben.on(4))
    assert ben.on(4).device in story.evaluate().devices


def test_a_second_replacement_that_knew_the_first_is_refused() -> None:
    story, ben, _ = two_devices()
    story.replace_device(ben, ben.on(2))
    late = story.replace_device(ben, ben.on(3))
    assert set(story.evaluate().refused) == {late.id}


def test_of_two_replacements_the_final_one_stands() -> None:
    story, ben, _ = two_devices()
    heads = story.heads()
    one = story.replace_device(ben, ben.on(2), parents=heads)
    other = story.replace_device(ben, ben.on(3), parents=heads)
    graph = story.graph()
    state = graph.evaluate(frozenset({one.id}))
    assert set(state.refused) == {other.id}
    assert ben.on(2).device in state.devices


def test_only_the_old_key_replaces_a_device() -> None:
    story, ben, second = two_devices()
    body = ReplaceDevice.make(second.key, story.group, ben.on(2).device, ben.on(2).hpke)
    forged = story.write(ben.on(2), ReplaceDevice(ben.device, body.hpke, body.proof), seq=0)
    assert story.evaluate().refused[forged.id].error == "SignatureError"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.ADMIN])
def test_a_device_of_another_member_is_for_admins_to_remove(role: Role) -> None:
    story, _, second = two_devices()
    cleo = story.enter(story.ana, 2, role=role)
    written = story.remove_device(cleo, second)
    assert (written.id in story.evaluate().refused) == (role is Role.MEMBER)


def test_a_device_claimed_for_two_members_is_the_one_that_was_enrolled_first() -> None:
    """The key's holder signs for both, and so may not choose afterwards whose word it was."""
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    heads = story.heads()
    shared = ben.on(1)
    story.add_device(ben, shared, parents=heads)
    deeper = story.invite(cleo, parents=heads)[1]
    body = AddDevice.make(shared.key, story.group, cleo.device, shared.hpke)
    story.write(cleo, body, parents=[deeper])
    assert story.evaluate().devices[shared.device].member == story.member(ben)
