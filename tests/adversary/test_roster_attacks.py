"""Attacks on the roster. Each also runs once on a build that lacks the rule it meets, and is seen to succeed there."""

from __future__ import annotations

import random
from collections.abc import Callable

import nacl.bindings as sodium
import pytest

from cocoon_core.protocol import roster_flaws
from cocoon_core.protocol.ids import DeviceId, EntryId, HpkePublicKey, InviteId
from cocoon_core.protocol.operation_forms import Role
from cocoon_core.protocol.operations import Invite, Join, SetRole
from cocoon_core.protocol.roster import Operation, Roster
from cocoon_core.protocol.roster_cuts import Cuts
from cocoon_core.protocol.roster_joins import InviteUses
from cocoon_core.protocol.roster_judge import Judge
from cocoon_core.protocol.roster_rights import Rights
from tests.support.roster_story import Link, Person, Story

ORDERS = 12


def evaluate_everywhere(story: Story) -> Roster:
    """The state of replicas that received the operations in different orders, which must be one."""
    expected = story.evaluate()
    for seed in range(ORDERS):
        assert story.evaluate(story.shuffled(random.Random(seed))) == expected, f"order {seed}"
    return expected


def errors(state: Roster) -> dict[EntryId, str]:
    return {entry: refusal.error for entry, refusal in state.refused.items()}


def allow_all(*_: object) -> None:
    return None


def forget_removals_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weaken the build: what takes rights away reaches nothing that it did not know."""
    monkeypatch.setattr(Cuts, "reach", lambda self, *_, **__: False)
    monkeypatch.setattr(Rights, "_is_lost", lambda self, place, past: False)


# --- 13 and 14: a relay, or whoever has seen the invite's public keys, makes up a member or a key


def inject_device(story: Story) -> Operation:
    link, invite = story.invite(story.ana)
    assert isinstance(invite.body, Invite)
    ghost = Person(66)
    forged = Join.make(Link(999).key, story.group, ghost.device, ghost.hpke, "Ghost")
    return story.write(ghost, Join(InviteId(link.key.public), ghost.hpke, "Ghost", forged.proof))


def substitute_key(story: Story) -> Operation:
    link, _ = story.invite(story.ana)
    ben, thief = Person(1), Person(67)
    body = Join.make(link.key, story.group, ben.device, ben.hpke, "Ben")
    return story.write(ben, Join(body.invite, thief.hpke, "Ben", body.proof))


@pytest.mark.parametrize("attack", [inject_device, substitute_key])
def test_attack_13_14_a_device_or_key_that_the_link_did_not_sign_is_refused(
    attack: Callable[[Story], Operation],
) -> None:
    story = Story()
    join = attack(story)
    state = evaluate_everywhere(story)
    assert errors(state) == {join.id: "SignatureError"}
    assert len(state.recipients()) == 2, "the creator and the invite, which is still open"


@pytest.mark.parametrize("attack", [inject_device, substitute_key])
def test_attack_13_14_succeeds_where_proofs_are_not_checked(
    attack: Callable[[Story], Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Join, "verify_proof", allow_all)
    story = Story()
    attack(story)
    assert len(story.evaluate().members) == 2


# --- 24: an old join, invite or link, once more


def replay_after_closing(story: Story) -> Operation:
    """The link's holder comes back after it was closed, and pretends not to know."""
    link, invite = story.invite(story.ana, uses=5)
    join = story.join(Person(1), link)
    story.revoke(story.ana, link, [join])
    return story.join(Person(2), link, parents=[invite], below=join)


def test_attack_24_an_old_link_lets_nobody_in_again() -> None:
    story = Story()
    before = story.graph()
    late = replay_after_closing(story)
    state = evaluate_everywhere(story)
    assert errors(state) == {late.id: "NotPermittedError"}
    assert len(state.members) == 2
    graph = story.graph()
    assert not any(graph.add(operation) for operation in story.operations.values())
    assert graph.evaluate() == state
    assert len(before) == 1


def test_attack_24_succeeds_where_closing_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InviteUses, "is_closed_to", allow_all)
    story = Story()
    replay_after_closing(story)
    assert len(story.evaluate().members) == 3


def copy_invite(story: Story) -> tuple[Operation, Operation]:
    """A member puts another's invite key into an invite of more uses, and writes it as if before the other's."""
    mallory = story.enter(story.ana, 1)
    early = story.heads()
    link, invite = story.invite(story.ana)
    assert isinstance(invite.body, Invite)
    genuine = invite.body
    copy = Invite(
        genuine.invite, mallory.hpke, genuine.mailbox_secret, 50, 0, Role.MEMBER, genuine.proof
    )  # the proof names Ana's device
    forged = story.write(mallory, copy, parents=early)
    return forged, story.join(Person(2), link)


def test_attack_24_an_invite_key_serves_nobody_else() -> None:
    story = Story()
    forged, join = copy_invite(story)
    state = evaluate_everywhere(story)
    assert errors(state) == {forged.id: "SignatureError"}
    assert state.invites[InviteId(join.body.invite)].uses == 1  # type: ignore[union-attr]


def test_attack_24_succeeds_where_an_invite_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Invite, "verify_proof", allow_all)
    story = Story()
    forged, _ = copy_invite(story)
    assert forged.id in {invite.operation for invite in story.evaluate().invites.values()}


# --- 28: two histories by one device


def fork_after_inviting(story: Story) -> tuple[Operation, Operation, Operation]:
    """Ana's device signs a second entry for a seq, after somebody used the first."""
    ben = story.enter(story.ana, 1)
    heads = story.heads()
    link, invite = story.invite(story.ana, parents=heads)
    join = story.join(Person(2), link)
    body = SetRole(story.member(ben), Role.ADMIN)
    return invite, join, story.write(story.ana, body, parents=heads, seq=invite.seq, below=invite)


def test_attack_28_two_operations_with_one_seq_are_decided_alike_and_hurt_nobody_else() -> None:
    story = Story()
    invite, join, fork = fork_after_inviting(story)
    state = evaluate_everywhere(story)
    assert errors(state) == {invite.id: "EquivocationError"}
    assert fork.id.hex()[:12] in state.refused[invite.id].reason
    assert state.member_of(join.device).joined_by == join.id
    late = story.join(Person(3), Link(2), parents=[join, fork])
    assert errors(evaluate_everywhere(story))[late.id] == "NotPermittedError"


def test_attack_28_succeeds_where_forks_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_core.protocol.roster_rights.find_rivals", lambda log, mask, final: {})
    story = Story()
    fork_after_inviting(story)
    assert errors(story.evaluate()) == {}


# --- 31: operations that their authors have no right to


def test_attack_31_unauthorised_operations_are_refused_identically_everywhere() -> None:
    story = Story()
    ben = story.enter(story.ana, 1)
    stranger = Person(9)
    heads = story.heads()
    link, _ = story.invite(story.ana)
    before = story.evaluate()
    written = [
        story.set_role(ben, ben, Role.ADMIN, parents=heads),
        story.set_role(ben, story.ana, Role.MEMBER),
        story.invite(ben, role=Role.ADMIN)[1],
        story.invite(stranger, uses=9, parents=heads)[1],
        story.revoke(stranger, link),
        story.set_role(stranger, stranger, Role.ADMIN),
    ]
    state = evaluate_everywhere(story)
    assert set(errors(state).values()) == {"NotPermittedError"}
    assert set(errors(state)) == {operation.id for operation in written}
    assert (state.members, state.invites) == (before.members, before.invites)


def test_attack_31_succeeds_where_the_right_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "_needs_admin", lambda self, place, member: False)
    story = Story()
    ben = story.enter(story.ana, 1)
    story.set_role(ben, ben, Role.ADMIN)
    assert story.evaluate().is_admin(story.member(ben))


# --- 32: keys that do not bind


SMALL_ORDER = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa")  # a point of order 8


def test_attack_32_the_key_used_below_has_small_order() -> None:
    point = SMALL_ORDER
    for _ in range(3):
        point = sodium.crypto_core_ed25519_add(point, point)
    assert point == b"\x01" + bytes(31), "eight times it is the neutral element"


class Odd(Person):
    """A person whose device key is given."""

    def __init__(self, device: bytes) -> None:
        super().__init__(70)
        object.__setattr__(self, "_device", DeviceId(device))

    @property
    def device(self) -> DeviceId:
        return self._device  # type: ignore[attr-defined, no-any-return]


def join_with_key(story: Story, device: bytes, hpke: HpkePublicKey | None = None) -> Operation:
    link, _ = story.invite(story.ana)
    odd = Odd(device)
    body = Join.make(link.key, story.group, odd.device, hpke or odd.hpke, "Odd")
    return story.write(odd, body)


def bad_keys() -> dict[str, tuple[bytes, HpkePublicKey | None]]:
    good = Person(70)
    mixed = sodium.crypto_core_ed25519_add(bytes(good.device), SMALL_ORDER)
    return {
        "small-order device key": (SMALL_ORDER, None),
        "mixed-order device key": (mixed, None),
        "neutral element": (b"\x01" + bytes(31), None),
        "no point": (b"\xff" * 32, None),
        "small-order X25519": (good.device, HpkePublicKey(good.hpke[:-32] + bytes(32))),
        "ML-KEM out of range": (good.device, HpkePublicKey(b"\xff" * 1184 + good.hpke[-32:])),
    }


@pytest.mark.parametrize("name", list(bad_keys()))
def test_attack_32_small_and_mixed_order_keys_are_refused(name: str) -> None:
    story = Story()
    join = join_with_key(story, *bad_keys()[name])
    state = evaluate_everywhere(story)
    assert errors(state) == {join.id: "MalformedError"}
    assert len(state.members) == 1


@pytest.mark.parametrize("name", list(bad_keys()))
def test_attack_32_succeeds_where_keys_are_not_checked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_flaws, "require_good_signing_key", allow_all)
    monkeypatch.setattr(roster_flaws, "require_good_hpke_key", allow_all)
    story = Story()
    join_with_key(story, *bad_keys()[name])
    assert len(story.evaluate().members) == 2


# --- 25 and 34: racing one's own demotion


def race_own_demotion(story: Story) -> tuple[Person, Person]:
    """Ben learns that he is being demoted, and acts as if he had not: for himself, for a friend, against the others."""
    ben = story.enter(story.ana, 1, role=Role.ADMIN)
    friend, cleo = story.enter(story.ana, 2), story.enter(story.ana, 3, role=Role.ADMIN)
    heads = story.heads()
    story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    own = story.set_role(ben, ben, Role.ADMIN, parents=heads)
    for_friend = story.set_role(ben, friend, Role.ADMIN, parents=[own])
    against = story.set_role(ben, cleo, Role.MEMBER, parents=[for_friend])
    link, invite = story.invite(ben, role=Role.ADMIN, parents=[against])
    story.join(Person(4), link, parents=[invite])
    return ben, friend


def test_attack_34_self_promotion_racing_the_own_demotion_loses() -> None:
    story = Story()
    ben, friend = race_own_demotion(story)
    state = evaluate_everywhere(story)
    assert len(state.refused) == 5
    assert set(errors(state).values()) == {"NotPermittedError"}
    admins = {member.id for member in state.members.values() if member.role is Role.ADMIN}
    assert admins == {story.member(story.ana), story.member(Person(3))}
    assert not state.is_admin(story.member(ben))
    assert not state.is_admin(story.member(friend))


def test_attack_34_succeeds_where_a_demotion_does_not_reach_what_it_did_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_removals_at_once(monkeypatch)
    story = Story()
    _, friend = race_own_demotion(story)
    assert story.evaluate().is_admin(story.member(friend))


def mutual_demotion(story: Story, seed: int) -> Person:
    rng = random.Random(seed)
    ben = story.enter(story.ana, 1 + rng.randrange(50))
    story.set_role(story.ana, ben, Role.ADMIN)
    heads = story.heads()
    mine = story.set_role(story.ana, ben, Role.MEMBER, parents=heads)
    story.set_role(ben, story.ana, Role.MEMBER, parents=heads, below=mine)
    return ben


def test_attack_25_mutual_demotion_leaves_the_senior_whatever_the_ids() -> None:
    for seed in range(8):
        story = Story()
        ben = mutual_demotion(story, seed)
        state = evaluate_everywhere(story)
        assert state.is_admin(story.member(story.ana)), f"seed {seed}"
        assert not state.is_admin(story.member(ben)), f"seed {seed}"


def test_attack_25_succeeds_where_ids_decide_instead_of_seniority(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Rights.role_grant

    def forget_seniority(self: Rights, member: object, past: int) -> object:
        grant = real(self, member, past)  # type: ignore[arg-type]
        return grant and grant._replace(seniority=grant.seniority._replace(depth=0, id=EntryId(bytes(32))))

    monkeypatch.setattr(Rights, "role_grant", forget_seniority)
    story = Story()
    mutual_demotion(story, 1)
    assert not story.evaluate().is_admin(story.member(story.ana))


# --- 37: one invite, many joins


def overuse_invite(story: Story) -> list[Operation]:
    """Five people use a link of two uses at once; two of them know of each other."""
    link, invite = story.invite(story.ana, uses=2)
    joins = [story.join(Person(10 + number), link, parents=[invite]) for number in range(4)]
    return [*joins, story.join(Person(20), link, parents=[joins[0]])]


def test_attack_37_an_invite_used_too_often_has_the_same_winners_everywhere() -> None:
    story = Story()
    joins = overuse_invite(story)
    state = evaluate_everywhere(story)
    winners = {operation.id for operation in joins} - set(state.refused)
    assert winners == set(sorted(operation.id for operation in joins[:4])[:2])
    assert set(errors(state).values()) == {"NotPermittedError"}
    story.revoke(story.ana, Link(1), joins, parents=story.heads())
    assert {operation.id for operation in joins} - set(evaluate_everywhere(story).refused) == winners


def test_attack_37_succeeds_where_uses_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InviteUses, "loses", allow_all)
    story = Story()
    overuse_invite(story)
    assert len(story.evaluate().members) == 6


def test_attack_37_replicas_part_where_the_first_to_arrive_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_come(self: InviteUses, invite: int) -> set[int]:
        return set(self.entries_of(invite)[: self._log.uses(invite)])

    monkeypatch.setattr(InviteUses, "_choose", first_come)
    story = Story()
    overuse_invite(story)
    with pytest.raises(AssertionError, match="order"):
        evaluate_everywhere(story)


# --- closing an invite is no way to remove members


def close_behind_their_backs(story: Story) -> Operation:
    """A quiet member closes an invite as of long ago, when nobody had used it."""
    mallory = story.enter(story.ana, 1)
    link, invite = story.invite(story.ana, uses=3)
    join = story.join(Person(2), link)
    story.set_role(story.ana, Person(2), Role.ADMIN)
    story.revoke(mallory, link, parents=[invite])
    return join


def test_a_backdated_revocation_removes_no_member_whom_an_admin_confirmed() -> None:
    story = Story()
    join = close_behind_their_backs(story)
    state = evaluate_everywhere(story)
    assert state.refused == {}
    assert state.member_of(join.device).joined_by == join.id
    (closed,) = [invite for invite in state.invites.values() if invite.uses == 3]
    assert closed.revoked


def test_a_backdated_revocation_succeeds_where_nothing_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoon_core.protocol.roster_rules.find_confirmed", lambda *_: [])
    story = Story()
    join = close_behind_their_backs(story)
    assert join.id in story.evaluate().refused


def test_a_thief_of_a_closed_link_cannot_confirm_themself() -> None:
    story = Story()
    link, invite = story.invite(story.ana, uses=3, role=Role.ADMIN)
    story.revoke(story.ana, link)
    thief, sybil = Person(5), Person(6)
    join = story.join(thief, link, parents=[invite])
    own_link, own = story.invite(thief, role=Role.ADMIN, parents=[join])
    entered = story.join(sybil, own_link, parents=[own])
    word = story.set_role(sybil, thief, Role.ADMIN, parents=[entered])
    state = evaluate_everywhere(story)
    assert set(state.refused) == {join.id, own.id, entered.id, word.id}
    assert len(state.members) == 1
