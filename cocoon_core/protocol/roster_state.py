"""The state that an evaluation gives: built whole, or brought up to date for one more operation that knew all others.

Both go through the same functions, one a member, device, invite or request: a whole build touches all of them, one more
operation only those that it is about. Decides nothing. Spec: specs/roster.md §9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

from cocoon_core.protocol.ids import DeviceId, InviteId, MemberId, RequestId
from cocoon_core.protocol.names import show_names, skeleton
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite, Join, SetPolicy, SetRole
from cocoon_core.protocol.operations_admission import Admit, Newcomer, SetRecovery, Vouch
from cocoon_core.protocol.operations_rotation import Rotation
from cocoon_core.protocol.roster_chains import refuse_contested, refuse_twin
from cocoon_core.protocol.roster_change import StateChange
from cocoon_core.protocol.roster_log import within
from cocoon_core.protocol.roster_pins import find_admin_pin, find_former
from cocoon_core.protocol.roster_returns import find_recovery, find_vouchers
from cocoon_core.protocol.roster_rules import Evaluation
from cocoon_core.protocol.roster_values import (
    Device,
    FormerMember,
    InviteState,
    Member,
    Refusal,
    RequestState,
    Roster,
    RotationState,
)

_K = TypeVar("_K")
_V = TypeVar("_V")


class StateKeeper:
    """Keeps the state of one evaluation. `roster` is the newest; those given out before stay as they were."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._log, self._rights = evaluation.log, evaluation.rights
        self._admins: set[MemberId] = set()  # admins by their own right who have a device
        self._heir: MemberId | None = None
        self._alike: dict[str, list[MemberId]] = {}  # members and former ones by what their names look like
        self.roster = self._blank()
        self._build()

    # --- the whole

    def _blank(self) -> Roster:
        log, places = self._log, self._evaluation.places
        create = next(log.operations[it] for it in places if isinstance(log.operations[it].body, Create))
        assert isinstance(create.body, Create)
        empty: Mapping[Any, Any] = MappingProxyType({})
        maps = {
            "members": empty, "devices": empty, "former_members": empty, "former_devices": empty, "invites": empty,
            "admin_pins": empty, "recoveries": empty, "requests": empty, "refused": empty,
        }  # fmt: skip
        return Roster(log.group_id, create.body.group_name, (), create.body.policy, rotations=(), **maps)

    def _build(self) -> None:
        log, evaluation = self._log, self._evaluation
        change = StateChange(self.roster)
        mask = evaluation.mask
        for device in sorted(device for device, places in log.enrolments.items() if within(places, mask)):
            self._touch_device(change, device)
        members = [member for member, places in log.admissions.items() if within(places, mask)]
        for member in members:
            self._touch_member(change, member)
        for invite, places in log.invites_named.items():
            if within(places, mask):
                self._touch_invite(change, invite)
        for request in {*log.vouches, *log.admits}:
            if within((*log.vouches.get(request, ()), *log.admits.get(request, ())), mask):
                self._touch_request(change, request)
        for place in sorted(evaluation.places, key=log.rank):
            self._touch_outcome(change, place)
        self._find_heir(change)
        for name, key in _ORDERS.items():
            change.sort(name, lambda item, key=key: key(self, item))  # type: ignore[misc]
        for shape in self._alike:
            self._rename(change, shape)
        known = 0
        for place in evaluation.places:
            known |= log.ancestors[place]
        heads = tuple(sorted(log.operations[place].id for place in evaluation.places if not known >> place & 1))
        self.roster = change.freeze(heads=heads, policy=evaluation.policies.at(mask))

    # --- one more

    def extend(self, place: int) -> None:
        """Bring the state up to date after the evaluation took in an operation that knows all others."""
        log, evaluation = self._log, self._evaluation
        change = StateChange(self.roster)
        self._touch_outcome(change, place)
        policy = self.roster.policy
        if evaluation.is_counted(place):
            self._touch_all(change, place)
            self._find_heir(change)
            if isinstance(log.operations[place].body, SetPolicy):
                policy = evaluation.policies.at(evaluation.mask)
        for name, key in _ORDERS.items():
            change.place_last(name, lambda item, key=key: key(self, item))  # type: ignore[misc]
        for shape in change.renames:
            self._rename(change, shape)
        self.roster = change.freeze(heads=(log.operations[place].id,), policy=policy)

    def _touch_all(self, change: StateChange, place: int) -> None:
        """Everything that one counted operation is about."""
        log = self._log
        body = log.operations[place].body
        enrolment = log.enrolled.get(place)
        members: set[MemberId] = {enrolment.member} if enrolment is not None else set()
        devices: set[DeviceId] = {enrolment.device} if enrolment is not None else set()
        out = getattr(body, "device", None) or getattr(body, "old", None)
        if place in log.closes and isinstance(out, DeviceId):
            devices.add(out)
            members.update(log.enrolled[it].member for it in log.enrolments[out])
        removed = next((member for member, places in log.removals.items() if places[-1] == place), None)
        taken = enrolment.member if enrolment is not None and isinstance(body, Admit) else None
        for member in (removed, taken, body.member if isinstance(body, SetRole) else None):
            if member is not None:
                members.add(member)
                devices.update(log.enrolled[it].device for it in log.enrolments_of[member])
        if isinstance(body, SetRecovery):
            members.add(log.author_of[place])
        for device in sorted(devices):
            self._touch_device(change, device)
        for member in sorted(members):
            self._touch_member(change, member)
        self._touch_invites(change, place)
        if place in log.request_of:
            self._touch_request(change, log.request_of[place])
        if removed is not None:
            for request in [it.id for it in self.roster.requests.values() if removed in it.vouchers]:
                self._touch_request(change, request)

    def _touch_invites(self, change: StateChange, place: int) -> None:
        log = self._log
        body = log.operations[place].body
        if isinstance(body, Invite):
            self._touch_invite(change, body.invite)
        for invite in log.closes.get(place, ()):
            self._touch_invite(change, self._invite_id(invite))
        if place in log.invite_of:
            invite = log.invite_of[place]
            state = self.roster.invites.get(self._invite_id(invite))
            if state is not None and state.operation == log.operations[invite].id:
                joins = tuple(sorted((*state.joins, log.operations[place].id)))
                change.invites[state.id] = replace(state, joins=joins)

    def _invite_id(self, place: int) -> InviteId:
        body = self._log.operations[place].body
        assert isinstance(body, Invite)
        return body.invite

    # --- members and devices

    def _touch_member(self, change: StateChange, member: MemberId) -> None:
        log, rights, mask = self._log, self._rights, self._evaluation.mask
        admission = rights.admission(member, mask)
        if admission is None:
            return
        name = self._name_in(admission)
        if member not in change.members and member not in change.former_members:
            self._alike.setdefault(_shape(name), []).append(member)
            self._note_shape(change, _shape(name))
        self._admins.discard(member)
        removals = [place for place in log.removals.get(member, ()) if rights.takes(place, mask)]
        if removals:
            known = change.members.pop(member, None)
            change.recoveries.pop(member, None)
            shown = known.shown_name if known is not None else name
            out_by = log.operations[min(removals, key=log.rank)].id
            change.former_members[member] = FormerMember(member, name, shown, out_by)
            self._note_shape(change, _shape(name))
            return
        devices = tuple(sorted(rights.devices_of(member, mask)))
        admin = rights.own_admin_grant(member, mask) is not None
        if admin and devices:
            self._admins.add(member)
        known = change.members.get(member)
        change.members[member] = Member(
            id=member,
            name=name,
            shown_name=known.shown_name if known is not None else self._show_alone(member, name),
            role=Role.ADMIN if admin or member == self._heir else Role.MEMBER,
            devices=devices,
            joined_by=log.operations[admission].id,
            seniority=rights.seniority_of(admission),
        )
        recovery = find_recovery(rights, member, mask)
        if recovery is not None:
            change.recoveries[member] = recovery

    def _name_in(self, admission: int) -> str:
        body = self._log.operations[admission].body
        if isinstance(body, Create):
            return body.member_name
        if isinstance(body, Join):
            return body.name
        assert isinstance(body, Admit)
        assert isinstance(body.request, Newcomer)
        return body.request.name

    def _touch_device(self, change: StateChange, device: DeviceId) -> None:
        log, mask = self._log, self._evaluation.mask
        grant = self._rights.device_grant(device, mask)
        change.devices.pop(device, None) if grant is None else None
        former = None
        if grant is not None:
            enrolment = log.enrolled[grant.sources[0]]
            enrolled_by = log.operations[grant.sources[0]].id
            change.devices[device] = Device(device, grant.member, enrolment.hpke, enrolled_by)
            member: MemberId | None = grant.member
        else:
            former = find_former(self._evaluation, device)
            member = former.member if former is not None else None
            if former is not None:
                change.former_devices[device] = former
        pin = find_admin_pin(self._evaluation, device, member, former) if member is not None else None
        if pin is not None:
            change.admin_pins[device] = pin
        else:
            change.admin_pins.pop(device, None)

    def _find_heir(self, change: StateChange) -> None:
        """Who is an admin because no admin by their own right can act."""
        able = [member for member in change.members.values() if member.devices] if not self._admins else []
        heir = min(able, key=lambda member: member.seniority).id if able else None
        if heir == self._heir:
            return
        before, self._heir = self._heir, heir
        for member in (before, heir):
            if member is not None and member in change.members:
                self._touch_member(change, member)

    # --- names

    def _note_shape(self, change: StateChange, shape: str) -> None:
        if len(self._alike[shape]) > 1:
            change.renames.add(shape)

    @staticmethod
    def _show_alone(member: MemberId, name: str) -> str:
        return show_names([(member, name)])[member]

    def _rename(self, change: StateChange, shape: str) -> None:
        """Work out the shown names of those whose names look alike: members by seniority, then former ones."""
        alike = self._alike[shape]
        people = [change.members[member] for member in alike if member in change.members]
        former = [change.former_members[member] for member in alike if member in change.former_members]
        people.sort(key=lambda member: member.seniority)
        former.sort(key=lambda member: (self.rank_of(member.out_by), member.id))
        shown = show_names([(it.id, it.name) for it in (*people, *former)])
        for person in people:
            if person.shown_name != shown[person.id]:
                change.members[person.id] = replace(person, shown_name=shown[person.id])
        for gone in former:
            if gone.shown_name != shown[gone.id]:
                change.former_members[gone.id] = replace(gone, shown_name=shown[gone.id])

    # --- invites, requests, outcomes

    def _touch_invite(self, change: StateChange, invite: InviteId) -> None:
        log, evaluation = self._log, self._evaluation
        places = within(log.invites_named[invite], evaluation.mask)
        counted = [place for place in places if evaluation.is_counted(place)]
        if not counted:
            return
        place = min(counted, key=log.rank)
        operation = log.operations[place]
        body = operation.body
        assert isinstance(body, Invite)
        inviter = log.member_at(operation.device, log.ancestors[place])
        assert inviter is not None, "it counts"
        joins = [join for join in evaluation.uses.entries_of(place) if evaluation.is_counted(join)]
        change.invites[invite] = InviteState(
            id=invite,
            operation=operation.id,
            inviter=inviter,
            hpke=body.hpke,
            mailbox_secret=body.mailbox_secret,
            uses=body.uses,
            expires_ms=body.expires_ms,
            role=body.role,
            joins=tuple(sorted(log.operations[join].id for join in joins)),
            revoked=place in evaluation.uses.closings,
            by_request=bool(evaluation.judge.by_request >> place & 1),
        )

    def _touch_request(self, change: StateChange, request: RequestId) -> None:
        log, evaluation, mask = self._log, self._evaluation, self._evaluation.mask
        admits = [it for it in within(log.admits.get(request, ()), mask) if evaluation.is_counted(it)]
        vouches = [it for it in within(log.vouches.get(request, ()), mask) if evaluation.is_counted(it)]
        if not admits and not vouches:
            return
        body = log.operations[(admits or vouches)[0]].body
        assert isinstance(body, Admit | Vouch)
        granting = {log.author_of[place] for place in admits}
        wanting = find_vouchers(self._rights, request, mask)
        wanting |= {member for member in granting if self._rights.is_member(member, mask)}
        change.requests[request] = RequestState(request, body.request, tuple(sorted(wanting)), bool(admits))

    def _touch_outcome(self, change: StateChange, place: int) -> None:
        """Whether it counts, and where it is a rotation that does, what it says."""
        log, rights = self._log, self._rights
        operation = log.operations[place]
        refusal = self._refusal_of(place)
        if refusal is not None:
            change.refused[operation.id] = refusal
        elif isinstance(operation.body, Rotation):
            grant = rights.device_grant(operation.device, log.ancestors[place])
            assert grant is not None, "it counts"
            state = RotationState(operation.id, operation.device, operation.body, grant.seniority, operation.parents)
            change.rotations.append(state)

    def _refusal_of(self, place: int) -> Refusal | None:
        evaluation = self._evaluation
        if place in self._rights.rivals:
            return refuse_contested(self._log, place, self._rights.rivals[place])
        if place in evaluation.refusals:
            return evaluation.refusals[place]
        twins = self._rights.twins.get(place)
        return refuse_twin(self._log, twins) if twins else None

    def rank_of(self, entry: Any) -> Any:
        return self._log.rank(self._log.place[entry])


_ORDERS: dict[str, Callable[[StateKeeper, Any], Any]] = {
    "members": lambda keeper, item: item.seniority,
    "devices": lambda keeper, item: keeper.rank_of(item.enrolled_by),
    "former_members": lambda keeper, item: (keeper.rank_of(item.out_by), item.id),
    "former_devices": lambda keeper, item: (keeper.rank_of(item.out_by), item.id),
    "invites": lambda keeper, item: keeper.rank_of(item.operation),
    "admin_pins": lambda keeper, item: item.device,
    "requests": lambda keeper, item: item.id,
}


@lru_cache(maxsize=8192)
def _shape(name: str) -> str:
    return skeleton(name)
