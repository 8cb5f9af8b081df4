"""How far the entries of a device that was put out still count, and those of one that lost the right of an admin.

Of several pins the highest holds; who is not named is pinned at nothing. Spec: specs/roster.md §10.
"""

from __future__ import annotations

from collections.abc import Iterable

from cocoon_core.protocol.ids import DeviceId, EntryId, MemberId
from cocoon_core.protocol.operation_forms import Pin
from cocoon_core.protocol.operations import SetRole
from cocoon_core.protocol.operations_admission import Admit
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.roster_cuts import is_demotion
from cocoon_core.protocol.roster_rules import Evaluation
from cocoon_core.protocol.roster_values import FormerDevice


def find_former(evaluation: Evaluation, device: DeviceId) -> FormerDevice | None:
    """What a device that is no member's now was, or None if it never counted."""
    log, rights, mask = evaluation.log, evaluation.rights, evaluation.mask
    found = [place for place in log.enrolments.get(device, ()) if rights.supports(place, mask)]
    found = [place for place in found if rights.admission(log.enrolled[place].member, mask) is not None]
    if not found:
        return None
    enrolment = min(found, key=log.rank)
    member = log.enrolled[enrolment].member
    outs = [place for place in log.removals.get(member, ()) if rights.takes(place, mask)]
    outs += rights.device_outs(device, enrolment, mask)
    pin = _highest(_pins_on(evaluation, device, outs))
    twins = rights.twins.get(enrolment, 0) & mask
    outs += [place for place in evaluation.places if twins >> place & 1] if twins else []
    enrolled_by, out_by = log.operations[enrolment].id, log.operations[min(outs, key=log.rank)].id
    return FormerDevice(device, member, enrolled_by, pin, out_by)


def _pins_on(evaluation: Evaluation, device: DeviceId, outs: list[int]) -> Iterable[Pin]:
    """The pins on a device by what put it out, without those on a branch that a proof decided against."""
    log = evaluation.log
    proofs = [log.contradictions[place] for place in outs if place in log.contradictions]
    lost: set[EntryId] = set()
    for proof in proofs:
        lost.update(proof.losing(evaluation.final))
        if proof.before is not None:
            yield Pin(device, proof.seq - 1, proof.before)
    for place in outs:
        operation = log.operations[place]
        body = operation.body
        if isinstance(body, Leave) and operation.device == device:
            yield Pin(device, operation.seq, operation.id)
        if isinstance(body, RemoveMember | Leave | RemoveDevice | ReplaceDevice | Suspend | Admit):
            yield from (pin for pin in body.pins if pin.device == device and pin.entry not in lost)


def _highest(pins: Iterable[Pin]) -> Pin | None:
    return min(pins, key=lambda pin: (-pin.seq, pin.entry), default=None)


def find_admin_pin(
    evaluation: Evaluation, device: DeviceId, member: MemberId, former: FormerDevice | None
) -> Pin | None:
    """Up to where the entries of a device count for admin documents, although it has not the right now."""
    log, rights, mask = evaluation.log, evaluation.rights, evaluation.mask
    demotions = [place for place in rights.newest_roles(member, mask) if is_demotion(log, place)]
    out = log.place[former.out_by] if former is not None else None
    was_admin = out is not None and rights.admin_grant(member, log.ancestors[out]) is not None
    if not demotions:
        return former.pin if former is not None and was_admin else None
    pins: list[Pin] = []
    for place in demotions:
        body = log.operations[place].body
        assert isinstance(body, SetRole)
        named = [pin for pin in body.pins if pin.device == device]
        pins += named
        known = out is not None and log.ancestors[place] >> out & 1
        if known and was_admin and not named and former is not None and former.pin is not None:
            pins.append(former.pin)
    highest = _highest(pins)
    if former is None or highest is None:
        return highest
    return min(highest, former.pin, key=lambda pin: pin.seq) if former.pin is not None else None
