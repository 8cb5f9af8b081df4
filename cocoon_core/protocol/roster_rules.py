"""Which operations of a set count: the order in which operations that take rights away are decided.

A *pass* judges every operation in its causal past, with what is decided so far. Then the most senior undecided
operation that the pass found permitted comes to count for good, and the pass is repeated where that can matter to
another. What is left when no undecided one is permitted is void. So the outcome depends on the set alone.
What permits an operation is in roster_judge, what a decided one takes from others in roster_cuts.
Spec: specs/roster.md §5.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operation_forms import Policy
from cocoon_core.protocol.operations import RevokeInvite, SetPolicy
from cocoon_core.protocol.operations_admission import Admit, SetRecovery
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.roster_chains import is_chained
from cocoon_core.protocol.roster_confirm import bits_of, find_confirmed, find_doubts, spread_doubts
from cocoon_core.protocol.roster_cuts import Cuts, is_demotion, reached_acts
from cocoon_core.protocol.roster_joins import InviteUses
from cocoon_core.protocol.roster_judge import CUT, Judge
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_policy import Policies
from cocoon_core.protocol.roster_rights import Rights
from cocoon_core.protocol.roster_values import Refusal, Seniority

_Deciding = (
    RevokeInvite | RemoveMember | Leave | RemoveDevice | ReplaceDevice | Suspend | Admit | SetPolicy | SetRecovery
)


class Evaluation:
    """One evaluation of the operations of a mask. After `run`, `is_counted` and `refusals` hold the outcome."""

    def __init__(self, log: OperationLog, mask: int, policy: Policy, final: frozenset[EntryId] = frozenset()) -> None:
        self.log = log
        self.mask = mask
        self.final = final
        self.places = within(range(len(log.operations)), mask)
        self.rights = Rights(log, mask, final)
        self.policies = Policies(self.rights, policy)
        self.cuts = Cuts(log)
        self.uses = InviteUses(log, mask, final)
        self.judge = Judge(log, self.rights, self.policies, self.cuts, self.uses)
        self.refusals: dict[int, Refusal] = {}
        self._steady = True  # no pass took back what another had found
        for place in self.places:
            if self._is_deciding(place):
                self.judge.undecided |= 1 << place

    def run(self) -> None:
        self._pass()
        while self.judge.undecided:
            disturbed, decided = self._decide_ready()
            if not decided:
                return  # none of what is left is permitted, so all of it is void
            if disturbed:
                before = self.rights.valid
                self._pass()
                self._steady = self._steady and before == self.rights.valid

    def extend(self, place: int) -> bool:
        """Take in one operation that knows all others; False where that needs a whole evaluation.

        It is concurrent with nothing, so it takes nothing from any other, and all of its past is decided. Only its own
        verdict could have been another in an earlier pass, and where it is permitted now that makes no difference.
        """
        log = self.log
        if log.ancestors[place] != self.mask or (is_chained(log, place) and not log.follows[place]):
            return False
        self.uses.extend(place)
        refusal = self.judge.judge(place)
        deciding = self._is_deciding(place)
        if refusal is not None and deciding and log.flaws[place] is None and not self._steady:
            return False
        self.mask |= 1 << place
        self.places.append(place)
        if refusal is not None:
            self.refusals[place] = refusal
            if deciding:
                self.judge.undecided |= 1 << place
            return True
        self.judge.allow(place)
        if deciding:
            self._decide(place)
        return True

    def is_counted(self, place: int) -> bool:
        return bool(self.rights.valid >> place & 1) and place not in self.rights.rivals

    # --- steps

    def _is_deciding(self, place: int) -> bool:
        """Whether the operation takes something away, so that its place in the order of decisions matters."""
        log = self.log
        if log.flaws[place] is not None or place in self.rights.rivals:
            return False
        return isinstance(log.operations[place].body, _Deciding) or is_demotion(log, place)

    def _pass(self) -> None:
        judge = self.judge
        judge.clear()
        self.refusals.clear()
        for place in self.places:
            refusal = None if self.rights.decided >> place & 1 else judge.judge(place)
            if refusal is None:
                judge.allow(place)
            else:
                self.refusals[place] = refusal

    def _decide_ready(self) -> tuple[bool, bool]:
        """Let permitted ones count in their order, up to the first that may change the verdict on another.

        Returns:
            Whether a pass is needed, and whether any was decided.
        """
        open_ones = within(self.places, self.judge.undecided & self.rights.valid)
        rests = {place: self.judge.rests.get(place, 0) & self.judge.undecided for place in open_ones}
        doubts = find_doubts(self)
        if doubts:
            return self._decide_one(rests, spread_doubts(self, doubts))
        held: dict[int, list[int]] = {}  # undecided -> those that rest on it
        for place, resting in rests.items():
            for other in bits_of(resting):
                held.setdefault(other, []).append(place)
        ready = [self._order(place) for place in open_ones if not rests[place]]
        heapify(ready)
        decided = bool(ready)
        while ready:
            *_, place = heappop(ready)
            disturbs = self._disturbs(place)
            self._decide(place)
            if disturbs:
                return True, True
            for other in held.get(place, ()):
                rests[other] &= ~(1 << place)
                if not rests[other]:
                    heappush(ready, self._order(other))
        return False, decided

    def _decide_one(self, rests: dict[int, int], doubts: dict[int, int]) -> tuple[bool, bool]:
        """Let the first count that nothing keeps back; where doubts keep all back, the first that only they keep."""
        able = [place for place, resting in rests.items() if not resting]
        if not able:
            return False, False
        clear = [place for place in able if not doubts.get(place, 0)]
        *_, place = min(self._order(it) for it in clear or able)
        self._decide(place)
        return True, True

    def _order(self, place: int) -> tuple[Seniority, EntryId, int]:
        return self.judge.grants[place].seniority, self.log.operations[place].id, place

    def _decide(self, place: int) -> None:
        judge = self.judge
        judge.undecided &= ~(1 << place)
        self.rights.decided |= 1 << place
        if isinstance(self.log.operations[place].body, SetPolicy):
            self.cuts.add_policy(place, self.policies.changed_rules(place))
        else:
            self.cuts.add(place)
        for invite in self.log.closes.get(place, ()):
            self.uses.settled.update(find_confirmed(self, invite, place))
            self.uses.close(invite, place)

    def _disturbs(self, place: int) -> bool:
        """Whether deciding this one can change the verdict on another. A needless yes costs a pass and no more."""
        log = self.log
        body = log.operations[place].body
        if place in self.rights.blind:
            return True
        if isinstance(body, SetPolicy):
            acts = within(self.places, log.invite_bits & ~log.ancestors[place])
        elif isinstance(body, Admit) and place in log.invite_of:
            acts = [*self.uses.entries_of(log.invite_of[place]), *within(log.admits[log.request_of[place]], self.mask)]
        else:
            acts = within(reached_acts(log, place), self.mask)
        if any(log.concurrent(place, act) or self.refusals.get(act) is CUT for act in acts):
            return True
        return any(self._disturbs_joins(place, invite) for invite in log.closes.get(place, ()))

    def _disturbs_joins(self, place: int, invite: int) -> bool:
        log = self.log
        if any(log.concurrent(place, other) for other in self.uses.closings.get(invite, ())):
            return True
        return any(not log.ancestors[place] >> join & 1 for join in self.uses.entries_of(invite))
