"""Random rosters: honest and hostile people who write with whatever part of the history they happen to know."""

from __future__ import annotations

import random
from collections.abc import Iterable

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import Invite, Join
from cocoon_core.protocol.operations_admission import Admit, Request, SetRecovery, Vouch
from cocoon_core.protocol.roster import Operation
from tests.support.roster_people import fork
from tests.support.roster_story import Link, Person, Story, pin

WEIGHTS = {
    "invite": 4.0, "join": 4.0, "revoke": 2.0, "role": 4.0, "policy": 1.5, "remove": 1.6, "leave": 0.3,
    "remove_device": 1.2, "add_device": 2.5, "replace": 0.9, "suspend": 0.5, "vouch": 2.5, "admit": 2.5,
    "set_recovery": 1.8, "recover": 1.5, "rotate": 1.5,
}  # fmt: skip


class RandomStory:
    """A story of `size` operations in which nobody is held to the rules.

    Each device knows a closed part of the history. A hostile write names fewer parents than its author knows, or uses a
    seq again; an honest one names all that its author knows.
    """

    def __init__(self, seed: int, size: int = 30, people: int = 14, hostility: float = 0.25) -> None:
        self.rng = random.Random(seed)
        policy = self._rules()
        self.story = Story(policy)
        self.hostility = hostility
        self.people = [Person(number) for number in range(people)]
        self.devices = [self.people[0]]  # all that ever asked to be one, by whatever means
        self.links: dict[Link, Operation] = {}
        self.requests: list[Request] = []
        self.known: dict[Person, set[EntryId]] = {person: {self.story.create.id} for person in self.people}
        self._start(policy)
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        self._able: list[Person] = []
        for step in range(20 * size):
            if len(self.story.operations) >= size:
                break
            if step % 5 == 0:
                valid = self.story.evaluate().devices
                self._able = [device for device in self.devices if device.device in valid]
            if self.rng.random() < 0.03:
                self._rush()
            self._step(self.rng.choices(kinds, weights)[0])

    def _rules(self) -> Policy:
        rng = self.rng
        return Policy(
            max_members=rng.choice([4, 12, 12]),
            inviters=rng.choice([Role.MEMBER, Role.MEMBER, Role.ADMIN]),
            relays=rng.choice([(), ("ws://a",), ("ws://b",)]),
            vouches=rng.choice([0, 0, 0, 1, 2]),
            epoch_days=rng.choice([30, 7]),
        )

    def _start(self, policy: Policy) -> None:
        """Most stories need a second admin to be interesting."""
        for number in (1, 2):
            if self.rng.random() < 0.8:
                link, invite = self.story.invite(self.story.ana)
                self.links[link] = invite
                person = self.people[number]
                request = self.story.newcomer(person, link)
                if policy.vouches == 0:
                    self.story.join(person, link)
                else:
                    self.story.admit(self.story.ana, request)
                self.devices.append(person)
                if self.rng.random() < 0.7:
                    self.story.set_role(self.story.ana, person, Role.ADMIN)
        for person in self.people:
            self.known[person] = set(self.story.operations)

    def _step(self, kind: str) -> None:
        rng = self.rng
        outside = [person for person in self.people if person not in self.devices]
        wild = rng.random() < self.hostility / 4
        fitting = outside if kind == "join" else self._able if rng.random() < 0.9 else self.devices
        author = rng.choice(self.people if wild or not fitting else fitting)
        if rng.random() < 0.45:
            self.known[author] |= self.known[rng.choice(list(self.known))]
        getattr(self, f"_{kind}")(author)

    # --- what a device knows

    def parents_for(self, author: Person, *needed: EntryId) -> list[EntryId]:
        known = self.known[author]
        if self.rng.random() < self.hostility:
            some = self.rng.sample(sorted(known), self.rng.randint(1, len(known)))
            own = [entry for entry in known if self.story.operations[entry].device == author.device]
            if self.rng.random() < 0.8:
                some.extend(own)
            known = self.closure([*some, *needed])
        else:
            known = known | self.closure(needed)
        named = {parent for entry in known for parent in self.story.operations[entry].parents}
        return sorted(known - named)

    def closure(self, tips: Iterable[EntryId]) -> set[EntryId]:
        found: set[EntryId] = set()
        waiting = list(tips)
        while waiting:
            entry = waiting.pop()
            if entry not in found:
                found.add(entry)
                waiting.extend(self.story.operations[entry].parents)
        return found

    def _seq(self, author: Person) -> int | None:
        following = self.story.next_seq(author)
        if following > 1 and self.rng.random() < self.hostility / 3:
            return self.rng.randint(1, following - 1)
        return None

    def _wrote(self, author: Person, operation: Operation) -> None:
        self.known[author] |= self.closure([operation.id])

    def _fresh(self, person: Person) -> Person:
        """A device of somebody's that no one has seen, or now and then one that was used before."""
        used = {device.which for device in self.known if device.number == person.number}
        which = max(used) + 1
        if self.rng.random() < self.hostility / 4:
            which = self.rng.choice(sorted(used))
        fresh = person.on(which)
        self.known.setdefault(fresh, set(self.known[person]))
        return fresh

    def _pins(self, *targets: Person) -> list[Pin]:
        return [pin(it, self.rng.randint(0, 9)) for it in dict.fromkeys(targets) if self.rng.random() < 0.7]

    def _target(self) -> Person:
        return self.rng.choice(self._able if self._able and self.rng.random() < 0.85 else self.devices)

    def _devices_of(self, person: Person) -> list[Person]:
        return [device for device in self.devices if device.number == person.number]

    # --- invites

    def _invite(self, author: Person) -> None:
        story, link = self.story, self.story.new_link()
        role = self.rng.choice([Role.MEMBER, Role.MEMBER, Role.ADMIN])
        body = story.invite_body(author, link, uses=self.rng.choice([1, 1, 2]), role=role)
        operation = story.write(author, body, parents=self.parents_for(author), seq=self._seq(author))
        self.links[link] = operation
        self._wrote(author, operation)

    def _known_links(self, author: Person) -> list[Link]:
        return [link for link, operation in self.links.items() if operation.id in self.known[author]]

    def _join(self, author: Person) -> None:
        known = self._known_links(author)
        if not known or (author in self.devices and self.rng.random() > self.hostility):
            return
        link = self.rng.choice(known[-3:])
        parents = self.parents_for(author, self.links[link].id)
        self._wrote(author, self.story.join(author, link, parents=parents))
        self._enter(author)

    def _enter(self, device: Person) -> None:
        if device not in self.devices:
            self.devices.append(device)

    def _rush(self) -> None:
        """Several people use one link at once, and none knows of another."""
        if not self.links:
            return
        link, invited = list(self.links.items())[-1]
        for person in [person for person in self.people if person not in self.devices][:3]:
            self.known[person] |= self.closure([invited.id])
            self._wrote(person, self.story.join(person, link, parents=[invited.id]))
            self._enter(person)

    def _revoke(self, author: Person) -> None:
        known = self._known_links(author)
        if not known:
            return
        link = self.rng.choice(known)
        parents = self.parents_for(author, self.links[link].id)
        invited = self.links[link].body
        assert isinstance(invited, Invite)
        seen = [self.story.operations[entry] for entry in sorted(self.closure(parents))]
        joins = [it for it in seen if isinstance(it.body, Join) and it.body.invite == invited.invite]
        chance = self.rng.random()
        if chance < self.hostility / 2:
            joins = []
        elif chance < self.hostility:
            everywhere = self.story.operations.values()
            joins = [it for it in everywhere if isinstance(it.body, Join) and it.body.invite == invited.invite]
        self._wrote(author, self.story.revoke(author, link, joins, parents=parents))

    # --- rights

    def _role(self, author: Person) -> None:
        target = self._target()
        role = self.rng.choice([Role.ADMIN, Role.MEMBER])
        pins = self._pins(*self._devices_of(target)) if role is Role.MEMBER else []
        parents = self.parents_for(author)
        operation = self.story.set_role(author, target, role, pins=pins, parents=parents, seq=self._seq(author))
        self._wrote(author, operation)

    def _policy(self, author: Person) -> None:
        parents, seq = self.parents_for(author), self._seq(author)
        self._wrote(author, self.story.set_policy(author, self._rules(), parents=parents, seq=seq))

    def _remove(self, author: Person) -> None:
        target = self._target()
        pins, parents = self._pins(*self._devices_of(target)), self.parents_for(author)
        operation = self.story.remove(author, target, pins, parents=parents, seq=self._seq(author))
        self._wrote(author, operation)

    def _leave(self, author: Person) -> None:
        pins = self._pins(*self._devices_of(author))
        self._wrote(author, self.story.leave(author, pins, parents=self.parents_for(author)))

    def _rotate(self, author: Person) -> None:
        number = self.rng.randint(1, 20)
        parents, seq = self.parents_for(author), self._seq(author)
        self._wrote(author, self.story.rotate(author, number, parents=parents, seq=seq))

    # --- devices

    def _remove_device(self, author: Person) -> None:
        own = self._devices_of(author)
        target = self.rng.choice(own) if own and self.rng.random() < 0.6 else self._target()
        pins, parents = self._pins(target), self.parents_for(author)
        operation = self.story.remove_device(author, target, pins, parents=parents, seq=self._seq(author))
        self._wrote(author, operation)

    def _add_device(self, author: Person) -> None:
        fresh = self._fresh(author)
        self._wrote(author, self.story.add_device(author, fresh, parents=self.parents_for(author)))
        self._enter(fresh)

    def _replace(self, author: Person) -> None:
        fresh = self._fresh(author)
        parents = self.parents_for(author)
        self._wrote(fresh, self.story.replace_device(author, fresh, self._pins(author), parents=parents))
        self._enter(fresh)
        if self.rng.random() < self.hostility / 2:
            twin = self._fresh(author)
            self._wrote(twin, self.story.replace_device(author, twin, parents=parents))
            self._enter(twin)

    def _suspend(self, author: Person) -> None:
        target = self._target()
        first, second = fork(self.story.group, target, self.rng.randint(0, 4))
        ends = [first.entries[-1], second.entries[-1]]
        end = self.rng.choice(ends)
        pins = [pin(target, end.seq, end.id)] if self.rng.random() < 0.7 else []
        runs = (first, second) if self.rng.random() < 0.5 else (second, first)
        self._wrote(author, self.story.suspend(author, target, runs, pins, parents=self.parents_for(author)))

    # --- admission and recovery

    def _request(self, author: Person) -> Request | None:
        if self.requests and self.rng.random() < 0.65:
            return self.rng.choice(self.requests[-3:])
        outside = [person for person in self.people if person not in self.devices]
        known = self._known_links(author)
        if known and outside and self.rng.random() < 0.6:
            request: Request = self.story.newcomer(self.rng.choice(outside), self.rng.choice(known[-3:]))
        else:
            said = [it.body for it in self.story.operations.values() if isinstance(it.body, SetRecovery)]
            mine = [word for word in said if self.story.member(author) in word.guardians]
            wards = {it.device for it in self.story.operations.values() if it.body in mine}
            lost = [device for device in self.devices if device.device in wards] or [self._target()]
            request = self.story.lost(self._fresh(self.rng.choice(lost)))
        self.requests.append(request)
        return request

    def _vouch(self, author: Person) -> None:
        request = self._request(author)
        if request is not None:
            self._wrote(
                author, self.story.vouch(author, request, parents=self.parents_for(author, *self._invited(request)))
            )

    def _invited(self, request: Request) -> list[EntryId]:
        """What an honest author who saw the request knows."""
        needed = [it.id for link, it in self.links.items() if link.key.public == getattr(request, "invite", None)]
        if self.rng.random() < 0.6:
            said = self.story.operations.values()
            needed += [it.id for it in said if isinstance(it.body, Vouch | Admit) and it.body.request == request]
        return needed

    def _admit(self, author: Person) -> None:
        request = self._request(author)
        if request is None:
            return
        found = [it for it in self.known if it.device == request.device]
        pins = []
        if found and found[0].which:
            pins = self._pins(*self._devices_of(found[0]))
        parents = self.parents_for(author, *self._invited(request))
        self._wrote(author, self.story.admit(author, request, pins, parents=parents))
        for device in found:
            self._enter(device)
            self.known[device] |= self.known[author]

    def _set_recovery(self, author: Person) -> None:
        rng = self.rng
        phrase = author.phrase(rng.randint(0, 1)) if rng.random() < 0.7 else None
        others = sorted({device.number for device in self.devices})
        guardians = [Person(number) for number in rng.sample(others, min(len(others), rng.randint(0, 3)))]
        threshold = rng.randint(1, len(guardians)) if guardians else 0
        operation = self.story.set_recovery(
            author, phrase=phrase, guardians=guardians, threshold=threshold, parents=self.parents_for(author)
        )
        self._wrote(author, operation)

    def _recover(self, author: Person) -> None:
        said = {it.device for it in self.story.operations.values() if isinstance(it.body, SetRecovery)}
        with_phrase = [device for device in self.devices if device.device in said]
        if with_phrase and self.rng.random() < 0.8:
            author = self.rng.choice(with_phrase)
        fresh = self._fresh(author)
        phrase = author.phrase(self.rng.randint(0, 1))
        self._wrote(fresh, self.story.recover(fresh, phrase, parents=self.parents_for(author)))
        self._enter(fresh)
