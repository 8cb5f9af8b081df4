"""A group and the operations that people write in it, for tests of the roster."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_ENTRY
from cocoon_core.protocol.ids import (
    EntryId,
    GroupId,
    MemberId,
    RecoveryId,
    TopicId,
)
from cocoon_core.protocol.operation_forms import Pin, Policy, Role
from cocoon_core.protocol.operations import (
    Create,
    Invite,
    Join,
    OperationBody,
    RevokeInvite,
    SetPolicy,
    SetRole,
    member_id_of,
)
from cocoon_core.protocol.operations_admission import (
    Admit,
    LostMember,
    Newcomer,
    Recover,
    Request,
    SetRecovery,
    Vouch,
    sign_recovery,
)
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.primitives import SigningKey, hash_bytes
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph
from cocoon_core.protocol.run import Run
from tests.support.roster_people import (
    Link,
    Person,
    hpke_key,
    numbered_secret,
    pin,
    rotation_body,
    signing_key,
    sorted_pins,
)

__all__ = ["Link", "Person", "Story", "pin"]


class Story:
    """A group that `ana` creates, and every operation that anybody writes in it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.ana = Person(0)
        topic = TopicId(signing_key(4, 0).public)
        rules = policy or Policy(max_members=100)
        body = Create(bytes(32), self.ana.device, self.ana.hpke, topic, "Family", self.ana.name, rules)
        self.group: GroupId = body.group_id()
        self.operations: dict[EntryId, Operation] = {}
        self._links = 0
        self.create = self.write(self.ana, body, parents=())

    def member(self, person: Person) -> MemberId:
        return member_id_of(self.group, person.first_device)

    def heads(self) -> tuple[EntryId, ...]:
        named = {parent for operation in self.operations.values() for parent in operation.parents}
        return tuple(sorted(set(self.operations) - named))

    def next_seq(self, person: Person) -> int:
        return 1 + max((it.seq for it in self.operations.values() if it.device == person.device), default=-1)

    def write(
        self,
        author: Person,
        body: OperationBody,
        *,
        parents: Iterable[Operation | EntryId] | None = None,
        seq: int | None = None,
        below: Operation | None = None,
        above: Operation | None = None,
    ) -> Operation:
        """Let a person sign an operation; by default on all heads, as their next. `below` and `above` grind its id."""
        ids = self.heads() if parents is None else [it.id if isinstance(it, Operation) else it for it in parents]
        first = 0 if isinstance(body, Create | Join | ReplaceDevice | Recover) else self._first_seq(author)
        place = max(first, self.next_seq(author)) if seq is None else seq
        for nonce in range(10_000):
            raw = encoding.encode([self.group, author.device, place, sorted(ids), nonce, body.encode_body()])
            entry = EntryId(hash_bytes(LABEL_ENTRY, raw))
            fits = (below is None or entry < below.id) and (above is None or entry > above.id)
            if fits and entry not in self.operations:
                break
        else:
            raise AssertionError("no id fits")
        operation = Operation(entry, author.device, place, tuple(sorted(ids)), body)
        self.operations[entry] = operation
        return operation

    def _first_seq(self, author: Person) -> int:
        """A device that another enrolled writes what it likes as its entry 0."""
        return 1 if self.next_seq(author) or author.which == 0 else 0

    def new_link(self) -> Link:
        self._links += 1
        return Link(self._links)

    def invite_body(self, author: Person, link: Link, *, uses: int = 1, role: Role = Role.MEMBER) -> Invite:
        return Invite.make(
            link.key,
            hpke_key(5, link.number % 64),
            numbered_secret(6, link.number),
            self.group,
            author.device,
            uses=uses,
            role=role,
        )

    def invite(
        self,
        author: Person,
        *,
        uses: int = 1,
        role: Role = Role.MEMBER,
        parents: Iterable[Operation | EntryId] | None = None,
    ) -> tuple[Link, Operation]:
        link = self.new_link()
        return link, self.write(author, self.invite_body(author, link, uses=uses, role=role), parents=parents)

    def join(
        self,
        person: Person,
        link: Link,
        *,
        parents: Iterable[Operation | EntryId] | None = None,
        below: Operation | None = None,
        above: Operation | None = None,
        seq: int | None = 0,
        name: str | None = None,
    ) -> Operation:
        body = Join.make(link.key, self.group, person.device, person.hpke, name or person.name)
        return self.write(person, body, parents=parents, below=below, above=above, seq=seq)

    def enter(self, inviter: Person, number: int, *, role: Role = Role.MEMBER) -> Person:
        """Invite and join in one breath."""
        person = Person(number)
        link, _ = self.invite(inviter, role=role)
        self.join(person, link)
        return person

    def enter_by_request(self, author: Person, number: int, *, role: Role = Role.MEMBER) -> Person:
        """Invite, ask and be admitted in one breath."""
        person = Person(number)
        link, _ = self.invite(author, role=role)
        self.admit(author, self.newcomer(person, link))
        return person

    def set_role(
        self,
        author: Person,
        target: Person,
        role: Role,
        *,
        parents: Iterable[Operation | EntryId] | None = None,
        pins: Sequence[Pin] = (),
        below: Operation | None = None,
        seq: int | None = None,
    ) -> Operation:
        body = SetRole(self.member(target), role, sorted_pins(pins))
        return self.write(author, body, parents=parents, below=below, seq=seq)

    def revoke(
        self,
        author: Person,
        link: Link,
        joins: Iterable[Operation] = (),
        *,
        parents: Iterable[Operation | EntryId] | None = None,
    ) -> Operation:
        body = RevokeInvite(self.invite_body(author, link).invite, tuple(sorted(join.id for join in joins)))
        return self.write(author, body, parents=parents)

    # --- removal and devices

    def set_policy(self, author: Person, policy: Policy, **where: Any) -> Operation:
        return self.write(author, SetPolicy(policy), **where)

    def remove(self, author: Person, target: Person, pins: Sequence[Pin] = (), **where: Any) -> Operation:
        return self.write(author, RemoveMember(self.member(target), sorted_pins(pins)), **where)

    def leave(self, author: Person, pins: Sequence[Pin] = (), **where: Any) -> Operation:
        return self.write(author, Leave(sorted_pins(pins)), **where)

    def remove_device(self, author: Person, target: Person, pins: Sequence[Pin] = (), **where: Any) -> Operation:
        return self.write(author, RemoveDevice(target.device, sorted_pins(pins)), **where)

    def add_device(self, author: Person, fresh: Person, **where: Any) -> Operation:
        return self.write(author, AddDevice.make(fresh.key, self.group, author.device, fresh.hpke), **where)

    def replace_device(self, old: Person, fresh: Person, pins: Sequence[Pin] = (), **where: Any) -> Operation:
        body = ReplaceDevice.make(old.key, self.group, fresh.device, fresh.hpke, sorted_pins(pins))
        return self.write(fresh, body, **{"seq": 0, **where})

    def suspend(
        self, author: Person, target: Person, runs: tuple[Run, Run], pins: Sequence[Pin] = (), **where: Any
    ) -> Operation:
        body = Suspend(target.device, runs[0].wire, runs[1].wire, sorted_pins(pins))
        return self.write(author, body, **where)

    # --- admission and recovery

    def newcomer(self, person: Person, link: Link) -> Newcomer:
        return Newcomer.make(person.key, link.key, self.group, person.hpke, person.name)

    def lost(self, fresh: Person) -> LostMember:
        return LostMember.make(fresh.key, self.group, fresh.hpke, self.member(fresh))

    def vouch(self, author: Person, request: Request, **where: Any) -> Operation:
        return self.write(author, Vouch(request), **where)

    def admit(self, author: Person, request: Request, pins: Sequence[Pin] = (), **where: Any) -> Operation:
        return self.write(author, Admit(request, sorted_pins(pins)), **where)

    def set_recovery(
        self,
        author: Person,
        *,
        phrase: SigningKey | None = None,
        guardians: Sequence[Person] = (),
        threshold: int | None = None,
        **where: Any,
    ) -> Operation:
        recovery = None
        if phrase is not None:
            hpke = hpke_key(8, author.number % 64)
            recovery = (RecoveryId(phrase.public), hpke, sign_recovery(phrase, self.group, author.device, hpke))
        members = tuple(sorted(self.member(guardian) for guardian in guardians))
        needed = len(members) if threshold is None else threshold
        return self.write(author, SetRecovery(recovery, members, needed), **where)

    def recover(self, fresh: Person, phrase: SigningKey, **where: Any) -> Operation:
        body = Recover.make(phrase, self.group, self.member(fresh), fresh.device, fresh.hpke)
        return self.write(fresh, body, **{"seq": 0, **where})

    def rotate(self, author: Person, number: int = 1, **where: Any) -> Operation:
        return self.write(author, rotation_body(number), **where)

    # --- evaluation

    def graph(self, order: Sequence[Operation] | None = None) -> RosterGraph:
        graph = RosterGraph(self.group)
        for operation in order if order is not None else self.operations.values():
            graph.add(operation)
        return graph

    def evaluate(self, order: Sequence[Operation] | None = None) -> Roster:
        return self.graph(order).evaluate()

    def shuffled(self, rng: random.Random) -> list[Operation]:
        """Some order of arrival in which parents come first."""
        waiting = list(self.operations.values())
        rng.shuffle(waiting)
        arrived: set[EntryId] = set()
        order: list[Operation] = []
        while waiting:
            later = []
            for operation in waiting:
                if arrived.issuperset(operation.parents):
                    arrived.add(operation.id)
                    order.append(operation)
                else:
                    later.append(operation)
            waiting = later
        return order
