"""The roster: evaluating 10,000 operations from nothing, and one more on the heads; signature checks apart.

The groups have 500 and 2,000 members who join, add devices, rotate, change roles and are removed; some act at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from cocoon_core.protocol import operations, operations_admission, operations_devices, roster_flaws
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import OperationBody
from cocoon_core.protocol.roster import Operation, RosterGraph
from tests.benchmarks.table import Row, Samples
from tests.support.roster_story import Person, Story

OPERATIONS: Final = 10_000
MOST_WHOLE: Final = 1.0  # seconds
MOST_ONE: Final = 1.0  # ms
_CHECKS: Final[list[tuple[Any, str]]] = [
    (operations, "verify"),
    (operations_devices, "verify"),
    (operations_admission, "verify"),
    (roster_flaws, "require_good_hpke_key"),
    (roster_flaws, "require_good_signing_key"),
]


class Chronicle(Story):
    """A story that remembers its heads and seqs, so that thousands of operations are written quickly."""

    def __init__(self, policy: Policy) -> None:
        self._tips: tuple[EntryId, ...] = ()
        self._seqs: dict[bytes, int] = {}
        super().__init__(policy)

    def heads(self) -> tuple[EntryId, ...]:
        return self._tips

    def next_seq(self, person: Person) -> int:
        return self._seqs.get(person.device, 0)

    def write(self, author: Person, body: OperationBody, **where: Any) -> Operation:
        operation = super().write(author, body, **where)
        self._seqs[author.device] = operation.seq + 1
        self._tips = (operation.id,)
        return operation

    def at_once(self, people: Iterable[Person], number: int) -> None:
        """Let several rotate without knowing of each other."""
        before = self._tips
        written = [self.rotate(person, number + place, parents=before).id for place, person in enumerate(people)]
        self._tips = tuple(sorted(written))


def tell(members: int) -> tuple[Chronicle, list[Person]]:
    """A group of that many, and OPERATIONS operations in all."""
    rng, story = random.Random(members), Chronicle(Policy(max_members=5000))
    people = [story.ana]
    for number in range(1, members):
        author = rng.choice(people[:20])
        link, _ = story.invite(author, role=Role.ADMIN if number < 20 else Role.MEMBER)
        people.append(Person(number))
        story.revoke(author, link, [story.join(people[-1], link)])
    for step in range(OPERATIONS):
        if len(story.operations) >= OPERATIONS:
            break
        _live(story, people, rng, step)
    return story, people


def _live(story: Chronicle, people: list[Person], rng: random.Random, step: int) -> None:
    person, chance = rng.choice(people), rng.random()
    if chance < 0.35:
        story.rotate(person, 2 + step)
    elif chance < 0.6:
        story.add_device(person, person.on(1 + step))
    elif chance < 0.75:
        story.set_recovery(person, phrase=person.phrase(step % 4), guardians=people[:2])
    elif chance < 0.85:
        story.set_role(story.ana, rng.choice(people[1:]), rng.choice([Role.ADMIN, Role.MEMBER]))
    elif chance < 0.93 and len(people) > 300:
        story.remove(story.ana, people.pop(rng.randrange(20, len(people))))
    elif chance < 0.96 and person != story.ana:
        story.at_once((story.ana, person), 2 + step)
    else:
        link, _ = story.invite(story.ana)
        story.revoke(story.ana, link)


def _without_checks(work: Callable[[], None]) -> None:
    kept = [(module, name, getattr(module, name)) for module, name in _CHECKS]
    for module, name, _ in kept:
        setattr(module, name, lambda *_: None)
    try:
        work()
    finally:
        for module, name, check in kept:
            setattr(module, name, check)


async def measure_rosters(_: Path) -> list[Row]:
    rows: list[Row] = []
    for members in (500, 2000):
        story, people = tell(members)
        _without_checks(lambda story=story, people=people, members=members: rows.extend(_rows(story, people, members)))  # type: ignore[misc]
        checked = _time_taking_in(story, list(story.operations.values())[:2000])
        rows.append(Row("9 roster: proofs and keys, one operation", f"{checked / 2000 * 1e6:.0f} µs"))
    return rows


def _rows(story: Chronicle, people: list[Person], members: int) -> list[Row]:
    written = list(story.operations.values())
    whole = [_time_whole(story, written) for _ in range(5)]
    line = f"9 roster: {len(written):,} operations, {members:,} members"
    found = Samples(whole, "s")
    rows = [Row(f"{line}, from nothing", str(found), f"≤ {MOST_WHOLE:g} s", "", found.median <= MOST_WHOLE)]
    graph = story.graph(written)
    graph.evaluate()
    acts: list[tuple[str, Callable[[int], Operation]]] = [
        ("a rotation", lambda it: story.rotate(people[30 + it], 20_000 + it)),
        ("an invite", lambda it: story.invite(story.ana)[1]),
        ("a device", lambda it: story.add_device(people[60 + it], people[60 + it].on(99_000))),
        ("a role", lambda it: story.set_role(story.ana, people[90 + it], Role.ADMIN)),
        ("a removal", lambda it: story.remove(story.ana, people[120 + it])),
        ("a refused one", lambda it: story.remove(people[150 + it], people[21])),
    ]
    for name, write in acts:
        taken = Samples([_time_one(graph, write(number)) for number in range(20)], "ms")
        rows.append(Row(f"{line}, one more: {name}", str(taken), f"≤ {MOST_ONE:g} ms", "", taken.median <= MOST_ONE))
    if graph.evaluate() != story.evaluate():
        raise RuntimeError("one more operation gave another state than a whole evaluation")
    return rows


def _time_taking_in(story: Story, written: list[Operation]) -> float:
    graph = RosterGraph(story.group)
    began = time.perf_counter()
    for operation in written:
        graph.add(operation)
    return time.perf_counter() - began


def _time_whole(story: Story, written: list[Operation]) -> float:
    graph = RosterGraph(story.group)
    began = time.perf_counter()
    for operation in written:
        graph.add(operation)
    graph.evaluate()
    return time.perf_counter() - began


def _time_one(graph: RosterGraph, operation: Operation) -> float:
    graph.add(operation)
    began = time.perf_counter()
    graph.evaluate()
    return (time.perf_counter() - began) * 1000
