"""The graph and the state: arrival, heads, pasts, recipients, pins, forks."""

from __future__ import annotations

import pytest

from cocoon_core.errors import NotYetError, UnknownMemberError
from cocoon_core.protocol.constants import MAX_ROSTER_HEADS
from cocoon_core.protocol.descriptor import DocumentKind
from cocoon_core.protocol.ids import EntryId, GroupId
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.roster import RosterGraph
from tests.support.roster_story import Person, Story


def test_an_operation_waits_for_its_parents() -> None:
    story = Story()
    link, invite = story.invite(story.ana)
    join = story.join(Person(1), link)
    graph = RosterGraph(story.group)
    with pytest.raises(NotYetError, match=story.create.id.hex()[:12]):
        graph.add(invite)
    with pytest.raises(NotYetError, match="create"):
        graph.evaluate()
    assert len(graph) == 0
    assert graph.add(story.create)
    assert graph.add(invite)
    assert join.id not in graph
    assert graph.add(join)
    assert graph.heads() == (join.id,) == graph.evaluate().heads


def test_an_operation_that_is_here_already_changes_nothing() -> None:
    story = Story()
    story.enter(story.ana, 1)
    graph = story.graph()
    before = graph.evaluate()
    assert not any(graph.add(operation) for operation in story.operations.values())
    assert graph.evaluate() is before


def test_a_past_is_evaluated_by_its_heads() -> None:
    story = Story()
    link, invite = story.invite(story.ana)
    join = story.join(Person(1), link)
    graph = story.graph()
    assert len(graph.roster_at([invite.id]).members) == 1
    assert graph.roster_at([invite.id]).heads == (invite.id,)
    assert len(graph.roster_at([join.id]).members) == 2
    with pytest.raises(NotYetError):
        graph.roster_at([EntryId(bytes(32))])


def test_a_writer_names_no_more_heads_than_an_entry_holds() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    before = story.heads()
    own = story.invite(ben, parents=before)[1]
    for number in range(20):
        story.invite(Person(100 + number), parents=before)
    counted = []
    tip = before
    for number in range(2, 22):
        link, invite = story.invite(story.ana, parents=tip)
        tip = (invite.id,)
        counted.append(story.join(Person(number), link, parents=tip))
    graph = story.graph()
    assert len(graph.heads()) > MAX_ROSTER_HEADS
    named = graph.heads_to_name(ben.device)
    assert len(named) == MAX_ROSTER_HEADS
    assert own.id in named
    assert named == tuple(sorted(named))
    assert {it.id for it in counted} <= set(named)


def test_recipients_are_the_devices_and_the_open_invites() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    open_link, _ = story.invite(story.ana)
    closed_link, _ = story.invite(story.ana)
    story.revoke(ben, closed_link)
    found = story.evaluate().recipients()
    assert [it.id for it in found] == sorted([story.ana.device, ben.device, open_link.key.public])
    assert {it.hpke for it in found} >= {story.ana.hpke, ben.hpke}


def test_a_stranger_has_no_member() -> None:
    story = Story()
    with pytest.raises(UnknownMemberError):
        story.evaluate().member_of(Person(5).device)


def test_entries_count_by_right_or_within_a_pin() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    story.set_role(story.ana, ben, Role.ADMIN)
    state = story.evaluate()
    assert all(state.counts(ben.device, 10**6, kind) for kind in DocumentKind)
    assert not state.counts(cleo.device, 0, DocumentKind.ADMIN)
    assert not any(state.counts(Person(5).device, 0, kind) for kind in DocumentKind)
    head = EntryId(bytes(32))
    story.set_role(story.ana, ben, Role.MEMBER, pins=[Pin(ben.device, 7, head), Pin(cleo.device, 99, head)])
    state = story.evaluate()
    assert [state.counts(ben.device, seq, DocumentKind.ADMIN) for seq in (7, 8)] == [True, False]
    assert state.counts(ben.device, 8, DocumentKind.OWNED)
    assert state.counts(ben.device, 8, DocumentKind.SHARED)
    assert not state.counts(cleo.device, 5, DocumentKind.ADMIN), "a pin on another member's device pins nothing"


def test_of_several_pins_at_once_the_highest_holds() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1, role=Role.ADMIN), story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    for author, seq in ((story.ana, 3), (cleo, 5)):
        pin = Pin(ben.device, seq, EntryId(bytes([seq]) * 32))
        story.set_role(author, ben, Role.MEMBER, parents=heads, pins=[pin])
    assert story.evaluate().admin_pins[ben.device].seq == 5
    story.set_role(story.ana, ben, Role.ADMIN)
    assert story.evaluate().admin_pins == {}


def test_create_belongs_to_its_group_and_device_and_has_no_parents() -> None:
    story = Story()
    body = story.create.body
    assert isinstance(body, Create)
    others = Story(Policy(max_members=3)).create.body
    foreign = story.write(story.ana, others, parents=[])
    stolen = story.write(Person(1), body, parents=[], seq=0)
    child = story.write(story.ana, body, parents=[story.create], seq=0)
    rootless = story.invite(story.ana, parents=[])[1]
    state = story.evaluate()
    assert {state.refused[it.id].error for it in (foreign, stolen, child, rootless)} == {"MalformedError"}
    assert len(state.members) == 1
    graph = RosterGraph(GroupId(bytes(32)))
    graph.add(story.create)
    with pytest.raises(NotYetError):
        graph.evaluate()


def test_create_signed_twice_is_one_and_the_same() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    before = story.evaluate()
    body = story.create.body
    assert isinstance(body, Create)
    again = story.write(story.ana, body, parents=[], seq=0, below=story.create)
    story.set_role(story.ana, ben, Role.ADMIN, parents=[*before.heads])
    state = story.evaluate()
    assert state.refused == {}
    assert state.members[story.member(story.ana)].joined_by == again.id
    assert state.is_admin(story.member(ben))


def test_members_with_names_that_look_alike_are_shown_apart() -> None:
    story = Story()
    ben, twin = Person(1), Person(2)
    link, invite = story.invite(story.ana, uses=2)
    first = story.join(ben, link, parents=[invite], name="Ben")
    story.join(twin, link, parents=[invite], name="Bеn", above=first)
    members = story.evaluate().members
    assert members[story.member(ben)].shown_name == "Ben"
    assert members[story.member(twin)].shown_name == f"Bеn #{story.member(twin).hex()[:8]}"


def test_of_two_operations_with_one_seq_the_smaller_id_counts() -> None:
    story = Story()
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    heads = story.heads()
    first = story.set_role(story.ana, ben, Role.ADMIN, parents=heads)
    second = story.set_role(story.ana, cleo, Role.ADMIN, parents=heads, seq=first.seq, below=first)
    follower = story.invite(story.ana, parents=[first])[1]
    state = story.evaluate()
    assert {entry: it.error for entry, it in state.refused.items()} == {
        first.id: "EquivocationError",
        follower.id: "EquivocationError",
    }
    assert second.id.hex()[:12] in state.refused[first.id].reason
    assert state.is_admin(story.member(cleo))
    assert not state.is_admin(story.member(ben))


def test_an_operation_that_forgets_an_earlier_one_of_its_device_is_refused() -> None:
    story = Story()
    heads = story.heads()
    first = story.invite(story.ana, parents=heads)[1]
    forgets = story.invite(story.ana, parents=heads)[1]
    assert forgets.seq == first.seq + 1
    refused = story.evaluate().refused
    assert {entry: it.error for entry, it in refused.items()} == {forgets.id: "EquivocationError"}
