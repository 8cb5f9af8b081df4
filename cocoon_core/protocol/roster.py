"""The roster: who is in the group and who may do what, as a pure function of the set of roster operations.

`RosterGraph` takes verified operations in any order that puts parents first, and evaluates them; `Roster` is the state.
Whoever holds the same operations holds the same state. What one operation and its past decide is in roster_log, forks
in roster_chains, the uses of invites in roster_joins, rights and their loss in roster_rules.
Implements specs/roster.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from cocoon_core.errors import NotYetError
from cocoon_core.protocol.constants import MAX_ROSTER_HEADS
from cocoon_core.protocol.ids import DeviceId, EntryId, GroupId, InviteId, MemberId
from cocoon_core.protocol.names import show_names
from cocoon_core.protocol.operations import Create, Invite, Join, Pin, Role, SetRole
from cocoon_core.protocol.roster_chains import refuse_contested
from cocoon_core.protocol.roster_log import OperationLog, within
from cocoon_core.protocol.roster_rules import Evaluation, Grant
from cocoon_core.protocol.roster_values import (
    Device,
    InviteState,
    Member,
    Operation,
    Recipient,
    Refusal,
    Roster,
    Seniority,
)

__all__ = [
    "Device",
    "InviteState",
    "Member",
    "Operation",
    "Recipient",
    "Refusal",
    "Roster",
    "RosterGraph",
    "Seniority",
]

_KEPT_STATES: Final = 8  # evaluated states that a graph remembers


class RosterGraph:
    """The roster operations of one group. Not a value: it grows by `add` and forgets nothing."""

    def __init__(self, group_id: GroupId) -> None:
        self._log = OperationLog(group_id)
        self._heads: set[EntryId] = set()
        self._states: dict[int, Roster] = {}

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
        """
        if not self._log.append(operation):
            return False
        self._heads.difference_update(operation.parents)
        self._heads.add(operation.id)
        return True

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

    def evaluate(self) -> Roster:
        """The state of all operations.

        Raises:
            NotYetError: create has not arrived.
        """
        return self._state_of((1 << len(self)) - 1)

    def roster_at(self, heads: Iterable[EntryId]) -> Roster:
        """The state that a writer knew who names these heads.

        Raises:
            NotYetError: one of them has not arrived, or no create is among their past.
        """
        return self._state_of(self._log.past_of(heads))

    def _knows_own(self, head: EntryId, device: DeviceId) -> bool:
        place = self._log.place[head]
        own = within(self._log.by_device.get(device, ()), self._log.ancestors[place] | 1 << place)
        return bool(own) and own[-1] == self._log.by_device[device][-1]

    def _state_of(self, mask: int) -> Roster:
        state = self._states.get(mask)
        if state is None:
            state = _evaluate(self._log, mask)
            while len(self._states) >= _KEPT_STATES:
                del self._states[next(iter(self._states))]
            self._states[mask] = state
        return state


def _evaluate(log: OperationLog, mask: int) -> Roster:
    creates = [place for place in within(range(len(log.operations)), mask) if _is_create(log, place)]
    if not creates:
        raise NotYetError(f"the create of group {log.group_id.hex()[:12]} has not arrived")
    create = log.operations[creates[0]].body
    assert isinstance(create, Create)
    evaluation = Evaluation(log, mask, create.policy)
    evaluation.run()
    admissions = _find_admissions(evaluation)
    ids = [operation.id for operation in log.operations]
    known = 0
    for place in evaluation.places:
        known |= log.ancestors[place]
    return Roster(
        group_id=log.group_id,
        group_name=create.group_name,
        heads=tuple(sorted(ids[place] for place in evaluation.places if not known >> place & 1)),
        policy=create.policy,
        members=MappingProxyType(_list_members(evaluation, admissions)),
        devices=MappingProxyType(_list_devices(evaluation, admissions)),
        invites=MappingProxyType(_list_invites(evaluation)),
        admin_pins=MappingProxyType(_list_pins(evaluation)),
        refused=MappingProxyType(_list_refused(evaluation)),
    )


def _is_create(log: OperationLog, place: int) -> bool:
    return log.flaws[place] is None and isinstance(log.operations[place].body, Create)


def _find_admissions(evaluation: Evaluation) -> list[tuple[DeviceId, Grant]]:
    """Every device and what enrolled it, senior first."""
    found = [(device, evaluation.member_grant(device, evaluation.mask)) for device in evaluation.log.enrolments]
    counted = [(device, grant) for device, grant in found if grant is not None]
    return sorted(counted, key=lambda pair: pair[1].seniority)


def _list_members(evaluation: Evaluation, admissions: list[tuple[DeviceId, Grant]]) -> dict[MemberId, Member]:
    log = evaluation.log
    chosen = [(log.member_of[device], _name_in(log, grant.place)) for device, grant in admissions]
    shown = show_names(chosen)
    admins = {member for member, _ in chosen if evaluation.is_admin(member)}
    return {
        member: Member(
            id=member,
            name=name,
            shown_name=shown[member],
            role=Role.ADMIN if member in admins else Role.MEMBER,
            devices=(device,),
            joined_by=log.operations[grant.place].id,
            seniority=grant.seniority,
        )
        for (member, name), (device, grant) in zip(chosen, admissions, strict=True)
    }


def _name_in(log: OperationLog, place: int) -> str:
    body = log.operations[place].body
    assert isinstance(body, Create | Join)
    return body.member_name if isinstance(body, Create) else body.name


def _list_devices(evaluation: Evaluation, admissions: list[tuple[DeviceId, Grant]]) -> dict[DeviceId, Device]:
    log = evaluation.log
    devices = {}
    for device, grant in admissions:
        enrolment = log.operations[grant.place]
        assert isinstance(enrolment.body, Create | Join)
        devices[device] = Device(device, log.member_of[device], enrolment.body.hpke, enrolment.id)
    return devices


def _list_invites(evaluation: Evaluation) -> dict[InviteId, InviteState]:
    log = evaluation.log
    invites: dict[InviteId, InviteState] = {}
    for place in sorted(evaluation.places, key=log.rank):
        operation = log.operations[place]
        body = operation.body
        if isinstance(body, Invite) and evaluation.is_counted(place) and body.invite not in invites:
            joins = [join for join in evaluation.uses.joins_of(place) if evaluation.is_counted(join)]
            invites[body.invite] = InviteState(
                id=body.invite,
                operation=operation.id,
                inviter=log.member_of[operation.device],
                hpke=body.hpke,
                mailbox_secret=body.mailbox_secret,
                uses=body.uses,
                expires_ms=body.expires_ms,
                role=body.role,
                joins=tuple(sorted(log.operations[join].id for join in joins)),
                revoked=place in evaluation.uses.revokes,
            )
    return invites


def _list_pins(evaluation: Evaluation) -> dict[DeviceId, Pin]:
    """The highest pin of each device among the demotions that hold; of two at one seq the smaller entry id."""
    log = evaluation.log
    pins: dict[DeviceId, Pin] = {}
    for member in log.role_changes:
        for place in evaluation.newest_roles(member, evaluation.mask):
            body = log.operations[place].body
            assert isinstance(body, SetRole)
            for pin in body.pins:
                held = pins.get(pin.device)
                higher = held is None or (held.seq, pin.entry) < (pin.seq, held.entry)
                if log.member_of.get(pin.device) == member and higher:
                    pins[pin.device] = pin
    return pins


def _list_refused(evaluation: Evaluation) -> dict[EntryId, Refusal]:
    log = evaluation.log
    refused = {log.operations[place].id: refusal for place, refusal in evaluation.refusals.items()}
    for place, rivals in evaluation.rivals.items():
        refused[log.operations[place].id] = refuse_contested(log, place, rivals)
    return refused
