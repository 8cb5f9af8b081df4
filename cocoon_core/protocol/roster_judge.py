"""What each operation needs to be permitted, in one pass. Spec: specs/roster.md §5 to §7 and §11.

`judge` takes operations in an order that puts pasts first, and `allow` notes the ones that are permitted. What an
operation *rests on* while it is undecided is noted beside: it cannot be decided before.
"""

from __future__ import annotations

from typing import Final

from cocoon_core.protocol.ids import EntryId, MemberId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite, Join, SetPolicy, SetRole
from cocoon_core.protocol.operations_admission import Admit, LostMember, Recover, SetRecovery
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, Suspend
from cocoon_core.protocol.roster_cuts import Cuts
from cocoon_core.protocol.roster_joins import SPENT, InviteUses
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_policy import Policies
from cocoon_core.protocol.roster_returns import find_recovery, find_vouchers, grants_lost, recovery_of
from cocoon_core.protocol.roster_rights import Grant, Rights
from cocoon_core.protocol.roster_values import Refusal, Seniority

_NO_INVITE: Final = Refusal("NotPermittedError", "its invite does not count")
_BY_REQUEST: Final = Refusal("NotPermittedError", "its invite lets nobody in whom no member admits")
_BY_LINK: Final = Refusal("NotPermittedError", "its invite needs no admission")
_NOT_ENROLLED: Final = Refusal("NotPermittedError", "its device belonged to no member that its author could know")
_NOT_ADMIN: Final = Refusal("NotPermittedError", "its author was no admin")
_NO_TARGET: Final = Refusal("NotPermittedError", "it names who was no member")
_NO_DEVICE: Final = Refusal("NotPermittedError", "it names a device that was no member's")
_NO_PHRASE: Final = Refusal("NotPermittedError", "its phrase was not the member's")
_GRANTED: Final = Refusal("NotPermittedError", "its request was granted by another operation")
_TOO_FEW: Final = Refusal("NotPermittedError", "too few members want this")
_TOO_MANY: Final = Refusal("NotPermittedError", "members and open uses would be more than the policy allows")
CUT: Final = Refusal("NotPermittedError", "its author lost the right by an operation that did not know it")
_FIRST: Final = Grant(MemberId(bytes(32)), Seniority(-1, 0, EntryId(bytes(32))), ())  # what suspend ranks by


class Judge:
    """One pass after another over the operations of one evaluation."""

    def __init__(self, log: OperationLog, rights: Rights, policies: Policies, cuts: Cuts, uses: InviteUses) -> None:
        self._log, self._rights, self._policies, self._cuts, self._uses = log, rights, policies, cuts, uses
        self.undecided = 0  # bits
        self.sources: dict[int, tuple[int, ...]] = {}  # what gave the rights that it uses
        self.grants: dict[int, Grant] = {}
        self.rests: dict[int, int] = {}  # bits: the undecided operations that it cannot be decided before
        self.by_request = 0  # bits: permitted invites whose holders ask
        self._joined = 0  # bits: permitted joins and admissions
        self._single = 0  # bits: permitted invites of one use
        self._many = 0  # bits: permitted invites of several uses
        self._gone = 0  # bits: the one permitted removal of a member
        self._removals: dict[MemberId, list[int]] = {}  # permitted ones

    def clear(self) -> None:
        """Begin a pass."""
        self.by_request = self._joined = self._single = self._many = self._gone = 0
        self._rights.valid = self._rights.idle = self._rights.as_admin = 0
        self._policies.clear()
        for noted in (self.grants, self.rests, self.sources, self._removals):
            noted.clear()

    def allow(self, place: int) -> None:
        """Note that an operation is permitted."""
        log, rights, bit = self._log, self._rights, 1 << place
        rights.valid |= bit
        match log.operations[place].body:
            case Join():
                self._joined |= bit
            case Admit() if place in log.invite_of:
                self._joined |= bit
            case Invite(uses=uses):
                if uses == 1:
                    self._single |= bit
                else:
                    self._many |= bit
                if self._policies.at(log.ancestors[place]).vouches:
                    self.by_request |= bit
            case SetRole(member=member, role=Role.ADMIN):
                # a promotion of an admin changes nothing: it would only make them less senior
                if rights.own_admin_grant(member, log.ancestors[place]) is not None:
                    rights.idle |= bit
            case RemoveMember(member=member):
                self._note_removal(place, member)
            case Leave():
                self._note_removal(place, log.author_of[place])
            case SetPolicy():
                self._policies.allow(place)

    def _note_removal(self, place: int, member: MemberId) -> None:
        removals = self._removals.setdefault(member, [])
        removals.append(place)
        if len(removals) == 1:
            self._gone |= 1 << place
        elif len(removals) == 2:
            self._gone &= ~(1 << removals[0])

    def judge(self, place: int) -> Refusal | None:
        """Whether an operation is permitted by its causal past and not taken back by what is decided."""
        log = self._log
        if log.flaws[place] is not None:
            return log.flaws[place]
        operation, past = log.operations[place], log.ancestors[place]
        body = operation.body
        match body:
            case Create():
                return None
            case Suspend():
                self.grants[place] = _FIRST
                return None
            case Join():
                return self._judge_join(place, past)
            case Recover():
                return self._judge_recovery(place, body, past)
        device = log.acting_device(place)
        grant = self._rights.device_grant(device, past)
        if grant is None or log.author_of.get(place, grant.member) != grant.member:
            return _NOT_ENROLLED
        self._rest_on(place, grant.sources)
        as_admin = self._needs_admin(place, grant.member)
        if as_admin:
            grant = self._rights.admin_grant(grant.member, past)
            if grant is None:
                return _NOT_ADMIN
            self._rest_on(place, grant.sources)
            self._rights.as_admin |= 1 << place
        self.grants[place] = grant
        if self._cuts.reach(place, device, grant.member, as_admin=as_admin):
            return CUT
        match body:
            case Invite():
                return self._judge_invite(place, body, grant.member, past)
            case SetRole() | RemoveMember():
                return None if self._rights.is_member(body.member, past) else _NO_TARGET
            case RemoveDevice():
                return None if self._rights.device_grant(body.device, past) is not None else _NO_DEVICE
            case Admit():
                return self._judge_admission(place, body, grant.member, past)
        return None

    def _needs_admin(self, place: int, member: MemberId) -> bool:
        log = self._log
        past = log.ancestors[place]
        match log.operations[place].body:
            case SetRole() | SetPolicy() | RemoveMember():
                return True
            case Invite(role=role):
                return role is Role.ADMIN or self._policies.at(past).inviters is Role.ADMIN
            case RemoveDevice(device=device):
                target = self._rights.device_grant(device, past)
                return target is not None and target.member != member
        return False

    # --- what rests on what is undecided

    def _rest_on(self, place: int, sources: tuple[int, ...]) -> None:
        self.sources[place] = self.sources.get(place, ()) + sources
        for source in sources:
            resting = self.rests.get(source, 0) | (self.undecided & 1 << source)
            if resting:
                self.rests[place] = self.rests.get(place, 0) | resting

    def _rest_on_closers(self, place: int, invite: int) -> None:
        known = self._log.ancestors[place] & self._rights.valid
        self._rest_on(place, tuple(it for it in within(self._log.closers_of.get(invite, ()), known)))

    # --- kinds

    def _judge_join(self, place: int, past: int) -> Refusal | None:
        invite = self._log.invite_of[place]
        if not self._rights.supports(invite, past):
            return _NO_INVITE
        if self.by_request >> invite & 1:
            return _BY_REQUEST
        self._rest_on(place, (invite,))
        self._rest_on_closers(place, invite)
        return self._uses.loses(place)

    def _judge_recovery(self, place: int, body: Recover, past: int) -> Refusal | None:
        admission = self._rights.admission(body.member, past)
        if admission is None or self._rights.is_member_out(body.member, past):
            return _NO_TARGET
        self._rest_on(place, (admission,))
        recovery = find_recovery(self._rights, body.member, past)
        if recovery is None or recovery.id != body.recovery:
            return _NO_PHRASE
        if self._cuts.reach(place, None, body.member) or self._cuts.reach_entering(
            place, body.member, lambda word: recovery_of(word).id == body.recovery
        ):
            return CUT
        return None

    def _judge_invite(self, place: int, body: Invite, author: MemberId, past: int) -> Refusal | None:
        policy, promised = self._policies.at(past), self._promised(place) + body.uses
        if promised > policy.max_members:
            return _TOO_MANY
        by_admin = lambda: self._rights.admin_grant(author, past) is not None  # noqa: E731
        return CUT if self._cuts.reach_invite(place, policy, promised, by_admin=by_admin) else None

    def _judge_admission(self, place: int, body: Admit, author: MemberId, past: int) -> Refusal | None:
        request = self._log.request_of[place]
        if any(self._granted_before(it, place) for it in self._log.admits[request]):
            return _GRANTED
        vouchers = find_vouchers(self._rights, request, past)
        if isinstance(body.request, LostMember):
            return self._judge_takeover(place, body.request.member, author, vouchers)
        invite = self._log.invite_of[place]
        if not self._rights.supports(invite, past):
            return _NO_INVITE
        if not self.by_request >> invite & 1:
            return _BY_LINK
        self._rest_on(place, (invite,))
        self._rest_on_closers(place, invite)
        asked = max(self._policies.at(it).vouches for it in (past, self._log.ancestors[invite]))
        if len(vouchers | {author}) < asked:
            return _TOO_FEW
        closed = self._uses.is_closed_to(place)
        if closed is not None:
            return closed
        return SPENT if self._taken(place, invite) >= self._log.uses(invite) else None

    def _granted_before(self, other: int, place: int) -> bool:
        if self._log.concurrent(other, place):
            return bool(self._rights.decided >> other & 1)
        return self._rights.enrols(other, self._log.ancestors[place])

    def _taken(self, place: int, invite: int) -> int:
        """Uses that permitted admissions took before, or that decided ones took at once."""
        log = self._log
        others = [it for it in self._uses.entries_of(invite) if isinstance(log.operations[it].body, Admit)]
        known = within(others, log.ancestors[place] & self._rights.valid)
        return len(known) + sum(1 for it in others if self._rights.decided >> it & 1 and log.concurrent(it, place))

    def _judge_takeover(
        self, place: int, member: MemberId, author: MemberId, vouchers: set[MemberId]
    ) -> Refusal | None:
        past = self._log.ancestors[place]
        admission = self._rights.admission(member, past)
        if admission is None or self._rights.is_member_out(member, past):
            return _NO_TARGET
        self._rest_on(place, (admission,))
        recovery = find_recovery(self._rights, member, past)
        if recovery is None or not grants_lost(recovery, member, author, vouchers):
            return _TOO_FEW

        def fits(word: SetRecovery) -> bool:
            return grants_lost(recovery_of(word), member, author, vouchers)

        cut = self._cuts.reach(place, None, member) or self._cuts.reach_entering(place, member, fits)
        return CUT if cut else None

    def _promised(self, invite: int) -> int:
        """Members and open uses before an invite. Closings in its past free uses even if they came to nothing."""
        log = self._log
        past, shut = log.ancestors[invite], log.shut[invite]
        total = 1 + (self._joined & past).bit_count() + (self._single & past & ~shut).bit_count()
        total -= (self._gone & past).bit_count()
        total -= sum(1 for places in self._removals.values() if len(places) > 1 and within(places, past))
        several = self._many & past & ~shut
        while several:
            lowest = several & -several
            place = lowest.bit_length() - 1
            total += max(0, log.uses(place) - len(within(log.entries_of.get(place, ()), past & self._joined)))
            several ^= lowest
        return total
