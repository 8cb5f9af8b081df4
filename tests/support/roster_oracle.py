"""The roster's rules once more, from the text of specs/roster.md: plain sets, slow, none of the core's evaluation.

It shares only the values with the core, and takes proofs and keys to be good, as in random stories they are. What an
operation may do is here; who has which right is in roster_oracle_rights.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from cocoon_core.protocol.ids import EntryId, MemberId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, SetPolicy, SetRole
from cocoon_core.protocol.operations_admission import Admit, LostMember, Recover, SetRecovery, Vouch
from cocoon_core.protocol.operations_devices import Leave, RemoveDevice, RemoveMember, ReplaceDevice, Suspend
from cocoon_core.protocol.operations_rotation import Rotation
from tests.support.roster_oracle_rights import OracleRights, Past, Right
from tests.support.roster_story import Story

DECIDED_KINDS = (
    RevokeInvite, RemoveMember, Leave, RemoveDevice, ReplaceDevice, Suspend, Admit, SetPolicy, SetRecovery,
)  # fmt: skip
FIRST: tuple[int, int, bytes] = (-1, 0, b"")


class Oracle(OracleRights):
    """The outcome of a story by the letter of the specification: `counted`, `devices`, `admins`, `policy` and more."""

    def __init__(self, story: Story, final: frozenset[EntryId] = frozenset()) -> None:
        super().__init__(story, final)
        self.stale: set[EntryId] = set()
        self.sources: dict[EntryId, set[EntryId]] = {}
        self.confirmed: set[EntryId] = set()
        self.changed: dict[EntryId, set[str]] = {}  # a decided set_policy -> the rules that it changed
        self._run()
        self.counted = {it for it in self.permitted - set(self.rivals) if not self.twins.get(it)}
        everything = frozenset(self.order)
        self.devices = {
            device: right.member
            for device in {self.enrols[it][0] for it in self.enrolments}
            if (right := self.device_right(device, everything)) is not None
        }
        self.members = {member for member in self.known_members if self.is_member(member, everything)}
        self.admins = {member for member in self.members if self.admin_right(member, everything)}
        self.policy = self.policy_in(everything)
        self.recoveries = {it: found for it in self.members if (found := self.recovery_in(it, everything))}

    # --- §6: decisions

    def is_undecided(self, entry: EntryId) -> bool:
        if entry in self.flawed or entry in self.rivals or entry in self.decided:
            return False
        body = self.ops[entry].body
        return isinstance(body, DECIDED_KINDS) or (isinstance(body, SetRole) and body.role is Role.MEMBER)

    def _run(self) -> None:
        while True:
            self._pass()
            ready = [it for it in self.permitted if self.is_undecided(it) and it not in self.stale]
            if not ready:
                return
            doubted = self._find_doubted()
            ready = [it for it in ready if it not in doubted] or ready
            chosen = min(ready, key=lambda it: (self._seniority_used(it), it))
            for invite in self.closed_by(chosen):
                self._confirm(invite, chosen)
            if isinstance(self.ops[chosen].body, SetPolicy):
                self.changed[chosen] = self.rules_changed(chosen)
            self.decided.append(chosen)

    def _pass(self) -> None:
        self.permitted.clear()
        self.stale.clear()
        self.sources.clear()
        for entry in self.order:
            if entry in self.decided or self._is_permitted(entry):
                self.permitted.add(entry)

    def _find_doubted(self) -> set[EntryId]:
        """Whatever rests on a join that an undecided permitted closing may yet refuse."""
        doubted: set[EntryId] = set()
        for join in self.sound(self.permitted, Join):
            invite = self.uses_invite[join]
            for closing in self.permitted:
                if not self.is_undecided(closing) or invite not in self.closed_by(closing):
                    continue
                if not self.concurrent(join, closing) or self.past[closing] & set(self.closings(invite)):
                    continue
                if join in self.final or join in self.confirmed or join in getattr(self.ops[closing].body, "joins", ()):
                    continue
                if not self._is_confirmed(join, {*self.closings(invite), closing}):
                    doubted.add(join)
        for entry in self.order:
            if self.sources.get(entry, set()) & doubted:
                doubted.add(entry)
        return doubted

    def _seniority_used(self, entry: EntryId) -> tuple[int, int, bytes]:
        if isinstance(self.ops[entry].body, Suspend):
            return FIRST
        right = self.right_used(entry)
        assert right is not None
        return right.seniority

    # --- §5 and §7 to §9: what is permitted

    def acting_device(self, entry: EntryId) -> bytes:
        body = self.ops[entry].body
        return body.old if isinstance(body, ReplaceDevice) else self.ops[entry].device

    def needs_admin(self, entry: EntryId) -> bool:
        body, past = self.ops[entry].body, self.past[entry]
        if isinstance(body, Invite):
            return Role.ADMIN in (body.role, self.policy_in(past).inviters)
        if isinstance(body, RemoveDevice):
            own, target = self.device_right(self.ops[entry].device, past), self.device_right(body.device, past)
            return own is not None and target is not None and own.member != target.member
        return isinstance(body, SetRole | SetPolicy | RemoveMember)

    def right_used(self, entry: EntryId) -> Right | None:
        right = self.device_right(self.acting_device(entry), self.past[entry])
        if right is None or self.speaker.get(entry, right.member) != right.member:
            return None
        return self.admin_right(right.member, self.past[entry]) if self.needs_admin(entry) else right

    def _rest_on(self, entry: EntryId, sources: Set[EntryId]) -> None:
        self.sources.setdefault(entry, set()).update(sources)
        if any(it in self.stale or self.is_undecided(it) for it in sources):
            self.stale.add(entry)

    def _is_permitted(self, entry: EntryId) -> bool:
        body, past = self.ops[entry].body, self.past[entry]
        if entry in self.flawed:
            return False
        if isinstance(body, Create | Suspend):
            return True
        if isinstance(body, Join):
            invite = self.uses_invite[entry]
            if not self.gives(invite, past) or self.is_by_request(invite):
                return False
            self._rest_on(entry, {invite} | self._open_closers(invite, past))
            return entry in self.winners(invite)
        if isinstance(body, Recover):
            return self._may_recover(entry, body, past)
        device = self.device_right(self.acting_device(entry), past)
        right = self.right_used(entry)
        if device is None or right is None:
            return False
        self._rest_on(entry, device.sources | right.sources)
        if self.is_cut(entry, self.acting_device(entry), right.member, as_admin=self.needs_admin(entry)):
            return False
        if isinstance(body, Invite):
            return self._may_invite(entry, body, right.member)
        if isinstance(body, SetRole | RemoveMember):
            return self.is_member(body.member, past)
        if isinstance(body, RemoveDevice):
            return self.device_right(body.device, past) is not None
        if isinstance(body, Admit):
            return self._may_admit(entry, body, right.member)
        return True

    def _open_closers(self, invite: EntryId, past: Past) -> set[EntryId]:
        return {it for it in past & self.permitted if invite in self.closed_by(it) and self.is_undecided(it)}

    def _may_recover(self, entry: EntryId, body: Recover, past: Past) -> bool:
        if not self.is_member(body.member, past):
            return False
        self._rest_on(entry, {self.admission(body.member, past)})  # type: ignore[arg-type]
        found = self.recovery_in(body.member, past)
        if found is None or found[0] != body.recovery or self.is_cut(entry, None, body.member, as_admin=False):
            return False

        def other_phrase(word: EntryId) -> bool:
            said = self.ops[word].body
            return isinstance(said, SetRecovery) and (said.recovery is None or said.recovery[0] != body.recovery)

        return not self.cuts(self._words(body.member), entry, other_phrase)

    def _words(self, member: MemberId) -> list[EntryId]:
        return [it for it in self.decided if isinstance(self.ops[it].body, SetRecovery) and self.speaker[it] == member]

    def _may_invite(self, entry: EntryId, body: Invite, author: MemberId) -> bool:
        past = self.past[entry]
        policy, promised = self.policy_in(past), self._promised(entry) + body.uses

        def breaks(word: EntryId) -> bool:
            stricter = self.ops[word].body.policy  # type: ignore[union-attr]
            rules = self.changed[word]
            return (
                ("max_members" in rules and promised > stricter.max_members)
                or ("vouches" in rules and policy.vouches == 0 and stricter.vouches > 0)
                or ("inviters" in rules and stricter.inviters is Role.ADMIN and self.admin_right(author, past) is None)
            )

        words = [it for it in self.decided if isinstance(self.ops[it].body, SetPolicy)]
        return promised <= policy.max_members and not self.cuts(words, entry, breaks)

    def vouchers(self, entry: EntryId) -> set[MemberId]:
        past, request = self.past[entry], self.ops[entry].body.request  # type: ignore[union-attr]
        found = [it for it in self.sound(past, Vouch) if self.ops[it].body.request == request]  # type: ignore[union-attr]
        members = {self.speaker[it] for it in found if self.gives(it, past)}
        return {member for member in members if self.is_member(member, past)}

    def _may_admit(self, entry: EntryId, body: Admit, author: MemberId) -> bool:
        past, vouchers = self.past[entry], self.vouchers(entry)
        for other in self.sound(self.order, Admit):
            if other == entry or self.ops[other].body.request != body.request:  # type: ignore[union-attr]
                continue
            at_once = other in self.decided and self.concurrent(other, entry)
            if at_once or (self.gives(other, past) and not self.twins.get(other)):
                return False
        if isinstance(body.request, LostMember):
            return self._may_take_over(entry, body.request.member, author, vouchers)
        invite = self.uses_invite[entry]
        if not self.gives(invite, past) or not self.is_by_request(invite):
            return False
        self._rest_on(entry, {invite} | self._open_closers(invite, past))
        needed = max(self.policy_in(past).vouches, self.policy_in(self.past[invite]).vouches)
        if len(vouchers | {author}) < needed or not self.is_open_to(entry, invite):
            return False
        others = [it for it in self.sound(self.order, Admit) if self.uses_invite.get(it) == invite and it != entry]
        taken = [
            it
            for it in others
            if (it in past and it in self.permitted) or (it in self.decided and self.concurrent(it, entry))
        ]
        return len(taken) < self.ops[invite].body.uses  # type: ignore[union-attr]

    def _may_take_over(self, entry: EntryId, member: MemberId, author: MemberId, vouchers: set[MemberId]) -> bool:
        past = self.past[entry]
        if not self.is_member(member, past):
            return False
        self._rest_on(entry, {self.admission(member, past)})  # type: ignore[arg-type]

        def enough(guardians: set[MemberId], threshold: int) -> bool:
            able = guardians - {member}
            return threshold > 0 and author in able and len(able & (vouchers | {author})) >= threshold

        found = self.recovery_in(member, past)
        if found is None or not enough(set(found[1]), found[2]):
            return False
        if self.is_cut(entry, None, member, as_admin=False):
            return False
        bodies = {it: self.ops[it].body for it in self._words(member)}
        return not self.cuts(
            list(bodies),
            entry,
            lambda it: not enough(set(bodies[it].guardians), bodies[it].threshold),  # type: ignore[union-attr]
        )

    def _promised(self, entry: EntryId) -> int:
        past = self.past[entry]
        there = past & self.permitted
        entered = [it for it in (*self.sound(there, Join), *self.sound(there, Admit)) if it in self.uses_invite]
        gone = {self.removed_by(it) for it in there} - {None}
        total = 1 + len(entered) - len(gone)
        for invite in self.sound(there, Invite):
            body = self.ops[invite].body
            assert isinstance(body, Invite)
            closed = any(invite in self.closed_by(it) for it in past if it not in self.flawed)
            using = [it for it in past if self.uses_invite.get(it) == invite]
            if not closed and not (body.uses == 1 and using):
                total += max(0, body.uses - len([it for it in using if it in self.permitted]))
        return total

    # --- §6: what decided operations take

    def cuts(self, cuts: list[EntryId], entry: EntryId, matters: Callable[[EntryId], bool] = lambda _: True) -> bool:
        for cut in cuts:
            if not self.concurrent(cut, entry) or not matters(cut):
                continue
            if not any(entry in self.past[other] and self.concurrent(cut, other) for other in cuts):
                return True
        return False

    def is_cut(self, entry: EntryId, device: bytes | None, member: MemberId, *, as_admin: bool) -> bool:
        removals = [it for it in self.decided if self.removed_by(it) == member or self.taken_over_by(it) == member]
        removals += [
            it
            for it in self.decided
            if device is not None and self.device_out_by(it) == device and not self._mutual(it, entry)
        ]
        demotions = [it for it in self.sound(self.decided, SetRole) if self.ops[it].body.member == member]  # type: ignore[union-attr]
        return self.cuts(removals, entry) or (as_admin and self.cuts(demotions, entry))

    def _mutual(self, cut: EntryId, entry: EntryId) -> bool:
        theirs, ours = self.ops[cut], self.ops[entry]
        match theirs.body, ours.body:
            case ReplaceDevice(old=one), ReplaceDevice(old=other):
                return one == other
            case RemoveDevice(device=one), RemoveDevice(device=other):
                if one != ours.device or other != theirs.device:
                    return False
                return self.static_member(one, self.past[entry]) == self.static_member(other, self.past[cut])
        return False

    # --- §9: invites

    def is_by_request(self, invite: EntryId) -> bool:
        return self.policy_in(self.past[invite]).vouches > 0

    def closings(self, invite: EntryId) -> list[EntryId]:
        return [it for it in self.decided if invite in self.closed_by(it)]

    def is_open_to(self, join: EntryId, invite: EntryId) -> bool:
        closings = self.closings(invite)
        if self.past[join] & set(closings):
            return False
        first = [it for it in closings if not self.past[it] & set(closings)]
        named = [it for it in first if join in getattr(self.ops[it].body, "joins", ())]
        known = [it for it in first if join in self.past[it]]
        return not closings or join in self.confirmed or join in self.final or bool(named or known)

    def winners(self, invite: EntryId) -> set[EntryId]:
        joins = [it for it in self.sound(self.order, Join) if self.uses_invite[it] == invite]
        open_to = [it for it in joins if self.is_open_to(it, invite)]
        won: set[EntryId] = set()
        for waiting in ([it for it in open_to if it in self.final], [it for it in open_to if it not in self.final]):
            while waiting and len(won) < self.ops[invite].body.uses:  # type: ignore[union-attr]
                chosen = min(it for it in waiting if not self.past[it] & set(waiting))
                waiting.remove(chosen)
                won.add(chosen)
        return won

    def _confirm(self, invite: EntryId, closing: EntryId) -> None:
        for join in self.permitted:
            blind = self.uses_invite.get(join) == invite and self.concurrent(join, closing)
            if blind and self._is_confirmed(join, {*self.closings(invite), closing}):
                self.confirmed.add(join)

    def _is_confirmed(self, join: EntryId, closings: set[EntryId]) -> bool:
        for word in self.permitted - set(self.rivals):
            if join not in self.past[word] or self.is_undecided(word) or closings & self.past[word]:
                continue
            right = self.device_right(self.ops[word].device, self.past[word])
            if right is None:
                continue
            sources = right.sources
            if not isinstance(self.ops[word].body, Rotation):
                admin = self.admin_right(right.member, self.past[word])
                if admin is None:
                    continue
                sources = sources | admin.sources
            if all(it != join and join not in self.past[it] for it in sources):
                return True
        return False
