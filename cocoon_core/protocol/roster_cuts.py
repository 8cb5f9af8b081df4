"""What decided operations take from acts that they did not know. Spec: specs/roster.md §5.

A removal reaches every right of the devices that it puts out, a demotion the right of an admin, a policy and a recovery
what they make stricter. Each cuts acts that are concurrent with it; of several that did not know each other the one
that knew the act saves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cocoon_core.protocol.ids import DeviceId, MemberId
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import SetPolicy, SetRole
from cocoon_core.protocol.operations_admission import Admit, Recover, SetRecovery
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.roster_log import OperationLog


class Cuts:
    """The decided operations of one evaluation that can cut, by whom they reach."""

    def __init__(self, log: OperationLog) -> None:
        self._log = log
        self._devices: dict[DeviceId, list[int]] = {}
        self._members: dict[MemberId, list[int]] = {}  # removals and takeovers
        self._demotions: dict[MemberId, list[int]] = {}
        self._recoveries: dict[MemberId, list[int]] = {}
        self._policies: list[int] = []
        self._stricter: dict[int, frozenset[str]] = {}

    def add(self, place: int) -> None:
        """Let a decided operation cut."""
        log = self._log
        match log.operations[place].body:
            case SetRole(member=member):
                self._demotions.setdefault(member, []).append(place)
            case RemoveMember(member=member):
                self._members.setdefault(member, []).append(place)
            case Leave():
                self._members.setdefault(log.author_of[place], []).append(place)
            case RemoveDevice(device=device) | Suspend(device=device) | ReplaceDevice(old=device):
                self._devices.setdefault(device, []).append(place)
            case SetRecovery():
                self._recoveries.setdefault(log.author_of[place], []).append(place)
            case Admit() if place in log.enrolled and place not in log.invite_of:
                self._members.setdefault(log.enrolled[place].member, []).append(place)

    def add_policy(self, place: int, rules: frozenset[str]) -> None:
        """Let a decided set_policy that changes these rules cut."""
        self._policies.append(place)
        self._stricter[place] = rules

    # --- questions

    def reach(self, place: int, device: DeviceId | None, member: MemberId, *, as_admin: bool = False) -> bool:
        """Whether an act by that device (or on that member alone) is cut; with the right of an admin, by demotions too.

        Two devices of one member that remove each other do not cut each other's removal, nor do two that replace one.
        """
        removals = self._members.get(member, [])
        if device is not None and device in self._devices:
            removals = removals + [it for it in self._devices[device] if not self._is_mutual(it, place)]
        if removals and self._cuts(removals, place):
            return True
        return as_admin and member in self._demotions and self._cuts(self._demotions[member], place)

    def reach_entering(self, place: int, member: MemberId, fits: Callable[[SetRecovery], bool]) -> bool:
        """Whether a way back in is cut by a newer word on the member's recovery that it does not fit."""
        words = self._recoveries.get(member, [])
        return bool(words) and self._cuts(words, place, lambda it: not fits(self._recovery_at(it)))

    def reach_invite(self, place: int, policy: Policy, promised: int, *, by_admin: Callable[[], bool]) -> bool:
        """Whether an invite, made under that policy, breaks a rule that a decided policy made stricter."""

        def breaks(place: int) -> bool:
            body, rules = self._log.operations[place].body, self._stricter[place]
            assert isinstance(body, SetPolicy)
            stricter = body.policy
            return (
                ("max_members" in rules and promised > stricter.max_members)
                or ("vouches" in rules and policy.vouches == 0 < stricter.vouches)
                or ("inviters" in rules and stricter.inviters is Role.ADMIN and not by_admin())
            )

        return bool(self._policies) and self._cuts(self._policies, place, breaks)

    def _cuts(self, cuts: list[int], place: int, matters: Callable[[int], bool] | None = None) -> bool:
        """Whether one that did not know the act, and matters, is concurrent with none that knew it."""
        log = self._log
        blind = [cut for cut in cuts if log.concurrent(cut, place) and (matters is None or matters(cut))]
        if not blind:
            return False
        knowing = [cut for cut in cuts if log.ancestors[cut] >> place & 1]
        return any(all(not log.concurrent(cut, other) for other in knowing) for cut in blind)

    def _is_mutual(self, cut: int, place: int) -> bool:
        log = self._log
        theirs, ours = log.operations[cut], log.operations[place]
        if same_place(log, cut, place):
            return True
        if not isinstance(theirs.body, RemoveDevice) or not isinstance(ours.body, RemoveDevice):
            return False
        if theirs.body.device != ours.device or ours.body.device != theirs.device:
            return False
        return log.member_at(theirs.device, log.ancestors[cut]) == log.member_at(ours.device, log.ancestors[place])

    def _recovery_at(self, place: int) -> SetRecovery:
        body = self._log.operations[place].body
        assert isinstance(body, SetRecovery)
        return body


def is_demotion(log: OperationLog, place: int) -> bool:
    body = log.operations[place].body
    return isinstance(body, SetRole) and body.role is Role.MEMBER


def same_place(log: OperationLog, left: int, right: int) -> bool:
    """Whether both put a fresh device in the place of one old one."""
    one, other = log.operations[left].body, log.operations[right].body
    return isinstance(one, ReplaceDevice) and isinstance(other, ReplaceDevice) and one.old == other.old


def find_blind(log: OperationLog, mask: int) -> dict[int, list[int]]:
    """For each act of the mask, the removals and demotions of its author that are concurrent with it."""
    found: dict[int, list[int]] = {}
    for places in (log.removals, log.takeovers, log.device_outs, log.demotions):
        for cut in {it for reaching in places.values() for it in reaching if mask >> it & 1}:
            for act in reached_acts(log, cut):
                if mask >> act & 1 and log.concurrent(cut, act):
                    found.setdefault(act, []).append(cut)
    return found


def reached_acts(log: OperationLog, place: int) -> Iterable[int]:
    """Every operation that a cut by this one could reach, and some more."""
    match log.operations[place].body:
        case SetRole(member=member) | RemoveMember(member=member):
            return log.acts_of(member)
        case Leave():
            return log.acts_of(log.author_of[place])
        case RemoveDevice(device=device) | Suspend(device=device) | ReplaceDevice(old=device):
            return [*log.by_device.get(device, ()), *log.replacements.get(device, ())]
        case SetRecovery():
            member = log.author_of[place]
            entered = log.enrolments_of[member]
            return [it for it in entered if isinstance(log.operations[it].body, Admit | Recover)]
        case Admit() if place not in log.invite_of:
            return log.acts_of(log.enrolled[place].member)
    return ()
