"""The roster: who is in the group and who may do what, as a pure function of the set of roster operations.

`RosterGraph` takes verified operations in any order that puts parents first, and evaluates them; `Roster` is the state.
Whoever holds the same operations holds the same state. What one operation and its past decide is in roster_log and
roster_flaws, forks in roster_chains, rights in roster_rights, what permits an operation in roster_judge, the order of
decisions in roster_rules, the state in roster_state.
Implements specs/roster.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cocoon_core.errors import NotYetError
from cocoon_core.protocol.constants import MAX_ROSTER_HEADS
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId
from cocoon_core.protocol.operations import Create
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_rules import Evaluation
from cocoon_core.protocol.roster_state import StateKeeper
from cocoon_core.protocol.roster_values import (
    Device,
    FormerDevice,
    FormerMember,
    InviteState,
    Member,
    Operation,
    Recipient,
    Recovery,
    Refusal,
    RequestState,
    Roster,
    RotationState,
    Seniority,
)

__all__ = [
    "Device",
    "FormerDevice",
    "FormerMember",
    "InviteState",
    "Member",
    "Operation",
    "Recipient",
    "Recovery",
    "Refusal",
    "RequestState",
    "Roster",
    "RosterGraph",
    "RotationState",
    "Seniority",
]

_KEPT_STATES: Final = 8  # evaluated states that a graph remembers
_KEPT_EVALUATIONS: Final = 4  # whole evaluations, by what is final, that are gone on with
_NONE: Final[frozenset[EntryId]] = frozenset()


class RosterGraph:
    """The roster operations of one group. Not a value: it grows by `add` and forgets nothing."""

    def __init__(self, group_id: GroupId) -> None:
        self._log = OperationLog(group_id)
        self._heads: set[EntryId] = set()
        self._states: dict[tuple[int, frozenset[EntryId]], Roster] = {}
        # Of all operations, by what is final; what was used last is the last.
        self._whole: dict[frozenset[EntryId], tuple[Evaluation, StateKeeper]] = {}

    @property
    def group_id(self) -> GroupId:
        return self._log.group_id

    def __len__(self) -> int:
        return len(self._log.operations)

    def __contains__(self, operation: EntryId) -> bool:
        return operation in self._log.place

    def add(self, operation: Operation) -> bool:
        """Take in a verified operation; False if it is here already. One that will not count is taken in all the same.

        Raises:
            NotYetError: a parent is not here; nothing was changed.
            UpdateNeededError: a proof in it is of a later version; nothing was changed.
        """
        if not self._log.append(operation):
            return False
        self._heads.difference_update(operation.parents)
        self._heads.add(operation.id)
        return True

    def operations(self) -> tuple[Operation, ...]:
        """All that is here, whether it counts or not, pasts first."""
        return tuple(self._log.operations)

    def operation(self, operation: EntryId) -> Operation:
        """The operation of that id.

        Raises:
            NotYetError: it has not arrived.
        """
        return self._log.operations[self._place(operation)]

    def knows(self, later: EntryId, earlier: EntryId) -> bool:
        """Whether `earlier` is in the past of `later`, which does not hold `later` itself.

        Raises:
            NotYetError: one of them has not arrived.
        """
        return bool(self._log.ancestors[self._place(later)] >> self._place(earlier) & 1)

    def past(self, heads: Iterable[EntryId]) -> tuple[EntryId, ...]:
        """These operations and all before them, pasts first.

        Raises:
            NotYetError: one of them has not arrived.
        """
        mask = self._log.past_of(heads)
        return tuple(self._log.operations[place].id for place in within(range(len(self)), mask))

    def _place(self, operation: EntryId) -> int:
        place = self._log.place.get(operation)
        if place is None:
            raise NotYetError(f"operation {operation.hex()[:12]} has not arrived")
        return place

    def heads(self) -> tuple[EntryId, ...]:
        """The operations that no other names as its parent, sorted: what a writer that knows all of this names."""
        return tuple(sorted(self._heads))

    def heads_to_name(self, device: DeviceId) -> tuple[EntryId, ...]:
        """At most MAX_ROSTER_HEADS heads for the next entry of a device: its own newest first, then those that count.

        Heads beyond that are named by a later entry, once an operation has merged some of these.
        """
        if len(self._heads) <= MAX_ROSTER_HEADS:
            return self.heads()
        refused = self.evaluate().refused
        own = {head for head in self._heads if self._knows_own(head, device)}
        ranked = sorted(self._heads, key=lambda head: (head not in own, head in refused, head))
        return tuple(sorted(ranked[:MAX_ROSTER_HEADS]))

    def evaluate(self, final: frozenset[EntryId] = _NONE) -> Roster:
        """The state of all operations.

        One more operation whose parents are all heads costs a small part of a whole evaluation.

        Args:
            final: the operations inside the frontiers of the manifests on the chosen path, and of a device that signed
                two histories any entries there. What is final stands where it contradicts what is not.

        Raises:
            NotYetError: create has not arrived.
        """
        known = self._whole.pop(final, None)
        if known is not None:
            evaluation, keeper = known
            while len(evaluation.places) < len(self):
                place = len(evaluation.places)
                if not evaluation.extend(place):
                    break
                keeper.extend(place)
            else:
                self._whole[final] = known
                return keeper.roster
        evaluation = self._evaluate((1 << len(self)) - 1, final)
        keeper = StateKeeper(evaluation)
        while len(self._whole) >= _KEPT_EVALUATIONS:
            del self._whole[next(iter(self._whole))]
        self._whole[final] = evaluation, keeper
        return keeper.roster

    def roster_at(self, heads: Iterable[EntryId], final: frozenset[EntryId] = _NONE) -> Roster:
        """The state that a writer knew who names these heads. Evaluates that past whole, unless it was asked before.

        Raises:
            NotYetError: one of them has not arrived, or no create is among their past.
        """
        mask = self._log.past_of(heads)
        if mask == (1 << len(self)) - 1:
            return self.evaluate(final)
        state = self._states.get((mask, final))
        if state is None:
            state = StateKeeper(self._evaluate(mask, final)).roster
            while len(self._states) >= _KEPT_STATES:
                del self._states[next(iter(self._states))]
            self._states[mask, final] = state
        return state

    def _knows_own(self, head: EntryId, device: DeviceId) -> bool:
        place = self._log.place[head]
        own = within(self._log.by_device.get(device, ()), self._log.ancestors[place] | 1 << place)
        return bool(own) and own[-1] == self._log.by_device[device][-1]

    def _evaluate(self, mask: int, final: frozenset[EntryId]) -> Evaluation:
        log = self._log
        creates = [place for place in within(range(len(self)), mask) if log.flaws[place] is None]
        bodies = (log.operations[place].body for place in creates)
        create = next((body for body in bodies if isinstance(body, Create)), None)
        if create is None:
            raise NotYetError(f"the create of group {log.group_id.hex()[:12]} has not arrived")
        evaluation = Evaluation(log, mask, create.policy, final)
        evaluation.run()
        return evaluation
