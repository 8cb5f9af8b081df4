"""Who wins the uses of an invite. Spec: specs/roster.md §6.

Decided for all joins of one invite together, from the log and from the closings that are already known to count, so
that no join's fate hangs on whether another join's author may act. Admissions by request take uses in the order in
which they are decided instead.
"""

from __future__ import annotations

from cocoon_core.protocol.ids import EntryId
from cocoon_core.protocol.operations import Join, RevokeInvite
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_values import Refusal

CLOSED = Refusal("NotPermittedError", "its invite was closed by an operation that did not know it")
CLOSED_BEFORE = Refusal("NotPermittedError", "its invite was closed before")
SPENT = Refusal("NotPermittedError", "the uses of its invite went to other joins")


class InviteUses:
    """The winners of every invite within one evaluation, worked out again where a closing came to count."""

    def __init__(self, log: OperationLog, mask: int, final: frozenset[EntryId]) -> None:
        self._log = log
        self._mask = mask
        self._final = final
        self._winners: dict[int, set[int]] = {}
        self.closings: dict[int, list[int]] = {}  # invite -> its closings that count
        self.settled: set[int] = set()  # joins that a closing found confirmed

    def extend(self, place: int) -> None:
        """Take one more operation into account, which knows all others."""
        self._mask |= 1 << place
        invite = self._log.invite_of.get(place)
        winners = self._winners.get(invite) if invite is not None else None
        if (
            invite is not None
            and winners is not None
            and self._competes(place)
            and len(winners) < self._log.uses(invite)
        ):
            winners.add(place)  # it knew every other, so it comes after them

    def loses(self, join: int) -> Refusal | None:
        """Why a join has none of its invite's uses, or None if it has one."""
        closed = self.is_closed_to(join)
        if closed is not None:
            return closed
        invite = self._log.invite_of[join]
        winners = self._winners.get(invite)
        if winners is None:
            winners = self._winners[invite] = self._choose(invite)
        return None if join in winners else SPENT

    def close(self, invite: int, closing: int) -> None:
        """Let a closing count from now on."""
        self.closings.setdefault(invite, []).append(closing)
        self._winners.pop(invite, None)

    def is_closed_to(self, join: int) -> Refusal | None:
        """A join stands against closings if it knows none, and one that came first knew it or it is confirmed."""
        log = self._log
        closings = self.closings.get(log.invite_of[join])
        if not closings:
            return None
        if within(closings, log.ancestors[join]):
            return CLOSED_BEFORE
        if join in self.settled or log.operations[join].id in self._final:
            return None
        return None if any(self._knows(closing, join) for closing in self._first(closings)) else CLOSED

    def _knows(self, closing: int, join: int) -> bool:
        """By its past, or by name: a writer may know more joins than an entry can have parents."""
        if self._log.ancestors[closing] >> join & 1:
            return True
        body = self._log.operations[closing].body
        return isinstance(body, RevokeInvite) and self._log.operations[join].id in body.joins

    def _first(self, closings: list[int]) -> list[int]:
        """Those that did not know another: to close again what is closed changes nothing."""
        return [closing for closing in closings if not within(closings, self._log.ancestors[closing])]

    def _choose(self, invite: int) -> set[int]:
        """Fill the uses: what is final, then a join before those that knew it, then the smallest id."""
        log = self._log
        open_to = [join for join in self.entries_of(invite) if self._competes(join)]
        uses = log.uses(invite)
        if len(open_to) <= uses:
            return set(open_to)
        waiting = sorted(open_to, key=lambda join: log.operations[join].id)
        winners: list[int] = []
        for group in self._split_final(waiting):
            mask = sum(1 << join for join in group)
            while group and len(winners) < uses:
                chosen = next(join for join in group if not log.ancestors[join] & mask)
                group.remove(chosen)
                mask &= ~(1 << chosen)
                winners.append(chosen)
        return set(winners)

    def _competes(self, join: int) -> bool:
        return isinstance(self._log.operations[join].body, Join) and self.is_closed_to(join) is None

    def _split_final(self, waiting: list[int]) -> tuple[list[int], list[int]]:
        final = [join for join in waiting if self._log.operations[join].id in self._final]
        return final, [join for join in waiting if join not in final]

    def entries_of(self, invite: int) -> list[int]:
        """The joins and admissions that use an invite."""
        return within(self._log.entries_of.get(invite, ()), self._mask)
