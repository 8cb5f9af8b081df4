"""Rosters with concurrency about who comes in or back, and the policy: the second half of the cases.

See roster_cases.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Policy, Role
from tests.support.roster_story import Person, Story, pin

Build = Callable[[Story], object]
OPEN = Policy(max_members=100)


def make_two_admins(story: Story) -> Person:
    ben = story.enter(story.ana, 1)
    story.set_role(story.ana, ben, Role.ADMIN)
    return ben


def make_siblings(story: Story) -> Person:
    ben = story.enter(story.ana, 1)
    story.add_device(ben, ben.on(1))
    return ben


def _overused(story: Story) -> None:
    link, invite = story.invite(story.ana, uses=2)
    joins = [story.join(Person(number), link, parents=[invite]) for number in (1, 2, 3)]
    story.join(Person(4), link, parents=[joins[0]])


def _overused_final(story: Story) -> frozenset[EntryId]:
    link, invite = story.invite(story.ana)
    first = story.join(Person(1), link, parents=[invite])
    story.join(Person(2), link, parents=[invite], below=first)
    return frozenset({first.id})


def _closed_by_name(story: Story) -> None:
    link, invite = story.invite(story.ana, uses=3)
    named = story.join(Person(1), link, parents=[invite])
    story.join(Person(2), link, parents=[invite])
    story.revoke(story.ana, link, [named], parents=[invite])


def _confirmed_by_rotation(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    link, invite = story.invite(story.ana, uses=3)
    joined = story.join(Person(2), link, parents=[invite])
    story.join(Person(3), link, parents=[invite])
    story.rotate(story.ana, parents=[joined])
    story.revoke(ben, link, parents=[invite])


def _thief_of_a_spent_link(story: Story) -> None:
    link, invite = story.invite(story.ana, role=Role.ADMIN)
    join = story.join(Person(1), link)
    cleo = story.enter(story.ana, 3)
    story.revoke(cleo, link, [join])
    story.join(Person(2), link, parents=[invite], below=join)
    story.remove(Person(2), cleo, parents=story.heads())


def _asking(story: Story, vouches: int) -> None:
    story.enter(story.ana, 1)
    story.enter(story.ana, 2)
    story.set_policy(story.ana, replace(OPEN, vouches=vouches))


def _admitted(story: Story) -> None:
    _asking(story, 2)
    link, _ = story.invite(story.ana)
    request = story.newcomer(Person(3), link)
    story.vouch(Person(1), request)
    story.admit(Person(2), request)


def _admitted_by_too_few(story: Story) -> None:
    _asking(story, 3)
    link, _ = story.invite(story.ana)
    request = story.newcomer(Person(3), link)
    story.vouch(Person(1), request)
    story.vouch(Person(1), request)
    story.admit(Person(2), request)


def _admitted_at_once(story: Story) -> None:
    _asking(story, 1)
    link, _ = story.invite(story.ana)
    heads = story.heads()
    story.admit(Person(1), story.newcomer(Person(3), link), parents=heads)
    story.admit(story.ana, story.newcomer(Person(4), link), parents=heads)


def _joined_without_asking(story: Story) -> None:
    early, _ = story.invite(story.ana)
    _asking(story, 1)
    late, _ = story.invite(story.ana)
    story.join(Person(3), early)
    story.join(Person(4), late)


def _vouched_beside_removal(story: Story) -> None:
    _asking(story, 2)
    link, _ = story.invite(story.ana)
    request = story.newcomer(Person(3), link)
    heads = story.heads()
    vouched = story.vouch(Person(1), request, parents=heads)
    story.remove(story.ana, Person(1), parents=heads)
    story.admit(Person(2), request, parents=[vouched])


def _recovered(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    story.set_recovery(ben, phrase=ben.phrase())
    story.remove_device(ben, ben, [pin(ben, 3)])
    story.recover(ben.on(1), ben.phrase())


def _old_phrase(story: Story) -> None:
    ben = story.enter(story.ana, 1)
    story.set_recovery(ben, phrase=ben.phrase())
    heads = story.heads()
    story.set_recovery(ben, phrase=ben.phrase(1), parents=heads)
    story.recover(ben.on(1), ben.phrase(), parents=heads)


def _two_phrases(story: Story) -> None:
    ben = make_siblings(story)
    heads = story.heads()
    story.set_recovery(ben, phrase=ben.phrase(1), guardians=[story.ana], parents=heads)
    story.set_recovery(ben.on(1), phrase=ben.phrase(2), guardians=[story.ana], parents=heads)
    story.recover(ben.on(2), ben.phrase(1))


def _guarded(story: Story) -> Person:
    ben = story.enter(story.ana, 1)
    guardians = [story.ana, story.enter(story.ana, 2), story.enter(story.ana, 3)]
    story.set_recovery(ben, guardians=guardians, threshold=2)
    return ben


def _circle(story: Story) -> None:
    ben = _guarded(story)
    request = story.lost(ben.on(1))
    story.vouch(Person(2), request)
    heads = story.heads()
    story.admit(Person(3), request, [pin(ben, 4)], parents=heads)
    story.add_device(ben, ben.on(2), parents=heads)


def _circle_twice(story: Story) -> None:
    ben = _guarded(story)
    requests = [story.lost(ben.on(which)) for which in (1, 2)]
    for request in requests:
        story.vouch(Person(2), request)
    heads = story.heads()
    story.admit(Person(3), requests[0], parents=heads)
    story.admit(story.ana, requests[1], parents=heads)


def _circle_refused(story: Story) -> None:
    ben = _guarded(story)
    request = story.lost(ben.on(1))
    story.vouch(Person(2), request)
    story.set_recovery(ben, phrase=ben.phrase())
    story.admit(Person(3), request)


def _policies_at_once(story: Story) -> None:
    ben = make_two_admins(story)
    heads = story.heads()
    story.set_policy(story.ana, replace(OPEN, max_members=50, vouches=1, relays=("ws://a",)), parents=heads)
    story.set_policy(ben, replace(OPEN, max_members=60, inviters=Role.ADMIN, epoch_days=7), parents=heads)


def _policy_beside_invite(story: Story) -> None:
    ben, cleo = make_two_admins(story), story.enter(story.ana, 2)
    heads = story.heads()
    story.set_policy(ben, replace(OPEN, inviters=Role.ADMIN), parents=heads)
    story.invite(cleo, parents=heads)
    story.invite(story.ana, parents=heads)


def _policy_of_the_removed(story: Story) -> None:
    ben = make_two_admins(story)
    heads = story.heads()
    story.remove(story.ana, ben, parents=heads)
    story.set_policy(ben, replace(OPEN, max_members=3), parents=heads)


def _full(_: Story) -> Story:
    story = Story(Policy(max_members=2))
    ben = story.enter(story.ana, 1)
    story.invite(story.ana)
    story.remove(story.ana, ben)
    story.invite(story.ana)
    return story


def _names_alike(story: Story) -> None:
    link, invite = story.invite(story.ana, uses=2)
    first = story.join(Person(1), link, parents=[invite], name="Ben")
    story.join(Person(2), link, parents=[invite], name="B\u0435n", above=first)


ENTERING: list[tuple[str, str, Build]] = [
    ("a link used too often at once", "§6", _overused),
    ("a link used too often at once, and one join is final", "§6", _overused_final),
    ("a closing that names a join", "§6", _closed_by_name),
    ("a closing beside a join that a rotation confirmed", "§6", _confirmed_by_rotation),
    ("the thief of a spent link", "§5 and §6", _thief_of_a_spent_link),
    ("two members admit a newcomer", "§11", _admitted),
    ("too few members admit a newcomer", "§11", _admitted_by_too_few),
    ("two admissions at once on one use", "§11", _admitted_at_once),
    ("links from before and after members admit", "§11", _joined_without_asking),
    ("a vouch beside the voucher's removal", "§5 and §11", _vouched_beside_removal),
    ("a member without a device comes back by the phrase", "§11", _recovered),
    ("an old phrase beside a new one", "§5 and §11", _old_phrase),
    ("two phrases at once", "§11", _two_phrases),
    ("guardians bring a member back", "§5 and §11", _circle),
    ("guardians bring a member back twice at once", "§5 and §11", _circle_twice),
    ("guardians who are none any more", "§11", _circle_refused),
    ("two policies at once", "§7", _policies_at_once),
    ("a stricter policy beside invites", "§5 and §7", _policy_beside_invite),
    ("the policy of a removed admin", "§5 and §7", _policy_of_the_removed),
    ("a full group", "§7", _full),
    ("names that look alike", "§8", _names_alike),
]
