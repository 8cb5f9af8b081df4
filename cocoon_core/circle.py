"""Bringing a lost member back together: guardians, codes, vouching, objecting. A part of `Group`.

What the lost member's own device does is in recovery.py. Rights are the roster's; the delay is each device's own.
Formats and order: specs/recovery.md §7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cocoon_core.errors import UsageError
from cocoon_core.group_part import GroupPart
from cocoon_core.protocol.circle import HelpCode, read_circle_code, write_help_code
from cocoon_core.protocol.constants import MAX_GUARDIANS
from cocoon_core.protocol.ids import MemberId, RequestId
from cocoon_core.protocol.operations_admission import LostMember
from cocoon_core.protocol.roster_values import RequestState
from cocoon_core.storage.recovery import RecoveryTable
from cocoon_core.sync.circle import fetch_request, ripe_at, vouch, words_of
from cocoon_core.sync.recovering import is_covered, recovery_of, write_recovery
from cocoon_core.sync.relay_list import relays_to_tell

DELAY: Final = timedelta(hours=72)


@dataclass(frozen=True, slots=True)
class RecoveryInfo:
    """How the own member comes back into this group: by a phrase, by `threshold` of the guardians, or not at all."""

    phrase: bool
    guardians: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class RecoveryRequestInfo:
    """A request for a lost member that somebody vouched for.

    `wanted` is how many guardians it takes; `at` is when this device admits them, if its member vouched and nobody
    objects.
    """

    id: RequestId
    member: MemberId
    name: str
    vouchers: tuple[str, ...]
    wanted: int
    granted: bool
    at: datetime | None


class Circle(GroupPart):
    """The part of a group that is about lost members."""

    def recovery(self) -> RecoveryInfo:
        """How the own member comes back."""
        found = recovery_of(self._replica)
        return RecoveryInfo(is_covered(self._replica), self._names(found.guardians), found.threshold)

    async def set_guardians(self, guardians: Sequence[MemberId], threshold: int) -> RecoveryInfo:
        """Choose who can bring one back together, or nobody. They learn that they were chosen, as everybody does.

        Raises:
            UsageError: not members, oneself, or fewer than the threshold; or another device of one's own holds the
                phrase.
        """
        me = self._require_me()
        chosen = tuple(sorted(set(guardians)))
        if me in chosen or not set(chosen) <= self._roster.members.keys():
            raise UsageError("guardians are other members of the group")
        if len(chosen) > MAX_GUARDIANS:
            raise UsageError(f"a member has {MAX_GUARDIANS} guardians at most")
        if not (1 if chosen else 0) <= threshold <= len(chosen):
            raise UsageError(f"of {len(chosen)} guardians it takes 1 to {len(chosen)}, not {threshold}")
        write_recovery(self._replica, (chosen, threshold))
        return self.recovery()

    def write_help_code(self, member: MemberId) -> str:
        """What a lost member needs on a bare device to ask. It opens nothing and is no secret.

        Raises:
            UsageError: that member chose no guardians.
        """
        self._require_me()
        found = self._roster.recoveries.get(member)
        if found is None or not found.guardians:
            raise UsageError("this member chose no guardians, so nobody can bring them back this way; invite them anew")
        known = dict(self._roster.policy.tokens)
        relays = relays_to_tell(self._replica)
        tokens = tuple((url, known[url]) for url in sorted(relays) if url in known)
        return write_help_code(HelpCode(self._replica.group, member, relays, tokens))

    async def read_circle_code(self, code: str) -> RecoveryRequestInfo:
        """The request that a lost member's code leads to.

        Raises:
            InvalidLinkError: not a code, or not all of it.
            UsageError: it is of another group.
            NotYetError: no relay has the request.
            RelayUnavailable: no relay could be reached.
        """
        read = read_circle_code(code)
        request = await fetch_request(self._replica, self._dial, read)
        return self._request_info(read.request, request)

    async def vouch_for_lost(self, code: str, words: str, delay: timedelta = DELAY) -> RecoveryRequestInfo:
        """Say that a member lost all devices and that the one which asks is theirs. Everybody is told.

        Once enough guardians have, and after the delay, this device admits the new one with a sync.

        Args:
            words: the six words that the lost member's device shows, which they must have told oneself: whoever carried
                the code could have exchanged it.
            delay: from when this device first saw that somebody vouched. Time for the member to object.

        Raises:
            InvalidLinkError, NotYetError, RelayUnavailable: as `read_circle_code`.
            UsageError: the words are others, or one is no guardian of that member.
        """
        read = read_circle_code(code)
        request = await fetch_request(self._replica, self._dial, read)
        if words.lower().split() != words_of(read.request).split():
            raise UsageError(
                "these are not the words of this request; ask the lost member for those on their screen, and do not "
                "vouch if they differ: then somebody else is asking"
            )
        vouch(self._replica, request, read, max(0, int(delay.total_seconds() * 1000)))
        return self._request_info(read.request, request)

    def recovery_requests(self) -> list[RecoveryRequestInfo]:
        """All requests for lost members that somebody vouched for."""
        states = self._roster.requests.values()
        return [self._request_info(s.id, s.request) for s in states if isinstance(s.request, LostMember)]

    async def object_to_recovery(self) -> RecoveryInfo:
        """Take one's guardians their power, so that no request for oneself is granted any more. The phrase stays.

        Raises:
            UsageError: there are none.
        """
        self._require_me()
        if not recovery_of(self._replica).guardians:
            raise UsageError("you have no guardians, so nobody can replace your devices")
        write_recovery(self._replica, ((), 0), may_drop_phrase=True)
        return self.recovery()

    def _request_info(self, request: RequestId, lost: LostMember) -> RecoveryRequestInfo:
        state = self._roster.requests.get(request) or RequestState(request, lost, (), granted=False)
        seen = RecoveryTable(self._replica.database).seen_requests(self._replica.record.number).get(request)
        at = ripe_at(self._replica, state, seen) if seen is not None else None
        member = self._roster.members.get(lost.member)
        recovery = self._roster.recoveries.get(lost.member)
        return RecoveryRequestInfo(
            request,
            lost.member,
            member.shown_name if member is not None else lost.member.hex()[:12],
            self._names(state.vouchers),
            recovery.threshold if recovery is not None else 0,
            state.granted,
            datetime.fromtimestamp(at / 1000, UTC) if at is not None else None,
        )

    def _names(self, members: Sequence[MemberId]) -> tuple[str, ...]:
        known = self._roster.members
        return tuple(known[member].shown_name if member in known else member.hex()[:12] for member in members)
