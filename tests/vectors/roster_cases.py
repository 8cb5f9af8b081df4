"""Rosters with concurrency, one for each rule: told as stories, which rosters.py turns into vectors.

A case writes into the story that it is given. It may return another story in its place, or what is final.
"""

from __future__ import annotations

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Role
from tests.support.roster_people import fork
from tests.support.roster_story import Person, Story, pin
from tests.vectors.roster_entering import ENTERING, Build, make_siblings, make_two_admins


def _mutual_demotion(story: Story) -> None:
    ben = make_two_admins(story)
    heads = story.heads()
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    story.set_role(ben, story.ana, Role.MEMBER, parents=heads)


def _answered_demotion(story: Story) -> None:
    ben = make_two_admins(story)
    story.set_role(ben, story.ana, Role.MEMBER)
    story.set_role(story.ana, ben, Role.MEMBER)


def _own_demotion(story: Story) -> None:
    ben, cleo = make_two_admins(story), story.enter(story.ana, 2)
    heads = story.heads()
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads, pins=[pin(ben, 4)])
    own = story.set_role(ben, ben, Role.ADMIN, parents=heads)
    friend = story.set_role(ben, cleo, Role.ADMIN, parents=[own])
    story.set_role(cleo, story.ana, Role.MEMBER, parents=[friend])


def _promotion_and_demotion(story: Story) -> None:
    ben, cleo = make_two_admins(story), story.enter(story.ana, 2)
    heads = story.heads()
    story.set_role(ben, cleo, Role.ADMIN, parents=heads)
    story.set_role(story.ana, cleo, Role.MEMBER, parents=heads)


def _demotions_that_knew_more_and_less(story: Story) -> None:
    ben = make_two_admins(story)
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    invite = story.invite(ben, role=Role.ADMIN, parents=heads)[1]
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    story.set_role(cleo, ben, Role.MEMBER, parents=[invite])


def _mutual_removal(story: Story) -> None:
    ben = make_two_admins(story)
    heads = story.heads()
    story.remove(ben, story.ana, parents=heads)
    story.remove(story.ana, ben, [pin(ben, 3)], parents=heads)


def _answered_removal(story: Story) -> None:
    ben = make_two_admins(story)
    story.remove(ben, story.ana)
    story.remove(story.ana, ben)


def _acts_beside_removal(story: Story) -> None:
    ben, cleo = make_two_admins(story), story.enter(story.ana, 2)
    heads = story.heads()
    story.remove(story.ana, ben, [pin(ben, 7)], parents=heads)
    act = story.set_role(ben, cleo, Role.ADMIN, parents=heads)
    act = story.add_device(ben, ben.on(1), parents=[act])
    link, invite = story.invite(ben, parents=[act])
    story.join(Person(3), link, parents=[invite])


def _known_acts_stay(story: Story) -> None:
    ben = make_two_admins(story)
    story.enter(ben, 2, role=Role.ADMIN)
    story.remove(story.ana, ben, [pin(ben, 9)])


def _removals_that_knew_more_and_less(story: Story) -> None:
    ben = make_two_admins(story)
    cleo = story.enter(story.ana, 2, role=Role.ADMIN)
    heads = story.heads()
    act = story.add_device(ben, ben.on(1), parents=heads)
    story.remove(story.ana, ben, [pin(ben, 3)], parents=heads)
    story.remove(cleo, ben, [pin(ben, 6)], parents=[act])


def _removal_again(story: Story) -> None:
    ben = make_two_admins(story)
    story.remove(story.ana, ben, [pin(ben, 3)])
    story.remove(story.ana, ben, [pin(ben, 99)])


def _removal_closes_links(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(ben, uses=3)
    story.join(Person(2), link)
    story.remove(story.ana, ben)
    story.join(Person(3), link, parents=[invite])


def _last_admin_leaves(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    story.enter(story.ana, 2)
    story.leave(story.ana)
    story.remove(ben, Person(2))


def _admin_without_device(story: Story) -> None:
    story.enter(story.ana, 1)
    story.set_recovery(story.ana, phrase=story.ana.phrase())
    story.remove_device(story.ana, story.ana)


def _admin_comes_back(story: Story) -> None:
    _admin_without_device(story)
    story.recover(story.ana.on(1), story.ana.phrase())


def _devices_remove_each_other(story: Story) -> None:
    ben = make_siblings(story)
    heads = story.heads()
    story.remove_device(ben, ben.on(1), parents=heads)
    story.remove_device(ben.on(1), ben, parents=heads)


def _removal_answered_by_unknown_device(story: Story) -> None:
    ben = make_siblings(story)
    heads = story.heads()
    removal = story.remove_device(ben, ben.on(1), parents=heads)
    story.add_device(ben.on(1), ben.on(2), parents=heads)
    story.remove_device(ben.on(2), ben, below=removal)


def _device_of_another(story: Story) -> None:
    ben, cleo = make_siblings(story), story.enter(story.ana, 2)
    story.remove_device(cleo, ben.on(1))
    story.remove_device(story.ana, ben.on(1), [pin(ben.on(1), 2)])


def _replaced(story: Story) -> None:
    ben = make_siblings(story)
    heads = story.heads()
    story.replace_device(ben, ben.on(2), [pin(ben, 7)], parents=heads)
    story.invite(ben, parents=heads)


def _replaced_twice(story: Story) -> None:
    ben = make_siblings(story)
    heads = story.heads()
    story.replace_device(ben, ben.on(2), parents=heads)
    story.replace_device(ben, ben.on(3), parents=heads)


def _replaced_twice_one_final(story: Story) -> frozenset[EntryId]:
    ben = make_siblings(story)
    heads = story.heads()
    one = story.replace_device(ben, ben.on(2), parents=heads)
    story.replace_device(ben, ben.on(3), parents=heads)
    return frozenset({one.id})


def _suspended(story: Story) -> None:
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    deciding, losing = fork(story.group, ben)
    heads = story.heads()
    story.suspend(cleo, ben, (losing, deciding), [pin(ben, 6, losing.last_id)], parents=heads)
    story.suspend(story.ana, ben, (deciding, losing), [pin(ben, 5, deciding.entries[0].id)], parents=heads)


def _suspended_final(story: Story) -> frozenset[EntryId]:
    ben = story.enter(story.ana, 1)
    smaller, larger = fork(story.group, ben)
    story.suspend(story.ana, ben, (smaller, larger), [pin(ben, 6, larger.last_id)])
    return frozenset({larger.entries[0].id})


def _suspended_removes(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    story.suspend(ben, story.ana, fork(story.group, story.ana), parents=heads)


def _forked_operations(story: Story) -> Story:
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    heads = story.heads()
    link, invite = story.invite(story.ana, parents=heads)
    story.join(Person(3), link, parents=[invite])
    story.set_role(story.ana, ben, Role.ADMIN, parents=heads, seq=invite.seq, below=invite)
    story.rotate(cleo)
    return story


def _forked_final(story: Story) -> frozenset[EntryId]:
    ben, cleo = story.enter(story.ana, 1), story.enter(story.ana, 2)
    heads = story.heads()
    first = story.set_role(story.ana, ben, Role.ADMIN, parents=heads)
    story.set_role(story.ana, cleo, Role.ADMIN, parents=heads, seq=first.seq, below=first)
    return frozenset({first.id})


CASES: list[tuple[str, str, Build]] = [
    ("two admins demote each other", "§5", _mutual_demotion),
    ("a demotion that is known is answered", "§5", _answered_demotion),
    ("racing the own demotion", "§5", _own_demotion),
    ("a promotion and a demotion at once", "§5", _promotion_and_demotion),
    ("two demotions, one of which knew more", "§5", _demotions_that_knew_more_and_less),
    ("two admins remove each other", "§5", _mutual_removal),
    ("a removal that is known is answered", "§5", _answered_removal),
    ("acts beside the own removal", "§5", _acts_beside_removal),
    ("what a removal knew stays", "§5", _known_acts_stay),
    ("two removals, one of which knew more", "§5 and §10", _removals_that_knew_more_and_less),
    ("a member is removed again", "§5 and §10", _removal_again),
    ("a removal closes links", "§6", _removal_closes_links),
    ("the last admin leaves", "§5", _last_admin_leaves),
    ("the only admin has no device", "§5", _admin_without_device),
    ("the only admin comes back", "§5 and §11", _admin_comes_back),
    ("two devices remove each other", "§5", _devices_remove_each_other),
    ("a known removal is answered by a device that it did not know", "§5", _removal_answered_by_unknown_device),
    ("a device of another member", "§5", _device_of_another),
    ("a device is replaced", "§5 and §10", _replaced),
    ("a device is replaced twice at once", "§4", _replaced_twice),
    ("a device is replaced twice at once, and one is final", "§4", _replaced_twice_one_final),
    ("two suspensions with pins on both branches", "§10", _suspended),
    ("a suspension where the greater branch is final", "§10", _suspended_final),
    ("a suspension beside a removal by the suspended", "§5", _suspended_removes),
    ("a fork of operations, and what was built on it", "§4", _forked_operations),
    ("a fork of operations, and one branch is final", "§4", _forked_final),
    *ENTERING,
]
