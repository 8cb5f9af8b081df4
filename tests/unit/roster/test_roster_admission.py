"""Admission by members: requests, vouches, the uses of an invite whose holders ask."""

from __future__ import annotations

import pytest

from cocoon_core.protocol.operation_forms import Policy
from cocoon_core.protocol.operations_admission import Newcomer, request_id
from tests.support.roster_story import Link, Person, Story


def asking(vouches: int) -> tuple[Story, Person, Person, Link]:
    """A group of three in which a newcomer needs so many members."""
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.set_policy(story.ana, Policy(max_members=100, vouches=vouches))
    link, _ = story.invite(story.ana)
    return story, ben, cleo, link


def test_who_holds_the_link_asks_and_a_member_admits() -> None:
    story, ben, _, link = asking(1)
    dan = Person(3)
    admitted = story.admit(ben, story.newcomer(dan, link))
    state = story.evaluate()
    assert state.refused == {}
    member = state.member_of(dan.device)
    assert (member.name, member.joined_by) == (dan.name, admitted.id)
    invite = state.invites[link.key.public]  # type: ignore[index]
    assert (invite.by_request, invite.joins, invite.is_open) == (True, (admitted.id,), False)


def test_a_link_whose_holders_ask_lets_nobody_in_and_reads_nothing() -> None:
    story, _, _, link = asking(1)
    state = story.evaluate()
    assert link.key.public not in {it.id for it in state.recipients()}
    join = story.join(Person(3), link)
    assert set(story.evaluate().refused) == {join.id}


def test_a_link_from_before_that_rule_lets_in_without_asking() -> None:
    story = Story()
    link, _ = story.invite(story.ana)
    story.set_policy(story.ana, Policy(max_members=100, vouches=1))
    admitted = story.admit(story.ana, story.newcomer(Person(3), link))
    assert set(story.evaluate().refused) == {admitted.id}
    story.join(Person(4), link)
    assert Person(4).device in story.evaluate().devices


def test_an_admission_needs_as_many_members_as_the_policy_says() -> None:
    story, ben, cleo, link = asking(3)
    request = story.newcomer(Person(3), link)
    story.vouch(ben, request)
    story.vouch(ben, request)
    story.vouch(story.ana, request)
    early = story.admit(ben, request)
    state = story.evaluate()
    assert set(state.refused) == {early.id}, "Ben is one member, however often he says so"
    asked = state.requests[request_id(request, story.group)]
    assert (asked.vouchers, asked.granted) == (tuple(sorted(map(story.member, (story.ana, ben)))), False)
    second, _ = story.invite(story.ana)
    other = story.newcomer(Person(4), second)
    for voucher in (story.ana, ben):
        story.vouch(voucher, other)
    story.admit(cleo, other)
    state = story.evaluate()
    assert set(state.refused) == {early.id}
    assert state.requests[request_id(other, story.group)].granted


def test_a_voucher_who_is_out_by_then_does_not_count() -> None:
    story, ben, cleo, link = asking(2)
    request = story.newcomer(Person(3), link)
    story.vouch(ben, request)
    story.remove(story.ana, ben)
    admitted = story.admit(cleo, request)
    assert set(story.evaluate().refused) == {admitted.id}


def test_a_vouch_that_a_removal_did_not_know_does_not_count() -> None:
    story, ben, cleo, link = asking(2)
    request = story.newcomer(Person(3), link)
    heads = story.heads()
    vouched = story.vouch(ben, request, parents=heads)
    story.remove(story.ana, ben, parents=heads)
    admitted = story.admit(cleo, request, parents=[vouched])
    assert set(story.evaluate().refused) == {vouched.id, admitted.id}


def test_the_higher_of_two_policies_holds_between_invite_and_admission() -> None:
    story, ben, cleo, link = asking(2)
    story.set_policy(story.ana, Policy(max_members=100, vouches=1))
    request = story.newcomer(Person(3), link)
    early = story.admit(ben, request)
    story.vouch(ben, request)
    assert set(story.evaluate().refused) == {early.id}
    assert cleo.device in story.evaluate().devices


def test_of_admissions_at_once_as_many_count_as_there_are_uses_and_the_senior_admits() -> None:
    story, ben, _, link = asking(1)
    heads = story.heads()
    junior = story.admit(ben, story.newcomer(Person(3), link), parents=heads)
    story.admit(story.ana, story.newcomer(Person(4), link), parents=heads)
    state = story.evaluate()
    assert set(state.refused) == {junior.id}
    assert Person(4).device in state.devices


def test_an_admission_after_another_finds_the_use_spent() -> None:
    story, ben, _, link = asking(1)
    story.admit(ben, story.newcomer(Person(3), link))
    late = story.admit(story.ana, story.newcomer(Person(4), link))
    assert set(story.evaluate().refused) == {late.id}


def test_a_closed_invite_admits_nobody_more() -> None:
    story, ben, cleo, link = asking(1)
    heads = story.heads()
    story.revoke(story.ana, link, parents=heads)
    at_once = story.admit(ben, story.newcomer(Person(3), link), parents=heads)
    late = story.admit(cleo, story.newcomer(Person(4), link))
    assert set(story.evaluate().refused) == {at_once.id, late.id}


def test_an_admission_ranks_by_invite_and_then_by_what_the_admitting_member_knew() -> None:
    story, ben, cleo, _ = asking(1)
    link, _ = story.invite(story.ana, uses=2)
    first = story.admit(ben, story.newcomer(Person(3), link))
    second = story.admit(cleo, story.newcomer(Person(4), link))
    members = story.evaluate().members
    one, other = members[story.member(Person(3))].seniority, members[story.member(Person(4))].seniority
    assert one < other
    assert (one.depth, one.id, other.id) == (other.depth, first.id, second.id)
    assert one.admission < other.admission


@pytest.mark.parametrize("part", ["name", "hpke", "invite_proof"])
def test_a_request_that_somebody_changed_is_refused(part: str) -> None:
    story, ben, _, link = asking(1)
    genuine, other = story.newcomer(Person(3), link), story.newcomer(Person(4), Link(77))
    values = {name: getattr(genuine, name) for name in genuine.__slots__}
    forged = Newcomer(**{**values, part: getattr(other, part)})
    written = [story.vouch(ben, forged), story.admit(ben, forged)]
    refused = story.evaluate().refused
    assert {refused[it.id].error for it in written} == {"SignatureError"}


def test_only_members_vouch_and_admit() -> None:
    story, _, _, link = asking(1)
    stranger = Person(9)
    request = story.newcomer(Person(3), link)
    written = [story.vouch(stranger, request), story.admit(stranger, request)]
    assert set(story.evaluate().refused) == {it.id for it in written}
