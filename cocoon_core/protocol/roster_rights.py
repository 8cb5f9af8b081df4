"""Who has which right in a past: membership, a device's standing, admin, succession. Spec: specs/roster.md §5.

Answers are relative to what the running pass has found permitted so far, which covers any past of the operation that
the pass is judging. Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cocoon_core.protocol.ids import DeviceId, EntryId, MemberId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite
from cocoon_core.protocol.operations_admission import Admit
from cocoon_core.protocol.roster_chains import find_rivals, find_twins
from cocoon_core.protocol.roster_cuts import find_blind, is_demotion, same_place
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_values import Seniority


class Grant(NamedTuple):
    """The right that an author uses: whose it is, how senior, and the operations that gave it."""

    member: MemberId
    seniority: Seniority
    sources: tuple[int, ...]


class Rights:
    """Rights within one evaluation. `valid`, `idle` and `as_admin` are the running pass's."""

    def __init__(self, log: OperationLog, mask: int, final: frozenset[EntryId]) -> None:
        self.log = log
        self.rivals = find_rivals(log, mask, final)
        self.twins = find_twins(log, mask, final)
        self.blind = find_blind(log, mask)
        self.decided = 0  # bits: operations that count for good
        self.valid = 0  # bits: permitted in this pass, contested or not
        self.as_admin = 0  # bits: operations that used the right of an admin in this pass
        self.idle = 0  # bits: promotions among them of who was an admin already

    def supports(self, place: int, past: int) -> bool:
        """Whether an operation of that past gives what it gives there: permitted, no rival known, and not lost."""
        return self.takes(place, past) and not (place in self.blind and self._is_lost(place, past))

    def takes(self, place: int, past: int) -> bool:
        """Whether an operation of that past takes away what it takes away there: permitted, and no rival known."""
        return bool(past >> place & 1 and self.valid >> place & 1) and not self.rivals.get(place, 0) & past

    def _is_lost(self, place: int, past: int) -> bool:
        """Whether that past also holds a removal of the author that did not know the operation, and none that did.

        So nobody answers a removal that they know by something that the removal did not know.
        """
        log = self.log
        if self.decided >> place & 1:
            return False
        blind = [it for it in within(self.blind[place], past & self.valid) if self._reaches(it, place, past)]
        if not blind:
            return False
        others = [it for it in within(self._reaching(place), past & self.valid) if log.ancestors[it] >> place & 1]
        knowing = [it for it in others if self._reaches(it, place, past)]
        return not all(
            any(log.concurrent(it, other) and is_demotion(log, it) == is_demotion(log, other) for other in knowing)
            for it in blind
        )

    def _reaches(self, cut: int, place: int, past: int) -> bool:
        if is_demotion(self.log, cut) and not self.as_admin >> place & 1:
            return False
        return self.takes(cut, past) and not same_place(self.log, cut, place)

    def _reaching(self, place: int) -> list[int]:
        """Everything that takes rights from whom the operation is by, or whom it enrols."""
        log = self.log
        device = log.acting_device(place)
        members = {log.member_at(device, log.ancestors[place])}
        members |= {log.enrolled[place].member} if place in log.enrolled else set()
        found = list(log.device_outs.get(device, ()))
        for member in members:
            if member is not None:
                found += (*log.removals.get(member, ()), *log.takeovers.get(member, ()))
                found += log.demotions.get(member, ())
        return found

    # --- members and devices

    def enrols(self, place: int, past: int) -> bool:
        """Whether an enrolment gives there: one of two fresh devices in the place of one does not."""
        return self.supports(place, past) and not self.twins.get(place, 0) & past

    def device_grant(self, device: DeviceId, past: int) -> Grant | None:
        """What makes the device a member's in that past, and nobody put it out there."""
        log = self.log
        found = [place for place in log.enrolments.get(device, ()) if self.enrols(place, past)]
        if not found:
            return None
        place = found[0] if len(found) == 1 else min(found, key=log.rank)
        member = log.enrolled[place].member
        admission = self.admission(member, past)
        if admission is None or self.is_member_out(member, past) or self.is_device_out(device, place, past):
            return None
        sources = (place,) if place == admission else (place, admission)
        return Grant(member, self.seniority_of(admission), sources)

    def admission(self, member: MemberId, past: int) -> int | None:
        """The operation that made somebody a member in that past, removed since or not."""
        found = [place for place in self.log.admissions.get(member, ()) if self.supports(place, past)]
        if len(found) <= 1:
            return found[0] if found else None
        return min(found, key=self.seniority_of)

    def is_member(self, member: MemberId, past: int) -> bool:
        return self.admission(member, past) is not None and not self.is_member_out(member, past)

    def is_member_out(self, member: MemberId, past: int) -> bool:
        return any(self.takes(place, past) for place in self.log.removals.get(member, ()))

    def is_device_out(self, device: DeviceId, enrolment: int, past: int) -> bool:
        return any(True for _ in self.device_outs(device, enrolment, past))

    def device_outs(self, device: DeviceId, enrolment: int, past: int) -> Iterable[int]:
        """The operations of that past that put the device out, other than removals of its member."""
        for place in self.log.device_outs.get(device, ()):
            if self.takes(place, past):
                yield place
        for place in self.log.takeovers.get(self.log.enrolled[enrolment].member, ()):
            if place != enrolment and not self.log.ancestors[enrolment] >> place & 1 and self.takes(place, past):
                yield place

    def devices_of(self, member: MemberId, past: int) -> list[DeviceId]:
        """The valid devices of a member in that past."""
        log = self.log
        devices = dict.fromkeys(log.enrolled[place].device for place in log.enrolments_of.get(member, ()))
        grants = [(device, self.device_grant(device, past)) for device in devices]
        return [device for device, grant in grants if grant is not None and grant.member == member]

    def seniority_of(self, admission: int) -> Seniority:
        """A join ranks by the depth of its invite, which the joiner did not choose; an admission also by that of its
        parents, which the admitting member chose.
        """
        log = self.log
        depth = log.depth[log.invite_of.get(admission, admission)]
        by_hand = isinstance(log.operations[admission].body, Admit)
        return Seniority(depth, log.depth[admission] - 1 if by_hand else 0, log.operations[admission].id)

    # --- admins

    def admin_grant(self, member: MemberId, past: int) -> Grant | None:
        """What makes the member an admin in that past: promotions, its admission, or that no admin is left."""
        return self.own_admin_grant(member, past) or self._succession(member, past)

    def own_admin_grant(self, member: MemberId, past: int) -> Grant | None:
        return self.role_grant(member, past) if self.is_member(member, past) else None

    def role_grant(self, member: MemberId, past: int) -> Grant | None:
        """What gives the role of an admin to somebody who was a member in that past, removed since or not."""
        log = self.log
        newest = self.newest_roles(member, past)
        if not newest:
            found = [it for it in log.admissions.get(member, ()) if self._admits_admin(it) and self.supports(it, past)]
            if not found:
                return None
            admission = min(found, key=self.seniority_of)
            return Grant(member, self.seniority_of(admission), (admission,))
        if any(is_demotion(log, place) for place in newest):
            return None
        place = min(newest, key=log.rank)
        return Grant(member, Seniority(log.depth[place], 0, log.operations[place].id), (place,))

    def newest_roles(self, member: MemberId, past: int) -> list[int]:
        """The role changes of a member that hold in that past and that no other of them knew."""
        left = self.log.role_bits.get(member, 0) & past & self.valid & ~self.idle
        newest = []
        while left:
            place = left.bit_length() - 1  # no other that is left can have it in its past
            left ^= 1 << place
            if self.takes(place, past) if is_demotion(self.log, place) else self.supports(place, past):
                newest.append(place)
                left &= ~self.log.ancestors[place]
        return newest

    def _admits_admin(self, place: int) -> bool:
        source = self.log.operations[self.log.invite_of.get(place, place)].body
        return isinstance(source, Create) or (isinstance(source, Invite) and source.role is Role.ADMIN)

    def some_admin_acts(self, past: int) -> bool:
        """Whether an admin who has a valid device is left in that past."""
        return any(
            self.own_admin_grant(member, past) is not None and self.devices_of(member, past)
            for member in self.log.admin_sources
        )

    def _succession(self, member: MemberId, past: int) -> Grant | None:
        """The senior member is an admin where no admin can act. The right is as old as the loss that left none."""
        if not self.devices_of(member, past) or self.some_admin_acts(past):
            return None
        senior = self.senior_member(past)
        if senior is None or senior.member != member:
            return None
        depth = max((self.log.depth[place] for place in self._losses(past)), default=0)
        return Grant(member, Seniority(depth, 0, senior.seniority.id), senior.sources[-1:])  # its admission

    def senior_member(self, past: int) -> Grant | None:
        """The most senior member with a valid device."""
        found = [self.device_grant(device, past) for device in self.log.enrolments]
        return min((grant for grant in found if grant is not None), key=lambda grant: grant.seniority, default=None)

    def _losses(self, past: int) -> Iterable[int]:
        """What took the role of an admin, or the last means to use it, from those who had it in that past."""
        log = self.log
        for member in log.admin_sources:
            newest = self.newest_roles(member, past)
            yield from (place for place in newest if is_demotion(log, place))
            if newest or any(self._admits_admin(it) and self.supports(it, past) for it in log.admissions[member]):
                yield from (place for place in log.removals.get(member, ()) if self.takes(place, past))
                for place in log.enrolments_of[member]:
                    if self.supports(place, past):
                        yield from self.device_outs(log.enrolled[place].device, place, past)
