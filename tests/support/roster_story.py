"""People, links and the operations they write, for tests of the roster. Keys come from numbers, so runs repeat."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cocoon_core.protocol import encoding
from cocoon_core.protocol.constants import LABEL_ENTRY
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, HpkePublicKey, MemberId, TopicId
from cocoon_core.protocol.operations import (
    Create,
    Invite,
    Join,
    OperationBody,
    Pin,
    Policy,
    RevokeInvite,
    Role,
    SetRole,
    member_id_of,
)
from cocoon_core.protocol.primitives import HpkeKey, Secret, SigningKey, hash_bytes
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph


def _secret(kind: int, number: int) -> Secret:
    return Secret(bytes([kind]) + number.to_bytes(31, "big"))


@lru_cache(maxsize=50_000)
def _signing_key(kind: int, number: int) -> SigningKey:
    return SigningKey(_secret(kind, number))


@lru_cache(maxsize=512)
def _hpke(kind: int, number: int) -> HpkePublicKey:
    return HpkeKey(_secret(kind, number)).public


@dataclass(frozen=True)
class Person:
    """Somebody with one device."""

    number: int

    @property
    def device(self) -> DeviceId:
        return DeviceId(_signing_key(1, self.number).public)

    @property
    def hpke(self) -> HpkePublicKey:
        return _hpke(2, self.number % 64)

    @property
    def name(self) -> str:
        return f"Person {chr(65 + self.number % 26)}{chr(65 + self.number // 26 % 26)}{chr(65 + self.number // 676)}"


@dataclass(frozen=True)
class Link:
    """What an invite's link yields."""

    number: int

    @property
    def key(self) -> SigningKey:
        return _signing_key(3, self.number)


class Story:
    """A group that `ana` creates, and every operation that anybody writes in it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.ana = Person(0)
        topic = TopicId(_signing_key(4, 0).public)
        rules = policy or Policy(max_members=100)
        body = Create(bytes(32), self.ana.device, self.ana.hpke, topic, "Family", self.ana.name, rules)
        self.group: GroupId = body.group_id()
        self.operations: dict[EntryId, Operation] = {}
        self._links = 0
        self.create = self.write(self.ana, body, parents=())

    def member(self, person: Person) -> MemberId:
        return member_id_of(self.group, person.device)

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
        first = 0 if isinstance(body, Create | Join) else 1
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

    def new_link(self) -> Link:
        self._links += 1
        return Link(self._links)

    def invite_body(self, author: Person, link: Link, *, uses: int = 1, role: Role = Role.MEMBER) -> Invite:
        return Invite.make(
            link.key,
            _hpke(5, link.number % 64),
            _secret(6, link.number),
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
        body = SetRole(self.member(target), role, tuple(sorted(pins, key=lambda pin: pin.device)))
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
