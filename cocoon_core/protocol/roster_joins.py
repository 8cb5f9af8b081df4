"""Who wins the uses of an invite. Spec: specs/roster.md §6.

Decided for all joins of one invite together, from the log and from the revocations that are already known to count, so
that no join's fate hangs on whether another join's author may act.
"""

from __future__ import annotations

from cocoon_core.protocol.operations import RevokeInvite
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_values import Refusal

CLOSED = Refusal("NotPermittedError", "its invite was closed by an operation that did not know it")
CLOSED_BEFORE = Refusal("NotPermittedError", "its invite was closed before")
SPENT = Refusal("NotPermittedError", "the uses of its invite went to other joins")


class InviteUses:
    """The winners of every invite within one evaluation, worked out again where a revocation came to count."""

    def __init__(self, log: OperationLog, mask: int) -> None:
        self._log = log
        self._mask = mask
        self._winners: dict[int, frozenset[int]] = {}
        self.revokes: dict[int, list[int]] = {}  # invite -> its revocations that count
        self.settled: set[int] = set()  # joins that a revocation found confirmed

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

    def revoke(self, invite: int, revoke: int) -> None:
        """Let a revocation count from now on."""
        self.revokes.setdefault(invite, []).append(revoke)
        self._winners.pop(invite, None)

    def is_closed_to(self, join: int) -> Refusal | None:
        """A join stands against revocations if it knows none, and one that came first knew it or it is confirmed."""
        log = self._log
        revokes = self.revokes.get(log.invite_of[join])
        if not revokes:
            return None
        if within(revokes, log.ancestors[join]):
            return CLOSED_BEFORE
        if join in self.settled or any(self._knows(revoke, join) for revoke in self.first_revokes(revokes)):
            return None
        return CLOSED

    def _knows(self, revoke: int, join: int) -> bool:
        """By its past, or by name: a writer may know more joins than an entry can have parents."""
        if self._log.ancestors[revoke] >> join & 1:
            return True
        body = self._log.operations[revoke].body
        return isinstance(body, RevokeInvite) and self._log.operations[join].id in body.joins

    def first_revokes(self, revokes: list[int]) -> list[int]:
        """Those that did not know another: to close again what is closed changes nothing."""
        return [revoke for revoke in revokes if not within(revokes, self._log.ancestors[revoke])]

    def _choose(self, invite: int) -> frozenset[int]:
        """Fill the uses: a join before those that knew it, of several that could be next the smallest id."""
        log = self._log
        open_to = [join for join in within(log.joins_of[invite], self._mask) if self.is_closed_to(join) is None]
        uses = log.uses(invite)
        if len(open_to) <= uses:
            return frozenset(open_to)
        winners: set[int] = set()
        waiting = sorted(open_to, key=lambda join: log.operations[join].id)
        mask = sum(1 << join for join in waiting)
        while waiting and len(winners) < uses:
            chosen = next(join for join in waiting if not log.ancestors[join] & mask)
            waiting.remove(chosen)
            mask &= ~(1 << chosen)
            winners.add(chosen)
        return frozenset(winners)

    def joins_of(self, invite: int) -> list[int]:
        return within(self._log.joins_of.get(invite, ()), self._mask)
