"""The roster is a function of the set of operations: any order of arrival, in one go or bit by bit, gives one state."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import pytest

from cocoon_core.protocol import operations, roster_log
from cocoon_core.protocol.operations import Create, Invite, Join, Role, SetRole, member_id_of
from cocoon_core.protocol.roster import Operation, Roster, RosterGraph
from cocoon_core.protocol.roster_rules import Evaluation
from tests.support.roster_oracle import Oracle
from tests.support.roster_random import RandomStory
from tests.support.roster_story import Person, Story

SEEDS = range(800)


@pytest.fixture(autouse=True)
def remember_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cryptographic checks are real, but each distinct one runs once: they are functions of their arguments."""
    for module, name in [
        (operations, "verify"),
        (roster_log, "require_good_hpke_key"),
        (roster_log, "require_good_signing_key"),
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


def test_any_order_of_arrival_gives_the_same_state() -> None:
    refusals: Counter[str] = Counter()
    for seed in SEEDS:
        made = RandomStory(seed)
        expected = made.story.evaluate()
        refusals.update(re.sub("[0-9a-f]{12}|[0-9]+", "_", it.reason) for it in expected.refused.values())
        for turn in range(3):
            order = made.story.shuffled(random.Random(f"{seed}/{turn}"))
            assert _arrive(made.story, order).evaluate() == expected, f"seed {seed}, turn {turn}"
    seen = " ".join(refusals)
    for rule in ("no admin", "lost the right", "no member", "other joins", "closed before", "policy", "also signed"):
        assert rule in seen, f"these stories never try the rule on {rule!r}: {refusals}"


def test_a_past_evaluates_as_if_nothing_else_had_arrived() -> None:
    for seed in range(200):
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
    for seed in SEEDS[:400]:
        story = RandomStory(seed, size=34).story
        quick = story.evaluate()
        with monkeypatch.context() as patch:
            patch.setattr("cocoon_core.protocol.roster.Evaluation", OneDecisionAPass)
            assert story.evaluate() == quick, f"seed {seed}"


def test_the_state_is_what_the_specification_says() -> None:
    for seed in SEEDS[:300]:
        story = RandomStory(10_000 + seed, size=34).story
        state, oracle = story.evaluate(), Oracle(story)
        assert set(story.operations) - set(state.refused) == oracle.counted, f"seed {10_000 + seed}"
        assert {it.id for it in state.members.values() if it.role is Role.ADMIN} == oracle.admins, (
            f"seed {10_000 + seed}"
        )


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
        if isinstance(body, Join) and body.invite in admin_links:
            sources.add(member_id_of(story.group, operation.device))
    return sources


def test_every_right_has_a_counted_source() -> None:
    for seed in SEEDS[:400]:
        story = RandomStory(seed, size=30).story
        state = story.evaluate()
        admins = {member.id for member in state.members.values() if member.role is Role.ADMIN}
        assert admins, f"seed {seed}"
        unexplained = admins - _sources_of_admin(story, state)
        senior = min(state.members.values(), key=lambda member: member.seniority)
        assert unexplained <= {senior.id}, f"seed {seed}"
        assert not unexplained or len(admins) == 1, f"seed {seed}"
        for member in state.members.values():
            joined = story.operations[member.joined_by]
            assert isinstance(joined.body, Create | Join), f"seed {seed}"
            assert joined.id not in state.refused, f"seed {seed}"
        for invite in state.invites.values():
            assert len(invite.joins) <= invite.uses, f"seed {seed}"


def test_what_an_outsider_writes_changes_nothing() -> None:
    stranger = Person(90)
    for seed in range(200):
        made = RandomStory(seed)
        before = made.story.evaluate()
        added = [
            made.story.set_role(stranger, made.story.ana, Role.MEMBER, seq=1),
            made.story.invite(stranger, uses=3)[1],
            made.story.set_role(stranger, made.people[1], Role.ADMIN),
        ]
        after = made.story.evaluate()
        assert {it.id for it in added} <= set(after.refused), f"seed {seed}"
        assert (after.members, after.devices, after.invites) == (before.members, before.devices, before.invites)
        assert {key: value for key, value in after.refused.items() if key in before.refused} == before.refused
