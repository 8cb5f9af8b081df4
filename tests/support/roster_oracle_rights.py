"""Facts of a story and rights in a past, by the letter of specs/roster.md. The slow half of the oracle's foundation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cocoon_core.protocol.ids import DeviceId, EntryId, MemberId, RecoveryId
from cocoon_core.protocol.operation_forms import Policy, Role
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, SetPolicy, SetRole, member_id_of
from cocoon_core.protocol.operations_admission import Admit, LostMember, Newcomer, Recover, SetRecovery, Vouch
from cocoon_core.protocol.operations_devices import AddDevice, Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.roster import Operation
from tests.support.roster_story import Story

Past = frozenset[EntryId]
SeniorityKey = tuple[int, int, bytes]
ENTERING = (Create, Join, ReplaceDevice, Recover)
RULES = ("max_members", "inviters", "vouches", "epoch_days", "relays")


@dataclass(frozen=True)
class Right:
    """Whose right it is, how senior, and the operations that gave it."""

    member: MemberId
    seniority: SeniorityKey
    sources: frozenset[EntryId]


class OracleRights:
    """What follows from the text for one story, given what is `permitted` and `decided` so far."""

    def __init__(self, story: Story, final: frozenset[EntryId]) -> None:
        self.story, self.final = story, final
        self.ops: dict[EntryId, Operation] = story.operations
        self.order = list(self.ops)  # a story writes pasts first
        self.past: dict[EntryId, Past] = {}
        self.depth: dict[EntryId, int] = {}
        self.flawed: set[EntryId] = set()
        self.enrols: dict[EntryId, tuple[DeviceId, MemberId]] = {}
        self.speaker: dict[EntryId, MemberId] = {}
        self.uses_invite: dict[EntryId, EntryId] = {}
        self._closed: dict[EntryId, set[EntryId]] = {}
        self.permitted: set[EntryId] = set()
        self.decided: list[EntryId] = []
        for entry in self.order:
            parents = self.ops[entry].parents
            self.past[entry] = frozenset(parents).union(*(self.past[parent] for parent in parents))
            self.depth[entry] = 1 + max((self.depth[parent] for parent in parents), default=-1)
            if self._has_flaw(entry):
                self.flawed.add(entry)
            else:
                self._closed[entry] = set(self._find_closed(entry))
        self.enrolments = [it for it in self.order if it in self.enrols]
        self.known_members = {member for _, member in self.enrols.values()}
        self.rivals = self._find_rivals()
        self.twins = self._find_twins()

    # --- §3

    def sound(self, entries: Iterable[EntryId], kind: type) -> list[EntryId]:
        return [entry for entry in entries if isinstance(self.ops[entry].body, kind) and entry not in self.flawed]

    def concurrent(self, left: EntryId, right: EntryId) -> bool:
        return left != right and left not in self.past[right] and right not in self.past[left]

    def static_member(self, device: bytes, past: Past) -> MemberId | None:
        found = [it for it in past if it in self.enrols and self.enrols[it][0] == device]
        return self.enrols[min(found, key=lambda it: (self.depth[it], it))][1] if found else None

    def _invites(self, past: Past, invite: object) -> list[EntryId]:
        return [it for it in self.sound(past, Invite) if self.ops[it].body.invite == invite]  # type: ignore[union-attr]

    def _has_flaw(self, entry: EntryId) -> bool:
        op, past = self.ops[entry], self.past[entry]
        body = op.body
        enrolled = {self.enrols[it][0] for it in past if it in self.enrols}
        members = {self.enrols[it][1] for it in past if it in self.enrols and self._makes_member(it)}
        if isinstance(body, Create) == bool(op.parents):
            return True
        if isinstance(body, ENTERING):
            if op.seq != 0:
                return True
        elif op.seq == 0:
            by_others = [it for it in past if it in self.enrols and self.ops[it].device != op.device]
            if op.device not in {self.enrols[it][0] for it in by_others}:
                return True
        author = self.static_member(op.device, past)
        match body:
            case Create():
                self.enrols[entry] = op.device, member_id_of(self.story.group, op.device)
            case Invite():
                return bool(self._invites(past, body.invite))
            case RevokeInvite():
                return not self._invites(past, body.invite)
            case Join():
                if op.device in enrolled or not self._invites(past, body.invite):
                    return True
                self._use(entry, body.invite)
                self.enrols[entry] = op.device, member_id_of(self.story.group, op.device)
            case SetRole() | RemoveMember():
                return body.member not in members
            case RemoveDevice():
                return body.device not in enrolled
            case Suspend():
                return author is None or body.device not in enrolled
            case Leave() | SetRecovery():
                return self._speak(entry, author)
            case AddDevice():
                if body.device in enrolled or self._speak(entry, author):
                    return True
                assert author is not None
                self.enrols[entry] = body.device, author
            case ReplaceDevice():
                if op.device in enrolled or body.old not in enrolled:
                    return True
                member = self.static_member(body.old, past)
                assert member is not None
                self.enrols[entry] = op.device, member
            case Recover():
                if op.device in enrolled or body.member not in members:
                    return True
                self.enrols[entry] = op.device, body.member
            case Vouch() | Admit():
                return self._request_flaw(entry, author, members)
        return False

    def _speak(self, entry: EntryId, author: MemberId | None) -> bool:
        if author is not None:
            self.speaker[entry] = author
        return author is None

    def _use(self, entry: EntryId, invite: object) -> None:
        found = self._invites(self.past[entry], invite)
        self.uses_invite[entry] = min(found, key=lambda it: (self.depth[it], it))

    def _request_flaw(self, entry: EntryId, author: MemberId | None, members: set[MemberId]) -> bool:
        body = self.ops[entry].body
        assert isinstance(body, Vouch | Admit)
        request = body.request
        enrolling = [it for it in self.past[entry] if it in self.enrols and self.enrols[it][0] == request.device]
        if any(getattr(self.ops[it].body, "request", None) != request for it in enrolling):
            return True
        if isinstance(request, Newcomer) and not self._invites(self.past[entry], request.invite):
            return True
        if isinstance(request, LostMember) and request.member not in members:
            return True
        if self._speak(entry, author):
            return True
        if isinstance(body, Admit):
            if isinstance(request, Newcomer):
                self._use(entry, request.invite)
                self.enrols[entry] = request.device, member_id_of(self.story.group, request.device)
            else:
                self.enrols[entry] = request.device, request.member
        return False

    def _makes_member(self, entry: EntryId) -> bool:
        body = self.ops[entry].body
        return isinstance(body, Create | Join) or (isinstance(body, Admit) and isinstance(body.request, Newcomer))

    def removed_by(self, entry: EntryId) -> MemberId | None:
        """The member whom an operation removes."""
        body = self.ops[entry].body
        if isinstance(body, RemoveMember):
            return body.member
        return self.speaker[entry] if isinstance(body, Leave) else None

    def taken_over_by(self, entry: EntryId) -> MemberId | None:
        body = self.ops[entry].body
        return body.request.member if isinstance(body, Admit) and isinstance(body.request, LostMember) else None

    def device_out_by(self, entry: EntryId) -> DeviceId | None:
        match self.ops[entry].body:
            case RemoveDevice(device=device) | Suspend(device=device) | ReplaceDevice(old=device):
                return device
        return None

    def closed_by(self, entry: EntryId) -> set[EntryId]:
        return self._closed.get(entry, set())

    def _find_closed(self, entry: EntryId) -> list[EntryId]:
        body, past = self.ops[entry].body, self.past[entry]
        if isinstance(body, RevokeInvite):
            return self._invites(past, body.invite)
        out: set[DeviceId | None] = {self.device_out_by(entry)}
        member = self.removed_by(entry) or self.taken_over_by(entry)
        if member is not None:
            out |= {self.enrols[it][0] for it in past if it in self.enrols and self.enrols[it][1] == member}
        entered = {self.uses_invite[it] for it in past if it in self.uses_invite and self.enrols[it][0] in out}
        return [it for it in self.sound(past, Invite) if self.ops[it].device in out or it in entered]

    # --- §4

    def _find_rivals(self) -> dict[EntryId, set[EntryId]]:
        rivals: dict[EntryId, set[EntryId]] = {}
        for device in {op.device for op in self.ops.values()}:
            chain = [it for it in self.order if self.ops[it].device == device and it not in self.flawed]
            chain = [it for it in chain if not isinstance(self.ops[it].body, Create | Suspend)]
            stands: set[EntryId] = set()
            for part in ([it for it in chain if it in self.final], [it for it in chain if it not in self.final]):
                fixed = set(stands)
                for seq in sorted({self.ops[it].seq for it in part}):
                    here = sorted(it for it in part if self.ops[it].seq == seq)
                    chosen: EntryId | None = None
                    losers: dict[EntryId, set[EntryId]] = {}
                    for it in here:
                        against = {o for o in stands if self.ops[o].seq < seq and o not in self.past[it]}
                        against |= {o for o in fixed if self.ops[o].seq > seq and it not in self.past[o]}
                        beside = {o for o in fixed if self.ops[o].seq == seq} | ({chosen} if chosen else set())
                        if against or beside:
                            losers[it] = against
                        else:
                            chosen = it
                    beside = {o for o in fixed if self.ops[o].seq == seq} | ({chosen} if chosen else set())
                    for it, against in losers.items():
                        rivals[it] = against | beside
                    stands |= {chosen} if chosen else set()
        return rivals

    def _find_twins(self) -> dict[EntryId, set[EntryId]]:
        twins: dict[EntryId, set[EntryId]] = {}
        for entry in self.sound(self.order, ReplaceDevice):
            old = self.device_out_by(entry)
            others = [it for it in self.sound(self.order, ReplaceDevice) if self.device_out_by(it) == old]
            others = [it for it in others if self.concurrent(it, entry)]
            if entry in self.final:
                others = [it for it in others if it in self.final]
            if others:
                twins[entry] = set(others)
        return twins

    def takes(self, entry: EntryId, past: Past) -> bool:
        return entry in past and entry in self.permitted and not self.rivals.get(entry, set()) & past

    def gives(self, entry: EntryId, past: Past) -> bool:
        return self.takes(entry, past) and not self.is_lost(entry, past)

    def needs_admin(self, entry: EntryId) -> bool:
        raise NotImplementedError

    def is_lost(self, entry: EntryId, past: Past) -> bool:
        if entry in self.decided:
            return False
        body = self.ops[entry].body
        device = body.old if isinstance(body, ReplaceDevice) else self.ops[entry].device
        owners = {self.static_member(device, self.past[entry])}
        if entry in self.enrols:
            owners.add(self.enrols[entry][1])
        removals, demotions = [], []
        for it in past:
            if it in self.flawed or not self.takes(it, past):
                continue
            other = self.ops[it].body
            if isinstance(body, ReplaceDevice) and isinstance(other, ReplaceDevice) and body.old == other.old:
                continue
            member = self.removed_by(it) or self.taken_over_by(it)
            if (member is not None and member in owners) or self.device_out_by(it) == device:
                removals.append(it)
            if isinstance(other, SetRole) and other.role is Role.MEMBER and other.member in owners:
                demotions.append(it)
        if not any(self.concurrent(it, entry) for it in (*removals, *demotions)):
            return False  # spares the question below, which asks for rights again
        for cuts in (removals, demotions if self.needs_admin(entry) else []):
            for cut in cuts:
                saved = any(entry in self.past[other] and self.concurrent(cut, other) for other in cuts)
                if self.concurrent(cut, entry) and not saved:
                    return True
        return False

    # --- §5: members and devices

    def seniority(self, admission: EntryId) -> SeniorityKey:
        by_hand = isinstance(self.ops[admission].body, Admit)
        depth = self.depth[self.uses_invite.get(admission, admission)]
        return depth, self.depth[admission] - 1 if by_hand else 0, admission

    def admission(self, member: MemberId, past: Past) -> EntryId | None:
        found = [it for it in self.enrolments if self._makes_member(it) and self.enrols[it][1] == member]
        return min((it for it in found if self.gives(it, past)), key=self.seniority, default=None)

    def is_member(self, member: MemberId, past: Past) -> bool:
        gone = [it for it in past if it not in self.flawed and self.removed_by(it) == member and self.takes(it, past)]
        return self.admission(member, past) is not None and not gone

    def device_right(self, device: bytes, past: Past) -> Right | None:
        found = [it for it in self.enrolments if self.enrols[it][0] == device and self.gives(it, past)]
        found = [it for it in found if not self.twins.get(it, set()) & past]
        if not found:
            return None
        enrolment = min(found, key=lambda it: (self.depth[it], it))
        member = self.enrols[enrolment][1]
        admission = self.admission(member, past)
        if admission is None or not self.is_member(member, past) or self.outs(device, enrolment, past):
            return None
        return Right(member, self.seniority(admission), frozenset({enrolment, admission}))

    def outs(self, device: bytes, enrolment: EntryId, past: Past) -> list[EntryId]:
        out = [it for it in past if it not in self.flawed and self.device_out_by(it) == device]
        member = self.enrols[enrolment][1]
        out += [
            it
            for it in past
            if it not in self.flawed
            and self.taken_over_by(it) == member
            and it != enrolment
            and it not in self.past[enrolment]
        ]
        return [it for it in out if self.takes(it, past)]

    def devices_in(self, member: MemberId, past: Past) -> list[DeviceId]:
        devices = {device for device, owner in self.enrols.values() if owner == member}
        rights = {device: self.device_right(device, past) for device in devices}
        return [device for device, right in rights.items() if right is not None and right.member == member]

    # --- §5: admins

    def role_changes(self, member: MemberId, past: Past) -> list[EntryId]:
        changes = []
        for entry in self.sound(past, SetRole):
            body = self.ops[entry].body
            assert isinstance(body, SetRole)
            held = self.gives(entry, past) if body.role is Role.ADMIN else self.takes(entry, past)
            if body.member != member or not held:
                continue
            if body.role is Role.ADMIN and self.own_admin_right(member, self.past[entry]):
                continue
            changes.append(entry)
        return [it for it in changes if not any(it in self.past[other] for other in changes)]

    def _demotes(self, entry: EntryId) -> bool:
        body = self.ops[entry].body
        return isinstance(body, SetRole) and body.role is Role.MEMBER

    def admin_admissions(self, member: MemberId, past: Past) -> list[EntryId]:
        found = []
        for it in self.enrolments:
            source = self.ops[self.uses_invite.get(it, it)].body
            as_admin = isinstance(source, Create) or (isinstance(source, Invite) and source.role is Role.ADMIN)
            if as_admin and self._makes_member(it) and self.enrols[it][1] == member and self.gives(it, past):
                found.append(it)
        return found

    def own_admin_right(self, member: MemberId, past: Past) -> Right | None:
        if not self.is_member(member, past):
            return None
        changes = self.role_changes(member, past)
        if changes:
            if any(self._demotes(it) for it in changes):
                return None
            first = min(changes, key=lambda it: (self.depth[it], it))
            return Right(member, (self.depth[first], 0, first), frozenset({first}))
        admissions = self.admin_admissions(member, past)
        if not admissions:
            return None
        first = min(admissions, key=self.seniority)
        return Right(member, self.seniority(first), frozenset({first}))

    def admin_right(self, member: MemberId, past: Past) -> Right | None:
        own = self.own_admin_right(member, past)
        if own:
            return own
        for other in self.known_members:
            if self.own_admin_right(other, past) and self.devices_in(other, past):
                return None
        able = [it for it in self.known_members if self.devices_in(it, past)]
        if not able:
            return None
        rights = [self.device_right(self.devices_in(it, past)[0], past) for it in able]
        senior = min((right for right in rights if right), key=lambda right: right.seniority)
        if senior.member != member:
            return None
        depth = max((self.depth[it] for it in self._losses(past)), default=0)
        admission = self.admission(member, past)
        assert admission is not None
        return Right(member, (depth, 0, senior.seniority[2]), frozenset({admission}))

    def _losses(self, past: Past) -> set[EntryId]:
        lost: set[EntryId] = set()
        for member in self.known_members:
            changes = self.role_changes(member, past)
            lost |= {it for it in changes if self._demotes(it)}
            if changes or self.admin_admissions(member, past):
                lost |= {
                    it
                    for it in past
                    if it not in self.flawed and self.removed_by(it) == member and self.takes(it, past)
                }
                for it in self.enrolments:
                    device, owner = self.enrols[it]
                    if owner == member and self.gives(it, past):
                        lost |= set(self.outs(device, it, past))
        return lost

    # --- §7 and §8

    def rules_changed(self, entry: EntryId) -> set[str]:
        before, after = self.policy_in(self.past[entry]), self.ops[entry].body.policy  # type: ignore[union-attr]
        return {rule for rule in RULES if _value(before, rule) != _value(after, rule)}

    def policy_in(self, past: Past) -> Policy:
        first = self.story.create.body
        assert isinstance(first, Create)
        policy = first.policy
        words = [it for it in self.sound(past, SetPolicy) if self.gives(it, past)]
        changed = {it: self.rules_changed(it) for it in words}
        for rule in RULES:
            about = [it for it in words if rule in changed[it]]
            about = [it for it in about if not any(it in self.past[other] for other in about)]
            about.sort(key=lambda it: (self.depth[it], it))
            bodies: list[Policy] = [self.ops[it].body.policy for it in about]  # type: ignore[union-attr]
            if not bodies:
                continue
            if rule == "relays":
                policy = replace(policy, relays=bodies[0].relays, tokens=bodies[0].tokens)
            elif rule == "vouches":
                policy = replace(policy, vouches=max(it.vouches for it in bodies))
            elif rule == "inviters":
                strict = any(it.inviters is Role.ADMIN for it in bodies)
                policy = replace(policy, inviters=Role.ADMIN if strict else Role.MEMBER)
            elif rule == "max_members":
                policy = replace(policy, max_members=min(it.max_members for it in bodies))
            else:
                policy = replace(policy, epoch_days=min(it.epoch_days for it in bodies))
        return policy

    def recovery_in(self, member: MemberId, past: Past) -> tuple[RecoveryId | None, tuple[MemberId, ...], int] | None:
        words = [it for it in self.sound(past, SetRecovery) if self.speaker[it] == member and self.gives(it, past)]
        words = [it for it in words if not any(it in self.past[other] for other in words)]
        if not words:
            return None
        bodies = [body for body in (self.ops[it].body for it in words) if isinstance(body, SetRecovery)]
        phrases = {it.recovery[:2] if it.recovery else None for it in bodies}
        agreed = next(iter(phrases)) if len(phrases) == 1 else None
        guardians = set.intersection(*(set(it.guardians) for it in bodies))
        threshold = max(it.threshold for it in bodies)
        if not 0 < threshold <= len(guardians):
            guardians, threshold = set(), 0
        return (agreed[0] if agreed else None), tuple(sorted(guardians)), threshold


def _value(policy: Policy, rule: str) -> object:
    return (policy.relays, policy.tokens) if rule == "relays" else getattr(policy, rule)
