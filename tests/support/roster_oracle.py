"""The roster's rules once more, from the text of specs/roster.md: plain sets, slow, none of the core's evaluation.

It shares only the values with the core, and takes proofs and keys to be good, as in random stories they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from cocoon_core.protocol.ids import EntryId, MemberId
from cocoon_core.protocol.operations import Create, Invite, Join, RevokeInvite, Role, SetRole, member_id_of
from cocoon_core.protocol.roster import Operation
from tests.support.roster_story import Story

SeniorityKey = tuple[int, int, EntryId]
Right = tuple[SeniorityKey, EntryId]  # seniority and the operation that gave it


class Oracle:
    """`counted` and `admins` of a story, by the letter of the specification."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.ops: dict[EntryId, Operation] = story.operations
        create = story.create.body
        assert isinstance(create, Create)
        self.policy = create.policy
        self.past: dict[EntryId, frozenset[EntryId]] = {}
        self.depth: dict[EntryId, int] = {}
        for entry, op in self.ops.items():  # a story writes pasts first
            self.past[entry] = frozenset(op.parents).union(*(self.past[parent] for parent in op.parents))
            self.depth[entry] = 1 + max((self.depth[parent] for parent in op.parents), default=-1)
        self.order = list(self.ops)
        self.uses_invite: dict[EntryId, EntryId] = {}
        self.flawed: set[EntryId] = set()
        for entry in self.order:
            if self._has_flaw(entry):
                self.flawed.add(entry)
        self.rivals = self._find_rivals()
        self.decided: list[EntryId] = []
        self.confirmed: set[EntryId] = set()
        self.permitted: set[EntryId] = set()
        self.stale: set[EntryId] = set()
        self._run()

    # --- §3

    def _sound(self, entries: Iterable[EntryId], kind: type) -> list[EntryId]:
        return [entry for entry in entries if isinstance(self.ops[entry].body, kind) and entry not in self.flawed]

    def _has_flaw(self, entry: EntryId) -> bool:
        op, past = self.ops[entry], self.past[entry]
        body = op.body
        invites = [it for it in self._sound(past, Invite) if getattr(body, "invite", None) == self.ops[it].body.invite]  # type: ignore[union-attr]
        if (op.seq == 0) != isinstance(body, Create | Join):
            return True
        match body:
            case Create():
                return bool(op.parents)
            case Invite():
                return bool(invites)
            case RevokeInvite():
                return not invites
            case Join():
                enrolled = [self.ops[it].device for it in (*self._sound(past, Create), *self._sound(past, Join))]
                if op.device in enrolled or not invites:
                    return True
                self.uses_invite[entry] = min(invites, key=lambda it: (self.depth[it], it))
                return False
            case SetRole():
                return not any(
                    self.member(it) == body.member for it in (*self._sound(past, Create), *self._sound(past, Join))
                )
        raise AssertionError(body)

    def member(self, entry: EntryId) -> MemberId:
        return member_id_of(self.story.group, self.ops[entry].device)

    # --- §4

    def _find_rivals(self) -> dict[EntryId, set[EntryId]]:
        rivals: dict[EntryId, set[EntryId]] = {}
        for device in {op.device for op in self.ops.values()}:
            chain = [it for it in self.order if self.ops[it].device == device and it not in self.flawed]
            chain = [it for it in chain if not isinstance(self.ops[it].body, Create)]
            stands: set[EntryId] = set()
            for seq in sorted({self.ops[it].seq for it in chain}):
                here = sorted(it for it in chain if self.ops[it].seq == seq)
                able = [it for it in here if stands <= self.past[it]]
                chosen = set(able[:1])
                for loser in set(here) - chosen:
                    rivals[loser] = chosen | (stands - self.past[loser])
                stands |= chosen
        return rivals

    def gives(self, entry: EntryId, past: frozenset[EntryId]) -> bool:
        return entry in past and entry in self.permitted and not self.rivals.get(entry, set()) & past

    # --- §5

    @cached_property
    def enrolments(self) -> list[EntryId]:
        return [*self._sound(self.order, Create), *self._sound(self.order, Join)]

    def _seniority(self, enrolment: EntryId) -> SeniorityKey:
        return self.depth[self.uses_invite.get(enrolment, enrolment)], 0, enrolment

    def member_right(self, device: bytes, past: frozenset[EntryId]) -> Right | None:
        found = [it for it in self.enrolments if self.ops[it].device == device and self.gives(it, past)]
        return min(((self._seniority(it), it) for it in found), default=None)

    def role_changes(self, member: MemberId, past: frozenset[EntryId]) -> list[EntryId]:
        changes = []
        for entry in self._sound(past, SetRole):
            body = self.ops[entry].body
            assert isinstance(body, SetRole)
            if body.member != member or not self.gives(entry, past):
                continue
            if body.role is Role.ADMIN and self.own_admin_right(member, self.past[entry]):
                continue
            changes.append(entry)
        return [it for it in changes if not any(it in self.past[other] for other in changes)]

    def own_admin_right(self, member: MemberId, past: frozenset[EntryId]) -> Right | None:
        enrolled = [it for it in self.enrolments if self.member(it) == member and self.gives(it, past)]
        if not enrolled:
            return None
        changes = self.role_changes(member, past)
        if changes:
            if any(self.ops[it].body.role is Role.MEMBER for it in changes):  # type: ignore[union-attr]
                return None
            first = min(changes, key=lambda it: (self.depth[it], it))
            return (self.depth[first], 0, first), first
        rights = []
        for it in enrolled:
            source = self.ops[self.uses_invite.get(it, it)].body
            if isinstance(source, Create) or (isinstance(source, Invite) and source.role is Role.ADMIN):
                rights.append((self._seniority(it), it))
        return min(rights, default=None)

    def admin_right(self, member: MemberId, past: frozenset[EntryId]) -> Right | None:
        own = self.own_admin_right(member, past)
        if own:
            return own
        everybody = {self.member(it) for it in self.enrolments}
        if any(self.own_admin_right(other, past) for other in everybody):
            return None
        senior = min(((self._seniority(it), it) for it in self.enrolments if self.gives(it, past)), default=None)
        if senior is None or self.member(senior[1]) != member:
            return None
        lost = [self.depth[it] for other in everybody for it in self.role_changes(other, past)]
        return (max(lost, default=0), 0, senior[1]), senior[1]

    def is_reducing(self, entry: EntryId) -> bool:
        body = self.ops[entry].body
        return isinstance(body, RevokeInvite) or (isinstance(body, SetRole) and body.role is Role.MEMBER)

    def needs_admin(self, entry: EntryId) -> bool:
        body = self.ops[entry].body
        if isinstance(body, Invite):
            return Role.ADMIN in (body.role, self.policy.inviters)
        return isinstance(body, SetRole)

    def concurrent(self, left: EntryId, right: EntryId) -> bool:
        return left != right and left not in self.past[right] and right not in self.past[left]

    def is_cut(self, entry: EntryId) -> bool:
        member = self.member(entry)
        cuts = [it for it in self._sound(self.decided, SetRole) if self.ops[it].body.member == member]  # type: ignore[union-attr]
        for cut in cuts:
            rescued = any(entry in self.past[other] and self.concurrent(cut, other) for other in cuts)
            if self.concurrent(cut, entry) and not rescued:
                return True
        return False

    def right_used(self, entry: EntryId) -> Right | None:
        right = self.member_right(self.ops[entry].device, self.past[entry])
        if right and self.needs_admin(entry):
            return self.admin_right(self.member(entry), self.past[entry])
        return right

    def find_permitted(self) -> None:
        self.permitted, self.stale = set(), set()
        for entry in self.order:
            if entry in self.decided or self._is_permitted(entry):
                self.permitted.add(entry)

    def _is_permitted(self, entry: EntryId) -> bool:
        body, past = self.ops[entry].body, self.past[entry]
        if entry in self.flawed or isinstance(body, Create):
            return entry not in self.flawed
        if isinstance(body, Join):
            invite = self.uses_invite[entry]
            closing = [
                it
                for it in self._sound(past & self.permitted, RevokeInvite)
                if self.ops[it].body.invite == body.invite  # type: ignore[union-attr]
                and self.is_undecided(it)
            ]
            if closing or invite in self.stale:
                self.stale.add(entry)
            return self.gives(invite, past) and entry in self.winners(invite)
        enrolment = self.member_right(self.ops[entry].device, past)
        right = self.right_used(entry)
        if enrolment is None or right is None:
            return False
        if {enrolment[1], right[1]} & self.stale:
            self.stale.add(entry)
        if self.needs_admin(entry) and self.is_cut(entry):
            return False
        if isinstance(body, SetRole):
            return any(self.member(it) == body.member and self.gives(it, past) for it in self.enrolments)
        return not isinstance(body, Invite) or self._promised(entry) + body.uses <= self.policy.max_members

    def _promised(self, entry: EntryId) -> int:
        past = self.past[entry]
        total = 1 + len(self._sound(past & self.permitted, Join))
        for invite in self._sound(past & self.permitted, Invite):
            body = self.ops[invite].body
            assert isinstance(body, Invite)
            closed = [
                it
                for it in self._sound(past, RevokeInvite)
                if self.ops[it].body.invite == body.invite and invite in self.past[it]  # type: ignore[union-attr]
            ]
            used = [it for it in self._sound(past, Join) if self.uses_invite[it] == invite]
            if not closed and not (body.uses == 1 and used):
                total += max(0, body.uses - len([it for it in used if it in self.permitted]))
        return total

    def is_undecided(self, entry: EntryId) -> bool:
        sound = entry not in self.flawed and entry not in self.rivals
        return sound and self.is_reducing(entry) and entry not in self.decided

    def _run(self) -> None:
        while True:
            self.find_permitted()
            ready = [it for it in self.permitted if self.is_undecided(it) and it not in self.stale]
            if not ready:
                break
            chosen = min(ready, key=lambda it: (self.right_used(it)[0], it))  # type: ignore[index]
            body = self.ops[chosen].body
            if isinstance(body, RevokeInvite):
                for invite in self._sound(self.past[chosen], Invite):
                    if self.ops[invite].body.invite == body.invite:  # type: ignore[union-attr]
                        self._confirm(invite, chosen)
            self.decided.append(chosen)
        self.counted = self.permitted - set(self.rivals)
        everything = frozenset(self.order)
        self.admins = {self.member(it) for it in self.enrolments if self.admin_right(self.member(it), everything)}

    # --- §6

    def closings(self, invite: EntryId) -> list[EntryId]:
        body = self.ops[invite].body
        assert isinstance(body, Invite)
        found = [it for it in self.decided if isinstance(self.ops[it].body, RevokeInvite) and invite in self.past[it]]
        return [it for it in found if self.ops[it].body.invite == body.invite]  # type: ignore[union-attr]

    def _confirm(self, invite: EntryId, revoke: EntryId) -> None:
        closings = {*self.closings(invite), revoke}
        for join in self.permitted:
            if self.uses_invite.get(join) != invite or not self.concurrent(join, revoke):
                continue
            for word in self.permitted - set(self.rivals):
                if join not in self.past[word] or self.is_undecided(word) or closings & self.past[word]:
                    continue
                right = self.admin_right(self.member(word), self.past[word])
                if right and right[1] != join and join not in self.past[right[1]]:
                    self.confirmed.add(join)

    def winners(self, invite: EntryId) -> set[EntryId]:
        closings = self.closings(invite)
        first = [it for it in closings if not self.past[it] & set(closings)]
        waiting = []
        for join in self._sound(self.order, Join):
            if self.uses_invite[join] != invite or self.past[join] & set(closings):
                continue
            if (
                not closings
                or join in self.confirmed
                or any(
                    join in self.past[it] or join in self.ops[it].body.joins  # type: ignore[union-attr]
                    for it in first
                )
            ):
                waiting.append(join)
        body = self.ops[invite].body
        assert isinstance(body, Invite)
        won: set[EntryId] = set()
        while waiting and len(won) < body.uses:
            next_one = min(it for it in waiting if not self.past[it] & set(waiting))
            waiting.remove(next_one)
            won.add(next_one)
        return won
