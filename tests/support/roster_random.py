"""Random rosters: honest and hostile people who write with whatever part of the history they happen to know."""

from __future__ import annotations

import random

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operations import Invite, Join, Policy, Role
from cocoon_core.protocol.roster import Operation
from tests.support.roster_story import Link, Person, Story


class RandomStory:
    """A story of `size` operations in which nobody is held to the rules.

    Each person knows a closed part of the history. A hostile write names fewer parents than its author knows, or uses a
    seq again; an honest one names all that its author knows.
    """

    def __init__(self, seed: int, size: int = 26, people: int = 9, hostility: float = 0.25) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        policy = Policy(max_members=rng.choice([4, 12, 12]), inviters=rng.choice([Role.MEMBER, Role.ADMIN]))
        self.story = Story(policy)
        self.hostility = hostility
        self.people = [Person(number) for number in range(people)]
        self.joined = {self.people[0]}
        self.links: dict[Link, Operation] = {}
        self.known: dict[Person, set[EntryId]] = {person: {self.story.create.id} for person in self.people}
        self._start()
        while len(self.story.operations) < size:
            self._step()

    def _start(self) -> None:
        """Most stories need a second admin to be interesting."""
        for number in (1, 2):
            if self.rng.random() < 0.8:
                self.story.enter(self.story.ana, number)
                self.joined.add(self.people[number])
                if self.rng.random() < 0.7:
                    self.story.set_role(self.story.ana, self.people[number], Role.ADMIN)
        for person in self.people:
            self.known[person] = set(self.story.operations)

    def _step(self) -> None:
        rng = self.rng
        if rng.random() < 0.05:
            self._rush()
        outside = [person for person in self.people if person not in self.joined]
        kind = rng.choices(["invite", "join", "revoke", "role"], [4, 6, 3, 6])[0]
        wild = rng.random() < self.hostility / 4
        fitting = outside if kind == "join" else sorted(self.joined, key=lambda person: person.number)
        author = rng.choice(self.people if wild or not fitting else fitting)
        if rng.random() < 0.4:
            self.known[author] |= self.known[rng.choice(self.people)]
        getattr(self, f"_{kind}")(author)

    def _parents(self, author: Person) -> list[EntryId]:
        known = self.known[author]
        if self.rng.random() < self.hostility:
            some = self.rng.sample(sorted(known), self.rng.randint(1, len(known)))
            own = [entry for entry in known if self.story.operations[entry].device == author.device]
            if self.rng.random() < 0.8:
                some.extend(own)
            known = self._closure(some)
        named = {parent for entry in known for parent in self.story.operations[entry].parents}
        return sorted(known - named)

    def _closure(self, tips: list[EntryId]) -> set[EntryId]:
        found: set[EntryId] = set()
        waiting = list(tips)
        while waiting:
            entry = waiting.pop()
            if entry not in found:
                found.add(entry)
                waiting.extend(self.story.operations[entry].parents)
        return found

    def _seq(self, author: Person) -> int:
        following = self.story.next_seq(author)
        if following > 1 and self.rng.random() < self.hostility / 3:
            return self.rng.randint(1, following - 1)
        return max(1, following)

    def _wrote(self, author: Person, operation: Operation) -> None:
        self.known[author] |= self._closure([operation.id])

    def _invite(self, author: Person) -> None:
        story, link = self.story, self.story.new_link()
        role = self.rng.choice([Role.MEMBER, Role.MEMBER, Role.ADMIN])
        body = story.invite_body(author, link, uses=self.rng.choice([1, 1, 2]), role=role)
        operation = story.write(author, body, parents=self._parents(author), seq=self._seq(author))
        self.links[link] = operation
        self._wrote(author, operation)

    def _join(self, author: Person) -> None:
        story = self.story
        known = [link for link, operation in self.links.items() if operation.id in self.known[author]]
        if not known:
            return
        link = self.rng.choice(known[-3:])
        parents = {*self._parents(author), self.links[link].id}
        self._wrote(author, story.join(author, link, parents=sorted(parents)))
        self.joined.add(author)

    def _rush(self) -> None:
        """Several people use one link at once, and none knows of another."""
        if not self.links:
            return
        link, invited = list(self.links.items())[-1]
        for person in [person for person in self.people if person not in self.joined][:3]:
            self.known[person] |= self._closure([invited.id])
            self._wrote(person, self.story.join(person, link, parents=[invited.id]))
            self.joined.add(person)

    def _revoke(self, author: Person) -> None:
        known = [link for link, operation in self.links.items() if operation.id in self.known[author]]
        if not known:
            return
        link = self.rng.choice(known)
        parents = sorted({*self._parents(author), self.links[link].id})
        past = self._closure(parents)
        invited = self.links[link].body
        assert isinstance(invited, Invite)
        seen = [self.story.operations[entry] for entry in sorted(past)]
        joins = [it for it in seen if isinstance(it.body, Join) and it.body.invite == invited.invite]
        chance = self.rng.random()
        if chance < self.hostility / 2:
            joins = []
        elif chance < self.hostility:
            everywhere = self.story.operations.values()
            joins = [it for it in everywhere if isinstance(it.body, Join) and it.body.invite == invited.invite]
        self._wrote(author, self.story.revoke(author, link, joins, parents=parents))

    def _role(self, author: Person) -> None:
        target = self.rng.choice(sorted(self.joined, key=lambda person: person.number))
        role = self.rng.choice([Role.ADMIN, Role.MEMBER])
        parents = self._parents(author)
        self._wrote(author, self.story.set_role(author, target, role, parents=parents, seq=self._seq(author)))
