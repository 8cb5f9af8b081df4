"""The roster is a function of the set of operations: any order of arrival, in one go or bit by bit, gives one state.

And that state is what specs/roster.md says, by an oracle that shares nothing with the core's evaluation. Short here;
`soak` runs the same over thousands of stories. Every failure names its seed.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

import pytest

from cocoon_core.protocol import operations, operations_admission, operations_devices, roster_flaws
from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite, Join, SetRole
from cocoon_core.protocol.operations_admission import Admit, Recover
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph
from cocoon_core.protocol.roster_rules import Evaluation
from tests.support.roster_oracle import Oracle
from tests.support.roster_random import RandomStory
from tests.support.roster_story import Person, Story

RULES_TRIED = (
    "no admin", "lost the right", "no member", "other joins", "closed before", "closed by", "policy", "also signed",
    "too few", "same place", "phrase", "member admits", "enrolled already",
)  # fmt: skip


@pytest.fixture(autouse=True)
def remember_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cryptographic checks are real, but each distinct one runs once: they are functions of their arguments."""
    for module, name in [
        (operations, "verify"),
        (operations_admission, "verify"),
        (operations_devices, "verify"),
        (roster_flaws, "require_good_hpke_key"),
        (roster_flaws, "require_good_signing_key"),
    ]:
        check: Callable[..., None] = getattr(module, name)
        monkeypatch.setattr(module, name, lru_cache(maxsize=None)(check))


def _arrive(story: Story, order: list[Operation]) -> RosterGraph:
    """Take the operations in with an evaluation now and then, so that nothing remembered may matter."""
    graph = RosterGraph(story.group)
    for place, operation in enumerate(order):
        graph.add(operation)
        if place % 7 == 3:
            graph.evaluate()
    return graph


def _order_of(state: Roster) -> list[list[bytes]]:
    """In which order a state lists things: what people are shown must not hang on arrival either."""
    return [list(it) for it in (state.members, state.devices, state.former_devices, state.invites, state.requests)]


def check_orders(seeds: Iterable[int]) -> Counter[str]:
    refusals: Counter[str] = Counter()
    for seed in seeds:
        made = RandomStory(seed)
        expected = made.story.evaluate()
        refusals.update(re.sub("[0-9a-f]{12}|[0-9]+", "_", it.reason) for it in expected.refused.values())
        for turn in range(3):
            state = _arrive(made.story, made.story.shuffled(random.Random(f"{seed}/{turn}"))).evaluate()
            assert state == expected, f"seed {seed}, turn {turn}"
            assert _order_of(state) == _order_of(expected), f"seed {seed}, turn {turn}"
    return refusals


def test_any_order_of_arrival_gives_the_same_state() -> None:
    refusals = check_orders(range(150))
    seen = " ".join(refusals)
    for rule in RULES_TRIED:
        assert rule in seen, f"these stories never try the rule on {rule!r}: {refusals}"


@pytest.mark.soak
def test_soak_any_order_of_arrival_gives_the_same_state() -> None:
    check_orders(range(100_000, 106_000))


def check_oracle(seeds: Iterable[int], size: int) -> None:
    for seed in seeds:
        made = RandomStory(seed, size=size)
        story = made.story
        final: frozenset[EntryId] = frozenset()
        if seed % 3 == 0:
            final = frozenset(made.closure(made.rng.sample(sorted(story.operations), 2)))
        state, oracle = story.graph().evaluate(final), Oracle(story, final)
        assert set(story.operations) - set(state.refused) == oracle.counted, f"seed {seed}"
        assert {device: it.member for device, it in state.devices.items()} == oracle.devices, f"seed {seed}"
        assert set(state.members) == oracle.members, f"seed {seed}"
        assert {it.id for it in state.members.values() if it.role is Role.ADMIN} == oracle.admins, f"seed {seed}"
        assert state.policy == oracle.policy, f"seed {seed}"
        recoveries = {member: (it.id, it.guardians, it.threshold) for member, it in state.recoveries.items()}
        assert recoveries == oracle.recoveries, f"seed {seed}"


def test_the_state_is_what_the_specification_says() -> None:
    check_oracle(range(10_000, 10_100), 34)


@pytest.mark.soak
def test_soak_the_state_is_what_the_specification_says() -> None:
    check_oracle(range(110_000, 113_000), 44)


def check_one_more(seeds: Iterable[int]) -> int:
    """After every operation the state brought up to date is the state evaluated anew.

    Returns:
        How many operations were taken in without a whole evaluation.
    """
    cheap = 0
    for seed in seeds:
        made = RandomStory(seed, size=26, hostility=0.1)
        order = _mostly_in_line(made.story, random.Random(seed))
        graph = RosterGraph(made.story.group)
        for operation in order:
            graph.add(operation)
            before = list(graph._whole.values())
            state = graph.evaluate()
            cheap += list(graph._whole.values()) == before != []
            anew = made.story.graph(order[: len(graph)]).evaluate()
            assert state == anew, f"seed {seed} after {len(graph)}"
            assert _order_of(state) == _order_of(anew), f"seed {seed} after {len(graph)}"
    return cheap


def _mostly_in_line(story: Story, rng: random.Random) -> list[Operation]:
    """The story, and after each stretch of it operations on all heads, so that many are one more on what there is."""
    people = [Person(number) for number in range(6)]
    for _ in range(24):
        author, target = rng.choice(people), rng.choice(people)
        match rng.randrange(7):
            case 0:
                story.rotate(author)
            case 1:
                story.set_role(author, target, rng.choice([Role.ADMIN, Role.MEMBER]))
            case 2:
                story.invite(author)
            case 3:
                story.add_device(author, author.on(50 + rng.randrange(40)))
            case 4:
                story.remove_device(author, target)
            case 5:
                story.set_recovery(author, phrase=author.phrase(), guardians=[target])
            case 6:
                story.remove(author, target)
    return list(story.operations.values())


def test_one_more_operation_gives_what_a_whole_evaluation_gives() -> None:
    assert check_one_more(range(20_000, 20_015)) > 150


@pytest.mark.soak
def test_soak_one_more_operation_gives_what_a_whole_evaluation_gives() -> None:
    assert check_one_more(range(120_000, 121_000)) > 10_000


def test_a_past_evaluates_as_if_nothing_else_had_arrived() -> None:
    for seed in range(100):
        made = RandomStory(seed)
        whole = made.story.graph()
        known = made.known[made.rng.choice(made.people)]
        part = [operation for operation in made.story.operations.values() if operation.id in known]
        alone = made.story.graph(part)
        assert whole.roster_at(alone.heads()) == alone.evaluate(), f"seed {seed}"


class OneDecisionAPass(Evaluation):
    """Decides one operation a pass, so that nothing hangs on judging well what a decision can disturb."""

    def _disturbs(self, place: int) -> bool:
        return True


def test_deciding_several_operations_in_one_pass_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(120):
        story = RandomStory(seed, size=34).story
        quick = story.evaluate()
        with monkeypatch.context() as patch:
            patch.setattr("cocoon_core.protocol.roster.Evaluation", OneDecisionAPass)
            assert story.evaluate() == quick, f"seed {seed}"


# --- nobody gains rights


def _sources_of_admin(story: Story, state: Roster) -> set[bytes]:
    """Whoever could be an admin by an operation that counts, or that counted for those who knew no rival of it."""
    refused = {entry for entry, refusal in state.refused.items() if refusal.error != "EquivocationError"}
    counted = [operation for operation in story.operations.values() if operation.id not in refused]
    sources: set[bytes] = {story.member(story.ana)}
    admin_links = {it.body.invite for it in counted if isinstance(it.body, Invite) and it.body.role is Role.ADMIN}
    for operation in counted:
        body = operation.body
        if isinstance(body, SetRole) and body.role is Role.ADMIN:
            sources.add(body.member)
        entered = body.request if isinstance(body, Admit) else body
        if getattr(entered, "invite", None) in admin_links:
            sources |= {member.id for member in state.members.values() if member.joined_by == operation.id}
    return sources


def test_every_right_has_a_counted_source() -> None:
    for seed in range(120):
        story = RandomStory(seed, size=30).story
        state = story.evaluate()
        able = [member for member in state.members.values() if member.devices]
        admins = {member.id for member in state.members.values() if member.role is Role.ADMIN}
        assert not able or any(member.id in admins for member in able), f"seed {seed}"
        unexplained = admins - _sources_of_admin(story, state)
        heirs = {min(able, key=lambda member: member.seniority).id} if able else set()
        assert unexplained <= heirs, f"seed {seed}"
        for member in state.members.values():
            joined = story.operations[member.joined_by]
            assert isinstance(joined.body, Create | Join | Admit), f"seed {seed}"
            assert joined.id not in state.refused, f"seed {seed}"
        for invite in state.invites.values():
            assert len(invite.joins) <= invite.uses, f"seed {seed}"


def test_removal_wins_over_what_did_not_know_it() -> None:
    """Nothing that gives somebody something counts if its author was put out by what did not know it.

    What takes something away is decided in the order of seniority, so a senior's may come before their removal.
    """
    tried = 0
    for seed in range(150):
        made = RandomStory(seed, size=30)
        story = made.story
        state = story.evaluate()
        refused = set(state.refused)
        for out in [it for it in story.operations.values() if it.id not in refused]:
            if not isinstance(out.body, RemoveMember | RemoveDevice):
                continue
            graph = story.graph()
            gone = {device for device, it in state.former_devices.items() if it.out_by == out.id}
            for act in story.operations.values():
                if act.device not in gone or not _gives(act) or graph.knows(out.id, act.id):
                    continue
                tried += 1
                others = [it for it in story.operations.values() if it.id not in {*refused, out.id} and _puts_out(it)]
                saved = any(graph.knows(it.id, act.id) for it in others)
                assert act.id in refused or saved, f"seed {seed}"
    assert tried > 30


def _puts_out(operation: Operation) -> bool:
    kinds = RemoveMember | RemoveDevice | Leave | ReplaceDevice | Suspend | Admit
    return isinstance(operation.body, kinds)


def _gives(act: Operation) -> bool:
    return isinstance(act.body, Invite | Recover | AddDevice | Rotation) or (
        isinstance(act.body, SetRole) and act.body.role is Role.ADMIN
    )


def test_what_an_outsider_writes_changes_nothing() -> None:
    stranger = Person(90)
    for seed in range(60):
        made = RandomStory(seed)
        before = made.story.evaluate()
        target = made.people[1]
        added = [
            made.story.set_role(stranger, made.story.ana, Role.MEMBER, seq=1),
            made.story.invite(stranger, uses=3)[1],
            made.story.set_role(stranger, target, Role.ADMIN),
            made.story.remove(stranger, made.story.ana),
            made.story.add_device(stranger, stranger.on(1)),
            made.story.rotate(stranger),
        ]
        after = made.story.evaluate()
        assert {it.id for it in added} <= set(after.refused), f"seed {seed}"
        assert (after.members, after.devices, after.invites) == (before.members, before.devices, before.invites)
        assert {key: value for key, value in after.refused.items() if key in before.refused} == before.refused
